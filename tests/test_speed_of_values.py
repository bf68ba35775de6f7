"""No value makes a call much slower than ordinary values do: NaN, infinities, subnormals, constants, repeats."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tensorstats as ts

N = 1 << 21

CALLS: dict[str, Callable[[Any], object]] = {
    "summary": ts.summary,
    "quantile": lambda x: ts.quantile(x, [0.01, 0.5, 0.99]),
    "LogLinear": lambda x: ts.histogram(x, ts.axis.LogLinear(precision=6)),
}


def looks() -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    normal = generator.standard_normal(N, dtype=np.float32)
    half = generator.random(N) < 0.5
    return {
        "normal": normal,
        "half zeros": np.where(half, np.float32(0), np.float32(2)),
        "constant": np.full(N, 1.5, np.float32),
        "few values": (generator.integers(0, 8, N) - 3.5).astype(np.float32),
        "NaN": np.full(N, np.nan, np.float32),
        "inf": np.full(N, np.inf, np.float32),
        "half NaN": np.where(half, np.float32(np.nan), normal),
        "some inf": np.where(generator.random(N) < 0.05, np.float32(-np.inf), normal),
        "subnormal": (generator.integers(1, 1 << 20, N) * 2.0**-149).astype(np.float32),
    }


def best(call: Callable[[Any], object], x: object) -> float:
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        call(x)
        times.append(time.perf_counter() - begin)
    return min(times)


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("name", list(CALLS))
def test_values_do_not_decide_how_long_a_call_takes(name: str) -> None:
    # The aim is 1.5 times. A test on a machine that does other things as well can tell only the 5 to 20 times of a path
    # that goes value by value.
    given = looks()
    normal = best(CALLS[name], given["normal"])
    slow = {look: best(CALLS[name], x) / normal for look, x in given.items()}
    assert max(slow.values()) < 4, slow


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_unusual_blocks_give_the_same_numbers_as_the_oracle(dtype: str, simd_level: str) -> None:
    """Blocks of every mixture after each other, so that each way of counting follows upon each other one."""
    generator = np.random.default_rng(3)
    kind = getattr(ml_dtypes, dtype, None) or np.dtype(dtype)
    info = ml_dtypes.finfo(kind)
    tiny = float(info.smallest_subnormal)
    pieces = []
    for length in (4096, 4096, 100, 8192, 31, 4097):
        normal = generator.standard_normal(length)
        unusual = generator.choice([np.nan, np.inf, -np.inf, 0.0, -0.0], length)
        small = generator.integers(-9, 10, length) * tiny
        share = generator.random(length)
        pieces += [normal, unusual, small, np.where(share < 0.1, unusual, np.where(share < 0.4, small, normal))]
    x = np.concatenate(pieces).astype(kind)
    wide = x.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    s = ts.summary(x)
    assert (s.count, s.nan_count) == (len(x), int(np.isnan(wide).sum()))
    assert (s.posinf_count, s.neginf_count) == (int((wide == np.inf).sum()), int((wide == -np.inf).sum()))
    assert (s.zero_count, s.positive_count) == (int((wide == 0).sum()), int((finite > 0).sum()))
    assert s.subnormal_count == int(((finite != 0) & (np.abs(finite) < float(info.smallest_normal))).sum())
    assert (s.min, s.max, s.absmin) == (finite.min(), finite.max(), np.abs(finite[finite != 0]).min())
    assert s.sum == pytest.approx(float(np.sum(finite)), rel=1e-12)
    h = ts.histogram(x, ts.axis.LogLinear(precision=6))
    expected = ts.histogram(np.zeros(0, kind), ts.axis.LogLinear(precision=6))
    for value in x:
        expected.update(np.array([value]))
    assert h == expected
    numbers = np.sort(wide[~np.isnan(wide)])
    for q in (0.25, 0.5, 0.75):
        with np.errstate(invalid="ignore"):
            want = float(np.quantile(numbers, q))
        np.testing.assert_equal(ts.quantile(x, q), want + 0.0)
