"""Time per gigabyte from 64 MB to 8 GB, beside a plain read: `python benches/constancy.py [largest GB]`.

Needs the largest size in memory, and the machine for itself. Every call reads a part of one big array that no call has
touched for the longest time, so that no size is helped by what the cache still holds of it; `torch.sum` reads the same
parts in the same process, on the same threads. Every time stands beside a check of the answer.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

import tensorstats as ts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES = (64e6, 125e6, 250e6, 500e6, 1e9, 2e9, 4e9, 8e9)
CALLS = 9


def parts(whole: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Parts of `count` values, one after the other, for ever."""
    start = 0
    while True:
        if start + count > len(whole):
            start = 0
        yield whole[start : start + count]
        start += count


def milliseconds_per_gigabyte(calls: list[Callable[[np.ndarray], None]], whole: np.ndarray, count: int) -> list[float]:
    """Of each of some calls, which take turns; the median."""
    times: list[list[float]] = [[] for _ in calls]
    place = parts(whole, count)
    for _ in range(CALLS if count < len(whole) // 4 else 3):
        for call, mine in zip(calls, times, strict=True):
            part = next(place)
            start = time.perf_counter()
            call(part)
            mine.append(1e3 * (time.perf_counter() - start) / (part.nbytes / 1e9))
    return [statistics.median(mine) for mine in times]


def main() -> None:
    largest = float(sys.argv[1]) if len(sys.argv) > 1 else 8.0
    whole = np.full(int(largest * 1e9) // 4, 1.5, dtype=np.float32)
    threads = ts.thread_count().threads
    counts = (1, threads) if threads > 1 else (1,)

    def summary(part: np.ndarray) -> None:
        found = ts.summary(part, threads=torch.get_num_threads())
        assert (found.count, found.sum) == (part.size, 1.5 * part.size)

    def plain_read(part: np.ndarray) -> None:
        assert torch.sum(torch.from_numpy(part)).item() > 0

    titles = [f"{title}, {n} thread{'s' * (n > 1)}" for n in counts for title in ("summary", "torch.sum", "ratio")]
    print(f"| size | {' | '.join(titles)} |\n|---|{'---|' * len(titles)}")
    for size in SIZES:
        if size > largest * 1e9:
            break
        row = []
        for n in counts:
            torch.set_num_threads(n)
            ours, theirs = milliseconds_per_gigabyte([summary, plain_read], whole, int(size) // 4)
            row += [f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}"]
        print(f"| {size / 1e6:,.0f} MB | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
