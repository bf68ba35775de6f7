"""The UHI protocol: what plotting libraries ask of a histogram."""

from __future__ import annotations

import numpy as np
import pytest
from uhi.typing.plottable import PlottableAxisGeneric, PlottableHistogram, PlottableTraits

import tensorstats as ts

AXES = [
    ts.axis.Regular(10, -3.0, 3.0),
    ts.axis.Variable([-3.0, -0.1, 0.0, 2.0]),
    ts.axis.LogLinear(2),
    ts.axis.Linear(12),
]
axes = pytest.mark.parametrize("axis", AXES, ids=repr)


@axes
@pytest.mark.parametrize("values", [[], [0.5, -1.0, 0.0, 2.5, 99.0, np.nan]], ids=["empty", "filled"])
def test_follows_the_protocol(axis: ts.axis.Axis, values: list[float]):
    h = ts.histogram(np.array(values), axis)
    assert isinstance(h, PlottableHistogram)
    assert h.kind == "COUNT"
    (bins,) = h.axes
    assert isinstance(bins, PlottableAxisGeneric)
    assert isinstance(bins.traits, PlottableTraits)
    assert (bins.traits.circular, bins.traits.discrete) == (False, False)
    assert len(bins) == len(h.values()) == len(h.variances()) == len(h.counts())
    assert list(bins) == [bins[i] for i in range(len(bins))] == list(zip(h.edges[:-1], h.edges[1:], strict=True))
    assert bins == h.copy().axes[0]
    assert np.array_equal(h.values(), h.variances())
    assert np.array_equal(h.values(), h.counts())


@axes
def test_flow_bins_surround_the_others(axis: ts.axis.Axis):
    h = ts.histogram(np.array([-99.0, 0.5, 99.0, np.inf]), axis)
    whole = h.view()
    assert whole[0] == h.underflow
    assert whole[-1] == h.overflow
    assert np.array_equal(whole[1:-1], h.values())
    assert np.array_equal(whole, h.values(flow=True))
    assert np.array_equal(h.values(), h.view(flow=False))


def test_bins_behave_like_a_sequence():
    (bins,) = ts.histogram(np.arange(4.0), bins=3).axes
    assert bins[0] == (0.0, 1.0)
    assert bins[-1] == (2.0, 3.0)
    assert bins[1:] == [(1.0, 2.0), (2.0, 3.0)]
    assert repr(bins) == "Bins(3, 0, 3)"
    assert hash(bins) == hash(ts.histogram(np.arange(4.0), bins=3).axes[0])
    with pytest.raises(IndexError, match=r"bin must be in \[-3, 2\], got: 3"):
        bins[3]


def test_results_belong_to_the_caller():
    h = ts.histogram(np.arange(4.0), bins=3)
    h.values()[:] = 0
    h.edges[:] = 0
    assert h.to_numpy()[0].tolist() == [1, 1, 2]
    assert h.edges.tolist() == [0.0, 1.0, 2.0, 3.0]
