"""Forked processes: a parent that has used its threads, and children that use theirs."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import threading
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensorstats as ts
from samples import mixed

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork"),
    # From 3.12 on, Python warns of every fork in a process with threads; forking is what is tested here.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning"),
]

SIZE = 2**20 + 11


@cache
def array() -> np.ndarray:
    return mixed("float32", SIZE)


def work(queue: Any, threads: int) -> None:
    queue.put(ts.summary(array(), moments=4, threads=threads).to_bytes())


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_forked_children_compute(threads: int):
    expected = ts.summary(array(), moments=4, threads=4).to_bytes()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=work, args=(queue, threads)) for _ in range(3)]
    for child in children:
        child.start()
    found = [queue.get(timeout=60) for _ in children]
    for child in children:
        child.join(timeout=60)
    assert set(found) == {expected}
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert ts.summary(array(), moments=4, threads=4).to_bytes() == expected


def nested(queue: Any) -> None:
    work(queue, 2)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=work, args=(queue, 3))
    child.start()
    child.join(timeout=60)


def test_a_child_of_a_child():
    expected = ts.summary(array(), moments=4, threads=2).to_bytes()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=nested, args=(queue,))
    child.start()
    assert [queue.get(timeout=60) for _ in range(2)] == [expected] * 2
    child.join(timeout=60)
    assert child.exitcode == 0


def test_fork_while_another_thread_computes():
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            ts.summary(array(), threads=3)

    background = threading.Thread(target=busy)
    background.start()
    try:
        expected = ts.summary(array(), moments=4).to_bytes()
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        for _ in range(5):
            child = context.Process(target=work, args=(queue, 2))
            child.start()
            assert queue.get(timeout=60) == expected
            child.join(timeout=60)
            assert child.exitcode == 0
    finally:
        stop.set()
        background.join()


def test_a_state_of_the_parent_goes_on_in_the_child_and_back():
    state = ts.summary(np.ones(100))
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def extend() -> None:
        there.send(state.update(np.full(50, 3.0), threads=2))

    child = context.Process(target=extend)
    child.start()
    received = here.recv()
    child.join(timeout=60)
    assert (received.count, received.sum) == (150, 250.0)
    assert (state.count, state.sum) == (100, 100.0)


def spawned(packed: bytes) -> bytes:
    return pickle.dumps(pickle.loads(packed).update(np.ones(5)))


def test_states_cross_to_a_pool():
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        results = pool.map(spawned, [pickle.dumps(ts.summary(np.zeros(size))) for size in (1, 2, 3)])
    assert [pickle.loads(result).count for result in results] == [6, 7, 8]


# --- the DataLoader of torch ------------------------------------------------------------------------------------------


class Images:
    """A dataset that uses tensorstats on every item, in whatever process it is asked."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Any, bytes]:
        import torch

        image = torch.full((3, 200, 200), float(index))
        assert ts.summary(image, threads=2).mean == index
        return image, ts.summary(image, threads=2).to_bytes()


def collate(items: list[tuple[Any, bytes]]) -> tuple[Any, list[bytes]]:
    import torch

    return torch.stack([image for image, _ in items]), [packed for _, packed in items]


@pytest.fixture
def loader_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # torch advises against more workers than cores.
        warnings.filterwarnings("ignore", message=".*worker processes.*")
        yield


@pytest.mark.usefixtures("loader_warnings")
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_data_loader_with_two_workers(context: str):
    data = pytest.importorskip("torch.utils.data", reason="the loader is torch's")
    ts.summary(array(), threads=4)
    loader = data.DataLoader(
        Images(), batch_size=4, num_workers=2, collate_fn=collate, multiprocessing_context=context, timeout=60
    )
    total, from_workers = ts.Summary(), ts.Summary()
    for batch, packed in loader:
        total.update(batch, threads=3)
        for item in packed:
            from_workers.merge(ts.Summary.from_bytes(item))
    assert total.count == from_workers.count == 12 * 3 * 200 * 200
    assert (total.min, total.max, total.sum) == (from_workers.min, from_workers.max, from_workers.sum)
    assert total.std() == pytest.approx(from_workers.std(), rel=1e-12)
