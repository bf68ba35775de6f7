"""Finishes on the host what the device kernels began: one copy per device, rows merged; knows no state of the core."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tensorstats.device.fixed_point import UNIT, to_float
from tensorstats.device.kernels import (
    COUNTS,
    FLOAT_ROW,
    FLOAT_SUMS,
    FLOATS,
    INT64_MAX,
    INTEGER_ROW,
    INTEGERS,
    FloatFormat,
    PendingSummary,
)
from tensorstats.device.units import FIXED_COUNTS, UNIT_COUNTS, PendingUnits

__all__ = ["RawSummary", "RawUnits", "resolve"]


@dataclass(slots=True)
class RawSummary:
    """The numbers behind a Summary, on the host. Extremes are None when nothing finite (or nothing but zeros) was seen.

    `m2` .. `m4` are sums of powers of the deviations from the mean. `sum`, `l1`, `squares` and the powers are those of
    the values divided by ``2 ** exponent``, so that float64 data neither overflows nor underflows.
    """

    dtype: str
    shape: tuple[int, ...]
    count: int = 0
    nan: int = 0
    posinf: int = 0
    neginf: int = 0
    zero: int = 0
    negative: int = 0
    subnormal: int = 0
    min: float | int | None = None
    max: float | int | None = None
    absmin: float | int | None = None
    absmax: float | int | None = None
    exponent: int = 0
    sum: float | int = 0.0
    l1: float | int = 0.0
    squares: float = 0.0
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0
    m4: float = 0.0
    first_nonfinite: int | None = None  # position in row-major order; None also when it is not known
    beyond: tuple[int, ...] = ()  # how many finite values are beyond each limit that was asked about

    @property
    def finite(self) -> int:
        """How many values are finite."""
        return self.count - self.nan - self.posinf - self.neginf


@dataclass(slots=True)
class RawUnits:
    """The numbers behind a UnitActivity after one update, on the host: one entry per unit."""

    dim: int
    saturation: tuple[float, float] | None
    count: npt.NDArray[np.int64]
    zero: npt.NDArray[np.int64]
    active: npt.NDArray[np.int64]
    nonfinite: npt.NDArray[np.int64]
    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    m2: npt.NDArray[np.float64]
    min: npt.NDArray[np.float64]
    max: npt.NDArray[np.float64]


def resolve(pending: Sequence[PendingSummary | PendingUnits]) -> list[RawSummary | RawUnits]:
    """Bring all rows to the host, one copy per device, and finish them there.

    Rows in an arena are read from its batch, whose copy must have been launched.
    """
    hosts: list[npt.NDArray[np.int64] | None] = [None] * len(pending)
    devices: dict[torch.device, list[int]] = {}
    for place, item in enumerate(pending):
        if item.batch is None:
            devices.setdefault(item.rows.device, []).append(place)
        else:
            start = int(item.rows.storage_offset())
            hosts[place] = item.batch.land()[start : start + item.rows.numel()].reshape(tuple(item.rows.shape))
    for places in devices.values():
        packed = torch.cat([pending[place].rows.reshape(-1) for place in places]).cpu().numpy()
        start = 0
        for place in places:
            rows = pending[place].rows
            hosts[place] = packed[start : start + rows.numel()].reshape(tuple(rows.shape))
            start += rows.numel()
    finished: list[RawSummary | RawUnits] = []
    for item, host in zip(pending, hosts, strict=True):
        assert host is not None
        if isinstance(item, PendingUnits):
            finished.append(_finish_units(item, host))
        elif item.dtype in FLOATS:
            finished.append(_finish_floats(item, host))
        else:
            finished.append(_finish_integers(item, host))
    return finished


def _decode(key: int, form: FloatFormat) -> float:
    """The float that an ordered key stands for: a magnitude pattern, or one less than its negative below zero.

    From integers alone: a conversion would read subnormals as zeros where the process flushes them. A zero has no sign.
    """
    pattern = -key - 1 if key < 0 else key
    if pattern == 0:
        return 0.0
    if form.integer is torch.int64:
        sign = 1 << 63 if key < 0 else 0
        return float(struct.unpack("<d", struct.pack("<Q", sign | pattern))[0])
    bits = form.smallest_normal.bit_length() - 1
    field, fraction = divmod(pattern, 1 << bits)
    mantissa = fraction + (1 << bits if field else 0)
    bias = (form.infinity >> bits) >> 1
    return math.ldexp(-mantissa if key < 0 else mantissa, max(field, 1) - bias - bits)


def _column(host: npt.NDArray[np.int64], names: Sequence[str], name: str) -> npt.NDArray[np.int64]:
    column: npt.NDArray[np.int64] = host[:, names.index(name)]
    return column


def _merge_moments(
    counts: Sequence[int], means: Sequence[float], powers: Sequence[tuple[float, float, float]]
) -> tuple[float, float, float, float]:
    """Mean and sums of powers of all blocks from those of each, by the pairwise formulas of Chan et al. and Pebay."""
    n, mean, m2, m3, m4 = 0, 0.0, 0.0, 0.0, 0.0
    for count, block_mean, (b2, b3, b4) in zip(counts, means, powers, strict=True):
        if count == 0:
            continue
        total = n + count
        delta = block_mean - mean
        step = delta / total
        m4 += b4 + delta * step**3 * n * count * (n * n - n * count + count * count)
        m4 += 6.0 * step * step * (n * n * b2 + count * count * m2) + 4.0 * step * (n * b3 - count * m3)
        m3 += b3 + delta * step * step * n * count * (n - count) + 3.0 * step * (n * b2 - count * m2)
        m2 += b2 + delta * step * n * count
        mean += step * count
        n = total
    return mean, m2, m3, m4


def _finish_floats(pending: PendingSummary, host: npt.NDArray[np.int64]) -> RawSummary:
    form = FLOATS[pending.dtype]
    raw = RawSummary(form.name, pending.shape, count=pending.count or 0)
    raw.beyond = (0,) * (host.shape[1] - len(FLOAT_ROW))
    if not len(host):
        return raw
    for name in COUNTS:
        setattr(raw, name, int(_column(host, FLOAT_ROW, name).sum()))
    raw.beyond = tuple(int(n) - raw.nan - raw.posinf - raw.neginf for n in host[:, len(FLOAT_ROW) :].sum(0))
    counts = [int(count) for count in _column(host, FLOAT_ROW, "count")]
    if pending.count is None:
        raw.count = sum(counts) + raw.nan + raw.posinf + raw.neginf
    first = [int(place) for place in _column(host, FLOAT_ROW, "first") if place >= 0]
    raw.first_nonfinite = min(first) if first else None
    if sum(counts) == 0:
        return raw
    low = int(_column(host, FLOAT_ROW, "min_key").min())
    high = int(_column(host, FLOAT_ROW, "max_key").max())
    raw.min, raw.max = _decode(low, form), _decode(high, form)
    raw.absmax = _decode(int(_column(host, FLOAT_ROW, "absmax_key").max()), form)
    smallest = int(_column(host, FLOAT_ROW, "absmin_key").min())
    raw.absmin = _decode(smallest, form) if smallest != INT64_MAX else None

    if pending.fixed:
        sums = _fixed_floats(host[:, : len(FLOAT_ROW)], counts)
    else:
        sums = host[:, len(FLOAT_ROW) - len(FLOAT_SUMS) : len(FLOAT_ROW)].copy().view(np.float64)
    exponents = _column(host, FLOAT_ROW, "exponent")
    raw.exponent = int(max(exponent for exponent, count in zip(exponents, counts, strict=True) if count))
    shrink = np.ldexp(1.0, np.minimum(exponents - raw.exponent, 0).astype(np.int64))
    raw.sum = math.fsum(sums[:, 0] * shrink)
    raw.l1 = math.fsum(sums[:, 1] * shrink)
    raw.squares = math.fsum(sums[:, 2] * shrink**2)
    means = [float(total) / max(count, 1) for total, count in zip(sums[:, 0] * shrink, counts, strict=True)]
    powers = [
        (float(a * s**2), float(b * s**3), float(c * s**4)) for (a, b, c), s in zip(sums[:, 3:], shrink, strict=True)
    ]
    raw.mean, raw.m2, raw.m3, raw.m4 = _merge_moments(counts, means, powers)
    return raw


def _fixed_floats(host: npt.NDArray[np.int64], counts: Sequence[int]) -> npt.NDArray[np.float64]:
    """Sums in fixed point as float64; the deviations were taken from a rounded mean, which is made up for here."""
    sums = to_float(host[:, -len(FLOAT_SUMS) :])
    drift = sums[:, 4].copy()
    sums[:, 3] = np.maximum(sums[:, 3] - drift * drift / np.maximum(counts, 1), 0.0)
    sums[:, 4] = 0.0
    return sums


def _finish_integers(pending: PendingSummary, host: npt.NDArray[np.int64]) -> RawSummary:
    host = host[_column(host, INTEGER_ROW, "count") > 0]  # a mask may leave out a whole block
    raw = RawSummary(INTEGERS[pending.dtype], pending.shape, sum=0, l1=0)
    raw.count = int(_column(host, INTEGER_ROW, "count").sum())
    raw.beyond = tuple(int(n) for n in host[:, len(INTEGER_ROW) :].sum(0))
    if not len(host):
        return raw
    columns = {name: [int(value) for value in _column(host, INTEGER_ROW, name)] for name in INTEGER_ROW[:11]}
    raw.zero, raw.negative = sum(columns["zero"]), sum(columns["negative"])
    raw.sum = (sum(columns["high"]) << 32) + sum(columns["low"])
    negative_sum = (sum(columns["negative_high"]) << 32) + sum(columns["negative_low"])
    raw.l1 = raw.sum - 2 * negative_sum
    low, high = min(columns["min_key"]), max(columns["max_key"])
    small, large = max(columns["absmin_key"]), min(columns["absmax_key"])
    if pending.dtype is torch.uint64:
        raw.min, raw.max = low + (1 << 63), high + (1 << 63)
        raw.absmax = (large ^ INT64_MAX) & ((1 << 64) - 1)
        raw.absmin = (small ^ INT64_MAX) & ((1 << 64) - 1) if raw.zero < raw.count else None
    else:
        raw.min, raw.max, raw.absmax = low, high, -large
        raw.absmin = -small if raw.zero < raw.count else None
    if pending.fixed:
        return _finish_fixed_integers(
            raw, host[:, : len(INTEGER_ROW)], columns["count"], unsigned=pending.dtype is torch.uint64
        )
    tail = host[:, 11 : len(INTEGER_ROW)].copy().view(np.float64)
    raw.squares = math.fsum(tail[:, 1])
    powers = [(float(a), float(b), float(c)) for a, b, c in tail[:, 2:]]
    _, raw.m2, raw.m3, raw.m4 = _merge_moments(columns["count"], [float(centre) for centre in tail[:, 0]], powers)
    raw.mean = raw.sum / raw.count
    return raw


def _finish_fixed_integers(
    raw: RawSummary, host: npt.NDArray[np.int64], counts: list[int], *, unsigned: bool
) -> RawSummary:
    """Moments of integers from the sums of their deviations from a whole number near the mean."""
    offset = 1 << 63 if unsigned else 0
    means: list[float] = []
    powers: list[tuple[float, float, float]] = []
    squares: list[float] = []
    for count, (centre, exponent, first, second, _) in zip(counts, host[:, 11:].tolist(), strict=True):
        scale = math.ldexp(UNIT, exponent)
        drift, spread = first * scale, second * math.ldexp(scale, exponent)
        middle = float(centre + offset)
        means.append(middle + drift / count)
        powers.append((max(spread - drift * drift / count, 0.0), 0.0, 0.0))
        squares.append(count * middle * middle + 2.0 * middle * drift + spread)
    raw.squares = math.fsum(squares)
    _, raw.m2, raw.m3, raw.m4 = _merge_moments(counts, means, powers)
    raw.mean = raw.sum / raw.count
    return raw


def _unit_floats(pending: PendingUnits, host: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Mean, sum of squared deviations, min and max of every unit in every block."""
    if not pending.fixed:
        return host[:, len(UNIT_COUNTS) :].copy().view(np.float64)
    exponent, total, first, second, low, high = (host[:, place] for place in range(len(UNIT_COUNTS), FIXED_COUNTS))
    finite = host[:, UNIT_COUNTS.index("zero")] + host[:, UNIT_COUNTS.index("active")]
    count = np.maximum(finite, 1)
    scale = exponent.astype(np.int64)
    mean = np.ldexp(to_float(total) / count, scale)
    spread = np.ldexp(np.maximum(to_float(second) - to_float(first) ** 2 / count, 0.0), 2 * scale)
    ends = [bits.astype(np.int32).view(np.float32).astype(np.float64) for bits in (low, high)]
    return np.stack([mean, spread, *ends], axis=1)


def _finish_units(pending: PendingUnits, host: npt.NDArray[np.int64]) -> RawUnits:
    units = host.shape[2]
    counts = {name: host[:, place].sum(0, dtype=np.int64) for place, name in enumerate(UNIT_COUNTS)}
    floats = _unit_floats(pending, host)
    n = np.zeros(units)
    mean, m2 = np.zeros(units), np.zeros(units)
    low, high = np.full(units, np.inf), np.full(units, -np.inf)
    for block, row in enumerate(floats):
        zero, active = (host[block, UNIT_COUNTS.index(name)] for name in ("zero", "active"))
        count = (zero + active).astype(np.float64)
        total = np.maximum(n + count, 1.0)
        delta = row[0] - mean
        m2 += np.where(count > 0, row[1] + delta * delta * n * count / total, 0.0)
        mean += np.where(count > 0, delta * count / total, 0.0)
        n += count
        low, high = np.minimum(low, row[2]), np.maximum(high, row[3])
    return RawUnits(
        dim=pending.dim,
        saturation=pending.saturation,
        count=counts["zero"] + counts["active"] + counts["nonfinite"],
        mean=mean,
        m2=m2,
        min=low,
        max=high,
        **counts,
    )
