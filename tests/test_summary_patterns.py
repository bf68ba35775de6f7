"""Every value of the 8- and 16-bit dtypes, one by one and together; every exponent of the wider ones."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

import tensorstats as ts
from conftest import LEVELS
from expect import assert_counts_and_extremes, assert_matches, assert_sums
from oracle import FLOATS, NAN, NEGATIVE_INFINITY, POSITIVE_INFINITY, Oracle, decode, is_subnormal
from samples import all_patterns, from_bits
from tensorstats import _core

SMALL_DTYPES = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int16", "uint16", "int8", "uint8")
SMALL_FLOATS = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


@cache
def all_of(dtype: str) -> tuple[np.ndarray, Oracle]:
    array = all_patterns(dtype)
    return array, Oracle.of(array)


@pytest.mark.parametrize("dtype", SMALL_DTYPES)
def test_all_patterns_together(dtype: str, simd_level: str):
    array, oracle = all_of(dtype)
    assert_matches(ts.summary(array, moments=4), oracle)
    assert_matches(ts.summary(np.random.default_rng(0).permutation(array), moments=4), oracle)


@pytest.mark.parametrize("dtype", SMALL_DTYPES)
def test_all_patterns_many_times(dtype: str, simd_level: str):
    array, oracle = all_of(dtype)
    times = 2**19 // array.size
    s = ts.summary(np.tile(array, times), threads=3)
    for name, count in oracle.counts.items():
        assert getattr(s, name) == count * times, name
    assert (s.min, s.max) == (oracle.extremes["min"], oracle.extremes["max"])


def expected_of(bits: int, dtype: str) -> tuple[float, ...]:
    """nan, +inf, -inf, zero, negative, positive, subnormal counts, min and max of one value."""
    value = decode(bits, dtype)
    if isinstance(value, str):
        return value == NAN, value == POSITIVE_INFINITY, value == NEGATIVE_INFINITY, 0, 0, 0, 0, math.nan, math.nan
    real = value / 2 ** FLOATS[dtype].scale
    return 0, 0, 0, value == 0, value < 0, value > 0, is_subnormal(bits, dtype), real, real


def found_of(s: ts.Summary) -> tuple[float, ...]:
    return (
        s.nan_count,
        s.posinf_count,
        s.neginf_count,
        s.zero_count,
        s.negative_count,
        s.positive_count,
        s.subnormal_count,
        s.min,
        s.max,
    )


def same(found: tuple[float, ...], expected: tuple[float, ...]) -> bool:
    return all(a == b or (a != a and b != b) for a, b in zip(found, expected, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", SMALL_FLOATS)
def test_each_pattern_alone(dtype: str, simd_level: str):
    array = all_patterns(dtype)
    wrong = [
        (hex(bits), found)
        for bits in range(array.size)
        if not same(found := found_of(ts.summary(array[bits : bits + 1])), expected_of(bits, dtype))
    ]
    assert wrong == []


@pytest.mark.parametrize("dtype", SMALL_FLOATS)
def test_each_pattern_in_full_vectors(dtype: str, simd_level: str):
    """Seventy copies fill the widest vectors and leave a tail; stride 0 across rows keeps it cheap."""
    rows = np.repeat(all_patterns(dtype)[:, None], 70, axis=1)
    step = 1 if len(rows) == 256 else 7  # every 7th of 65,536 is still every exponent, both signs, all low bits
    wrong = []
    for bits in range(0, len(rows), step):
        expected = expected_of(bits, dtype)
        expected = (*(count * 70 for count in expected[:7]), *expected[7:])
        if not same(found := found_of(ts.summary(rows[bits])), expected):
            wrong.append((hex(bits), found))
    assert wrong == []


@cache
def every_exponent(dtype: str) -> tuple[np.ndarray, Oracle]:
    form = FLOATS[dtype]
    full = 2**form.mantissa_bits - 1
    mantissas = np.array([0, 1, full // 2, full - 1, full], dtype=np.uint64)
    exponents = np.arange(2**form.exponent_bits, dtype=np.uint64) << np.uint64(form.mantissa_bits)
    signs = np.array([0, 1], dtype=np.uint64) << np.uint64(form.mantissa_bits + form.exponent_bits)
    patterns = (signs[:, None, None] | exponents[None, :, None] | mantissas).reshape(-1)
    array = from_bits(np.random.default_rng(2).permutation(patterns), dtype)
    return array, Oracle.of(array)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_every_exponent_and_sign(dtype: str, simd_level: str):
    array, oracle = every_exponent(dtype)
    for moments in (2, 4):
        s = ts.summary(array, moments=moments)
        assert_counts_and_extremes(s, oracle)
        assert_sums(s, oracle)


@pytest.mark.slow
@pytest.mark.usefixtures("restore_simd_level")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_exponent_alone(dtype: str):
    array, _ = every_exponent(dtype)
    for value in array:
        alone = np.full(19, value)
        expected = Oracle.of(alone)
        for level in LEVELS:
            _core.set_simd_level(level)
            s = ts.summary(alone)
            assert_counts_and_extremes(s, expected)
            assert_sums(s, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_payloads_and_signs_are_all_nan(dtype: str, simd_level: str):
    form = FLOATS[dtype]
    top = (2**form.exponent_bits - 1) << form.mantissa_bits
    sign = 1 << (form.mantissa_bits + form.exponent_bits)
    payloads = [1 << bit for bit in range(form.mantissa_bits)] + [2**form.mantissa_bits - 1]
    patterns = np.array([top | payload | s for payload in payloads for s in (0, sign)], dtype=np.uint64)
    s = ts.summary(from_bits(patterns, dtype))
    assert (s.count, s.nan_count, s.finite_count) == (len(patterns), len(patterns), 0)


@pytest.mark.parametrize("byte", [2, 3, 128, 255])
def test_bool_bytes_other_than_zero_and_one_are_true(byte: int):
    """Memory that was written by other means can hold them; numpy and torch call them true."""
    array = np.array([0, byte, 1, byte] * 20, dtype=np.uint8).view(np.bool_)
    s = ts.summary(array)
    assert (s.count, s.zero_count, s.positive_count, s.sum, s.max) == (80, 20, 60, 60, 1)
