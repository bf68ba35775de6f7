"""The cost of what-if formats, of masks and of counts outside a range, beside the plain summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import tensorstats as ts

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

FORMATS = ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16")


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    """256 MiB of normal float32: [128, 1024, 512]."""
    return np.random.default_rng(0).standard_normal((128, 1024, 512), dtype=np.float32)


def masks(kind: str, percent: int) -> np.ndarray:
    random = np.random.default_rng(1)
    if kind == "padding":
        lengths = random.integers(max(0, 2 * percent - 100), min(100, 2 * percent) + 1, 128) * 1024 // 100
        return (np.arange(1024) < lengths[:, None])[..., None]
    if kind == "rows":
        return random.random((128, 1024, 1)) < percent / 100
    return random.random((128, 1024, 512), dtype=np.float32) < percent / 100


def bench_plain(benchmark: BenchmarkFixture, x: np.ndarray) -> None:
    benchmark(lambda: ts.summary(x))


@pytest.mark.parametrize("formats", [FORMATS[:1], FORMATS[1:2], FORMATS[2:3], FORMATS[3:], FORMATS], ids="+".join)
def bench_formats(benchmark: BenchmarkFixture, x: np.ndarray, formats: tuple[str, ...]) -> None:
    s = ts.summary(x, formats=formats)
    for format in formats:
        fit = s.fits(format)
        assert fit.overflow + fit.normal + fit.subnormal + fit.flushed + fit.zero == x.size
    if "float8_e4m3fn" in formats:
        # Values are no multiple of 2^-10 but zero, so ties do not matter.
        assert s.fits("float8_e4m3fn").flushed == np.count_nonzero((np.abs(x) <= 2.0**-10) & (x != 0))
    benchmark(lambda: ts.summary(x, formats=formats))


@pytest.mark.parametrize("percent", [10, 50, 90])
@pytest.mark.parametrize("kind", ["padding", "rows", "random"])
def bench_where(benchmark: BenchmarkFixture, x: np.ndarray, kind: str, percent: int) -> None:
    mask = masks(kind, percent)
    s = ts.summary(x, where=mask)
    assert s.count == np.count_nonzero(mask) * (x.size // mask.size)
    benchmark.extra_info["chosen"] = s.count / x.size
    benchmark(lambda: ts.summary(x, where=mask))


@pytest.mark.parametrize("kind", ["none", "padding", "rows", "random"])
def bench_units_where(benchmark: BenchmarkFixture, x: np.ndarray, kind: str) -> None:
    mask = None if kind == "none" else masks(kind, 50)
    u = ts.unit_activity(x, -1, where=mask)
    assert mask is None or int(u.count.sum()) == np.count_nonzero(mask) * (x.size // mask.size)
    benchmark(lambda: ts.unit_activity(x, -1, where=mask))


def bench_outside(benchmark: BenchmarkFixture, x: np.ndarray) -> None:
    assert ts.outside(x, min=-3, max=3).above == np.count_nonzero(x > 3)
    benchmark(lambda: ts.outside(x, min=-3, max=3))


def bench_outside_of_150(benchmark: BenchmarkFixture) -> None:
    arrays = {str(i): np.random.default_rng(i).standard_normal(1000 + 997 * i, dtype=np.float32) for i in range(150)}
    found = ts.outside(arrays, min=-3, max=3)
    assert all(found[name].above == np.count_nonzero(array > 3) for name, array in arrays.items())
    benchmark(lambda: ts.outside(arrays, min=-3, max=3))
