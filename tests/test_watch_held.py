"""When a step on a device is launched and read, and what errors, copies, threads and late passes do to it."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from held import SIGNALS, batches, build, everything, train  # noqa: E402
from tensorstats.device.arena import Arena, Batch  # noqa: E402


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """When each copy to the host is launched, and when it is read for the first time."""
    happened: list[str] = []
    numbers: dict[int, int] = {}
    kept: list[Batch] = []  # so that no id is used twice
    launch, land = Arena.launch, Batch.land

    def launched(self: Arena) -> None:
        numbers[id(self.batch)] = len(kept)
        happened.append(f"launch {len(kept)}")
        kept.append(self.batch)
        launch(self)

    def landed(self: Batch) -> Any:
        if self._host is None:
            happened.append(f"read {numbers[id(self)]}")
        return land(self)

    monkeypatch.setattr(Arena, "launch", launched)
    monkeypatch.setattr(Batch, "land", landed)
    return happened


# --- when -------------------------------------------------------------------------------------------------------------


def test_a_step_is_launched_at_its_end_and_read_at_the_end_of_the_next(events: list[str]) -> None:
    train(build(), batches(3), after=lambda _, step: events.append(f"end {step}"), backend="torch", signals=SIGNALS)
    assert events == ["launch 0", "end 0", "launch 1", "read 0", "end 1", "launch 2", "read 1", "end 2", "read 2"]


def test_hooks_and_forward_and_backward_passes_read_nothing(events: list[str]) -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, backend="torch", signals=SIGNALS, histograms=True) as monitor:
        for x in batches(3):
            before = list(events)
            loss = model(x).sum()
            monitor.log_loss(loss)
            loss.backward()
            assert events == before
            optimizer.step()
    assert monitor.errors == []


def test_a_step_that_is_not_recorded_reads_the_one_before_it(events: list[str]) -> None:
    train(build(), batches(5), after=lambda _, step: events.append(f"end {step}"), backend="torch", every=3)
    loss = ["launch 2", "read 2"]  # that of the last step, which nobody recorded
    assert events == ["launch 0", "end 0", "read 0", "end 1", "end 2", "launch 1", "end 3", "read 1", "end 4", *loss]


def test_without_an_optimizer_the_call_after_the_next_reads_a_step(events: list[str]) -> None:
    model = build()
    with ts.watch(model, backend="torch", signals=["outputs", "gradients"]) as monitor:
        for step, x in enumerate(batches(3)):
            model(x).sum().backward()
            events.append(f"call {step}")
    assert events == ["call 0", "launch 0", "call 1", "launch 1", "read 0", "call 2", "launch 2", "read 1", "read 2"]
    assert monitor.series("outputs", "0", "count")[0].tolist() == [0, 1, 2]
    assert monitor.series("gradients", "0.weight", "count")[0].tolist() == [0, 1, 2]


READERS: dict[str, Callable[[Any], object]] = {
    "findings": lambda monitor: monitor.findings,
    "errors": lambda monitor: monitor.errors,
    "names": lambda monitor: monitor.names("outputs"),
    "names of losses": lambda monitor: monitor.names("losses"),
    "series": lambda monitor: monitor.series("outputs", "0", "l2"),
    "series of losses": lambda monitor: monitor.series("losses", "loss"),
    "latest": lambda monitor: monitor.latest("outputs", "0"),
    "total": lambda monitor: monitor.total("gradients", "0.weight"),
    "units": lambda monitor: monitor.units("1"),
    "histogram": lambda monitor: monitor.histogram("parameters", "0.weight"),
    "ranks": lambda monitor: monitor.ranks("outputs", "0"),
    "table": lambda monitor: monitor.table(),
    "report": lambda monitor: monitor.report(),
    "collection": lambda monitor: monitor.collection("weights"),
}


@pytest.mark.slow
@pytest.mark.parametrize("reader", list(READERS))
def test_whoever_reads_early_gets_the_step_that_has_just_ended(events: list[str], reader: str) -> None:
    def read(monitor: Any, step: int) -> None:
        READERS[reader](monitor)
        assert events[-1] == f"read {step}"

    monitor = train(build(), batches(3), after=read, backend="torch", histograms=True)
    assert events == ["launch 0", "read 0", "launch 1", "read 1", "launch 2", "read 2"]
    assert monitor.series("outputs", "0", "count")[0].tolist() == [0, 1, 2]


def test_asking_for_the_step_or_the_state_or_printing_reads_nothing(events: list[str]) -> None:
    def ask(monitor: Any, step: int) -> None:
        assert (monitor.step, monitor.state_dict()["step"]) == (step + 1, step + 1)
        assert f"step {step + 1}" in repr(monitor)
        events.append(f"end {step}")

    train(build(), batches(2), after=ask, backend="torch")
    assert events == ["launch 0", "end 0", "launch 1", "read 0", "end 1", "read 1"]


def test_on_the_host_a_step_is_closed_where_it_ends() -> None:
    held = []
    train(build(), batches(3), after=lambda monitor, _: held.append(monitor._loop.steps.closing.held))
    assert held == [None] * 3


def test_calls_in_eval_mode_are_read_at_the_next_one(events: list[str]) -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = ts.watch(model, optimizer, every=1000, start=999, backend="torch", eval_schedule=ts.torch.Schedule(2))
    model.eval()
    for call, x in enumerate(batches(4)):
        model(x)
        events.append(f"call {call}")
    assert events == ["launch 0", "call 0", "call 1", "launch 1", "read 0", "call 2", "call 3"]
    assert monitor.series("outputs", "0", "count", mode="eval")[0].tolist() == [0, 2]
    assert events[-1] == "read 1"
    model(x)
    monitor.close()
    assert monitor.series("outputs", "0", "count", mode="eval")[0].tolist() == [0, 2, 4]
    assert monitor.errors == []


# --- the end and the edges --------------------------------------------------------------------------------------------


def test_an_error_in_the_loop_leaves_the_steps_before_it() -> None:
    def fail(_monitor: Any, step: int) -> None:
        if step == 2:
            raise RuntimeError("enough")

    model = build()
    kept: list[Any] = []
    with pytest.raises(RuntimeError, match="enough"):
        train(
            model, batches(5), after=lambda monitor, step: (kept.append(monitor), fail(monitor, step)), backend="torch"
        )
    assert kept[0].series("outputs", "0", "count")[0].tolist() == [0, 1, 2]
    assert not any(module._forward_hooks for module in model.modules())


def test_closing_in_the_middle_of_a_step_keeps_the_step_before_and_what_there_is_of_this_one() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = ts.watch(model, optimizer, backend="torch", histograms=True)
    first, second = batches(2)
    model(first).sum().backward()
    optimizer.step()
    model(second)
    monitor.close()
    monitor.close()
    assert monitor.series("outputs", "0", "count")[1].tolist() == [16 * 12, 16 * 12]
    assert monitor.names("gradients") != []
    assert all(len(monitor.series("gradients", name, "l2")[0]) == 1 for name in monitor.names("gradients"))
    assert monitor.histogram("outputs", "0").count == 2 * 16 * 12
    assert monitor.units("1").updates == 2
    assert (monitor.step, monitor.skipped) == (2, 1)
    assert monitor.errors == []


def test_an_error_while_a_step_is_closed_spoils_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    land = Batch.land
    calls: list[int] = []

    def broken(self: Batch) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("the device is gone")
        return land(self)

    monkeypatch.setattr(Batch, "land", broken)
    with pytest.warns(ts.torch.WatchWarning, match="the device is gone"):
        monitor = train(build(), batches(3), backend="torch")
    assert monitor.series("outputs", "0", "count")[0].tolist() == [1, 2]
    assert monitor.step == 3


def test_a_copy_of_the_model_made_while_a_step_is_held_is_not_watched() -> None:
    def copied(monitor: Any, _step: int) -> None:
        twin = copy.deepcopy(model)
        twin(torch.ones(100, 6)).sum().backward()
        assert monitor.errors == []

    model = build()
    monitor = train(model, batches(3), after=copied, backend="torch", signals=SIGNALS)
    assert monitor.total("outputs", "0").count == 3 * 16 * 12


def test_another_thread_may_read_all_the_time() -> None:
    done = threading.Event()
    reads: list[int] = []

    def read(monitor: Any) -> None:
        while not done.is_set():
            monitor.report()
            reads.append(1)
            time.sleep(0.002)  # a reader that never rests would hold the interpreter lock most of the time

    def start(monitor: Any, step: int) -> None:
        if step == 0:
            reader = threading.Thread(target=read, args=(monitor,))
            threads.append(reader)
            reader.start()
        elif step == 9:
            done.set()
            threads[0].join()

    threads: list[threading.Thread] = []
    monitor = train(build(), batches(10), after=start, backend="torch", signals=SIGNALS)
    assert reads
    assert everything(monitor) == everything(train(build(), batches(10), backend="core", signals=SIGNALS))


def test_a_backward_pass_after_its_step_belongs_to_none() -> None:
    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(torch.zeros(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.by

    model = nn.Sequential(Shift(), nn.Tanh())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, backend="torch", signals=["output_gradients"], every=2) as monitor:
        for x in batches(3):
            loss = model(x).sum()
            loss.backward(retain_graph=True)
            optimizer.step()
            loss.backward()
    assert monitor.series("output_gradients", "0", "count")[1].tolist() == [16 * 6, 16 * 6]
    assert monitor.errors == []
