"""The statistics of tensors outside CPU memory, with the result types of the core; knows no module and no step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tensorstats._core import Summary, UnitActivity, format_limits
from tensorstats.device.histogram import histogram
from tensorstats.device.host import RawSummary, RawUnits, resolve
from tensorstats.device.kernels import PendingSummary, repeated_mask, start_summary
from tensorstats.device.units import PendingUnits, start_units

__all__ = [
    "PendingSummary",
    "PendingUnits",
    "RawSummary",
    "RawUnits",
    "histogram",
    "resolve",
    "start_summary",
    "start_units",
    "summary",
    "summary_of",
    "unit_activity",
    "units_of",
]

# The version of the dict layouts that are written here, and that of a summary that keeps formats.
_VERSION = 1
_VERSION_WITH_FORMATS = 2


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
    name = str(x.dtype).removeprefix("torch.")
    limits = format_limits(name, list(kept), scale) if kept else []
    mask = None if where is None else repeated_mask(where, x)
    (raw,) = resolve([start_summary(x, moments=moments, where=mask, limits=limits)])
    assert isinstance(raw, RawSummary)
    return summary_of(raw, moments=moments, formats=kept, scale=scale)


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
    (raw,) = resolve([start_units(x, dim, saturation, mask)])
    assert isinstance(raw, RawUnits)
    return units_of(raw)


def summary_of(raw: RawSummary, *, moments: int = 2, formats: Sequence[str] = (), scale: float = 1.0) -> Summary:
    """The state that one update with the same tensor would give."""
    whole = isinstance(raw.sum, int)
    finite = raw.finite > 0
    return Summary.from_dict(
        {
            "kind": "summary",
            "version": _VERSION_WITH_FORMATS if formats else _VERSION,
            "dtype": raw.dtype,
            "moments": moments,
            "shape": list(raw.shape),
            "nan_count": raw.nan,
            "posinf_count": raw.posinf,
            "neginf_count": raw.neginf,
            "zero_count": raw.zero,
            "negative_count": raw.negative,
            "positive_count": raw.finite - raw.zero - raw.negative,
            "subnormal_count": raw.subnormal,
            "min": raw.min if finite else None,
            "max": raw.max if finite else None,
            "absmin": raw.absmin if finite else None,
            "int_sum": raw.sum if whole else 0,
            "int_l1": raw.l1 if whole else 0,
            "sum": (0.0 if whole else raw.sum, 0.0),
            "l1": (0.0 if whole else raw.l1, 0.0),
            "squares": (raw.squares, 0.0),
            "m2": (raw.m2, 0.0),
            "m3": raw.m3,
            "m4": raw.m4,
            "scale": raw.exponent,
            "sample": [],
            "formats": {"scale": scale, "counts": _misfits(raw, formats)} if formats else None,
        }
    )


def _misfits(raw: RawSummary, formats: Sequence[str]) -> dict[str, dict[str, int]]:
    """From how many values are beyond the last magnitude that rounds to zero, to a subnormal, to a finite number."""
    found = {}
    for name, zero, subnormal, finite in zip(formats, raw.beyond[::3], raw.beyond[1::3], raw.beyond[2::3], strict=True):
        flushed = raw.finite - raw.zero - zero
        found[name] = {"overflow": finite, "subnormal": zero - subnormal, "flushed": flushed}
    return found


def units_of(raw: RawUnits) -> UnitActivity:
    """The state that one update with the same tensor would give."""
    return UnitActivity.from_dict(
        {
            "kind": "unit_activity",
            "version": _VERSION,
            "dim": raw.dim,
            "saturation": None if raw.saturation is None else list(raw.saturation),
            "updates": 1,
            "active_count": raw.active.tolist(),
            "zero_count": raw.zero.tolist(),
            "nonfinite_count": raw.nonfinite.tolist(),
            "low_count": raw.low.tolist(),
            "high_count": raw.high.tolist(),
            "last_active": (raw.active > 0).astype(int).tolist(),
            "min": raw.min.tolist(),
            "max": raw.max.tolist(),
            "mean": raw.mean.tolist(),
            "mean_rest": [0.0] * len(raw.mean),
            "m2": raw.m2.tolist(),
            "scale": [0] * len(raw.mean),
        }
    )
