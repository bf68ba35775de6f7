"""Owns the tests of the yes-or-no questions: every dtype, exact bounds, one bad value anywhere, early answers."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch

import tensorstats as ts

FLOATS = ("float16", "bfloat16", "float32", "float64", "float8_e5m2")


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", FLOATS)
def test_one_bad_value_anywhere_is_seen(dtype: str, bad: float, threads: int):
    for size in (1, 17, 70_000, 1_200_000):
        for place in {0, size // 2, size - 1}:
            x = torch.ones(size).to(getattr(torch, dtype))
            assert ts.is_finite(x, threads=threads)
            x[place] = bad
            assert not ts.is_finite(x, threads=threads)
            assert not ts.is_finite([torch.ones(3), x], threads=threads)


@pytest.mark.parametrize("threads", [1, 3])
def test_bounds_are_closed_and_compared_exactly(threads: int):
    x = np.array([0.1, 0.5], dtype=np.float32)
    assert ts.all_between(x, float(np.float32(0.1)), 0.5, threads=threads)
    assert not ts.all_between(x, np.nextafter(float(np.float32(0.1)), 1), 0.5, threads=threads)
    assert not ts.all_between(x, 0, np.nextafter(0.5, 0), threads=threads)
    big = np.array([2**53 + 1], dtype=np.int64)
    assert ts.all_between(big, 2**53 + 1, 2**53 + 1, threads=threads)
    assert not ts.all_between(big, 0, 2**53, threads=threads)
    assert not ts.all_between(big, 0, float(2**53), threads=threads)
    assert ts.all_between(np.array([2**64 - 1], dtype=np.uint64), 0, 2**64 - 1, threads=threads)


def test_zeros_of_both_signs_are_equal():
    assert ts.all_between(np.array([0.0, -0.0]), 0.0, 0.0)
    assert ts.all_between(np.array([0.0, -0.0]), -0.0, -0.0)


def test_infinite_bounds_allow_infinities_but_never_nan():
    x = np.array([-np.inf, 1.0, np.inf])
    assert ts.all_between(x, -math.inf, math.inf)
    assert not ts.all_between(x, -1e308, math.inf)
    assert not ts.all_between(x, -math.inf, 1e308)
    assert not ts.all_between(np.array([np.nan]), -math.inf, math.inf)


def test_integers_and_nothing_are_finite():
    assert ts.is_finite(np.arange(5))
    assert ts.is_finite([])
    assert ts.is_finite([None, np.zeros(0)])
    assert ts.all_between([], 0, 1)


@pytest.mark.parametrize(("low", "high"), [(1, 0), (math.nan, 1), (0, math.nan), (math.inf, -math.inf)])
def test_senseless_bounds_are_refused(low: float, high: float):
    with pytest.raises(ValueError, match="bounds must be numbers in order, got: "):
        ts.all_between(np.ones(2), low, high)


def test_strided_tensors():
    x = torch.ones(300, 400)
    x[7, 8] = math.nan
    assert not ts.is_finite(x.T)
    assert not ts.is_finite(x[::7, ::8])
    assert ts.is_finite(x[::2])


@pytest.mark.alone
def test_an_early_offender_ends_the_look():
    x = np.zeros(1 << 27, dtype=np.float32)
    x[0] = np.nan
    early, whole = math.inf, math.inf
    for _ in range(5):
        start = time.perf_counter()
        assert not ts.is_finite(x, threads=1)
        middle = time.perf_counter()
        assert ts.is_finite(x[1:], threads=1)
        early, whole = min(early, middle - start), min(whole, time.perf_counter() - middle)
    assert early < whole / 10
