"""Counts of values out of range as torch operations, and the first of each kind; exact for every dtype. Knows no model.

Values are compared as integers that order as they do, with the last one below the minimum and the first one above the
maximum, which are found on the host. So nothing is rounded, and it does not matter what a device does with subnormal
numbers, or whether it has float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from tensorstats.device.arena import Batch
from tensorstats.device.kernels import (
    FLOATS,
    INT64_MAX,
    INT64_MIN,
    FloatFormat,
    blocks,
    dtype_name,
    float_bits,
    float_kinds,
    value_of,
    without_autocast,
)

__all__ = ["Bound", "Found", "PendingRange", "Report", "start_range"]

Bound: TypeAlias = int | float
Found: TypeAlias = tuple[int, tuple[int, ...], int | float]
"""Position in C order, index, value."""

Report: TypeAlias = tuple[str, tuple[int, ...], list[int], list[Found | None]]
"""As of `_core.outside`: dtype and shape; NaN, +inf, -inf, below and above; the first not finite, below and above."""

# Of a row: five counts, then position and value of three firsts.
_COUNTS = 5
_COLUMNS = 11


@dataclass(slots=True)
class PendingRange:
    """A look for values out of range whose rows are still on the device."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    rows: torch.Tensor  # int64 [blocks, columns]
    batch: Batch | None = None  # of no arena

    def finish(self, rows: bytes) -> Report:
        """What was found, from the rows on the host."""
        table = np.frombuffer(rows, dtype=np.int64).reshape(-1, _COLUMNS)
        counts: list[int] = table[:, :_COUNTS].sum(axis=0).tolist()
        firsts = [self._first(table[:, column : column + 2]) for column in range(_COUNTS, _COLUMNS, 2)]
        return dtype_name(self.dtype), self.shape, counts, firsts

    def _first(self, places: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Found | None:
        """The first of one kind: blocks are in C order, and a position is -1 where a block has none."""
        for flat, bits in places.tolist():
            if flat >= 0:
                index = tuple(int(i) for i in np.unravel_index(flat, self.shape))
                return flat, index, _shown(bits, self.dtype)
        return None


def start_range(x: torch.Tensor, low: Bound | None, high: Bound | None, *, allowed: bool) -> PendingRange:
    """Begin to count the values of a tensor that are not finite or out of range; nothing is copied to the host.

    Parameters
    ----------
    x
        Dense, real, of any shape, on any device.
    low, high
        Smallest and largest value allowed, in order and no NaN; None for no bound.
    allowed
        Whether infinities are compared with the bounds as any other value. NaN never is.
    """
    x = x.detach()
    dtype_name(x.dtype)
    form = FLOATS.get(x.dtype)
    ends = _integer_ends(x.dtype, low, high) if form is None else _float_ends(form, low, high)
    rows, start = [], 0
    with torch.no_grad(), without_autocast(x.device):
        if form is not None or ends != (None, None):
            for block, _ in blocks(x):
                row = (
                    _integer_row(block, ends, start) if form is None else _float_row(block, form, ends, allowed, start)
                )
                rows.append(row)
                start += block.numel()
        empty = torch.empty((0, _COLUMNS), dtype=torch.int64, device=x.device)
        return PendingRange(x.dtype, tuple(x.shape), torch.stack(rows) if rows else empty)


_Ends: TypeAlias = tuple[int | None, int | None]
"""The key of the last value below the minimum and of the first above the maximum; None where no value can be."""


def _float_ends(form: FloatFormat, low: Bound | None, high: Bound | None) -> _Ends:
    # What is above a maximum is, with its sign turned, below the minimum that has its sign turned.
    return None if low is None else _last_below(form, low), None if high is None else -_last_below(form, -high)


def _last_below(form: FloatFormat, bound: Bound) -> int:
    """The key of the last value below a bound, infinities included; one less than every key where there is none."""
    first, end = -form.infinity, form.infinity + 1
    while first < end:
        key = (first + end) // 2
        # Python compares floats with integers exactly.
        if math.copysign(value_of(abs(key), form), key) < bound:
            first = key + 1
        else:
            end = key
    return first - 1


def _integer_ends(dtype: torch.dtype, low: Bound | None, high: Bound | None) -> _Ends:
    unsigned = dtype is torch.uint64
    smallest, largest = (0, (1 << 64) - 1) if unsigned else (INT64_MIN, INT64_MAX)
    offset = INT64_MIN if unsigned else 0
    below = above = None
    if low is not None and low > smallest:
        below = (math.ceil(low) if low <= largest else largest + 1) - 1 + offset
    if high is not None and high < largest:
        above = (math.floor(high) if high >= smallest else smallest - 1) + 1 + offset
    return below, above


def _float_row(block: torch.Tensor, form: FloatFormat, ends: _Ends, allowed: bool, start: int) -> torch.Tensor:
    magnitude, sign = float_bits(block, form)
    nan, infinite, finite = float_kinds(magnitude, form, None)
    wide = magnitude.to(torch.int64)
    key = torch.where(sign, -wide, wide)
    compared = ~nan if allowed else finite
    below, above = ((compared & beyond) if beyond is not None else None for beyond in _beyond(key, ends))
    counts = [nan.sum(), (infinite & ~sign).sum(), (infinite & sign).sum()]
    # -1 stands for -0, as in the rows of a summary.
    bits = torch.where(sign, -wide - 1, wide)
    return _row(counts, bits, [nan | infinite, below, above], start)


def _integer_row(block: torch.Tensor, ends: _Ends, start: int) -> torch.Tensor:
    # Unsigned 64-bit values are ordered by flipping the top bit.
    key = block.view(torch.int64) ^ INT64_MIN if block.dtype is torch.uint64 else block.to(torch.int64)
    none = torch.zeros((), dtype=torch.int64, device=block.device)
    return _row([none] * 3, key, [None, *_beyond(key, ends)], start)


def _beyond(key: torch.Tensor, ends: _Ends) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    below, above = ends
    return None if below is None else key <= below, None if above is None else key >= above


def _row(counts: list[torch.Tensor], bits: torch.Tensor, kinds: list[torch.Tensor | None], start: int) -> torch.Tensor:
    """Counts of what is not finite, below and above, then position and value of the first of each of three kinds."""
    none = torch.zeros_like(counts[0])
    firsts = []
    for kind in kinds:
        if kind is None:
            firsts += [none - 1, none]
            continue
        # argmax of a 0/1 tensor is its first 1. It is not asked for as a number: the device would be waited for.
        place = kind.to(torch.uint8).argmax()
        firsts += [torch.where(kind.any(), place + start, -1), bits.gather(0, place.reshape(1)).reshape(())]
    return torch.stack([*counts, *(none if kind is None else kind.sum() for kind in kinds[1:]), *firsts])


def _shown(bits: int, dtype: torch.dtype) -> int | float:
    """The value of what a row holds of one element."""
    form = FLOATS.get(dtype)
    if form is None:
        return bits - INT64_MIN if dtype is torch.uint64 else bits
    return -value_of(-bits - 1, form) if bits < 0 else value_of(bits, form)
