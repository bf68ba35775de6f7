"""What a second thread costs and from which size on it pays; every bench checks its answer first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import tensorstats as ts
from tensorstats import _core
from tensorstats._openmp import share_torch_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

# Around the size from which on a tensor is worth a second thread.
SIZES = (768 << 10, 1 << 20, 2 << 20, 3 << 20, 4 << 20, 6 << 20, 8 << 20, 16 << 20, 256 << 20)


@pytest.fixture
def whose(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many threads count: one, two made for the call, or two of torch's."""
    share_torch_threads()
    if request.param == "two of its own":
        _core.use_openmp(None)
    yield 1 if request.param == "one" else 2
    share_torch_threads()


@pytest.mark.parametrize("whose", ["one", "two of its own", "two of torch"], indirect=True)
@pytest.mark.parametrize("size", SIZES)
def bench_size(benchmark: BenchmarkFixture, size: int, whose: int) -> None:
    array = np.ones(size // 4, dtype=np.float32)
    assert ts.summary(array, threads=whose).sum == array.size
    benchmark(ts.summary, array, threads=whose)


@pytest.mark.parametrize("whose", ["one", "two of its own", "two of torch"], indirect=True)
@pytest.mark.parametrize("size", [1 << 20, 4 << 20, 16 << 20])
def bench_after_torch(benchmark: BenchmarkFixture, size: int, whose: int) -> None:
    """A summary right after a product, whose threads still wait busily for their next work."""
    a, x = torch.ones(1024, 1024), torch.ones(size // 4)
    assert ts.summary(x, threads=whose).sum == x.numel()
    benchmark.pedantic(ts.summary, (x,), {"threads": whose}, setup=lambda: (a @ a, None)[1], rounds=200)


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
