"""Unit activity as torch operations, one row per block, left on the device; knows no model and no state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from tensorstats.torch.device_kernels import FLOATS, block_size

__all__ = ["UNIT_COUNTS", "UNIT_FLOATS", "PendingUnits", "start_units"]

UNIT_COUNTS = ("zero", "active", "nonfinite", "low", "high")
UNIT_FLOATS = ("mean", "m2", "min", "max")


@dataclass(slots=True)
class PendingUnits:
    """A unit activity whose rows are still on the device."""

    dim: int
    saturation: tuple[float, float] | None
    rows: torch.Tensor  # int64 [blocks, 9, units]


def start_units(
    x: torch.Tensor,
    dim: int,
    saturation: tuple[float, float] | None = None,
    where: torch.Tensor | None = None,
) -> PendingUnits:
    """Begin the unit activity of `x` along `dim` on its device, of the elements that a mask of its shape chooses."""
    x = x.detach()
    if not -x.dim() <= dim < x.dim():
        raise IndexError(f"dim must lie within the {x.dim()} dimensions of the tensor, got {dim}")
    rows: list[torch.Tensor] = []
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        moved = x.movedim(dim, 0)
        size = block_size(x)
        if where is None:
            rows.extend(_unit_row(block, saturation) for block in _unit_blocks(moved, size))
        else:
            # Blocks are cut by shape alone, so those of the mask fit.
            masks = _unit_blocks(where.movedim(dim, 0), size)
            pairs = zip(_unit_blocks(moved, size), masks, strict=True)
            rows.extend(_unit_row(block, saturation, mask) for block, mask in pairs)
        shape = (0, len(UNIT_COUNTS) + len(UNIT_FLOATS), moved.shape[0])
        stacked = torch.stack(rows) if rows else torch.empty(shape, dtype=torch.int64, device=x.device)
    return PendingUnits(dim % x.dim(), saturation, stacked)


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
    zero, nonfinite = values == 0, ~finite
    if mask is not None:
        finite, zero, nonfinite = finite & mask, zero & mask, nonfinite & mask
    count = finite.sum(1)
    kept = torch.where(finite, values, 0.0)
    mean = kept.sum(1) / count.clamp(min=1)
    deviation = torch.where(finite, values - mean[:, None], 0.0)
    low = high = torch.zeros_like(count)
    if saturation is not None:
        low = (finite & (values < saturation[0])).sum(1)
        high = (finite & (values > saturation[1])).sum(1)
    integers = [zero.sum(1), (finite & ~zero).sum(1), nonfinite.sum(1), low, high]
    floats = [
        mean,
        (deviation * deviation).sum(1),
        torch.where(finite, values, math.inf).amin(1),
        torch.where(finite, values, -math.inf).amax(1),
    ]
    return torch.cat([torch.stack(integers), torch.stack(floats).view(torch.int64)])
