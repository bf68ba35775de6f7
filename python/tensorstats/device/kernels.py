"""Summaries as torch operations, one row of 64-bit integers per block, left on the device; knows no model.

Counts and extremes are taken from the bit patterns: exact whatever the device does with subnormal numbers. Sums are
float64 within blocks of bounded size, or fixed-point integers on devices without float64. The core makes a state of
the rows, and owns the order of their columns.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tensorstats import _core
from tensorstats.device import fixed_point
from tensorstats.device.fixed_point import FIXED_BLOCK, deviation_sums, fixed_sum, scale_down

if TYPE_CHECKING:
    from tensorstats._core import Dtype, Summary
    from tensorstats.device.arena import Arena, Batch

__all__ = [
    "FLOATS",
    "INTEGERS",
    "FloatFormat",
    "PendingSummary",
    "block_size",
    "blocks",
    "dtype_name",
    "float_bits",
    "repeated_mask",
    "start_summary",
    "value_of",
    "without_autocast",
]

# Elements per block: bounds the temporaries (about ten of 8 bytes per element). Larger where launches cost more than
# memory.
CPU_BLOCK = 1 << 18
DEVICE_BLOCK = 1 << 22

INT64_MIN = -(1 << 63)
INT64_MAX = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class FloatFormat:
    """Bit patterns of the magnitude of a float format."""

    name: str
    integer: torch.dtype  # of the same width
    magnitude: int  # mask of everything but the sign
    smallest_normal: int
    infinity: int  # pattern of infinity; beyond it NaN. For e4m3fn, which has none, the largest finite pattern.
    has_infinity: bool


def _torch_dtypes(*, floats: bool) -> dict[torch.dtype, Dtype]:
    """The core's dtypes of a kind that this torch has: some are younger than the oldest that we work with."""
    wanted = [dtype for dtype in _core.DTYPES if (dtype.kind == "float") is floats]
    return {getattr(torch, dtype.name): dtype for dtype in wanted if hasattr(torch, dtype.name)}


