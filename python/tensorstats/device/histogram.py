"""Histograms as torch operations: exact counts in a table that stays on the device until it is read; knows no model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from tensorstats._core import Histogram
from tensorstats.axis import Linear, LogLinear, Regular, Variable
from tensorstats.device import fixed_point
from tensorstats.device.host import resolve
from tensorstats.device.kernels import (
    FLOATS,
    FloatFormat,
    blocks,
    dtype_name,
    float_bits,
    float_kinds,
    repeated_mask,
    start_summary,
)

if TYPE_CHECKING:
    from tensorstats.axis import Axis
    from tensorstats.device.arena import Arena, Batch

__all__ = ["EdgeTable", "LogTable", "histogram"]

# Octave 0 of a LogLinear axis is that of the smallest float64, 2 ** -1074.
_SMALLEST = -1074

# Mantissa bits at which each bin holds one value of the dtype; 255 where no axis has as many.
_VALUE_BITS = {
    torch.float16: 10,
    torch.bfloat16: 7,
    torch.float8_e4m3fn: 3,
    torch.float8_e5m2: 2,
    torch.bool: 0,
    torch.uint8: 7,
    torch.int8: 6,
}
_NO_VALUE_BITS = 255


def histogram(x: torch.Tensor, axis: Axis, *, where: object = None) -> Histogram:
    """The histogram of a tensor on any device, by torch operations; every count is exact.

    Parameters
    ----------
    x : torch.Tensor
        Dense, real, of any shape.
    axis : axis.Regular, axis.Variable, axis.LogLinear or axis.Linear
    where : torch.Tensor, optional
        A bool mask on the same device that broadcasts to the shape of `x`: only elements where it is true count.

    Examples
    --------
    >>> import tensorstats as ts
    >>> histogram(torch.tensor([0.1, 0.6, 0.7, 3.0]), ts.axis.Regular(2, 0.0, 1.0)).values()
    array([1, 2])
    """
    mask = None if where is None else repeated_mask(where, x)
    if isinstance(axis, Linear):
        return _linear(x, axis, mask)
    if isinstance(axis, LogLinear):
        return LogTable(axis, x).update(x, mask).histogram()
    return EdgeTable(axis, x).update(x, mask).histogram()


def _linear(x: torch.Tensor, axis: Axis, mask: torch.Tensor | None) -> Histogram:
    """The histogram of a Linear axis: the extremes give its bins, then their edges are an edge table."""
    ((s, _),) = resolve([start_summary(x, where=mask)])
    state = Histogram(axis)
    if s.finite_count:
        whole = np.uint64 if x.dtype is torch.uint64 else np.int64
        state.update(np.array([s.min, s.max], dtype=np.float64 if x.dtype in FLOATS else whole))
    form = state.to_dict() | {
        "value_bits": _VALUE_BITS.get(x.dtype, _NO_VALUE_BITS) if s.count else 0,
        "nan_count": s.nan_count,
        "posinf_count": s.posinf_count,
        "neginf_count": s.neginf_count,
    }
    if form["places"]:
        low, high, width = min(form["places"]), max(form["places"]), form["width_exponent"]
        edges = [_multiple(i, width) for i in range(low, high + 2)]
        table = EdgeTable(Variable(edges), x)
        table.update(x, mask)
        places, counts, _ = table._read()
        inside = [(place, n) for place, n in zip(places, counts, strict=True) if 1 <= place < len(edges)]
        form |= {"places": [low + place - 1 for place, _ in inside], "counts": [n for _, n in inside]}
    return Histogram.from_dict(form)


def _multiple(i: int, exponent: int) -> float:
    """A multiple of a power of two; beyond float64 its largest or smallest number."""
    try:
        return math.ldexp(i, exponent)
    except OverflowError:
        return math.copysign(float(np.finfo(np.float64).max), i)


class _Table:
    """Counts on one device for one dtype."""

    infinite_apart = True  # whether infinities are in no bin

    def __init__(self, axis: Axis, like: torch.Tensor, places: int) -> None:
        dtype_name(like.dtype)
        self.axis = axis
        self.dtype = like.dtype
        self.device = like.device
        self._places = places
        with torch.inference_mode(False):  # what is made in it could not be added to outside of it
            self._counts = torch.zeros(places + 1, dtype=torch.int64, device=like.device)
            self._specials = torch.zeros(3, dtype=torch.int64, device=like.device)  # NaN, +inf, -inf
        self._sent: tuple[Batch, int] | None = None

    def update(self, x: torch.Tensor, where: torch.Tensor | None = None) -> _Table:
        """Count a tensor of the same dtype and device, where a mask of its shape is true; it stays there."""
        if (x.dtype, x.device) != (self.dtype, self.device):
            raise ValueError(f"expected {self.dtype} on {self.device}, got {x.dtype} on {x.device}")
        with torch.no_grad():
            for block, mask in blocks(x.detach(), where):
                place = self._place(block)
                form = FLOATS.get(block.dtype)
                # One place more than there are bins takes what belongs to none.
                if form is not None:
                    magnitude, sign = float_bits(block, form)
                    nan, infinite, _ = float_kinds(magnitude, form, mask)
                    self._specials += torch.stack([nan.sum(), (infinite & ~sign).sum(), (infinite & sign).sum()])
                    place = torch.where(nan | infinite if self.infinite_apart else nan, self._places, place)
                if mask is not None:
                    place = torch.where(mask, place, self._places)
                self._counts.scatter_add_(0, place, torch.ones_like(place))
        return self

    def _place(self, block: torch.Tensor) -> torch.Tensor:
        """The place of every value, as int64; those that are not finite may have any."""
        raise NotImplementedError

    def _dict(self, places: list[int], counts: list[int], specials: list[int]) -> Histogram:
        return Histogram.from_dict(
            Histogram(self.axis).to_dict()
            | {
                "value_bits": _VALUE_BITS.get(self.dtype, _NO_VALUE_BITS) if any(counts) or any(specials) else 0,
                "nan_count": specials[0],
                "posinf_count": specials[1],
                "neginf_count": specials[2],
                "places": places,
                "counts": counts,
            }
        )

    def send(self, arena: Arena) -> None:
        """Put the counts where the next copy to the host takes them along; nothing is counted after that."""
        place = arena.put([torch.cat([self._counts, self._specials])], self._places + 4)
        self._sent = (arena.batch, int(place.storage_offset()))
        # The step may be read much later, and the device's memory is needed for the next one.
        self._counts = self._specials = self._counts.new_empty(0)

    def _on_host(self) -> torch.Tensor:
        if self._sent is None:
            return torch.cat([self._counts, self._specials]).cpu()
        batch, start = self._sent
        return torch.from_numpy(batch.land()[start : start + self._places + 4])

    def _read(self) -> tuple[list[int], list[int], list[int]]:
        """Occupied places, their counts, and the counts of NaN, +inf and -inf."""
        host = self._on_host()
        counts = host[: self._places]
        places = counts.nonzero().reshape(-1)
        return places.tolist(), counts[places].tolist(), host[self._places + 1 :].tolist()

    def histogram(self) -> Histogram:
        """Bring the counts to the host."""
        raise NotImplementedError


class LogTable(_Table):
    """Counts of a LogLinear axis: first the negative bins, then the positive ones, then zeros."""

    def __init__(self, axis: LogLinear, like: torch.Tensor) -> None:
        self.precision = axis.precision
        form = FLOATS.get(like.dtype)
        if form is None:
            self._base, octaves = -_SMALLEST, 65
        else:
            bits = _mantissa_bits(form)
            bias = (form.infinity >> bits) >> 1
            self._base = 1 - bias - bits - _SMALLEST
            octaves = (form.infinity >> bits) + bits + 1
        self._bins = octaves << self.precision
        super().__init__(axis, like, 2 * self._bins + 1)

    def _place(self, block: torch.Tensor) -> torch.Tensor:
        form = FLOATS.get(block.dtype)
        if form is None:
            magnitude, sign = _integer_magnitude(block)
            octave, fraction = _leading(magnitude)
        else:
            magnitude, sign = float_bits(block, form)
            magnitude = magnitude.to(torch.int64)
            bits = _mantissa_bits(form)
            octave, fraction = _leading(magnitude)
            normal = magnitude >= form.smallest_normal
            octave = torch.where(normal, (magnitude >> bits) - 1 + bits, octave)
            within = (magnitude & (form.smallest_normal - 1)) << (52 - bits)
            fraction = torch.where(normal, within, fraction)
        key = (octave << self.precision) | (fraction >> (52 - self.precision))
        place = torch.where(sign, key, key + self._bins).clamp(0, 2 * self._bins - 1)
        return torch.where(magnitude == 0, 2 * self._bins, place)

    def histogram(self) -> Histogram:
        """Bring the counts to the host."""
        places, counts, specials = self._read()
        shift = self._base << self.precision
        signed = []
        for place in places:
            if place == 2 * self._bins:
                signed.append(0)
            elif place < self._bins:
                signed.append(-(place + shift + 1))
            else:
                signed.append(place - self._bins + shift + 1)
        return self._dict(signed, counts, specials)


class EdgeTable(_Table):
    """Counts between edges: place 0 below the first edge, then the bins, then everything above the last edge."""

    infinite_apart = False

    def __init__(self, axis: Regular | Variable, like: torch.Tensor) -> None:
        self._edges: list[float] = axis.edges.tolist()
        super().__init__(axis, like, len(self._edges) + 1)
        if like.dtype in FLOATS:
            self._thresholds = torch.tensor(self._edges, dtype=torch.float64, device=like.device)
            self._last: float | int | None = self._edges[-1]
            return
        # An integer is at or above an edge when it is at or above the edge rounded up; edges out of reach are left out.
        low, high = (0, (1 << 64) - 1) if like.dtype is torch.uint64 else (-(1 << 63), (1 << 63) - 1)
        whole = [max(math.ceil(edge), low) for edge in self._edges if math.ceil(edge) <= high]
        offset = 1 << 63 if like.dtype is torch.uint64 else 0
        self._thresholds = torch.tensor([edge - offset for edge in whole], dtype=torch.int64, device=like.device)
        last = self._edges[-1]
        self._last = int(last) - offset if last.is_integer() and low <= last <= high else None

    def _place(self, block: torch.Tensor) -> torch.Tensor:
        if block.dtype in FLOATS:
            narrow = block.element_size() == 1
            values = (block.to(torch.float32) if narrow else block).to(torch.float64)
        elif block.dtype is torch.uint64:
            values = block.view(torch.int64) ^ -(1 << 63)
        else:
            values = block.to(torch.int64)
        place = torch.searchsorted(self._thresholds, values, right=True)
        if self._last is not None:
            # The last bin is closed, as numpy has it.
            place = torch.where(values == self._last, len(self._edges) - 1, place)
        return place

    def histogram(self) -> Histogram:
        """Bring the counts to the host."""
        return self._dict(*self._read())


def _mantissa_bits(form: FloatFormat) -> int:
    return form.smallest_normal.bit_length() - 1


def _integer_magnitude(block: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Magnitudes as 64-bit patterns (the top bit is a digit, not a sign), and the signs."""
    if block.dtype is torch.uint64:
        values = block.view(torch.int64)
        return values, torch.zeros_like(values, dtype=torch.bool)
    values = block.to(torch.int64)
    return torch.where(values < 0, -values, values), values < 0


def _leading(pattern: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Place of the top bit of an unsigned 64-bit pattern, and the next 52 bits below it."""
    # Beyond 53 bits float64 would round; the surplus is cut off first.
    large = (pattern < 0) | (pattern >= 1 << 53)
    cut = torch.where(large, (pattern >> 11) & ((1 << 53) - 1), pattern)
    if fixed_point.has_float64(pattern.device):
        top = torch.frexp(cut.to(torch.float64)).exponent.to(torch.int64) - 1
    else:
        top = _top_bit(cut)
    fraction = torch.where(cut > 0, cut << (52 - top).clamp(0, 52), 0) & ((1 << 52) - 1)
    return top + torch.where(large, 11, 0), fraction


def _top_bit(pattern: torch.Tensor) -> torch.Tensor:
    """Place of the top bit of a positive integer, by halving; -1 for zero, as frexp has it."""
    top = torch.where(pattern > 0, 0, -1)
    for step in (32, 16, 8, 4, 2, 1):
        above = pattern >= 1 << step
        top = torch.where(above, top + step, top)
        pattern = torch.where(above, pattern >> step, pattern)
    return top
