"""Counters that reach their end: an error before anything is changed, never a count that wraps."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import tensorstats as ts
from states import KINDS, kinds, rows
from tensorstats import _core


def doubled(state: Any, times: int) -> Any:
    for _ in range(times):
        state.merge(state)
    return state


@kinds
def test_a_merge_beyond_2_to_63_is_refused_whole(kind: str):
    state = KINDS[kind]().update(rows(1))
    state = doubled(state, 59)
    with pytest.raises(OverflowError, match=r"must stay below 2\^63, got: \d+ and \d+ more"):
        doubled(state, 10)
    before = state.to_bytes()
    for change in (lambda: state.merge(state), lambda: state + state):
        with pytest.raises(OverflowError):
            change()
    assert state.to_bytes() == before
    assert type(state).from_bytes(before) == state
    assert repr(state)
    assert np.all(np.asarray(state.count) > 2**58)


@kinds
def test_an_update_of_a_full_state_is_refused_whole(kind: str):
    powers = [KINDS[kind]().update(rows(1))]
    while len(powers) < 70:
        try:
            powers.append(powers[-1] + powers[-1])
        except OverflowError:
            break
    full = powers[-1].copy()
    for power in reversed(powers[:-1]):
        full.merge(power)  # as much as goes: one less than the next power of two
    before = full.to_bytes()
    with pytest.raises(OverflowError):
        full.update(rows(1))
    assert full.to_bytes() == before


def test_a_table_takes_in_all_rows_or_none():
    full = doubled(ts.summary(np.ones(8)), 59)
    small = ts.summary(np.ones(8))
    table, other = _core.summaries_from([small, full]), _core.summaries_from([small, full])
    with pytest.raises(OverflowError):
        table.merge(other)
    assert [row.count for row in (table[0], table[1])] == [8, 2**62]


def test_histograms_of_snapshots_take_in_all_or_none():
    full = doubled(ts.histogram(np.ones(8), ts.axis.LogLinear(6)), 59)
    full.merge(doubled(ts.histogram(np.ones(8), ts.axis.LogLinear(6)), 58))
    full.merge(doubled(ts.histogram(np.ones(8), ts.axis.LogLinear(6)), 57))
    empty = ts.Histogram(ts.axis.LogLinear(6))
    rest = 2**63 - 1 - full.count
    part = ts.histogram(np.ones(1), ts.axis.LogLinear(6))
    for power in range(62, -1, -1):
        if rest >> power & 1:
            full.merge(doubled(part.copy(), power))
    assert full.count == 2**63 - 1
    snapshots = _core.Snapshots(2)
    with pytest.raises(OverflowError):
        snapshots.count([np.ones(3), np.ones(3)], [0, 1], [empty, full])
    assert (empty.count, full.count) == (0, 2**63 - 1)


def test_shares_of_full_units_are_right():
    u = doubled(ts.unit_activity(np.tile([[-3.0], [0.0]], (1, 100)), saturation=(-1.0, 1.0)), 61)
    assert u.saturated_fraction == 0.5
    assert "n=" + str(100 * 2**62) in repr(u)


def test_distances_between_full_histograms_are_right():
    h = doubled(ts.histogram(np.array([1.0, 2.0]), ts.axis.LogLinear(6)), 60)
    assert ts.distance(h, copy.copy(h)) == ts.distance(h, h)


@kinds
def test_a_sum_of_states_is_their_merge(kind: str):
    parts = [KINDS[kind]().update(rows(3, seed)) for seed in range(3)]
    total = sum(parts)
    assert total.to_bytes() == (parts[0] + parts[1] + parts[2]).to_bytes()
    one = sum(parts[:1])
    assert one == parts[0]
    assert one is not parts[0]
    for other in (1, 0.0, False, None, "0"):
        with pytest.raises(TypeError):
            other + parts[0]
