"""The peer an expert writes by hand: one fused parallel loop in numba. Knows nothing of processes and reports."""

# ruff: noqa: ARG001 - both accessors have one signature

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from race.adapter import Peer, require
from race.data import BINS, HIGH, LOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from race.data import Case

BLOCK = 1 << 16


def fused(value: Any) -> Any:
    """The loop, given the jitted function that reads value number `i`; numba inlines it."""
    import numba

    @numba.njit(parallel=True, nogil=True)
    def loop(x: Any, table: Any, out: Any) -> None:
        for block in numba.prange(out.shape[0]):
            low, high, total, magnitudes, squares = np.inf, -np.inf, 0.0, 0.0, 0.0
            nan, inf, zero, negative = 0, 0, 0, 0
            for i in range(block * BLOCK, min(x.size, (block + 1) * BLOCK)):
                number = np.float64(value(x, table, i))
                if number != number:
                    nan += 1
                elif abs(number) == np.inf:
                    inf += 1
                else:
                    low, high = min(low, number), max(high, number)
                    total += number
                    magnitudes += abs(number)
                    squares += number * number
                    zero += number == 0
                    negative += number < 0
            out[block, 0], out[block, 1], out[block, 2] = low, high, total
            out[block, 3], out[block, 4] = magnitudes, squares
            out[block, 5], out[block, 6], out[block, 7], out[block, 8] = nan, inf, zero, negative

    return loop


@functools.cache
def kernels() -> tuple[Any, Any]:
    """The loop over values, and the loop over codes that looks each value up."""
    import numba

    @numba.njit
    def direct(x: Any, table: Any, i: int) -> Any:
        return x[i]

    @numba.njit
    def looked_up(x: Any, table: Any, i: int) -> Any:
        return table[x[i]]

    return fused(direct), fused(looked_up)


class Numba(Peer):
    name, package = "numba fused loop", "numba"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        direct, looked_up = kernels()
        out = np.empty((-(-array.size // BLOCK), 9))
        nothing = np.empty(0, np.float32)
        if case.dtype in ("float32", "float64", "int8"):
            return lambda: self.run(direct, array, nothing, out)
        # numba has no bf16, f16 or fp8 on the CPU: a table of all values is the fast way.
        codes = array.view(f"u{array.dtype.itemsize}")
        every = np.arange(2 ** (8 * array.dtype.itemsize), dtype=codes.dtype)
        table = every.view(array.dtype).astype(np.float32)
        return lambda: self.run(looked_up, codes, table, out)

    def run(self, kernel: Any, x: np.ndarray, table: np.ndarray, out: np.ndarray) -> Any:
        kernel(x, table, out)
        return out[:, 0].min(), out[:, 1].max(), out[:, 2:].sum(axis=0), x.size

    def answer(self, result: Any) -> dict[str, Any]:
        low, high, (total, l1, squares, nan, inf, zero, negative), size = result
        count = size - nan - inf
        mean = total / count
        return {"min": low, "max": high, "sum": total, "l1": l1, "mean": mean, "var": squares / count - mean**2} | {
            "l2": squares**0.5,
            "nan_count": int(nan),
            "zero_count": int(zero),
            "negative_count": int(negative),
        }


@functools.cache
def binning() -> Any:
    """The loop that most people would write: no look at the edges, so values beside one may be a bin off."""
    import numba

    @numba.njit(parallel=True, nogil=True)
    def loop(x: Any, counts: Any) -> None:
        scale = BINS / (HIGH - LOW)
        for part in numba.prange(counts.shape[0]):
            size = -(-x.size // counts.shape[0])
            for i in range(part * size, min(x.size, (part + 1) * size)):
                number = np.float64(x[i])
                if LOW <= number <= HIGH:
                    counts[part, min(int((number - LOW) * scale), BINS - 1)] += 1

    return loop


class NumbaHistogram(Peer):
    name, package, work = "numba histogram", "numba", "histogram"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        import numba

        require(case, "float32", "float64", "int8")
        loop, threads = binning(), numba.get_num_threads()

        def run() -> Any:
            # A row of its own for each thread, further apart than a line of the cache.
            counts = np.zeros((threads, BINS + 16), np.int64)
            loop(array, counts)
            return counts.sum(axis=0)

        return run

    def answer(self, result: Any) -> dict[str, Any]:
        return {"values": result[:BINS].tolist()}
