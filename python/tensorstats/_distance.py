"""Owns the distances between two histograms of one axis; knows nothing of how values were counted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from tensorstats._core import Histogram

__all__ = ["DistanceKind", "distance"]

DistanceKind: TypeAlias = Literal["wasserstein", "jensen-shannon", "ks", "psi", "hellinger"]

Floats: TypeAlias = npt.NDArray[np.float64]


class _Shares(NamedTuple):
    """The values of two histograms but NaN, as counts of the same places in order: underflow, the bins, overflow."""

    positions: Floats
    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]

    def shares(self) -> tuple[Floats, Floats]:
        return self.a / self.a.sum(), self.b / self.b.sum()

    def cumulative(self) -> Floats:
        """Differences of the shares up to and including each place."""
        # Sums of whole numbers, so that equal histograms are at a distance of exactly zero.
        return np.asarray(self.a.cumsum() / self.a.sum() - self.b.cumsum() / self.b.sum())


def distance(a: Histogram, b: Histogram, /, kind: DistanceKind = "wasserstein") -> float:
    """How far apart two histograms of the same axis are; 0 for equal shares, whatever their counts.

    Parameters
    ----------
    a, b
        Histograms of equal axes. NaN is left out of both. Bins of `LogLinear` and `Linear` are brought to the range and
        the width that both share.
    kind
        - ``"wasserstein"``: the mean way a value of one has to go to become one of the other, in units of the data,
          with every value in the middle of its bin: `scipy.stats.wasserstein_distance` of the bins' middles weighted by
          the counts. A value in a flow bin counts at the nearest edge, so that the result is the least it can be.
        - ``"jensen-shannon"``: the square root of the divergence in nats, as `scipy.spatial.distance.jensenshannon` has
          it; from 0 to 0.833 (the root of ln 2).
        - ``"ks"``: the largest difference of the cumulative shares at an edge, from 0 to 1: at most the statistic of
          `scipy.stats.ks_2samp`, and equal to it where every bin holds a single value.
        - ``"psi"``: the population stability index, ``sum((p - q) * ln(p / q))`` over the shares. A bin that is empty
          in one of both counts as half a value there; one that is empty in both counts nothing. Common limits: 0.1 for
          a small and 0.25 for a large shift.
        - ``"hellinger"``: ``sqrt(sum((sqrt(p) - sqrt(q))**2) / 2)``, from 0 to 1.

        All but the first take the flow bins for two more bins.

    Returns
    -------
    float
        NaN when one of both holds no value.

    Raises
    ------
    TypeError
        One of both is no Histogram.
    ValueError
        The axes differ, or `kind` is not one of the above.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> a = ts.histogram(np.array([0.0, 0.0, 1.0, 2.0]), bins=3, range=(0, 3))
    >>> b = ts.histogram(np.array([1.0, 1.0, 2.0, 2.0]), bins=3, range=(0, 3))
    >>> ts.distance(a, b), ts.distance(a, b, kind="ks")
    (0.75, 0.5)
    """
    for histogram in (a, b):
        if not isinstance(histogram, Histogram):
            raise TypeError(f"distance is between two Histograms, got: {type(histogram).__name__}")
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(get_args(DistanceKind))}; got: {kind!r}")
    if a.axis != b.axis:
        raise ValueError(f"distance needs histograms of the same axis, got: {a.axis!r} and {b.axis!r}")
    edges, inside_a, inside_b = a.aligned(b)
    counts_a = np.concatenate([[a.underflow], inside_a, [a.overflow]])
    counts_b = np.concatenate([[b.underflow], inside_b, [b.overflow]])
    if not counts_a.any() or not counts_b.any():
        return math.nan
    # Halves, so that the middle of the widest bin is a number; nothing but infinities lies nowhere.
    middles = edges[:-1] / 2 + edges[1:] / 2
    outer = edges[[0, -1]] if edges.size else np.array([-math.inf, math.inf])
    return float(_KINDS[kind](_Shares(np.concatenate([outer[:1], middles, outer[1:]]), counts_a, counts_b)))


def _wasserstein(pair: _Shares) -> float:
    apart = np.abs(pair.cumulative()[:-1])
    # Where the shares are the same nothing has to go, however far it is to the next bin.
    moved = apart > 0
    with np.errstate(over="ignore"):
        return float(np.sum(apart[moved] * np.diff(pair.positions)[moved]))


def _jensen_shannon(pair: _Shares) -> float:
    p, q = pair.shares()
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return math.sqrt(max(divergence, 0.0))


def _relative_entropy(p: Floats, q: Floats) -> float:
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / q[some])))


def _kolmogorov_smirnov(pair: _Shares) -> float:
    return float(np.max(np.abs(pair.cumulative())))


def _population_stability(pair: _Shares) -> float:
    some = (pair.a > 0) | (pair.b > 0)
    p = np.maximum(pair.a[some], 0.5) / pair.a.sum()
    q = np.maximum(pair.b[some], 0.5) / pair.b.sum()
    return float(np.sum((p - q) * np.log(p / q)))


def _hellinger(pair: _Shares) -> float:
    p, q = pair.shares()
    return math.sqrt(float(np.sum((np.sqrt(p) - np.sqrt(q)) ** 2)) / 2)


_KINDS: dict[str, Callable[[_Shares], float]] = {
    "wasserstein": _wasserstein,
    "jensen-shannon": _jensen_shannon,
    "ks": _kolmogorov_smirnov,
    "psi": _population_stability,
    "hellinger": _hellinger,
}
