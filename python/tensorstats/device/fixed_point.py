"""Sums on devices without float64, in fixed point: 64-bit integers of a scaled value; knows no row and no state.

Apple's GPUs (mps) have no float64 and some of Intel's have none either. Values are scaled by a power of two to a
magnitude of at most 1/2 and rounded to multiples of ``UNIT``; integers then add up without any further error. The sum
of n values is off by at most ``n * UNIT / 2`` times the scale, which is 2.4e-7 of the largest magnitude in a block.
"""

from __future__ import annotations

import torch

__all__ = ["FIXED_BLOCK", "UNIT", "deviation_sums", "fixed_sum", "has_float64", "scale_down"]

# A block of 2**20 values of at most 1 in units of 2**-42 adds up to at most 2**62.
FIXED_BLOCK = 1 << 20
_BITS = 42
UNIT = 2.0**-_BITS

# Exponents are kept within the normal numbers of float32: devices may flush what is smaller.
_LOWEST = -125


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64."""
    if device.type == "mps":
        return False
    if device.type == "xpu":
        return bool(getattr(torch.xpu.get_device_properties(device), "has_fp64", True))
    return True


def scale_down(
    values: torch.Tensor, largest: torch.Tensor, dim: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 values divided by a power of two so that none exceeds 1/2, and the exponent of that power.

    `largest` is the largest magnitude among them, as float32: of all, or of each entry of dimension 0 when `dim` is 1.
    """
    pattern = largest.view(torch.int32).to(torch.int64)
    # largest < 2 ** ((pattern >> 23) - 126), and one more halves it.
    exponent = ((pattern >> 23) - 125).clamp(min=_LOWEST)
    # In two factors, since 2 ** -129 alone is below the normal numbers.
    first = torch.div(exponent, 2, rounding_mode="floor")
    factors = _power_of_two(-first), _power_of_two(first - exponent)
    if dim == 1:
        factors = factors[0][:, None], factors[1][:, None]
    return values * factors[0] * factors[1], exponent


def _power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    return ((exponent + 127) << 23).to(torch.int32).view(torch.float32)


def fixed_sum(scaled: torch.Tensor, dim: int | None = None) -> torch.Tensor:
    """The sum of values of magnitude at most 1, as an integer number of units."""
    units = torch.round(scaled * 2.0**_BITS).to(torch.int64)
    return units.sum() if dim is None else units.sum(dim)


def deviation_sums(
    scaled: torch.Tensor, total: torch.Tensor, count: torch.Tensor, keep: torch.Tensor, dim: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of the deviations from the rounded mean and of their squares, in units; `keep` says which values count."""
    centre = total.to(torch.float32) * UNIT / count.clamp(min=1).to(torch.float32)
    if dim is not None:
        centre = centre.unsqueeze(dim)
    deviation = torch.where(keep, scaled - centre, 0.0)
    return fixed_sum(deviation, dim), fixed_sum(deviation * deviation, dim)
