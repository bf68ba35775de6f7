"""What all states share: update, merge, reset, copy, equality; and what merging promises."""

from __future__ import annotations

import copy
from itertools import pairwise, permutations

import numpy as np
import pytest

import tensorstats as ts
from expect import EXTREMES, assert_matches
from oracle import Oracle
from samples import DTYPES, FLOAT_DTYPES, mixed, numpy_dtype
from states import KINDS, kinds, rows, updated


@kinds
def test_update_returns_the_state(kind: str):
    state = KINDS[kind]()
    assert state.update(rows(3)) is state


@kinds
def test_merge_is_in_place_and_plus_is_not(kind: str):
    left, right = updated(kind, 30), updated(kind, 50, 20)
    left_before, right_before = left.to_bytes(), right.to_bytes()
    total = left + right
    assert type(total) is type(left)
    assert (left.to_bytes(), right.to_bytes()) == (left_before, right_before)
    assert left.merge(right) is left
    assert left.to_bytes() == total.to_bytes()
    assert right.to_bytes() == right_before


@kinds
def test_in_place_plus_and_sum(kind: str):
    states = [updated(kind, count) for count in (10, 20, 30)]
    total = states[0].copy()
    for state in states[1:]:
        total += state
    assert total == states[0] + states[1] + states[2]
    assert sum(states, start=KINDS[kind]()) == KINDS[kind]() + states[0] + states[1] + states[2]


@kinds
def test_merging_with_a_new_state_changes_nothing(kind: str):
    state = updated(kind, 40)
    counts = state.count
    for other in (state + KINDS[kind](), KINDS[kind]() + state):
        assert np.array_equal(other.count, counts)


@kinds
def test_merging_a_state_with_itself(kind: str):
    state = updated(kind, 40)
    doubled = np.asarray(state.count) * 2
    assert np.array_equal((state + state).count, doubled)
    state.merge(state)
    assert np.array_equal(state.count, doubled)


@kinds
def test_copies_are_independent(kind: str):
    state = updated(kind, 30)
    before = state.to_bytes()
    for duplicate in (state.copy(), copy.copy(state), copy.deepcopy(state)):
        assert type(duplicate) is type(state)
        assert duplicate == state
        assert duplicate.to_bytes() == before
        duplicate.update(rows(3, 9))
        assert duplicate != state
        assert state.to_bytes() == before


@kinds
def test_reset_is_a_new_state(kind: str):
    state = updated(kind, 30)
    state.reset()
    assert state == KINDS[kind]()
    assert state.to_bytes() == KINDS[kind]().to_bytes()
    assert state.update(rows(30)).to_bytes() == updated(kind, 30).to_bytes()


@kinds
def test_equality(kind: str):
    assert updated(kind, 30) == updated(kind, 30)
    assert updated(kind, 30) != updated(kind, 31)
    assert updated(kind, 30) != 1
    assert updated(kind, 30) != "state"
    assert (updated(kind, 30) == None) is False  # noqa: E711, comparing with None is the test


@kinds
def test_other_types_do_not_merge(kind: str):
    state = updated(kind, 3)
    with pytest.raises(TypeError):
        state + 1
    with pytest.raises(TypeError):
        state.merge(object())
    other = updated("unit-activity" if kind.startswith("summary") else "summary", 3)
    with pytest.raises(TypeError):
        state + other
    with pytest.raises(TypeError):
        state.merge(other)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("summary", "summary-4-moments"),
        ("summary-4-moments", "summary"),
        ("histogram-regular", "histogram-log-linear"),
        ("histogram-regular", "histogram-variable"),
    ],
)
def test_states_that_keep_different_things_do_not_merge(left: str, right: str):
    a, b = updated(left, 3), updated(right, 3)
    before = a.to_bytes()
    with pytest.raises(ValueError):
        a.merge(b)
    with pytest.raises(ValueError):
        a + b
    assert a.to_bytes() == before


def test_units_must_agree():
    a = ts.UnitActivity(1).update(np.ones((4, 8)))
    with pytest.raises(ValueError, match=r"8.*9|9.*8"):
        a.merge(ts.UnitActivity(1).update(np.ones((4, 9))))
    with pytest.raises(ValueError, match=r"8.*9|9.*8"):
        a.update(np.ones((4, 9)))


def test_states_are_not_hashable_because_they_change():
    with pytest.raises(TypeError, match="unhashable"):
        hash(ts.Summary())


# --- what merging promises for a summary ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_pieces_cut_anywhere_keep_what_is_exact(dtype: str):
    array = mixed(dtype, 3000)
    oracle = Oracle.of(array)
    cuts = [0, 1, 2, 17, 64, 65, 1000, 1001, 2047, 2999, 3000]
    pieces = [ts.summary(array[a:b], moments=4) for a, b in pairwise(cuts)]
    forwards, backwards = ts.Summary(moments=4), ts.Summary(moments=4)
    for piece in pieces:
        forwards.merge(piece)
    for piece in reversed(pieces):
        backwards.merge(piece)
    assert_matches(forwards, oracle)
    assert_matches(backwards, oracle)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bfloat16"])
def test_any_order_of_merging_keeps_what_is_exact(dtype: str):
    array = mixed(dtype, 4000)
    whole = ts.summary(array)
    pieces = [ts.summary(piece) for piece in np.array_split(array, 4)]
    for order in permutations(pieces):
        merged = order[0] + (order[1] + (order[2] + order[3]))
        assert merged.count == whole.count
        assert [getattr(merged, name) for name in EXTREMES] == [getattr(whole, name) for name in EXTREMES]


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_merging_what_is_empty_or_not_finite(dtype: str):
    form = numpy_dtype(dtype)
    state = ts.summary(np.array([1.0, -2.0, 0.0]).astype(form), moments=4)
    nothing = ts.summary(np.zeros(0, form), moments=4)
    nans = ts.summary(np.array([np.nan] * 3).astype(form), moments=4)
    for merged in (state + nothing, nothing + state, state + nans, nans + state):
        assert (merged.min, merged.max, merged.sum, merged.mean) == (-2.0, 1.0, -1.0, state.mean)
        assert (merged.var(), merged.skewness) == (state.var(), state.skewness)
    assert (nans + state).count == 6
    assert (nothing + nothing).count == 0
