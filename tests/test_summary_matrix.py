"""Every dtype in every layout at every SIMD level, against the exact oracle."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import tensorstats as ts
from expect import assert_counts_and_extremes, assert_matches, assert_sums
from oracle import Oracle
from samples import DTYPES, LAYOUTS, block_of, mixed, random_bits

# Around the widths of vectors and of the unrolled loops, and around powers of two that a block may have.
SIZES = (1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 257, 1023, 1025, 4095, 4096, 4097)
BLOCK_SIZES = (8191, 8193, 16383, 16385, 32767, 32769, 65535, 65536, 65537, 131071, 131073)


@cache
def laid_out(dtype: str, layout: str) -> tuple[np.ndarray, Oracle]:
    view = LAYOUTS[layout](block_of(dtype))
    return view, Oracle.of(view)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout(dtype: str, layout: str, simd_level: str):
    view, oracle = laid_out(dtype, layout)
    assert_matches(ts.summary(view, moments=4), oracle)
    assert_matches(ts.summary(view, threads=3), oracle)


@cache
def sized(dtype: str, size: int) -> tuple[np.ndarray, Oracle]:
    array = mixed(dtype, size, seed=size)
    return array, Oracle.of(array)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes_around_vector_widths(dtype: str, simd_level: str):
    for size in SIZES:
        array, oracle = sized(dtype, size)
        assert_matches(ts.summary(array, moments=4), oracle)


@cache
def one_offender(dtype: str, size: int) -> np.ndarray:
    array = np.full(size, 1, dtype=random_bits(dtype, 1).dtype)
    array[-1] = 0
    return array


@pytest.mark.parametrize("dtype", DTYPES)
def test_last_element_of_sizes_around_blocks(dtype: str, simd_level: str):
    for size in BLOCK_SIZES:
        s = ts.summary(one_offender(dtype, size))
        assert (s.count, s.zero_count, s.positive_count, s.sum, s.min) == (size, 1, size - 1, size - 1, 0)


@cache
def wild(dtype: str) -> tuple[np.ndarray, Oracle]:
    array = random_bits(dtype, 6007, seed=11)
    return array, Oracle.of(array)


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_bit_patterns(dtype: str, simd_level: str):
    array, oracle = wild(dtype)
    s = ts.summary(array)
    assert_counts_and_extremes(s, oracle)
    assert_sums(s, oracle)


@cache
def scattered(dtype: str) -> tuple[np.ndarray, Oracle]:
    """A view with rows of five elements apart, long enough to span blocks."""
    view = mixed(dtype, 9 * 12_000, seed=5).reshape(12_000, 9)[:, 2:7]
    return view, Oracle.of(view)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn", "int16"])
def test_short_rows_over_many_blocks(dtype: str, simd_level: str):
    view, oracle = scattered(dtype)
    for threads in (1, 4):
        s = ts.summary(view, threads=threads)
        assert_counts_and_extremes(s, oracle)
        assert_sums(s, oracle)


def test_many_dimensions(simd_level: str):
    block = mixed("float32", 2**14)
    view = block.reshape((2,) * 14).transpose(*range(13, -1, -1))[:, ::-1]
    assert_matches(ts.summary(view), Oracle.of(view))


def test_overlapping_windows():
    view = np.lib.stride_tricks.sliding_window_view(mixed("float64", 300), 40)
    assert_matches(ts.summary(view, moments=4), Oracle.of(view))
