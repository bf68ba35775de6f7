"""The statistics of tensors outside CPU memory, with the result types of the core; knows no module and no step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tensorstats._core import Summary, UnitActivity
from tensorstats.device.histogram import histogram
from tensorstats.device.host import resolve
from tensorstats.device.kernels import PendingSummary, repeated_mask, start_summary
from tensorstats.device.units import PendingUnits, start_units

__all__ = [
    "PendingSummary",
    "PendingUnits",
    "histogram",
    "resolve",
    "start_summary",
    "start_units",
    "summary",
    "unit_activity",
]


def summary(
    x: torch.Tensor,
    *,
    moments: int = 2,
    where: object = None,
    formats: Sequence[str] = (),
    scale: float = 1.0,
) -> Summary:
    """The summary of a tensor on any device, by torch operations.

    Counts and extremes are exact; everything else has a relative error of at most 1e-6.

    Parameters
    ----------
    x : torch.Tensor
        Dense, real, of any shape.
    moments : {2, 4}
        4 to get skewness and kurtosis as well.
    where : torch.Tensor, optional
        A bool mask on the same device that broadcasts to the shape of `x`: only elements where it is true count.
    formats : sequence of str
        Formats to ask about with `Summary.fits`; their counts are exact.
    scale : float
        What values are multiplied by before they are looked at as `formats`.

    Raises
    ------
    TypeError
        If the dtype is not supported, or the mask is not of bool or on another device.
    ValueError
        If `moments` is neither 2 nor 4, a format is unknown, or the mask does not broadcast.

    Examples
    --------
    >>> s = summary(torch.tensor([1.0, -2.0, float("nan"), 0.0]))
    >>> s.count, s.nan_count, s.zero_count, s.min, s.absmax
    (4, 1, 1, -2.0, 2.0)
    """
    if moments not in (2, 4):
        raise ValueError(f"moments must be 2 or 4, got {moments}")
    kept = Summary(formats=formats, scale=scale).formats
    mask = None if where is None else repeated_mask(where, x)
    ((state, _),) = resolve([start_summary(x, moments=moments, where=mask, formats=kept, scale=scale)])
    return state


def unit_activity(
    x: torch.Tensor,
    dim: int = 1,
    *,
    saturation: tuple[float, float] | None = None,
    where: object = None,
) -> UnitActivity:
    """The unit activity of a tensor on any device, by torch operations.

    Parameters
    ----------
    x : torch.Tensor
        Dense, real.
    dim : int, default 1
        The dimension along which units lie.
    saturation : (float, float), optional
        Values below the first or above the second count as saturated.
    where : torch.Tensor, optional
        A bool mask on the same device that broadcasts to the shape of `x`: only elements where it is true count.
    """
    mask = None if where is None else repeated_mask(where, x)
    ((state, _),) = resolve([start_units(x, dim, saturation, mask)])
    return state
