"""The path of accelerators, on a GPU where there is one and forced on the CPU, and compiled models.

Every bench checks its answer. A round of a training is several steps with one wait for the device at its end: a wait
after every step would hide whether watching waits.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import tensorstats as ts
from tensorstats.device import results as device

pytest.importorskip("pytest_benchmark")

from pytest_benchmark.fixture import BenchmarkFixture

cuda = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"))
on_devices = pytest.mark.parametrize("place", ["cpu", cuda])


STEPS = 5  # of a round of training


def wait(place: str) -> None:
    if place == "cuda":
        torch.cuda.synchronize()


@on_devices
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def bench_summary(benchmark: BenchmarkFixture, place: str, dtype: torch.dtype) -> None:
    host = torch.randn(1 << (22 if place == "cpu" else 26)).to(dtype)
    x = host.to(place)
    got, want = device.summary(x), ts.summary(host)
    assert (got.count, got.zero_count, got.min, got.max) == (want.count, want.zero_count, want.min, want.max)
    assert abs(got.l2 / want.l2 - 1) < 1e-6
    benchmark(device.summary, x)


@on_devices
def bench_histogram(benchmark: BenchmarkFixture, place: str) -> None:
    host = torch.randn(1 << (22 if place == "cpu" else 26))
    x, axis = host.to(place), ts.axis.LogLinear(6)
    assert device.histogram(x, axis) == ts.histogram(host, axis)
    benchmark(device.histogram, x, axis)


@on_devices
@pytest.mark.parametrize("way", ["bare", "idle", "watched", "read after every step"])
def bench_training(benchmark: BenchmarkFixture, place: str, way: str) -> None:
    torch.manual_seed(0)
    width = 256 if place == "cpu" else 2048
    model = nn.Sequential(*(layer for _ in range(6) for layer in (nn.Linear(width, width), nn.GELU()))).to(place)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = torch.randn(256, width, device=place)
    every = 1_000_000 if way == "idle" else 1
    monitor: Any = None if way == "bare" else ts.watch(model, optimizer, backend="torch", every=every)

    def steps() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            if way == "read after every step":
                assert monitor.errors == []  # reading anything brings the step over
        wait(place)

    steps()
    if monitor is not None:
        assert monitor.latest("outputs", "0").count == 256 * width
    benchmark(steps)
    if monitor is not None:
        monitor.close()
        assert monitor.errors == []
        recorded = 1 if way == "idle" else monitor.step
        assert monitor.total("updates", "0.weight").count == recorded * width * width


@pytest.mark.parametrize("every", [0, 1, 1_000_000], ids=["bare", "recording", "idle"])
def bench_compiled_training_step(benchmark: BenchmarkFixture, every: int) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = nn.Sequential(*(layer for _ in range(6) for layer in (nn.Linear(256, 256), nn.GELU())))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = torch.randn(256, 256)
    monitor: Any = ts.watch(model, optimizer, every=every) if every else None
    called = torch.compile(model, fullgraph=True)

    def step() -> None:
        optimizer.zero_grad()
        called(x).square().mean().backward()
        optimizer.step()

    for _ in range(3):
        step()
    if monitor is not None:
        assert monitor.latest("outputs", "0").count == 256 * 256
    benchmark(step)
    if monitor is not None:
        monitor.close()
        assert monitor.errors == []
