"""Owns the histogram of Weights & Biases; imports wandb when called and logs nothing."""

from __future__ import annotations

from typing import Any

from tensorstats._core import Histogram, Summary
from tensorstats.axis import LogLinear
from tensorstats.export._bins import FiniteBins, at_most, check_same_values, finite_bins

# `wandb.Histogram.MAX_LENGTH`.
_MOST_BINS = 512


def to_wandb(h: Histogram, summary: Summary | None = None) -> Any:
    """The histogram as a `wandb.Histogram`, every finite value in one of at most 512 bins.

    More bins are merged, never cut: a log-linear axis loses mantissa bits first, so that its edges stay powers of two
    and their even parts; then equally many neighbours become one. Empty bins at the ends are left out, runs of empty
    bins are one. NaN and ±inf are in no bin: log `h.nan_count` beside it.

    Parameters
    ----------
    h
        A histogram of any axis.
    summary
        Of the same values; needed where finite values lie outside the axis, whose bin then reaches to the extreme.

    Returns
    -------
    wandb.Histogram
        With a single empty bin from 0 to 1 when there is no finite value.

    Raises
    ------
    ImportError
        wandb is not installed.
    ValueError
        Finite values lie outside the axis and there is no summary, or it is of other values.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> from tensorstats.export.wandb import wandb_bins
    >>> h = ts.histogram(np.geomspace(1e-9, 1, 10_000), ts.axis.LogLinear(6))
    >>> len(h.values()), len(wandb_bins(h).counts), wandb_bins(h).counts.sum()
    (1917, 480, np.int64(10000))
    """
    import wandb

    edges, counts = wandb_bins(h, summary)
    return wandb.Histogram(np_histogram=(counts, edges))


def wandb_bins(h: Histogram, summary: Summary | None = None) -> FiniteBins:
    """What `to_wandb` gives to wandb: at most 512 bins; also what Neptune takes."""
    if summary is not None:
        check_same_values(h, summary)
    bins = finite_bins(h, summary)
    while len(bins.counts) > _MOST_BINS and isinstance(h.axis, LogLinear) and h.axis.precision > 0:
        h = h.lower_precision(h.axis.precision - 1)
        bins = finite_bins(h, summary)
    if bins.counts.size == 0:
        import numpy as np

        return FiniteBins(np.array([0.0, 1.0]), np.zeros(1, np.int64))
    return at_most(bins, _MOST_BINS)
