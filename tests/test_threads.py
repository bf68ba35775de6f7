"""States under many Python threads: nothing is lost, nothing deadlocks, and other threads run meanwhile."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tensorstats as ts
from expect import field_bits
from samples import mixed
from tensorstats import _core

WORKERS = 8


def run_all(*jobs: object) -> None:
    """Starts all jobs at once and raises the first error. A deadlock ends in a failure, not in a hang."""
    barrier = threading.Barrier(len(jobs))
    errors: list[BaseException] = []

    def start(job: object) -> None:
        try:
            barrier.wait(timeout=20)
            job()  # type: ignore[operator]
        except BaseException as error:  # handed to the main thread below
            errors.append(error)

    threads = [threading.Thread(target=start, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads), "deadlock"
    if errors:
        raise errors[0]


@pytest.mark.parametrize("size", [100, 200_000], ids=["small", "large"])
def test_many_threads_update_one_state(size: int):
    state = ts.Summary(moments=4)
    arrays = [mixed("float32", size, seed) for seed in range(WORKERS)]
    repeats = 50 if size < 1000 else 5

    def update(array: np.ndarray) -> None:
        for _ in range(repeats):
            state.update(array)

    run_all(*[lambda array=array: update(array) for array in arrays])
    expected = ts.Summary(moments=4)
    for array in arrays:
        for _ in range(repeats):
            expected.update(array)
    found = field_bits(state)
    for name, value in field_bits(expected).items():
        if name.endswith("count") or name in ("min", "max", "absmax", "absmin"):
            assert found[name] == value, name
    assert state.mean == pytest.approx(expected.mean, rel=1e-9)
    assert state.std() == pytest.approx(expected.std(), rel=1e-9)


def test_many_threads_read_one_array():
    array = mixed("float32", 300_001)
    expected = ts.summary(array, moments=4).to_bytes()

    def summarise(threads: int) -> bytes:
        return ts.summary(array, moments=4, threads=threads).to_bytes()

    with ThreadPoolExecutor(WORKERS) as pool:
        assert set(pool.map(summarise, [1, 2, 3, 4] * 8)) == {expected}


def test_merges_in_opposite_directions_do_not_deadlock():
    a, b = ts.summary(np.zeros(10)), ts.summary(np.zeros(10))

    def merge(left: ts.Summary, right: ts.Summary) -> None:
        for _ in range(30):
            left + right
            right == left  # noqa: B015, the comparison takes both locks

    def merge_in_place(left: ts.Summary, right: ts.Summary) -> None:
        for _ in range(30):
            left.merge(right)

    run_all(lambda: merge(a, b), lambda: merge(b, a), lambda: merge(a, a))
    run_all(lambda: merge_in_place(a, b), lambda: merge_in_place(b, a))
    assert a.finite_count == a.zero_count


def test_merges_of_tables_in_opposite_directions_do_not_deadlock():
    a, b = (_core.summaries([np.zeros(10), np.zeros(3)]) for _ in range(2))

    def merge(left: _core.Summaries, right: _core.Summaries) -> None:
        for _ in range(20):
            left.merge(right)

    run_all(lambda: merge(a, b), lambda: merge(b, a), lambda: merge(a, a))
    assert [row.finite_count for row in (a[0], b[1])] == [row.zero_count for row in (a[0], b[1])]
    assert a[0].count % 10 == b[1].count % 3 == 0


def test_reading_while_updating_sees_whole_updates():
    state = ts.Summary()
    array = np.ones(1000)
    stop = threading.Event()
    torn = []

    def update() -> None:
        for _ in range(300):
            state.update(array)
        stop.set()

    def read() -> None:
        while not stop.is_set():
            seen = state.copy()
            if seen.count % 1000 or seen.positive_count != seen.count or (seen.count and seen.sum != seen.count):
                torn.append((seen.count, seen.sum))
            state.to_bytes()
            state.to_dict()
            repr(state)

    run_all(update, read, read)
    assert torn == []
    assert state.count == 300_000


def test_reset_and_copy_race_with_updates():
    state = ts.Summary()
    array = np.ones(100)

    def update() -> None:
        for _ in range(300):
            state.update(array)

    def reset() -> None:
        for _ in range(300):
            state.reset()

    def duplicate() -> None:
        for _ in range(300):
            assert state.copy().count % 100 == 0

    run_all(update, update, reset, duplicate)


@pytest.mark.parametrize("kind", ["histogram", "unit-activity"])
def test_the_other_states_lose_nothing_either(kind: str):
    state = ts.Histogram(ts.axis.LogLinear(3)) if kind == "histogram" else ts.UnitActivity(1)
    array = mixed("float32", 8000).reshape(1000, 8)

    def update() -> None:
        for _ in range(20):
            state.update(array)

    run_all(*[update] * WORKERS)
    total = state.count if kind == "histogram" else int(state.count.sum())
    assert total == WORKERS * 20 * array.size


def test_an_exporter_may_use_the_same_state():
    """The lock is held for the merge only, never while the tensor is asked for its memory."""
    state = ts.Summary()

    class Exporter:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __dlpack__(self, **options: object) -> object:
            state.update(np.ones(5))
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    run_all(lambda: state.update(Exporter(np.ones(3))))
    assert state.count == 8


@pytest.mark.alone
def test_other_threads_run_during_a_long_call():
    """The interpreter lock is released: another thread makes progress in the middle of one call."""
    view = np.broadcast_to(np.random.default_rng(0).standard_normal(4096), (100_000, 4096))
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        start = time.perf_counter()
        ts.summary(view, threads=1)
        end = time.perf_counter()
    finally:
        stop.set()
        ticker.join()
    middle = [moment for moment in ticks if start + (end - start) / 4 < moment < end - (end - start) / 4]
    assert end - start > 0.02, "too short a call to tell"
    assert len(middle) >= 5


@pytest.mark.parametrize("threads", [1, 2, 7, 64, 1000])
def test_more_threads_than_work_or_cores(threads: int):
    array = mixed("float32", 1001)
    assert ts.summary(array, threads=threads).to_bytes() == ts.summary(array, threads=1).to_bytes()
    array = mixed("float32", 2**19)
    assert ts.summary(array, threads=threads).to_bytes() == ts.summary(array, threads=1).to_bytes()
