"""Time per gigabyte from 64 MB to 8 GB on one and on all threads: `python benches/constancy.py [largest GB]`.

Needs the largest size in memory, and the machine for itself. Every time stands beside a check of the answer.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import tensorstats as ts


def seconds(array: np.ndarray, threads: int | None) -> float:
    """The best of a few calls; big arrays need fewer."""
    best = float("inf")
    for _ in range(max(3, min(15, int(2e9 / array.nbytes)))):
        start = time.perf_counter()
        summary = ts.summary(array, threads=threads)
        best = min(best, time.perf_counter() - start)
        assert (summary.count, summary.sum) == (array.size, 1.5 * array.size)
    return best


def main() -> None:
    largest = float(sys.argv[1]) if len(sys.argv) > 1 else 8.0
    whole = np.full(int(largest * 1e9) // 4, 1.5, dtype=np.float32)
    print("| size | one thread, ms per GB | all threads, ms per GB |\n|---|---|---|")
    for size in (64e6, 125e6, 250e6, 500e6, 1e9, 2e9, 4e9, 8e9):
        if size > largest * 1e9:
            break
        part = whole[: int(size) // 4]
        times = [1e3 * seconds(part, threads) / (part.nbytes / 1e9) for threads in (1, None)]
        print(f"| {part.nbytes / 1e6:,.0f} MB | {times[0]:.1f} | {times[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
