"""What a second thread costs and from which size on it pays; every bench checks its answer first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import tensorstats as ts

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

# Around the size from which on a tensor is worth a second thread.
SIZES = (1 << 20, 2 << 20, 3 << 20, 4 << 20, 8 << 20, 16 << 20, 256 << 20)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def bench_size(benchmark: BenchmarkFixture, size: int, threads: int) -> None:
    array = np.ones(size // 4, dtype=np.float32)
    assert ts.summary(array, threads=threads).sum == array.size
    benchmark(ts.summary, array, threads=threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e5m2", "float32"])
def bench_in_cache(benchmark: BenchmarkFixture, dtype: str, threads: int) -> None:
    """Sixteen MiB stay in the last-level cache: two threads against one where memory is no limit."""
    kind = getattr(torch, dtype)
    tensor = torch.ones((16 << 20) // kind.itemsize).to(kind)
    assert ts.summary(tensor, threads=threads).sum == tensor.numel()
    benchmark(ts.summary, tensor, threads=threads)


@pytest.mark.parametrize("watched", [False, True], ids=["alone", "with summary"])
def bench_beside_torch(benchmark: BenchmarkFixture, watched: bool) -> None:
    """A product on torch's threads, then a summary of it on ours: neither pool must keep the other waiting."""
    a = torch.ones(1024, 1024)
    assert ts.summary(a @ a).mean == 1024

    def step() -> None:
        product = a @ a
        if watched:
            ts.summary(product)

    benchmark(step)
