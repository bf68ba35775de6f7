"""Distances between histograms: scipy's numbers where scipy has them, and the rules for what it does not know."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance

import tensorstats as ts

KINDS = ("wasserstein", "jensen-shannon", "ks", "psi", "hellinger")
kinds = pytest.mark.parametrize("kind", KINDS)
AXES = [
    ts.axis.Regular(20, -3.0, 3.0),
    ts.axis.Variable([-9.0, -1.0, -0.1, 0.0, 0.2, 3.0, 9.0]),
    ts.axis.LogLinear(3),
    ts.axis.Linear(50),
]
axes = pytest.mark.parametrize("axis", AXES, ids=repr)


def pair(axis: ts.axis.Axis, shift: float = 0.4, size: int = 4000) -> tuple[ts.Histogram, ts.Histogram]:
    random = np.random.default_rng(0)
    a, b = random.standard_normal(size).clip(-2.9, 2.9), random.standard_normal(size // 3).clip(-2, 2) * 1.2 + shift
    return ts.histogram(a, axis), ts.histogram(b, axis)


def aligned(a: ts.Histogram, b: ts.Histogram) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middles and counts over the bins in common, worked out from the values' own histograms of those edges."""
    edges = (a + b).edges
    both = [np.zeros(len(edges) - 1, dtype=int) for _ in range(2)]
    for counts, h in zip(both, (a, b), strict=True):
        middles = h.edges[:-1] / 2 + h.edges[1:] / 2
        for middle, n in zip(middles[h.values() > 0], h.values()[h.values() > 0], strict=True):
            counts[np.searchsorted(edges, middle, side="right") - 1] += n
    return edges[:-1] / 2 + edges[1:] / 2, both[0], both[1]


@axes
def test_wasserstein_is_scipys(axis: ts.axis.Axis):
    a, b = pair(axis)
    middles, p, q = aligned(a, b)
    assert ts.distance(a, b) == pytest.approx(wasserstein_distance(middles, middles, p, q), rel=1e-12)


@axes
def test_jensen_shannon_is_scipys(axis: ts.axis.Axis):
    a, b = pair(axis)
    _, p, q = aligned(a, b)
    assert ts.distance(a, b, kind="jensen-shannon") == pytest.approx(jensenshannon(p, q), rel=1e-12)


@axes
def test_kolmogorov_smirnov_at_the_edges(axis: ts.axis.Axis):
    a, b = pair(axis)
    _, p, q = aligned(a, b)
    right = np.abs(p.cumsum() / p.sum() - q.cumsum() / q.sum()).max()
    assert ts.distance(a, b, kind="ks") == pytest.approx(right, rel=1e-12)


@pytest.mark.parametrize("axis", [ts.axis.LogLinear(10), ts.axis.Regular(41, -20.5, 20.5)], ids=repr)
def test_kolmogorov_smirnov_is_scipys_where_bins_hold_single_values(axis: ts.axis.Axis):
    random = np.random.default_rng(1)
    x, y = random.integers(-20, 20, 500), random.integers(-15, 21, 300)
    found = ts.distance(ts.histogram(x, axis), ts.histogram(y, axis), kind="ks")
    assert found == pytest.approx(ks_2samp(x, y).statistic, rel=1e-12)


@axes
def test_hellinger_and_stability_by_their_formulas(axis: ts.axis.Axis):
    a, b = pair(axis)
    _, p, q = aligned(a, b)
    n, m = int(p.sum()), int(q.sum())
    affinity = math.fsum(math.sqrt(int(i) * int(j) / (n * m)) for i, j in zip(p, q, strict=True))
    assert ts.distance(a, b, kind="hellinger") == pytest.approx(math.sqrt(1 - affinity), rel=1e-9)
    terms = []
    for i, j in zip(p, q, strict=True):
        if i or j:
            u, v = max(int(i), 0.5) / n, max(int(j), 0.5) / m
            terms.append((u - v) * math.log(u / v))
    assert ts.distance(a, b, kind="psi") == pytest.approx(math.fsum(terms), rel=1e-12)