_PATTERNS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
FLOATS = {
    of_torch: FloatFormat(
        name=dtype.name,
        integer=_PATTERNS[dtype.itemsize],
        magnitude=(1 << (8 * dtype.itemsize - 1)) - 1,
        smallest_normal=1 << dtype.mantissa,
        infinity=dtype.largest if dtype.infinity is None else dtype.infinity,
        has_infinity=dtype.infinity is not None,
    )
    for of_torch, dtype in _torch_dtypes(floats=True).items()
}
INTEGERS = {of_torch: dtype.name for of_torch, dtype in _torch_dtypes(floats=False).items()}


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype that is counted here.

    Raises
    ------
    TypeError
        For any other.
    """
    name = FLOATS[dtype].name if dtype in FLOATS else INTEGERS.get(dtype)
    if name is None:
        accepted = ", ".join([*INTEGERS.values(), *(form.name for form in FLOATS.values())])
        raise TypeError(f"unsupported dtype: {str(dtype).removeprefix('torch.')}; accepted: {accepted}")
    return name


@dataclass(slots=True)
class PendingSummary:
    """A summary whose rows are still on the device."""

    dtype: str
    shape: tuple[int, ...]
    rows: torch.Tensor  # int64 [blocks, columns]
    moments: int
    formats: Sequence[str]
    scale: float
    fixed: bool  # sums are in fixed point
    batch: Batch | None  # of the arena that holds the rows

    def finish(self, rows: bytes) -> tuple[Summary, int | None]:
        """The state, and the row-major position of the first non-finite value, from the rows on the host."""
        return _core.summary_of_rows(rows, self.dtype, self.shape, self.moments, self.formats, self.scale, self.fixed)


def start_summary(
    x: torch.Tensor,
    *,
    moments: int = 2,
    where: torch.Tensor | None = None,
    formats: Sequence[str] = (),
    scale: float = 1.0,
    arena: Arena | None = None,
) -> PendingSummary:
    """Begin the summary of a real, dense tensor on its device; nothing is copied to the host.

    Parameters
    ----------
    x : torch.Tensor
        Floating point (64 to 8 bits), integer or bool, any layout, any device.
    moments : {2, 4}
        With 2 the third and fourth powers are left at 0.
    where : torch.Tensor, optional
        A mask of the same shape and device. Nothing waits to learn how many elements it chooses.
    formats : sequence of str
        Formats as a Summary keeps them: how many elements are beyond each of their limits becomes a column of its own.
    scale : float
        What values are multiplied by before they are looked at as `formats`.
    arena : Arena, optional
        Memory of the device to write the rows into.

    Raises
    ------
    TypeError
        If the dtype is not one of the supported ones.
    ValueError
        If `moments` is 4 and the device has no float64.
    """
    x, name = x.detach(), dtype_name(x.dtype)
    fixed = not fixed_point.has_float64(x.device)
    if fixed and moments != 2:
        raise ValueError(f"moments must be 2 on {x.device.type}, which has no float64, got {moments}")
    form = FLOATS.get(x.dtype)
    limits = [limit for each in _core.format_limits(name, list(formats), scale) for limit in each] if formats else []
    rows, start = [], 0
    with torch.no_grad(), without_autocast(x.device):
        for block, mask in blocks(x, where):
            if form is not None:
                row = _float_row(block, mask, form, start, moments, fixed)
            else:
                row = _integer_row(block, mask, moments, fixed)
            rows.append(torch.cat([row, _beyond(block, mask, limits)]) if limits else row)
            start += block.numel()
        columns = _core.ROW_COLUMNS["integers" if form is None else "floats"] + len(limits)
        if arena is not None:
            stacked = arena.put(rows, columns)
        else:
            stacked = torch.stack(rows) if rows else torch.empty((0, columns), dtype=torch.int64, device=x.device)
    batch = None if arena is None else arena.batch
    return PendingSummary(name, tuple(x.shape), stacked, moments, formats, scale, fixed, batch)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Keeps mixed precision out of the sums, on devices that know it."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def block_size(x: torch.Tensor) -> int:
    """Elements per block on the device of `x`."""
    size = CPU_BLOCK if x.device.type == "cpu" else DEVICE_BLOCK
    return size if fixed_point.has_float64(x.device) else min(size, FIXED_BLOCK)


def blocks(
    x: torch.Tensor, mask: torch.Tensor | None = None, size: int | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """Flat blocks of at most `size` elements in row-major order, each with its part of a mask of the same shape.

    Never a copy of all of `x`. Nothing is picked by the mask: how much that is only the device knows, and to ask it is
    to wait.
    """
    size = block_size(x) if size is None else size
    if x.numel() <= size:
        if x.numel():
            yield x.reshape(-1), None if mask is None else mask.reshape(-1)
        return
    if x.is_contiguous() and mask is None:
        yield from ((block, None) for block in x.view(-1).split(size))
        return
    step = max(1, x.shape[0] * size // x.numel())
    masks = itertools.repeat(None) if mask is None else mask.split(step)
    for part, mask_part in zip(x.split(step), masks, strict=False):
        one = part.shape[0] == 1 and part.dim() > 1
        yield from (
            blocks(part[0], None if mask_part is None else mask_part[0], size) if one else blocks(part, mask_part, size)
        )


def repeated_mask(where: object, x: torch.Tensor) -> torch.Tensor:
    """A mask repeated to the shape of `x`, without a copy; an error that says what is wrong with it otherwise."""
    mask = where if isinstance(where, torch.Tensor) else torch.as_tensor(where)
    if mask.dtype is not torch.bool:
        raise TypeError(
            f"where must be a mask of dtype: bool; got: {str(mask.dtype).removeprefix('torch.')}; hint: where=mask != 0"
        )
    if mask.device != x.device:
        raise TypeError(
            f"where must be on the device of the tensor, {x.device}; got: {mask.device}; hint: where=mask.to(x.device)"
        )
    try:
        return mask.expand(x.shape)
    except RuntimeError:
        missing = x.dim() - mask.dim()
        leading = missing > 0 and all(m in (1, n) for m, n in zip(mask.shape, x.shape, strict=False))
        hint = f"; hint: where=mask[...{', None' * missing}]" if leading else ""
        raise ValueError(
            f"where of shape {list(mask.shape)} cannot be broadcast to the shape {list(x.shape)} of the tensor{hint}"
        ) from None


def float_bits(block: torch.Tensor, form: FloatFormat) -> tuple[torch.Tensor, torch.Tensor]:
    """The magnitude pattern and the sign of every value; 8 and 16 bits are widened, since few operations know them."""
    bits = block.view(form.integer)
    if form.integer is torch.uint8:
        bits = bits.to(torch.int32)
        return bits & form.magnitude, bits > form.magnitude
    if form.integer is torch.int16:
        bits = bits.to(torch.int32)
    return bits & form.magnitude, bits < 0


def value_of(magnitude: int, form: FloatFormat) -> float:
    """The value of a magnitude pattern, on the host; every one is a float64."""
    if magnitude > form.infinity:
        return math.nan
    if form.has_infinity and magnitude == form.infinity:
        return math.inf
    bits = form.smallest_normal.bit_length() - 1
    bias = (form.infinity >> bits) >> 1
    exponent, fraction = magnitude >> bits, magnitude & (form.smallest_normal - 1)
    whole = fraction + form.smallest_normal if exponent else fraction
    return math.ldexp(whole, max(exponent, 1) - bias - bits)


def float_kinds(
    magnitude: torch.Tensor, form: FloatFormat, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Which values are NaN, infinite and finite; those that a mask leaves out are nothing of it."""
    nan = magnitude > form.infinity
    infinite = magnitude == form.infinity if form.has_infinity else torch.zeros_like(nan)
    finite = ~(nan | infinite)
    return (nan, infinite, finite) if mask is None else (nan & mask, infinite & mask, finite & mask)


