"""States as bytes, dicts and pickles: whole round trips, and damage that is refused."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

import tensorstats as ts
from expect import field_bits
from states import KINDS, kinds, rows, updated


@kinds
@pytest.mark.parametrize("counts", [(), (30,), (30, 5)], ids=["new", "one-update", "two-updates"])
def test_round_trips(kind: str, counts: tuple[int, ...]):
    state = updated(kind, *counts)
    cls = type(state)
    for other in (
        cls.from_bytes(state.to_bytes()),
        cls.from_dict(state.to_dict()),
        cls.from_dict(json.loads(json.dumps(state.to_dict()))),
        *(pickle.loads(pickle.dumps(state, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)),
    ):
        assert type(other) is cls
        assert other == state
        assert other.to_bytes() == state.to_bytes()
        # What was read goes on as the original would have.
        assert other.update(rows(7, 3)).to_bytes() == state.copy().update(rows(7, 3)).to_bytes()


@kinds
def test_bytes_are_bytes_and_begin_alike(kind: str):
    first, second = KINDS[kind]().to_bytes(), updated(kind, 30).to_bytes()
    assert type(first) is bytes
    assert first[:4] == second[:4]


@kinds
def test_damaged_bytes_are_refused(kind: str):
    state = updated(kind, 30)
    packed = state.to_bytes()
    cls = type(state)
    for damaged in (b"", b"x", packed[:-1], packed[:5], packed + b"\0", b"\xff" * len(packed), bytes(len(packed))):
        with pytest.raises(ValueError):
            cls.from_bytes(damaged)
    with pytest.raises(TypeError):
        cls.from_bytes("text")


@kinds
def test_any_flipped_bit_is_refused_or_read_but_never_a_crash(kind: str):
    state = updated(kind, 3)
    packed = state.to_bytes()
    random = np.random.default_rng(0)
    for _ in range(400):
        at, bit = int(random.integers(len(packed))), int(random.integers(8))
        damaged = bytearray(packed)
        damaged[at] ^= 1 << bit
        try:
            other = type(state).from_bytes(bytes(damaged))
        except ValueError:
            continue
        repr(other)
        try:
            other.merge(state)
        except ValueError:
            continue
        other.to_dict()


@kinds
def test_a_dict_with_missing_or_wrong_entries_is_refused(kind: str):
    state = updated(kind, 30)
    good = state.to_dict()
    assert all(type(key) is str for key in good)
    for wrong in ({}, {"a": 1}, dict.fromkeys(good)):
        with pytest.raises((ValueError, TypeError, KeyError)):
            type(state).from_dict(wrong)


def test_states_of_another_kind_do_not_read_each_other():
    packed = updated("summary", 30).to_bytes()
    with pytest.raises(ValueError):
        ts.Histogram.from_bytes(packed)
    with pytest.raises(ValueError):
        ts.UnitActivity.from_bytes(packed)
    with pytest.raises(ValueError):
        ts.Summary.from_bytes(updated("histogram-log-linear", 3).to_bytes())


def test_dict_has_the_public_numbers():
    s = ts.summary(np.array([1.0, 2.0, np.nan], dtype=np.float32))
    found = s.to_dict()
    assert found["nan_count"] == 1
    assert found["min"] == 1.0
    assert found["max"] == 2.0
    assert found["dtype"] == "float32"


def test_integers_stay_exact_through_every_form():
    s = ts.summary(np.array([2**63, 2**64 - 1, 3], dtype=np.uint64))
    for other in (
        ts.Summary.from_bytes(s.to_bytes()),
        ts.Summary.from_dict(json.loads(json.dumps(s.to_dict()))),
        pickle.loads(pickle.dumps(s)),
    ):
        assert field_bits(other) == field_bits(s)
        assert other.sum == 2**63 + 2**64 + 2
        assert other.max == 2**64 - 1
