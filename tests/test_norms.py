"""Owns the tests of norms over many tensors: exact oracle, non-finite values, emptiness, orders."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch

import tensorstats as ts
from oracle import Oracle, to_float

DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "int64", "uint64", "bool")


def exact(oracle: Oracle, ord: float) -> float:
    """The norm through whole numbers, fractions and an integer square root."""
    if ord == math.inf:
        return oracle.extremes["absmax"] or 0.0
    return to_float(oracle.l1 if ord == 1 else oracle.l2)


def tensors(dtype: str) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = ((3,), (0,), (17, 5), (), (70_001,))
    made = [torch.randn(shape, generator=generator) * 20 for shape in shapes]
    if dtype == "uint64":
        return [made.abs().to(torch.int64).to(torch.uint64) for made in made]
    return [made.to(getattr(torch, dtype)) for made in made]


@cache
def case(dtype: str) -> tuple[list[torch.Tensor], list[Oracle], Oracle]:
    """Tensors, the oracle of each and that of all together."""
    given = tensors(dtype)
    values = [tensor.to(torch.float64).flatten().numpy() for tensor in given]
    return given, [Oracle.of(part) for part in values], Oracle.of(np.concatenate(values))


@pytest.mark.parametrize("ord", [1, 2, math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_against_fractions(dtype: str, ord: float, threads: int):
    given, oracles, together = case(dtype)
    each = ts.norms(given, ord=ord, threads=threads)
    for found, oracle in zip(each, oracles, strict=True):
        assert found == pytest.approx(exact(oracle, ord), rel=1e-13)
    assert ts.norm(given, ord=ord, threads=threads) == pytest.approx(exact(together, ord), rel=1e-13)


def test_the_same_bits_for_any_thread_count():
    given = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (10, 3_000_001, 70_000, 1, 2_000_000)]
    assert len({ts.norm(given, threads=threads) for threads in range(1, 8)}) == 1
    assert len({ts.norms(given, threads=threads).tobytes() for threads in range(1, 8)}) == 1


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e-30, 1.0, 1e30, 1e200, 1e307])
def test_no_overflow_on_the_way(scale: float):
    assert ts.norm([np.full(2, scale), np.full(2, scale)]) == pytest.approx(
        2 * scale, rel=1e-3 if scale < 1e-310 else 1e-13
    )


def test_dtypes_may_differ():
    assert ts.norm([np.array([3], dtype=np.int8), torch.tensor([4.0], dtype=torch.bfloat16)]) == 5.0


def test_one_tensor_is_a_list_of_one():
    assert ts.norm(torch.tensor([[3.0], [4.0]])) == 5.0
    assert ts.norm(np.array([3.0, 4.0])) == 5.0
    assert ts.norm(np.float32(-2)) == 2.0


def test_gradients_that_are_none_are_left_out():
    assert ts.norm([None, torch.ones(4), None]) == 2.0


@pytest.mark.parametrize("ord", [1, 2, math.inf])
def test_nothing_has_norm_zero(ord: float):
    assert ts.norm([], ord=ord) == ts.norm([np.zeros(0)], ord=ord) == ts.norm(np.zeros(3), ord=ord) == 0.0
    assert ts.norms([], ord=ord).shape == (0,)


@pytest.mark.parametrize("ord", [1, 2, math.inf])
def test_nan_wins_over_infinity(ord: float):
    assert ts.norm([np.ones(3), np.array([-np.inf])], ord=ord) == math.inf
    assert math.isnan(ts.norm([np.array([np.inf]), np.array([np.nan])], ord=ord))


@pytest.mark.parametrize("ord", [0, 3, -1, math.nan, "fro"])
def test_other_orders_are_refused(ord: object):
    with pytest.raises(ValueError, match="ord must be 1, 2 or inf, got: "):
        ts.norm([np.ones(3)], ord=ord)


def test_a_refused_tensor_is_named():
    with pytest.raises(TypeError, match="unsupported dtype: complex128"):
        ts.norm([np.ones(3), np.ones(3, dtype=complex)])