def _float_row(
    block: torch.Tensor, mask: torch.Tensor | None, form: FloatFormat, start: int, moments: int, fixed: bool
) -> torch.Tensor:
    """The row of one flat block of floats. Non-negative magnitudes are ordered as their patterns are."""
    magnitude, sign = float_bits(block, form)
    nan, infinite, finite = float_kinds(magnitude, form, mask)
    nonzero = finite & (magnitude != 0)
    subnormal = nonzero & (magnitude < form.smallest_normal)
    wide = magnitude.to(torch.int64)
    # Orders negative before positive values: -1 stands for -0, -2 for the smallest negative one, and so on.
    key = torch.where(sign, -wide - 1, wide)
    wide_nonzero = torch.where(nonzero, wide, INT64_MAX)
    absmax = torch.where(finite, wide, -1).max()

    count = finite.sum()
    exponent, floats = (_fixed_sums if fixed else _float_sums)(block, form, finite, count, absmax, moments)
    # argmax of a 0/1 tensor is its first 1.
    bad = nan | infinite
    first = torch.where(bad.any(), bad.to(torch.uint8).argmax() + start, -1)
    integers = [
        nan.sum(),
        (infinite & ~sign).sum(),
        (infinite & sign).sum(),
        (finite & (magnitude == 0)).sum(),
        (nonzero & sign).sum(),
        subnormal.sum(),
        torch.where(finite, key, INT64_MAX).min(),
        torch.where(finite, key, INT64_MIN).max(),
        wide_nonzero.min(),
        count,
        exponent,
        first,
    ]
    return torch.cat([torch.stack(integers), floats])


