"""The speed of `ts.histogram`; every bench checks its counts against numpy's first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tensorstats as ts

sys.path.insert(0, str(Path(__file__).resolve().parent))

from race.data import BINS, DTYPES, HIGH, LOW, Case, exact, fill, size_name

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

SIZES = (4 << 10, 1 << 20, 64 << 20)


@pytest.mark.parametrize("size", SIZES, ids=size_name)
@pytest.mark.parametrize("dtype", DTYPES)
def bench_regular(benchmark: BenchmarkFixture, dtype: str, size: int) -> None:
    case = Case("histogram", dtype, "normal", size)
    array = fill(case)
    histogram = ts.histogram(array, bins=BINS, range=(LOW, HIGH))
    assert histogram.values().tolist() == exact(case)["values"]
    benchmark.extra_info["bytes"] = size
    benchmark(lambda: ts.histogram(array, bins=BINS, range=(LOW, HIGH)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def bench_log_linear(benchmark: BenchmarkFixture, dtype: str) -> None:
    array = fill(Case("histogram", dtype, "octaves", 64 << 20))
    axis = ts.axis.LogLinear(precision=6)
    assert int(ts.histogram(array, axis).values().sum()) == array.size
    benchmark(lambda: ts.histogram(array, axis))
