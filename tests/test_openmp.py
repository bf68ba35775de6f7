"""Counting on the threads of torch's OpenMP runtime: the same bits, and nothing left behind in children of a fork."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensorstats as ts
from samples import mixed
from tensorstats import _core
from tensorstats._openmp import parallel_address, share_torch_threads

torch = pytest.importorskip("torch")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(
    parallel_address() is None, reason="this torch does not compute with GNU's OpenMP calls"
)

SIZE = 2**20 + 77


@pytest.fixture(autouse=True)
def openmp() -> Iterator[None]:
    """Every test begins and ends on torch's threads, as after the first torch tensor."""
    share_torch_threads()
    yield
    share_torch_threads()


def everything(x: np.ndarray, threads: int) -> list[bytes]:
    """What is counted of an array by every function that takes `threads`."""
    mask = np.arange(len(x)) % 3 > 0
    snapshots = _core.Snapshots(1)
    snapshots.take([x], [0])
    values, updates = snapshots.count([x[::-1].copy()], [0], threads=threads)
    summary, histogram = ts.summary_and_histogram(x, ts.axis.LogLinear(), threads=threads)
    table = ts.summaries([x, x[: SIZE // 2], x[:5]], threads=threads)
    return [
        ts.summary(x, moments=4, threads=threads).to_bytes(),
        ts.summary(x, formats="float8_e4m3fn", threads=threads).to_bytes(),
        ts.summary(x, where=mask, threads=threads).to_bytes(),
        ts.histogram(x, ts.axis.Regular(50, -3, 3), threads=threads).to_bytes(),
        ts.histogram(x, ts.axis.Linear(64), threads=threads).to_bytes(),
        summary.to_bytes(),
        histogram.to_bytes(),
        ts.unit_activity(x[: SIZE // 64 * 64].reshape(-1, 64), 1, threads=threads).to_bytes(),
        values[0].to_bytes(),
        updates[0].to_bytes(),
        *(table[name].to_bytes() for name in table),
        np.asarray(ts.quantile(x, [0.01, 0.5, 0.99], threads=threads)).tobytes(),
    ]


@pytest.mark.skipif(
    not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"),
    reason="this torch is met through Python: its threads are shared from the first watcher on",
)
def test_the_first_count_after_the_import_of_torch_finds_its_threads():
    code = (
        "import numpy as np, tensorstats as ts; from tensorstats import _core\n"
        "ts.summary(np.zeros(9)); assert not _core.uses_openmp()\n"
        "import torch; ts.summary(np.zeros(9)); assert _core.uses_openmp()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int16"])
def test_no_bit_depends_on_whose_threads_count(dtype: str):
    x = mixed(dtype, SIZE)
    _core.use_openmp(None)
    assert not _core.uses_openmp()
    expected = everything(x, threads=1)
    assert everything(x, threads=3) == expected
    share_torch_threads()
    assert _core.uses_openmp()
    for threads in range(1, 8):
        assert everything(x, threads=threads) == expected


def test_torch_may_compute_in_between_and_in_other_threads():
    x = torch.from_numpy(mixed("float32", SIZE))
    expected = ts.summary(x, threads=1).to_bytes()
    wrong: list[bytes] = []

    def work() -> None:
        a = torch.rand(256, 256)
        for threads in (2, 3, 5, 2, 7):
            a = (a @ a).clamp(0, 1)
            found = ts.summary(x, threads=threads).to_bytes()
            if found != expected:
                wrong.append(found)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert not any(worker.is_alive() for worker in workers), "deadlock"
    assert wrong == []


def child(queue: Any, x: np.ndarray) -> None:
    queue.put((_core.uses_openmp(), everything(x, threads=3)))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_threads_of_its_own():
    x = mixed("float32", SIZE)
    expected = everything(x, threads=2)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue, x))
    process.start()
    used, found = queue.get(timeout=60)
    process.join(timeout=60)
    assert (used, found, process.exitcode) == (False, expected, 0)
    assert _core.uses_openmp(), "the parent keeps them"


def test_subnormals_count_on_threads_that_flush_them():
    x = torch.full((SIZE,), 1e-40)
    done = torch.set_flush_denormal(True)
    try:
        torch.rand(2**20).exp()  # torch's threads take over the mode
        summary = ts.summary(x, threads=2)
        histogram = ts.histogram(x, ts.axis.LogLinear(), threads=2)
    finally:
        torch.set_flush_denormal(False)
    assert done
    assert summary.subnormal_count == SIZE
    assert summary.zero_count == 0
    assert (histogram.count, histogram.zero_count) == (SIZE, 0)


def interrupted(count: Callable[[], object]) -> bool:
    """Whether Ctrl-C, sent while `count` is repeated, ends it with KeyboardInterrupt."""
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(10_000):
            count()
    except KeyboardInterrupt:
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    return False


def test_ctrl_c_ends_a_count():
    x = np.broadcast_to(np.float32(1.5), (2**33,))  # 32 GiB to read, four bytes to hold
    assert interrupted(lambda: ts.summary(x, threads=2))
    assert ts.summary(x[:SIZE], threads=2).sum == 1.5 * SIZE


def test_address_zero_is_refused():
    with pytest.raises(ValueError, match="GOMP_parallel must not be 0"):
        _core.use_openmp(0)
    assert _core.uses_openmp()


def test_without_torch_there_is_no_address(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert parallel_address() is None


def test_a_torch_without_the_function_gives_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    class Other:
        __file__ = str(tmp_path / "__init__.py")

    monkeypatch.setitem(sys.modules, "torch", Other)
    assert parallel_address() is None
