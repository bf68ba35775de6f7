"""Steps on a device are read one step later: when they are launched, read and told, and that nothing gets mixed up."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.rules import Rule, StepView  # noqa: E402
from tensorstats.torch import losses  # noqa: E402
from tensorstats.torch.device_arena import Arena, Batch  # noqa: E402
from tensorstats.torch.states import Statistics  # noqa: E402

SIGNALS = (
    "inputs",
    "outputs",
    "output_gradients",
    "parameters",
    "gradients",
    "updates",
    "raw_gradients",
    "optimizer_state",
)


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2), nn.Sigmoid())


def batches(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(16, 6, generator=generator) for _ in range(count)]


def train(
    model: nn.Module,
    inputs: list[torch.Tensor],
    *,
    after: Callable[[Any, int], object] = lambda _monitor, _step: None,
    **options: Any,
) -> Any:
    """A watched run; `after` is called with monitor and number after every step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with ts.watch(model, optimizer, **options) as monitor:
        for step, x in enumerate(inputs):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            monitor.log_loss(loss)
            loss.backward()
            optimizer.step()
            after(monitor, step)
    return monitor


def everything(monitor: Any) -> dict[str, Any]:
    """All series and totals, to compare runs."""
    found: dict[str, Any] = {"errors": monitor.errors, "findings": monitor.findings}
    for signal in SIGNALS:
        for name in monitor.names(signal):
            steps, counts = monitor.series(signal, name, "count")
            found[f"{signal} {name}"] = (steps.tolist(), counts.tolist(), monitor.total(signal, name).max)
            found[f"{signal} {name} zeros"] = monitor.series(signal, name, "zero_fraction")[1].tolist()
            for field in ("dead_fraction", "saturated_fraction"):
                found[f"{signal} {name} {field}"] = [str(x) for x in monitor.series(signal, name, field)[1]]
    for name in monitor.names("losses"):
        found[f"losses {name}"] = [array.tolist() for array in monitor.series("losses", name)]
    for name in monitor.names("learning_rates"):
        found[f"rates {name}"] = [array.tolist() for array in monitor.series("learning_rates", name)]
    for name in monitor.names("outputs"):
        if name in monitor._logs["train"]["outputs"].units:
            units = monitor.units(name)
            found[f"units {name}"] = (units.updates, units.active_count.tolist(), units.last_active.tolist())
    return found


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
    train(build(), batches(3), after=lambda monitor, _: held.append(monitor._closing.held))
    assert held == [None] * 3


# --- what -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"every": 2}, {"steps": [0, 1, 4]}, {"units": "all"}, {"histograms": True}])
def test_both_paths_record_the_same(options: dict[str, Any]) -> None:
    core, other = (
        everything(train(build(), batches(6), backend=backend, signals=SIGNALS, **options))
        for backend in ("core", "torch")
    )
    assert core == other


def test_reading_in_between_changes_nothing() -> None:
    def read(monitor: Any, step: int) -> None:
        if step % 2:
            monitor.report()

    quiet, read_often = (
        everything(train(build(), batches(6), after=after, backend="torch", signals=SIGNALS))
        for after in (lambda _monitor, _step: None, read)
    )
    assert quiet == read_often


def test_a_model_partly_on_a_device_keeps_its_steps_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    core = everything(train(build(), batches(6), backend="core", signals=SIGNALS, units="all", histograms=True))
    # Everything with 12 units plays the part on a device.
    monkeypatch.setattr(Statistics, "uses_core", lambda _self, x: 12 not in x.shape)
    mixed = everything(train(build(), batches(6), signals=SIGNALS, units="all", histograms=True))
    assert core == mixed


def test_several_optimizers_and_micro_batches() -> None:
    def recorded(backend: Any) -> dict[str, Any]:
        model = build()
        optimizers = [torch.optim.SGD(model[place].parameters(), lr=0.1) for place in (0, 2)]
        with ts.watch(model, optimizers, backend=backend, signals=SIGNALS) as monitor:
            for step, x in enumerate(batches(5)):
                for part in x.chunk(2):
                    model(part).sum().backward()
                for optimizer in optimizers if step != 2 else optimizers[:1]:
                    optimizer.step()
                    optimizer.zero_grad()
        return everything(monitor)

    assert recorded("core") == recorded("torch")


