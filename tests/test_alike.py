"""Functions and states speak alike: one rule for members, one axis, one pair of names for bounds, mappings as many."""

from __future__ import annotations

import math
import types
from typing import Any

import numpy as np
import pytest

import tensorstats as ts

X = np.array([[0.5, -1.0, 2.0], [0.25, 3.0, 2.0]])


@pytest.mark.parametrize("state", [ts.summary(X), ts.histogram(X), ts.unit_activity(X, saturation=(0.0, 1.0))])
def test_what_takes_an_argument_is_a_method_and_everything_else_a_property(state: Any) -> None:
    """But for what makes another object of the whole state: a copy, bytes, a dict, a numpy pair, the merge."""
    whole = {"copy", "reset", "to_bytes", "to_dict", "to_numpy"}
    for name in (name for name in dir(type(state)) if not name.startswith("_")):
        member = getattr(type(state), name)
        if isinstance(member, types.MethodDescriptorType) and name not in whole:
            assert member.__text_signature__ not in ("($self)", "($self, /)"), name


def test_units_have_the_spread_that_a_summary_has() -> None:
    u = ts.unit_activity(X, dim=1)
    for unit in range(3):
        own = ts.summary(X[:, unit])
        for correction in (0.0, 1.0, 0.5):
            assert u.var(correction)[unit] == pytest.approx(own.var(correction), rel=1e-14)
            assert u.std(correction=correction)[unit] == pytest.approx(own.std(correction), rel=1e-14)
    assert u.std()[2] == u.std(1)[2] == 0.0
    assert np.isnan(u.var(2)).all()
    assert np.isnan(ts.unit_activity(np.full((1, 2), np.nan)).std()).all()
    assert u.var(math.nan).tolist() == pytest.approx([math.nan] * 3, nan_ok=True)


def test_a_spread_whose_variance_is_beyond_float64() -> None:
    u = ts.unit_activity(np.array([[1e200], [-1e200]]))
    assert u.std() == pytest.approx([1e200])
    assert u.var() == [math.inf]


def test_one_axis_where_none_is_asked_for() -> None:
    axis = ts.axis.LogLinear()
    assert ts.histogram(X).axis == ts.Histogram().axis == ts.summary_and_histogram(X)[1].axis == axis
    assert ts.histogram(X) == ts.Histogram().update(X) == ts.histogram(X, axis)
    assert ts.histogram(X) + ts.histogram(1e9 * X) == ts.histogram(np.stack([X, 1e9 * X]))


def test_the_watcher_has_that_axis_too() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ts.watch(model, optimizer, histograms=True) as monitor:
        model(torch.ones(4, 3)).sum().backward()
        optimizer.step()
    assert monitor.histogram("parameters", "weight").axis == ts.axis.LogLinear()
    steps, values = monitor.series("parameters", "weight")
    assert values.tolist() == [monitor.latest("parameters", "weight").rms]
    assert len(steps) == 1


@pytest.mark.parametrize("edges", [[0, 1, 4], (0.0, 1.0, 4.0), np.array([0, 1, 4]), range(0, 5, 2)])
def test_bins_are_a_number_or_edges(edges: Any) -> None:
    assert ts.histogram(X, bins=edges).values().tolist() == np.histogram(X, edges)[0].tolist()
    assert ts.histogram(X, bins=edges) == ts.histogram(X, ts.axis.Variable(edges))


def test_a_range_alone_has_64_bins() -> None:
    assert ts.histogram(X, range=(0, 4)).axis == ts.axis.Regular(64, 0.0, 4.0)


def test_an_axis_that_is_given_twice_is_refused() -> None:
    axis = ts.axis.Linear()
    with pytest.raises(ValueError, match=r"bins is part of the axis, got both: Linear\(256\) and bins=3"):
        ts.histogram(X, axis, bins=3)
    with pytest.raises(ValueError, match=r"range is part of the edges, got both"):
        ts.histogram(X, bins=[0, 1], range=(0, 1))
    with pytest.raises(
        TypeError, match=r"got: list; hint: bins= of ts.histogram takes a number of bins or their edges"
    ):
        ts.histogram(X, [0, 1])  # type: ignore[arg-type]


def test_bounds_have_one_pair_of_names() -> None:
    assert ts.all_between(X, min=-1, max=3)
    assert ts.all_between(X, -1, 3)
    assert [ts.all_between(X, max=most) for most in (3, 2.9)] == [True, False]
    assert [ts.all_between(X, min=least) for least in (-1, -0.9)] == [True, False]
    assert [ts.all_between(np.array([x])) for x in (np.inf, -np.inf, np.nan)] == [True, True, False]
    assert ts.outside(X, min=-1, max=3).outside == 0
    ts.check(X, min=-1, max=3)
    with pytest.raises(ValueError, match="got: 3 and 1"):
        ts.all_between(X, min=3, max=1)


def test_a_mapping_and_a_module_are_taken_wherever_many_tensors_are() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    listed = list(model.parameters())
    for many in (model, model.state_dict(), types.MappingProxyType(dict(model.named_parameters()))):
        assert ts.norm(many) == ts.norm(listed)
        assert ts.norms(many).tolist() == ts.norms(listed).tolist()
        assert ts.is_finite(many) is ts.all_between(many, -9, 9) is True
        assert list(ts.summaries(many)) == list(ts.outside(many)) == ["weight", "bias"]


@pytest.mark.parametrize("state", [ts.summary(X), ts.histogram(X), ts.unit_activity(X)])
def test_states_are_summed(state: Any) -> None:
    assert sum([state, state]) == state + state
    assert sum([state]) == state
    with pytest.raises(TypeError):
        1 + state