def _float_sums(
    block: torch.Tensor,
    form: FloatFormat,
    finite: torch.Tensor,
    count: torch.Tensor,
    absmax: torch.Tensor,
    moments: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The exponent of a block's scale and its sums as bit patterns of float64."""
    values = block.to(torch.float64) if form.integer is not torch.uint8 else block.to(torch.float32).to(torch.float64)
    values = torch.where(finite, values, 0.0)
    exponent = torch.zeros((), dtype=torch.int64, device=block.device)
    if form.integer is torch.int64:
        exponent = torch.frexp(absmax.clamp(min=0).view(torch.float64)).exponent.to(torch.int64)
        # In two factors, since 2 ** -1024 alone is already below the normal range.
        half = torch.div(exponent, 2, rounding_mode="floor")
        values = values * torch.exp2(-half.to(torch.float64)) * torch.exp2((half - exponent).to(torch.float64))
    total = values.sum()
    deviation = torch.where(finite, values - total / count.clamp(min=1), 0.0)
    floats = [total, values.abs().sum(), (values * values).sum(), *_powers(deviation, count, moments)]
    return exponent, torch.stack(floats).view(torch.int64)


def _fixed_sums(
    block: torch.Tensor,
    _form: FloatFormat,
    finite: torch.Tensor,
    count: torch.Tensor,
    _absmax: torch.Tensor,
    _moments: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The exponent of a block's scale and its sums in fixed point; instead of the third power that of the first."""
    values = torch.where(finite, block.to(torch.float32), 0.0)
    scaled, exponent = scale_down(values, values.abs().max())
    total = fixed_sum(scaled)
    first, second = deviation_sums(scaled, total, count, finite)
    sums = [total, fixed_sum(scaled.abs()), fixed_sum(scaled * scaled), second, first, torch.zeros_like(first)]
    return exponent, torch.stack(sums)


def _beyond(block: torch.Tensor, mask: torch.Tensor | None, limits: Sequence[int]) -> torch.Tensor:
    """How many chosen elements of a flat block have a magnitude beyond each limit; NaN and infinities have."""
    form = FLOATS.get(block.dtype)
    if form is not None:
        magnitude, _ = float_bits(block, form)
        beyond = [magnitude > limit for limit in limits]
    elif block.dtype is torch.uint64:
        # Unsigned values are ordered by flipping the top bit.
        order = block.view(torch.int64) ^ INT64_MIN
        beyond = [order > limit + INT64_MIN for limit in limits]
    else:
        # Magnitudes are kept as their negatives: the smallest int64 has no positive counterpart.
        values = block.to(torch.int64)
        size = torch.where(values > 0, -values, values)
        beyond = [size < -limit for limit in limits]
    return torch.stack([(each if mask is None else each & mask).sum() for each in beyond])


def _powers(deviation: torch.Tensor, count: torch.Tensor, moments: int) -> list[torch.Tensor]:
    """Sums of the second to fourth powers of deviations; the second corrected for a mean that was rounded."""
    squared = deviation * deviation
    drift = deviation.sum()
    m2 = squared.sum() - drift * drift / count.clamp(min=1)
    if moments == 2:
        return [m2, torch.zeros_like(m2), torch.zeros_like(m2)]
    return [m2, (squared * deviation).sum(), (squared * squared).sum()]


def _integer_row(block: torch.Tensor, mask: torch.Tensor | None, moments: int, fixed: bool) -> torch.Tensor:
    """The row of one flat block of integers; sums in two halves of 32 bits, which 2**31 elements cannot overflow."""
    chosen = torch.ones_like(block, dtype=torch.bool) if mask is None else mask
    unsigned = block.dtype is torch.uint64
    values = block.view(torch.int64) if unsigned else block.to(torch.int64)
    high = (values >> 32) & 0xFFFFFFFF if unsigned else values >> 32
    low = values & 0xFFFFFFFF
    nonzero = (values != 0) & chosen
    negative = torch.zeros_like(nonzero) if unsigned else (values < 0) & chosen
    # Magnitudes are kept as their negatives: the smallest int64 has no positive counterpart. Unsigned 64-bit values are
    # ordered by flipping the top bit.
    order = values ^ INT64_MIN if unsigned else values
    size = values ^ INT64_MAX if unsigned else torch.where(values > 0, -values, values)
    smallest_size = torch.where(nonzero, size, INT64_MIN).max()
    count = chosen.sum()
    integers = [
        (chosen & ~nonzero).sum(),
        negative.sum(),
        torch.where(chosen, order, INT64_MAX).min(),
        torch.where(chosen, order, INT64_MIN).max(),
        smallest_size,
        count,
        torch.where(chosen, high, 0).sum(),
        torch.where(chosen, low, 0).sum(),
        torch.where(negative, high, 0).sum(),
        torch.where(negative, low, 0).sum(),
    ]
    if fixed:
        return torch.stack([*integers, *_fixed_integer_tail(order, chosen, count)])
    floats = torch.where(chosen, high.to(torch.float64) * 4294967296.0 + low.to(torch.float64), 0.0)
    centre = floats.sum() / count.clamp(min=1)
    deviation = torch.where(chosen, floats - centre, 0.0)
    tail = [centre, (floats * floats).sum(), *_powers(deviation, count, moments)]
    return torch.cat([torch.stack(integers), torch.stack(tail).view(torch.int64)])


def _fixed_integer_tail(order: torch.Tensor, chosen: torch.Tensor, count: torch.Tensor) -> list[torch.Tensor]:
    """A whole number near the mean, the exponent of the deviations from it, and the sums of their first two powers."""
    centre = (torch.where(chosen, order.to(torch.float32), 0.0).sum() / count.clamp(min=1)).to(torch.int64)
    difference = order - centre
    # Where 64 bits cannot hold it, it is so large that float32 loses nothing that matters.
    beyond = ((order ^ centre) & (order ^ difference)) < 0
    deviation = torch.where(beyond, order.to(torch.float32) - centre.to(torch.float32), difference.to(torch.float32))
    deviation = torch.where(chosen, deviation, 0.0)
    scaled, exponent = scale_down(deviation, deviation.abs().max())
    return [centre, exponent, fixed_sum(scaled), fixed_sum(scaled * scaled), torch.zeros_like(count)]