def test_tensors_whose_units_change_in_number_have_none() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = nn.Linear(3, 3)
            self.softmax = nn.Softmax(-1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.softmax(self.scores(x) @ x.transpose(-1, -2))

    def recorded(backend: Any, lengths: list[list[int]]) -> dict[str, Any]:
        torch.manual_seed(0)
        model = Attention()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with ts.watch(model, optimizer, backend=backend, units="all") as monitor:
            for step in lengths:
                for length in step:
                    model(torch.ones(2, length, 3)).sum().backward()
                optimizer.step()
        found = everything(monitor)
        assert found["errors"] == []
        return {name: value for name, value in found.items() if name.startswith(("units", "outputs"))}

    for lengths in ([[4], [5], [4]], [[4, 5], [4]]):
        other = recorded("torch", lengths)
        assert "units softmax" not in other
        assert {name: other[name] for name in other if "fraction" not in name} == {
            name: value for name, value in recorded("core", lengths).items() if "fraction" not in name
        }


def test_the_rules_see_the_step_as_it_was() -> None:
    class Notes(Rule):
        id = "notes"
        seen: list[tuple[int, int | None, bool, float | None, bool | None]] = []  # noqa: RUF012

        def statistic(self, view: StepView) -> Any:
            weight = view.parameters[0]
            self.seen.append(
                (view.step, view.previous_step, weight.requires_grad, weight.learning_rate, view.gradients_kept)
            )
            return ()

    def recorded(backend: Any) -> list[Any]:
        Notes.seen = []
        model = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        with ts.watch(model, optimizer, backend=backend, rules=[Notes()]):
            for step, x in enumerate(batches(4)):
                if step != 2:
                    optimizer.zero_grad()
                model(x).sum().backward()
                optimizer.step()
                optimizer.param_groups[0]["lr"] /= 2
                model[0].requires_grad_(step % 2 == 1)
        return Notes.seen

    core = recorded("core")
    assert recorded("torch") == core
    assert [rate for _, _, _, rate, _ in core] == [1.0, 0.5, 0.25, 0.125]
    assert [required for _, _, required, _, _ in core] == [True, False, True, False]


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


def test_a_call_in_eval_mode_in_the_middle_of_a_step_spoils_neither() -> None:
    def recorded(backend: Any) -> Any:
        model = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = ts.torch.Schedule(1)
        with ts.watch(
            model, optimizer, backend=backend, signals=SIGNALS, histograms=True, eval_schedule=schedule
        ) as monitor:
            for x in batches(4):
                optimizer.zero_grad()
                loss = model(x).sum()
                with torch.no_grad():
                    model.eval()(x[:3])
                model.train()
                loss.backward()
                optimizer.step()
        inside = [monitor.series("outputs", "2", field, mode="eval")[1].tolist() for field in ("count", "max")]
        return everything(monitor), inside, monitor.histogram("outputs", "0"), monitor.units("1", mode="eval").updates

    assert recorded("core") == recorded("torch")


# --- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [float, torch.tensor], ids=["number", "tensor"])
def test_a_loss_is_judged_with_its_own_step(make: Any) -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, backend="torch") as monitor:
        for step, x in enumerate(batches(4)):
            optimizer.zero_grad()
            model(x).sum().backward()
            monitor.log_loss(make(math.nan if step == 2 else step / 2))
            optimizer.step()
    (finding,) = monitor.findings
    assert (finding.rule, finding.where, finding.step) == ("non-finite", "loss", 2)
    steps, values = monitor.series("losses", "loss")
    assert steps.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(values, [0.0, 0.5, math.nan, 1.5])


def test_losses_keep_their_order_and_none_is_lost_after_the_last_recorded_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monkeypatch.setattr(losses, "_MANY", 4)
    with ts.watch(model, optimizer, backend="torch", stop=1) as monitor:
        for step in range(11):
            monitor.log_loss(torch.tensor(float(step), dtype=torch.bfloat16))
            monitor.log_loss(step + 0.5)
            monitor.log_loss(torch.tensor([-step]), name="other")
            model(torch.ones(2, 6)).sum().backward()
            optimizer.step()
            assert len(monitor._losses._entries) <= 6
    assert monitor.series("losses", "loss")[0].tolist() == [step for step in range(11) for _ in range(2)]
    assert monitor.series("losses", "loss")[1].tolist() == [step + half for step in range(11) for half in (0.0, 0.5)]
    assert monitor.series("losses", "other")[1].tolist() == [-step for step in range(11)]
    assert monitor.errors == []


def test_a_loss_of_several_numbers_is_refused_without_waiting() -> None:
    with ts.watch(build(), backend="torch") as monitor, pytest.warns(ts.torch.WatchWarning):
        monitor.log_loss(torch.ones(2))
    assert monitor.errors == ["log_loss: ValueError: a loss must be one number, got a tensor of shape [2]"]


# --- findings ---------------------------------------------------------------------------------------------------------


def with_bad_input(step: int, count: int = 5) -> list[torch.Tensor]:
    inputs = batches(count)
    inputs[step][4, 2] = math.inf
    return inputs


@pytest.mark.parametrize(("backend", "told_in"), [("core", [3]), ("torch", [4])])
def test_findings_name_their_step_and_are_told_when_it_is_closed(backend: Any, told_in: list[int]) -> None:
    told: list[Any] = []
    when: list[int] = []
    monitor = train(
        build(),
        with_bad_input(2),
        after=lambda monitor, _: when.append(monitor.step) if len(told) and not when else None,
        backend=backend,
        on_finding=told.append,
    )
    assert when == told_in
    assert told == monitor.findings
    (finding,) = told
    assert (finding.rule, finding.where, finding.step) == ("non-finite", "input", 2)


