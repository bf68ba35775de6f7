"""Owns the finite values of a histogram as neighbouring bins that lose no count; knows no format."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tensorstats._core import Histogram, Summary


class FiniteBins(NamedTuple):
    """Counts of neighbouring bins that hold every finite value: edges float64, one more than there are counts."""

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]


def check_same_values(h: Histogram, summary: Summary) -> None:
    """Raises a ValueError when a summary cannot be of the values that a histogram counted."""
    mine = (h.count, h.nan_count, h.posinf_count, h.neginf_count)
    theirs = (summary.count, summary.nan_count, summary.posinf_count, summary.neginf_count)
    if mine != theirs:
        raise ValueError(
            "summary must be of the values in the histogram, got: "
            f"a summary of {_told(*theirs)} for a histogram of {_told(*mine)}"
        )


def _told(count: int, nan: int, posinf: int, neginf: int) -> str:
    return f"{count} values ({nan} NaN, {posinf} +inf, {neginf} -inf)"


def finite_bins(h: Histogram, summary: Summary | None) -> FiniteBins:
    """Every finite value in a bin.

    Those outside the axis are in one more bin at its end, which reaches to the extreme of the summary. Empty bins at
    the ends are left out and neighbouring empty bins made one: neither changes what the bins say.
    """
    counts, edges = h.to_numpy()
    below, above = h.underflow - h.neginf_count, h.overflow - h.posinf_count
    if (below or above) and summary is None:
        raise ValueError(
            f"summary is needed to say how far the values outside the axis reach, got: None with {below} finite values "
            f"below {edges[0]:g} and {above} above {edges[-1]:g}"
        )
    if below and summary is not None:
        # A float next to the edge where rounding a 64-bit integer put the extreme onto the edge itself.
        first = min(float(summary.min), math.nextafter(edges[0], -math.inf))
        edges, counts = np.concatenate([[first], edges]), np.concatenate([[below], counts])
    if above and summary is not None:
        last = max(float(summary.max), math.nextafter(edges[-1], math.inf))
        edges, counts = np.concatenate([edges, [last]]), np.concatenate([counts, [above]])
    return without_empty_runs(FiniteBins(edges, counts))


def without_empty_runs(bins: FiniteBins) -> FiniteBins:
    """The same bins without the empty ones at the ends, and with each run of empty ones as a single bin."""
    filled = bins.counts > 0
    if not filled.any():
        return FiniteBins(np.empty(0), np.empty(0, np.int64))
    kept = np.flatnonzero(np.append(filled, False) | np.insert(filled, 0, False))
    return FiniteBins(bins.edges[kept], np.add.reduceat(bins.counts, kept[:-1]))


def at_most(bins: FiniteBins, most: int) -> FiniteBins:
    """At most so many bins, by making equally many neighbours one; every edge that is left is one of the old."""
    together = -(-len(bins.counts) // most)
    if together <= 1:
        return bins
    starts = np.arange(0, len(bins.counts), together)
    return FiniteBins(np.append(bins.edges[starts], bins.edges[-1]), np.add.reduceat(bins.counts, starts))
