"""Owns what of a histogram is drawn where: the choice of a scale and the columns of a picture; draws nothing.

A column's height is the count over the width on paper, so that the area says how many values there are on every scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.scale import LogTransform, SymmetricalLogTransform

from tensorstats._core import Histogram
from tensorstats.axis import LogLinear

Floats = npt.NDArray[np.float64]

SCALES = ("linear", "log", "symlog")

# On a linear axis half of the values would be within this share of the longest reach: one spike, and nothing to see.
_CROWDED = 1 / 25
# Share of the values next to zero that a logarithmic axis leaves out, or a symlog axis draws in its linear middle.
_NEAR_ZERO = 0.001


# matplotlib adds values up and looks for ticks beyond the last: it needs room to the ends of float64.
_LARGEST = 1e200
_SMALLEST = 1e-200
_WIDEST = 1e-250


class Bars(NamedTuple):
    """Edges and counts of the bins that are drawn, zeros of a log-linear axis left out; and the values too far out."""

    edges: Floats
    counts: Floats
    undrawable: int = 0

    @property
    def occupied(self) -> npt.NDArray[np.bool_]:
        """The bins that hold something."""
        return self.counts > 0


def bars_of(h: Histogram) -> Bars:
    """The bins of a histogram; the zeros of a log-linear one, which have no width, are told in words."""
    counts, edges = h.to_numpy()
    heights = counts.astype(np.float64)
    if isinstance(h.axis, LogLinear):
        heights[(edges[:-1] <= 0) & (edges[1:] > 0)] = 0.0
    inside = np.flatnonzero((edges[:-1] >= -_LARGEST) & (edges[1:] <= _LARGEST))
    first, end = (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)
    if isinstance(h.axis, LogLinear) and heights[first:end].any():
        # Its bins reach from one value to another, of which either may be gone.
        first, end = (first + int(i) for i in np.flatnonzero(heights[first:end])[[0, -1]] + [0, 1])
    if first == end or np.abs(edges[[first, end]]).max() < _SMALLEST:
        return Bars(np.empty(0), np.empty(0), round(heights.sum()))
    drawn = heights[first:end]
    return Bars(edges[first : end + 1], drawn, round(heights.sum() - drawn.sum()))


class Scale(NamedTuple):
    """An axis of values: linear, log, or symlog with the magnitude up to which it is linear."""

    name: str
    linear_up_to: float = 1.0

    def stretched(self, x: Floats) -> Floats:
        """Places on paper; one unit is a decade, or on a linear axis one."""
        if self.name == "log":
            return np.asarray(LogTransform(10, nonpositive="clip").transform(x))
        if self.name == "symlog":
            return np.asarray(self._symlog().transform(x)) / self.linear_up_to
        return x

    def value(self, place: Floats) -> Floats:
        """The values at places on paper."""
        if self.name == "log":
            return np.asarray(10.0**place)
        if self.name == "symlog":
            return np.asarray(self._symlog().inverted().transform(place * self.linear_up_to))
        return place

    def _symlog(self) -> SymmetricalLogTransform:
        return SymmetricalLogTransform(base=10, linthresh=self.linear_up_to, linscale=1)


def scale_of(ax: Axes) -> Scale:
    """The scale that axes already have."""
    name = ax.get_xscale()
    if name == "symlog":
        transform = ax.xaxis.get_transform()
        return Scale(name, float(getattr(transform, "linthresh", 1.0)))
    return Scale(name if name in SCALES else "linear")


def choose(bars: Sequence[Bars], name: str, *, equal_bins: bool) -> Scale:
    """The scale on which several histograms are readable together; `name` is what the caller asked for."""
    if name not in ("auto", *SCALES):
        raise ValueError(f"scale must be 'auto', 'linear', 'log' or 'symlog', got: {name!r}")
    bars = [b for b in bars if b.occupied.any()]
    magnitudes = np.concatenate([np.abs(b.edges[:-1] / 2 + b.edges[1:] / 2)[b.occupied] for b in bars] or [np.empty(0)])
    weights = np.concatenate([b.counts[b.occupied] / b.counts.sum() for b in bars] or [np.empty(0)])
    if magnitudes.size == 0:
        return Scale("linear" if name == "auto" else name)
    order = np.argsort(magnitudes)
    magnitudes, shares = magnitudes[order], np.cumsum(weights[order]) / weights.sum()
    if name == "auto":
        median = magnitudes[np.searchsorted(shares, 0.5)]
        if equal_bins or median > _CROWDED * magnitudes[-1]:
            return Scale("linear")
        positive = min(float(b.edges[:-1][b.occupied].min()) for b in bars) > 0
        name = "log" if positive else "symlog"
    near = magnitudes[min(int(np.searchsorted(shares, _NEAR_ZERO)), len(magnitudes) - 1)]
    near = max(float(near), _SMALLEST, float(magnitudes[-1]) * _WIDEST)
    return Scale(name, 10.0 ** np.floor(np.log10(near)))


def limits(bars: Sequence[Bars], scale: Scale) -> tuple[float, float]:
    """The values between which something is drawn."""
    drawn = [b for b in bars if b.edges.size]
    if not drawn:
        return (0.1, 1.0) if scale.name == "log" else (0.0, 1.0)
    low, high = min(float(b.edges[0]) for b in drawn), max(float(b.edges[-1]) for b in drawn)
    if scale.name == "log":
        low = max(low, scale.linear_up_to)
        return (low, high) if high > low else (low, 10 * low)
    return low, high


def places_between(low: float, high: float, scale: Scale, count: int) -> Floats:
    """The ends of equally wide columns on paper."""
    ends = scale.stretched(np.array([low, high]))
    return np.linspace(float(ends[0]), float(ends[1]), count + 1)


def columns(bars: Bars, scale: Scale, places: Floats) -> Floats:
    """The counts in columns between places on paper, each bin spread evenly over its own width there."""
    if not bars.occupied.any():
        return np.zeros(len(places) - 1)
    below = np.concatenate([[0.0], np.cumsum(bars.counts)])
    return np.diff(np.interp(places, scale.stretched(bars.edges), below))


def grouped(bars: Bars, most: int) -> tuple[Bars, int]:
    """Equally many neighbouring bins made one, so that there are at most so many; and how many."""
    together = -(-len(bars.counts) // most)
    if together <= 1:
        return bars, 1
    starts = np.arange(0, len(bars.counts), together)
    return Bars(np.append(bars.edges[starts], bars.edges[-1]), np.add.reduceat(bars.counts, starts)), together