@kinds
@axes
def test_laws(axis: ts.axis.Axis, kind: str):
    a, b = pair(axis)
    assert ts.distance(a, a, kind=kind) == 0.0
    assert ts.distance(a, b, kind=kind) == pytest.approx(ts.distance(b, a, kind=kind), rel=1e-12)
    assert ts.distance(a, b, kind=kind) > 0
    near, far = (ts.distance(a, pair(axis, shift)[1], kind=kind) for shift in (0.4, 1.5))
    assert near < far
    if kind != "psi":  # which counts an empty bin by the number of values
        assert ts.distance(a + a, b + b + b, kind=kind) == pytest.approx(ts.distance(a, b, kind=kind), rel=1e-12)


@kinds
def test_equal_shares_are_at_no_distance(kind: str):
    for times in (1, 3, 7):
        a = ts.histogram(np.tile([0.5, 1.5, 2.5], times), bins=3, range=(0, 3))
        b = ts.histogram(np.array([2.5, 1.5, 0.5]), bins=3, range=(0, 3))
        assert ts.distance(a, b, kind=kind) == 0.0


@kinds
@axes
def test_of_nothing_is_nan(axis: ts.axis.Axis, kind: str):
    a, _ = pair(axis)
    for empty in (ts.Histogram(axis), ts.histogram(np.array([math.nan]), axis)):
        assert math.isnan(ts.distance(a, empty, kind=kind))
        assert math.isnan(ts.distance(empty, a, kind=kind))
        assert math.isnan(ts.distance(empty, empty, kind=kind))


def test_flow_bins():
    axis = ts.axis.Regular(4, 0.0, 4.0)
    inside = ts.histogram(np.array([0.5, 0.5]), axis)
    above = ts.histogram(np.array([0.5, 99.0]), axis)
    # Half of all values go from the middle of the first bin to the last edge.
    assert ts.distance(inside, above) == 0.5 * 3.5
    assert ts.distance(inside, above, kind="ks") == 0.5
    assert ts.distance(inside, above, kind="hellinger") == pytest.approx(math.sqrt(1 - math.sqrt(0.5)))
    below = ts.histogram(np.array([-1.0, -math.inf]), axis)
    assert ts.distance(below, ts.histogram(np.array([5.0, math.inf]), axis)) == 4.0
    assert ts.distance(below, ts.histogram(np.array([math.nan, -7.0]), axis), kind="psi") == 0.0


def test_infinities_on_an_axis_without_end():
    for axis in (ts.axis.LogLinear(4), ts.axis.Linear(16)):
        low, high = (ts.histogram(np.array([value]), axis) for value in (-math.inf, math.inf))
        assert ts.distance(low, low) == 0.0
        assert ts.distance(low, high) == math.inf
        assert ts.distance(low, high, kind="ks") == 1.0


@kinds
def test_nothing_in_common(kind: str):
    for axis in AXES:
        a, b = ts.histogram(np.full(10, -2.0), axis), ts.histogram(np.full(1000, 2.5), axis)
        found = ts.distance(a, b, kind=kind)
        if kind in ("ks", "hellinger"):
            assert found == 1.0
        if kind == "jensen-shannon":
            assert found == pytest.approx(math.sqrt(math.log(2)))
        if kind == "psi":
            # Both shares are clamped to half a value.
            p, q = np.array([1, 0.05]), np.array([0.0005, 1])
            assert found == pytest.approx(float(np.sum((p - q) * np.log(p / q))))


def test_the_widest_range_there_is():
    limit = float(np.finfo(np.float64).max)
    for axis in (ts.axis.Linear(4), ts.axis.LogLinear(0), ts.axis.Variable([-limit, 0.0, limit])):
        a, b = (ts.histogram(np.array([value]), axis) for value in (-limit, limit))
        assert ts.distance(a, b) > 1e308
        assert ts.distance(a, a) == 0.0


def test_what_has_no_distance_is_refused():
    a = ts.Histogram(ts.axis.Regular(4, 0.0, 1.0))
    b = ts.Histogram(ts.axis.LogLinear(3))
    with pytest.raises(ValueError, match=r"same axis, got: Regular\(4, 0.0, 1.0\) and LogLinear\(3\)"):
        ts.distance(a, b)
    with pytest.raises(ValueError, match=r"kind must be one of wasserstein, .*, hellinger; got: 'euclid'"):
        ts.distance(a, a, kind="euclid")
    with pytest.raises(TypeError, match="between two Histograms, got: list"):
        ts.distance(a, [1, 2])
    with pytest.raises(TypeError, match="got: Summary"):
        ts.distance(ts.Summary(), a)
