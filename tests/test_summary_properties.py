"""Properties that hold for any data: bounds against the oracle, and that order, cuts and copies do not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensorstats as ts
from expect import assert_counts_and_extremes, assert_matches, assert_moments, assert_sums, field_bits
from oracle import Oracle
from samples import FLOAT_DTYPES, INTEGER_DTYPES, from_bits, numpy_dtype

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9)


@given(hnp.arrays(np.float64, shapes))
def test_any_float64_array(x: np.ndarray):
    for moments in (2, 4):
        assert_matches(ts.summary(x, moments=moments), Oracle.of(x))


@given(hnp.arrays(np.float32, shapes))
def test_any_float32_array(x: np.ndarray):
    assert_matches(ts.summary(x, moments=4), Oracle.of(x))


@given(st.sampled_from(FLOAT_DTYPES), st.lists(st.integers(0, 2**64 - 1), max_size=70))
def test_any_bit_patterns(dtype: str, patterns: list[int]):
    width = 8 * numpy_dtype(dtype).itemsize
    x = from_bits(np.array([bits % 2**width for bits in patterns], dtype=np.uint64), dtype)
    s = ts.summary(x, moments=4)
    assert_counts_and_extremes(s, Oracle.of(x))
    assert_sums(s, Oracle.of(x))


@given(st.sampled_from(INTEGER_DTYPES), st.data())
def test_any_integers(dtype: str, data: st.DataObject):
    x = data.draw(hnp.arrays(numpy_dtype(dtype), shapes))
    assert_matches(ts.summary(x, moments=4), Oracle.of(x))


@given(
    hnp.arrays(np.float64, st.integers(2, 60), elements=st.floats(-1, 1)),
    st.floats(-1e6, 1e6),
    st.integers(-300, 300),
)
def test_moments_of_shifted_and_scaled_data(x: np.ndarray, shift: float, exponent: int):
    x = (x + shift) * 2.0**exponent
    assert_moments(ts.summary(x, moments=4), Oracle.of(x))


@given(
    hnp.arrays(np.float32, st.integers(0, 200), elements=st.floats(width=32)),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_pieces_cut_anywhere(x: np.ndarray, cuts: list[int]):
    pieces = np.split(x, sorted(min(cut, len(x)) for cut in cuts))
    streamed = ts.Summary(moments=4)
    for piece in pieces:
        streamed.update(piece)
    assert_matches(streamed, Oracle.of(x))
    merged = ts.Summary(moments=4)
    for piece in reversed(pieces):
        merged = ts.summary(piece, moments=4) + merged
    assert_matches(merged, Oracle.of(x))


@given(hnp.arrays(np.float16, st.integers(0, 300), elements=st.floats(width=16)), st.randoms())
def test_order_does_not_matter_to_what_is_exact(x: np.ndarray, random: object):
    shuffled = np.array(random.sample(x.tolist(), len(x)), dtype=np.float16)  # type: ignore[attr-defined]
    exact = ("count", "nan_count", "zero_count", "negative_count", "min", "max", "absmax", "absmin")
    here, there = field_bits(ts.summary(x)), field_bits(ts.summary(shuffled))
    assert {name: here[name] for name in exact} == {name: there[name] for name in exact}


@given(hnp.arrays(np.float64, st.integers(0, 50), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_negation_mirrors(x: np.ndarray):
    here, there = ts.summary(x, moments=4), ts.summary(-x, moments=4)
    assert (here.negative_count, here.positive_count) == (there.positive_count, there.negative_count)
    assert here.zero_count == there.zero_count
    if len(x):
        assert (here.min, here.max) == (-there.max, -there.min)
        assert (here.absmin, here.absmax) == pytest.approx((there.absmin, there.absmax), rel=0, abs=0, nan_ok=True)


@given(hnp.arrays(np.float32, st.integers(0, 100), elements=st.floats(width=32)))
def test_a_state_survives_bytes_and_dict(x: np.ndarray):
    s = ts.summary(x, moments=4)
    assert field_bits(ts.Summary.from_bytes(s.to_bytes())) == field_bits(s)
    assert field_bits(ts.Summary.from_dict(s.to_dict())) == field_bits(s)
