"""The cost of one call on a thousand elements, whatever holds them; every bench checks its answer first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tensorstats as ts

pytest.importorskip("pytest_benchmark")

from pytest_benchmark.fixture import BenchmarkFixture

COUNT = 1000
MAKERS = {
    "numpy array": lambda: np.ones(COUNT, np.float32),
    "torch tensor": lambda: torch.ones(COUNT),
    "torch parameter": lambda: torch.nn.Parameter(torch.ones(COUNT)),
    "torch bfloat16": lambda: torch.ones(COUNT, dtype=torch.bfloat16),
    "strided array": lambda: np.ones(2 * COUNT, np.float32)[::2],
}


@pytest.mark.parametrize("kind", MAKERS)
def bench_call(benchmark: BenchmarkFixture, kind: str) -> None:
    x = MAKERS[kind]()
    assert ts.summary(x).sum == COUNT
    benchmark(ts.summary, x)


def bench_update(benchmark: BenchmarkFixture) -> None:
    x = np.ones(COUNT, np.float32)
    state = ts.Summary().update(x)
    assert state.sum == COUNT
    benchmark(state.update, x)


def bench_merge(benchmark: BenchmarkFixture) -> None:
    a, b = ts.summary(np.ones(COUNT)), ts.summary(np.zeros(COUNT))
    assert (a + b).mean == 0.5
    benchmark(lambda: a + b)


def bench_all_fields(benchmark: BenchmarkFixture) -> None:
    summary = ts.summary(np.ones(COUNT, np.float32))
    assert summary.to_dict() == ts.Summary.from_dict(summary.to_dict()).to_dict()
    benchmark(summary.to_dict)
