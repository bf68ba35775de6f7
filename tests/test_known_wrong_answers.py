"""Inputs on which widely used libraries are or were wrong; here they must come out right."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

import tensorstats as ts


def close(exact: float) -> object:
    return pytest.approx(exact, rel=1e-13)


def test_norm_of_many_small_values_beside_large_ones():
    """A float32 accumulator stops at 2^24 times the smaller value (numpy through BLAS, torch on the CPU)."""
    x = np.concatenate([np.full(16, 4096.0, np.float32), np.ones(1_600_000, np.float32)])
    assert ts.summary(x).l2 == close(math.sqrt(2**28 + 1.6e6))


@pytest.mark.parametrize(
    ("values", "dtype", "exact"),
    [
        ([1000], np.float16, 1000.0),
        ([200, 200, 200], np.float16, math.sqrt(120_000)),
        ([1e200, 1e200], np.float64, math.sqrt(2) * 1e200),
        ([2.0**66, 1, 1], np.float32, 2.0**66),
        ([1e-200, 1e-200], np.float64, math.sqrt(2) * 1e-200),
        ([2.0**-100], np.float32, 2.0**-100),
    ],
    ids=["f16-overflow", "f16-sum-overflow", "f64-overflow", "f32-overflow", "f64-underflow", "f32-underflow"],
)
def test_norm_neither_overflows_nor_underflows(values: list[float], dtype: type, exact: float):
    assert ts.summary(np.array(values, dtype=dtype)).l2 == close(exact)


def test_norm_of_1e20_in_torch_float32():
    torch = pytest.importorskip("torch", reason="a torch tensor is the input")
    assert ts.summary(torch.tensor([1e20, 1.0, 1.0])).l2 == close(float(np.float32(1e20)))


def test_float16_variance_is_finite():
    x = np.random.default_rng(0).standard_normal(100_000).astype(np.float16)
    exact = x.astype(np.float64)
    assert ts.summary(x).var() == pytest.approx(exact.var(), rel=1e-9)
    assert ts.summary(x).std() == pytest.approx(exact.std(), rel=1e-9)


@pytest.mark.parametrize(("scale", "shift"), [(1e19, 1e20), (1e-24, 0.0)], ids=["overflow", "underflow"])
def test_float32_std_is_representable_where_the_variance_is_not(scale: float, shift: float):
    x = (np.random.default_rng(0).standard_normal(1000) * scale + shift).astype(np.float32)
    assert ts.summary(x).std() == pytest.approx(x.astype(np.float64).std(), rel=1e-9)
    assert ts.summary(x).var() == pytest.approx(x.astype(np.float64).var(), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e12], ids=str)
def test_kurtosis_of_tiny_and_huge_float32_values(scale: float):
    stats = pytest.importorskip("scipy.stats", reason="scipy comes with scikit-learn")
    x = (np.random.default_rng(0).standard_normal(10_000) * scale).astype(np.float32)
    s = ts.summary(x, moments=4)
    assert s.kurtosis == pytest.approx(stats.kurtosis(x.astype(np.float64) / scale), rel=1e-6)
    assert s.skewness == pytest.approx(stats.skew(x.astype(np.float64) / scale), rel=1e-6)


def test_sum_of_a_strided_column():
    x = np.array([[2.0**24, 0]] + [[1, 0]] * 1000, dtype=np.float32)
    assert ts.summary(x[:, 0]).sum == 16_778_216.0


def test_mean_of_a_long_strided_column_of_ones():
    x = np.ones((20_000_000, 2), dtype=np.float32)
    assert (ts.summary(x[:, 1]).mean, ts.summary(x[:, 1]).var()) == (1.0, 0.0)


def test_mean_over_outer_dimensions_of_ones():
    x = np.broadcast_to(np.float32(1), (10_000_000, 4, 15))[:1_000_000]
    assert ts.summary(x).mean == 1.0


def test_mean_of_a_long_column_of_uniform_values():
    x = np.random.default_rng(802_701).uniform(250, 320, (32**3 * 320, 2)).astype(np.float32)
    assert ts.summary(x[:, 0]).mean == pytest.approx(x[:, 0].astype(np.float64).mean(), rel=1e-12)


def test_mean_of_a_constant_column():
    x = np.full((2_588_317, 2), 2320.0, dtype=np.float32)
    assert ts.summary(x[:, 1]).mean == 2320.0


@pytest.mark.parametrize("size", [65_519, 65_520, 100_000])
def test_float16_sum_beyond_its_largest_value(size: int):
    assert ts.summary(np.ones(size, dtype=np.float16)).sum == float(size)


def test_unsigned_sum_does_not_wrap():
    assert ts.summary(np.array([2**63, 2**63], dtype=np.uint64)).sum == 2**64


def test_signed_mean_does_not_wrap():
    values = [-1303487490025821099, -8371390547526583103, -2572374159461887095]
    s = ts.summary(np.array(values))
    assert s.sum == sum(values)
    assert s.mean == close(sum(values) / 3)
    assert ts.summary(np.full(128, 255, dtype=np.int16)).mean == 255.0


def test_bfloat16_and_float16_sums_do_not_stall():
    uniform = np.random.default_rng(0).random(10_000).astype(ml_dtypes.bfloat16)
    assert ts.summary(uniform).sum == close(math.fsum(uniform.astype(np.float64).tolist()))
    assert ts.summary(np.ones(4096, dtype=np.float16)).sum == 4096.0
    assert ts.summary(np.ones(70_000, dtype=ml_dtypes.bfloat16)).mean == 1.0


def test_mean_of_more_ones_than_float32_can_count():
    assert ts.summary(np.ones(2**25, dtype=np.float32)).mean == 1.0


@pytest.mark.parametrize("threads", range(1, 8))
def test_antisymmetric_values_sum_to_zero(threads: int):
    """torch gave 131072 with two threads."""
    n = 8 * 80**3
    x = (np.arange(n) - n // 2 + 0.5).astype(np.float32)
    assert ts.summary(x, threads=threads).sum == 0.0


def test_variance_of_two_close_values():
    torch = pytest.importorskip("torch", reason="a torch tensor is the input")
    s = ts.summary(torch.tensor([2281.5, 2281.25]))
    assert s.var(correction=1) == 0.03125
    assert s.var() == 0.015625


def test_epsilons_after_a_two_are_not_lost():
    eps = float(np.finfo(np.float32).eps)
    x = np.hstack([np.float32(2), np.repeat(np.float32(eps), 100_000)])
    assert ts.summary(x).sum == close(2 + 100_000 * eps)


def test_constant_pieces_combine_to_no_variance():
    pieces = [np.full(size, 0.1) for size in (1, 7, 1000, 3)]
    merged = ts.Summary()
    for piece in pieces:
        merged.update(piece)
    assert merged.var() == 0.0
