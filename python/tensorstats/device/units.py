"""Unit activity as torch operations, one row per block, left on the device; knows no model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tensorstats import _core
from tensorstats.device import fixed_point
from tensorstats.device.fixed_point import deviation_sums, fixed_sum, scale_down
from tensorstats.device.kernels import FLOATS, block_size, without_autocast

if TYPE_CHECKING:
    from tensorstats._core import UnitActivity
    from tensorstats.device.arena import Arena, Batch

__all__ = ["PendingUnits", "start_units"]


@dataclass(slots=True)
class PendingUnits:
    """A unit activity whose rows are still on the device."""

    dim: int
    saturation: tuple[float, float] | None
    rows: torch.Tensor  # int64 [blocks, columns, units]
    fixed: bool  # sums are in fixed point
    batch: Batch | None  # of the arena that holds the rows

    def finish(self, rows: bytes) -> tuple[UnitActivity, None]:
        """The state, from the rows on the host; it knows no position of a non-finite value."""
        return _core.units_of_rows(rows, self.rows.shape[2], self.dim, self.saturation, self.fixed), None


def start_units(
    x: torch.Tensor,
    dim: int,
    saturation: tuple[float, float] | None = None,
    where: torch.Tensor | None = None,
    *,
    arena: Arena | None = None,
) -> PendingUnits:
    """Begin the unit activity of `x` along `dim` on its device, of the elements that a mask of its shape chooses."""
    x = x.detach()
    if not -x.dim() <= dim < x.dim():
        raise IndexError(f"dim must lie within the {x.dim()} dimensions of the tensor, got {dim}")
    rows: list[torch.Tensor] = []
    fixed = not fixed_point.has_float64(x.device)
    row = _fixed_unit_row if fixed else _unit_row
    with torch.no_grad(), without_autocast(x.device):
        moved = x.movedim(dim, 0)
        size = block_size(x)
        if where is None:
            rows.extend(row(block, saturation) for block in _unit_blocks(moved, size))
        else:
            # Blocks are cut by shape alone, so those of the mask fit.
            masks = _unit_blocks(where.movedim(dim, 0), size)
            pairs = zip(_unit_blocks(moved, size), masks, strict=True)
            rows.extend(row(block, saturation, mask) for block, mask in pairs)
        columns = _core.ROW_COLUMNS["units in fixed point" if fixed else "units"]
        if arena is not None:
            stacked = arena.put(rows, columns, moved.shape[0])
        else:
            shape = (0, columns, moved.shape[0])
            stacked = torch.stack(rows) if rows else torch.empty(shape, dtype=torch.int64, device=x.device)
    return PendingUnits(dim % x.dim(), saturation, stacked, fixed, None if arena is None else arena.batch)


def _unit_blocks(x: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """Blocks [units, values] of about `size` elements, cut anywhere but along the units."""
    if x.numel() == 0:
        return
    if x.numel() <= size or x.numel() == x.shape[0]:
        yield x.reshape(x.shape[0], -1)
        return
    widest = max(range(1, x.dim()), key=lambda dim: x.shape[dim])
    step = max(1, x.shape[widest] * size // x.numel())
    for part in x.split(step, dim=widest):
        yield from _unit_blocks(part, size) if part.shape != x.shape else iter([part.reshape(part.shape[0], -1)])


def _unit_row(
    block: torch.Tensor, saturation: tuple[float, float] | None, mask: torch.Tensor | None = None
) -> torch.Tensor:
    values = block
    if values.dtype in FLOATS and FLOATS[values.dtype].integer is torch.uint8:
        values = values.to(torch.float32)
    values = values.to(torch.float64)
    finite = torch.isfinite(values)
    if mask is not None:
        finite = finite & mask
    count = finite.sum(1)
    kept = torch.where(finite, values, 0.0)
    mean = kept.sum(1) / count.clamp(min=1)
    deviation = torch.where(finite, values - mean[:, None], 0.0)
    integers = _unit_counts(values, finite, count, saturation, mask)
    floats = [
        mean,
        (deviation * deviation).sum(1),
        torch.where(finite, values, math.inf).amin(1),
        torch.where(finite, values, -math.inf).amax(1),
    ]
    return torch.cat([torch.stack(integers), torch.stack(floats).view(torch.int64)])


def _unit_counts(
    values: torch.Tensor,
    finite: torch.Tensor,
    count: torch.Tensor,
    saturation: tuple[float, float] | None,
    mask: torch.Tensor | None,
) -> list[torch.Tensor]:
    """Zero, active, non-finite, low and high values of each unit; `finite` is true only where the mask is."""
    zero = finite & (values == 0)
    nonfinite = ~torch.isfinite(values)
    if mask is not None:
        nonfinite = nonfinite & mask
    low = high = torch.zeros_like(count)
    if saturation is not None:
        low = (finite & (values < saturation[0])).sum(1)
        high = (finite & (values > saturation[1])).sum(1)
    return [zero.sum(1), (finite & ~zero).sum(1), nonfinite.sum(1), low, high]


def _fixed_unit_row(
    block: torch.Tensor, saturation: tuple[float, float] | None, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """The same without float64.

    The exponent of a scale; the sum, the sums of deviations and of their squares, in fixed point; the bits of min and
    max as float32.
    """
    values = block.to(torch.float32)
    finite = torch.isfinite(values)
    if mask is not None:
        finite = finite & mask
    count = finite.sum(1)
    kept = torch.where(finite, values, 0.0)
    scaled, exponent = scale_down(kept, kept.abs().amax(1), dim=1)
    total = fixed_sum(scaled, 1)
    first, second = deviation_sums(scaled, total, count, finite, 1)
    ends = torch.stack([torch.where(finite, values, math.inf).amin(1), torch.where(finite, values, -math.inf).amax(1)])
    rows = [*_unit_counts(values, finite, count, saturation, mask), exponent, total, first, second]
    return torch.cat([torch.stack(rows), ends.view(torch.int32).to(torch.int64)])
