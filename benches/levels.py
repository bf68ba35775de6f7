"""What each SIMD level of this machine makes of a summary, per dtype: prints the table of benches/README.md."""

from __future__ import annotations

import statistics
import time
from typing import Any

import ml_dtypes
import numpy as np

import tensorstats as ts
from tensorstats import _core

DTYPES = ("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int8", "uint8")
SIZE = 4 << 20  # bytes, which a last-level cache holds
ROUNDS = 15
CALLS = 3


def values(dtype: str) -> Any:
    """Normal values, of integers some dozens."""
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    normal = np.random.default_rng(0).standard_normal(SIZE // kind.itemsize)
    if kind.kind in "iu":
        normal = np.clip(np.rint(40 * (np.abs(normal) if kind.kind == "u" else normal)), -127, 127)
    return normal.astype(kind)


def best_of_calls(x: Any) -> float:
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        ts.summary(x, threads=1)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Levels take turns, round by round; a time is the median over rounds."""
    levels = _core.simd_levels()
    print("|", " | ".join(["dtype", *levels]), "|")
    print("|---" * (len(levels) + 1) + "|")
    for dtype in DTYPES:
        x = values(dtype)
        answers, times = set(), {level: [0.0] * ROUNDS for level in levels}
        for turn in range(ROUNDS):
            for level in levels:
                _core.set_simd_level(level)
                answers.add(ts.summary(x).to_bytes())
                times[level][turn] = best_of_calls(x)
        assert len(answers) == 1, f"levels differ for {dtype}"
        counted, summed = ts.summary(x), float(x.astype(np.float64).sum())
        assert counted.count == x.size
        assert abs(counted.sum - summed) <= 1e-9 * float(counted.l1)
        speeds = [SIZE / statistics.median(times[level]) / 1e9 for level in levels]
        print("|", " | ".join([dtype, *(f"{speed:.1f} GB/s" for speed in speeds)]), "|", flush=True)


if __name__ == "__main__":
    main()
