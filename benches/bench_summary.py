"""The speed of `ts.summary` on arrays of every dtype and a few sizes; every bench checks its answer first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tensorstats as ts

sys.path.insert(0, str(Path(__file__).resolve().parent))

from race.check import wrong_fields
from race.data import DTYPES, LOOKS, Case, exact, fill, size_name

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

SIZES = (4 << 10, 1 << 20, 64 << 20)
FIELDS = (
    *("count", "nan_count", "zero_count", "negative_count", "positive_count", "subnormal_count"),
    *("min", "max", "absmax", "absmin", "sum", "mean", "l1", "l2"),
)


def check(case: Case, summary: ts.Summary) -> None:
    answer = {name: getattr(summary, name) for name in FIELDS} | {"var": summary.var()}
    assert not wrong_fields("tensorstats", answer, exact(case)), str(case)


def bench(benchmark: BenchmarkFixture, case: Case, threads: int | None = None) -> None:
    array = fill(case)
    check(case, ts.summary(array, threads=threads))
    benchmark.extra_info["bytes"] = case.size
    benchmark(lambda: ts.summary(array, threads=threads))


@pytest.mark.parametrize("size", SIZES, ids=size_name)
@pytest.mark.parametrize("dtype", DTYPES)
def bench_summary(benchmark: BenchmarkFixture, dtype: str, size: int) -> None:
    bench(benchmark, Case("summary", dtype, "normal", size))


@pytest.mark.parametrize("look", [look for look in LOOKS if look != "normal"])
def bench_values(benchmark: BenchmarkFixture, look: str) -> None:
    bench(benchmark, Case("summary", "float32", look, 1 << 20))


@pytest.mark.parametrize("threads", [1, 2])
def bench_threads(benchmark: BenchmarkFixture, threads: int) -> None:
    bench(benchmark, Case("summary", "float32", "normal", 64 << 20), threads)


def bench_four_moments(benchmark: BenchmarkFixture) -> None:
    case = Case("summary", "float32", "normal", 1 << 20)
    array = fill(case)
    check(case, ts.summary(array, moments=4))
    benchmark(lambda: ts.summary(array, moments=4))


def bench_transposed(benchmark: BenchmarkFixture) -> None:
    case = Case("summary", "float32", "normal", 1 << 20)
    array = fill(case).reshape(512, 512).T[::1, ::-1]
    check(case, ts.summary(array))
    benchmark(lambda: ts.summary(array))