def test_reading_tells_nobody_and_loses_nothing() -> None:
    told: list[Any] = []

    def read(monitor: Any, step: int) -> None:
        if step == 2:
            assert [finding.step for finding in monitor.findings] == [2]
            assert told == []

    train(build(), with_bad_input(2), after=read, backend="torch", on_finding=told.append)
    assert [finding.step for finding in told] == [2]


def test_what_reading_found_is_told_at_the_next_end_recorded_or_not() -> None:
    told: list[Any] = []
    counts: list[int] = []

    def read(monitor: Any, step: int) -> None:
        counts.append(len(told))
        if step == 0:
            assert len(monitor.findings) == 1

    train(build(), with_bad_input(0, 3), after=read, backend="torch", every=10, on_finding=told.append)
    assert counts == [0, 1, 1]


def test_a_callable_may_read_the_monitor() -> None:
    reports: list[str] = []
    monitor: Any = None

    def told(_finding: Any) -> None:
        reports.append(monitor.report())

    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = ts.watch(model, optimizer, backend="torch", on_finding=told)
    for x in with_bad_input(1, 3):
        model(x).sum().backward()
        optimizer.step()
    monitor.close()
    assert len(reports) == 1
    assert "non-finite" in reports[0]
    assert monitor.errors == []


def test_raise_comes_out_of_the_next_step_before_it_changes_a_weight() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs = with_bad_input(1)
    with ts.watch(model, optimizer, backend="torch", on_finding="raise") as monitor:
        for x in inputs[:2]:
            model(x).sum().backward()
            optimizer.step()
        model(inputs[2]).sum().backward()
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(ts.torch.FindingError, match="since step 1") as raised:
            optimizer.step()
        assert str(before) == str(model.state_dict())
    assert [finding.where for finding in raised.value.findings] == ["input"]
    assert monitor.errors == []


def test_what_the_last_step_found_is_raised_by_close_unless_the_loop_has_raised() -> None:
    with pytest.raises(ts.torch.FindingError, match="non-finite at input"):
        train(build(), with_bad_input(1, 2), backend="torch", on_finding="raise")

    def fail(_monitor: Any, step: int) -> None:
        if step == 1:
            raise KeyError("the user's own")

    with pytest.raises(KeyError, match="the user's own"):
        train(build(), with_bad_input(1, 2), after=fail, backend="torch", on_finding="raise")


def test_warnings_come_one_step_later() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, backend="torch", on_finding="warn"):
        for step, x in enumerate(with_bad_input(0, 2)):
            model(x).sum().backward()
            if step == 0:
                optimizer.step()
            else:
                with pytest.warns(ts.torch.FindingWarning, match="since step 0"):
                    optimizer.step()


def test_the_debugger_opens_one_step_later(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    opened: list[int] = []
    ended: list[int] = []
    monkeypatch.setattr("sys.breakpointhook", lambda: opened.append(len(ended)))
    train(
        build(),
        with_bad_input(1, 4),
        after=lambda _, step: ended.append(step),
        backend="torch",
        on_finding="breakpoint",
    )
    assert opened == [2]
    assert "since step 1" in capsys.readouterr().out


def test_a_bad_gradient_is_placed_by_the_numbers_of_its_own_step() -> None:
    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(_context: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(_context: Any, gradient: torch.Tensor) -> torch.Tensor:
            gradient = gradient.clone()
            gradient[:, 5] = math.inf
            return gradient

    def found(backend: Any) -> Any:
        model = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        with ts.watch(model, optimizer, backend=backend) as monitor:
            for step, x in enumerate(batches(3)):
                optimizer.zero_grad()
                hidden = model[0](x)
                hidden = Bad.apply(hidden) if step == 1 else hidden
                model[3](model[2](model[1](hidden))).sum().backward()
                with torch.no_grad():
                    model[0].weight.grad.nan_to_num_(posinf=math.inf, neginf=math.inf)
                optimizer.step()
        (finding,) = monitor.findings
        return finding

    core, other = found("core"), found("torch")
    assert other == core
    assert "[5]" in other.why or "[5, 0]" in other.why


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


def test_closing_in_the_middle_of_a_step_keeps_the_step_before() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = ts.watch(model, optimizer, backend="torch", histograms=True)
    first, second = batches(2)
    model(first).sum().backward()
    optimizer.step()
    model(second)
    monitor.close()
    monitor.close()
    assert monitor.series("outputs", "0", "count")[1].tolist() == [16 * 12]
    assert monitor.histogram("outputs", "0").count == 16 * 12
    assert monitor.units("1").updates == 1
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
