"""Quantiles against numpy and the sketches people use: error, speed and size. Every bench checks its answers first.

python benches/bench_quantiles.py                  # the table of benches/README.md
python -m pytest benches/bench_quantiles.py -o python_functions='bench_*'   # ours alone, with pytest-benchmark
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensorstats as ts

sys.path.insert(0, str(Path(__file__).resolve().parent))

from peers import machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

COUNT = 1 << 24
# A Python loop over single values: as many as a patient user would wait for.
FEW = 1 << 18
SHARES = np.array([0.0001, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999])


def data(name: str) -> np.ndarray:
    """Values whose order is random, as a stream's is."""
    random = np.random.default_rng(0)
    normal = random.standard_normal(COUNT, dtype=np.float32)
    if name == "octaves":
        return (normal * np.exp2(random.uniform(-20, 20, COUNT)).astype(np.float32)).astype(np.float32)
    return normal


DATA = ("normal", "octaves")


@dataclass
class Way:
    """One way to quantiles: what is measured, and what it needs to know later."""

    name: str
    promise: str
    run: Callable[[np.ndarray], tuple[Callable[[np.ndarray], Any], int | None]]
    most: int = COUNT


def _numpy(x: np.ndarray) -> tuple[Callable[[np.ndarray], Any], None]:
    found = np.quantile(x.astype(np.float64), SHARES)
    return lambda _: found, None


def _exact(x: np.ndarray) -> tuple[Callable[[np.ndarray], Any], None]:
    found = ts.quantile(x, SHARES)
    return lambda _: found, None


def _histogram(axis: ts.axis.Axis) -> Callable[[np.ndarray], tuple[Callable[[np.ndarray], Any], int]]:
    def run(x: np.ndarray) -> tuple[Callable[[np.ndarray], Any], int]:
        h = ts.histogram(x, axis)
        return h.quantile, len(h.to_bytes())

    return run


def _datasketch(name: str, size: int) -> Callable[[np.ndarray], tuple[Callable[[np.ndarray], Any], int]]:
    def run(x: np.ndarray) -> tuple[Callable[[np.ndarray], Any], int]:
        import datasketches

        sketch = getattr(datasketches, name)(size)
        sketch.update(x)
        return lambda shares: [sketch.get_quantile(share) for share in shares], len(sketch.serialize())

    return run


def _ddsketch(x: np.ndarray) -> tuple[Callable[[np.ndarray], Any], None]:
    import ddsketch

    sketch = ddsketch.DDSketch(0.0078)
    for value in x.tolist():
        sketch.add(value)
    return lambda shares: [sketch.get_quantile_value(share) for share in shares], None


WAYS = [
    Way("numpy.quantile", "exact", _numpy),
    Way("ts.quantile", "exact", _exact),
    Way("ts LogLinear(6)", "value within 0.8 %", _histogram(ts.axis.LogLinear(6))),
    Way("ts LogLinear(10)", "value within 0.05 %", _histogram(ts.axis.LogLinear(10))),
    Way("ts Linear(1024)", "value within a bin", _histogram(ts.axis.Linear(1024))),
    Way("datasketches KLL, k=200", "rank within 1.3 %, likely", _datasketch("kll_floats_sketch", 200)),
    Way("datasketches KLL, k=2000", "rank within 0.15 %, likely", _datasketch("kll_floats_sketch", 2000)),
    Way("datasketches REQ, k=12", "relative rank, likely", _datasketch("req_floats_sketch", 12)),
    Way("datasketches t-digest, k=200", "none", _datasketch("tdigest_float", 200)),
    Way("ddsketch, 0.78 %", "value within 0.8 %", _ddsketch, FEW),
]


def errors(found: np.ndarray, ordered: np.ndarray) -> tuple[float, float]:
    """Largest error in rank, as a share of all values, and in value, relative, over the shares asked for."""
    last = ordered.size - 1
    wanted = SHARES * last
    low, high = ordered[np.floor(wanted).astype(int)], ordered[np.ceil(wanted).astype(int)]
    outside = np.maximum(np.maximum(low - found, found - high), 0)
    value = float(np.max(outside / np.maximum(np.abs(low), np.abs(high))))
    first, beyond = np.searchsorted(ordered, found, side="left"), np.searchsorted(ordered, found, side="right")
    rank = np.maximum(np.maximum(first - np.ceil(wanted), np.floor(wanted) - beyond), 0) / ordered.size
    return float(np.max(rank)), value


def measure(way: Way, x: np.ndarray) -> str:
    x = x[: way.most]
    ordered = np.sort(x).astype(np.float64)
    best, answer, size = float("inf"), None, None
    for _ in range(3 if way.most == COUNT else 1):
        start = time.perf_counter()
        answer, size = way.run(x)
        best = min(best, time.perf_counter() - start)
    assert answer is not None
    rank, value = errors(np.asarray(answer(SHARES), dtype=np.float64), ordered)
    if way.promise == "exact":
        assert (rank, value) == (0, 0), way.name
    if way.name.startswith("ts LogLinear"):
        assert value <= 2.0 ** -(7 if "(6)" in way.name else 11), way.name
    state = "" if size is None else f"{size / 1024:.1f} KiB"
    return f"{way.promise} | {rank:.2g} | {value:.2g} | {1e9 * best / x.size:.3g} ns | {state}"


def main() -> None:
    for key, text in machine(None).items():
        print(f"{key}: {text}  ")
    for name in DATA:
        x = data(name)
        print(f"\n{name}, {COUNT:,} float32 values ({FEW:,} for ddsketch)\n")
        print("| way | promise | largest rank error | largest relative value error | time per value | serialised |")
        print("|---|---|---|---|---|---|")
        for way in WAYS:
            print(f"| {way.name} | {measure(way, x)} |", flush=True)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def bench_quantile(benchmark: BenchmarkFixture, dtype: str, name: str) -> None:
    with np.errstate(over="ignore"):
        x = data(name).astype(dtype)
    right = np.quantile(x[np.isfinite(x)].astype(np.float64), 0.9)
    found = ts.quantile(x[np.isfinite(x)], 0.9)
    assert found == right
    benchmark.extra_info["bytes"] = x.nbytes
    benchmark(lambda: ts.quantile(x, 0.9))


@pytest.mark.parametrize("bins", [64, 256, 4096])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def bench_linear(benchmark: BenchmarkFixture, dtype: str, bins: int) -> None:
    x = (data("normal") * (2**40 if dtype == "int64" else 1)).astype(dtype)
    h = ts.histogram(x, ts.axis.Linear(bins))
    assert np.array_equal(h.values(), np.histogram(x.astype(np.float64), h.edges)[0])
    benchmark.extra_info["bytes"] = x.nbytes
    benchmark(lambda: ts.histogram(x, ts.axis.Linear(bins)))


def bench_linear_of_a_growing_range(benchmark: BenchmarkFixture) -> None:
    x = (data("normal") * np.geomspace(1e-9, 1e9, COUNT)).astype(np.float32)
    h = ts.histogram(x, ts.axis.Linear(256))
    assert np.array_equal(h.values(), np.histogram(x.astype(np.float64), h.edges)[0])
    benchmark(lambda: ts.histogram(x, ts.axis.Linear(256)))


if __name__ == "__main__":
    main()
