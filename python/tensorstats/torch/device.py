"""The statistics of tensors outside CPU memory, with the result types of the core; knows no module and no step."""

from __future__ import annotations

import torch

from tensorstats._core import Summary, UnitActivity
from tensorstats.torch.device_histogram import histogram
from tensorstats.torch.device_host import RawSummary, RawUnits, resolve
from tensorstats.torch.device_kernels import PendingSummary, start_summary
from tensorstats.torch.device_units import PendingUnits, start_units

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

# The version of the dict layouts that are written here.
_VERSION = 1


def summary(x: torch.Tensor, *, moments: int = 2) -> Summary:
    """The summary of a tensor on any device, by torch operations.

    Counts and extremes are exact; everything else has a relative error of at most 1e-6.

    Parameters
    ----------
    x : torch.Tensor
        Dense, real, of any shape.
    moments : {2, 4}
        4 to get skewness and kurtosis as well.

    Raises
    ------
    TypeError
        If the dtype is not supported.
    ValueError
        If `moments` is neither 2 nor 4.

    Examples
    --------
    >>> s = summary(torch.tensor([1.0, -2.0, float("nan"), 0.0]))
    >>> s.count, s.nan_count, s.zero_count, s.min, s.absmax
    (4, 1, 1, -2.0, 2.0)
    """
    if moments not in (2, 4):
        raise ValueError(f"moments must be 2 or 4, got {moments}")
    (raw,) = resolve([start_summary(x, moments=moments)])
    assert isinstance(raw, RawSummary)
    return summary_of(raw, moments=moments)


def unit_activity(x: torch.Tensor, dim: int = 1, *, saturation: tuple[float, float] | None = None) -> UnitActivity:
    """The unit activity of a tensor on any device, by torch operations.

    Parameters
    ----------
    x : torch.Tensor
        Dense, real.
    dim : int, default 1
        The dimension along which units lie.
    saturation : (float, float), optional
        Values below the first or above the second count as saturated.
    """
    (raw,) = resolve([start_units(x, dim, saturation)])
    assert isinstance(raw, RawUnits)
    return units_of(raw)


def summary_of(raw: RawSummary, *, moments: int = 2) -> Summary:
    """The state that one update with the same tensor would give."""
    whole = isinstance(raw.sum, int)
    finite = raw.finite > 0
    return Summary.from_dict(
        {
            "kind": "summary",
            "version": _VERSION,
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
        }
    )


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
