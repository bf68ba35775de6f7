"""Steps that are read one step later record what steps of the host do: numbers, units, losses, what rules see."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from held import SIGNALS, batches, build, everything, train  # noqa: E402
from tensorstats.device.backend import Statistics  # noqa: E402
from tensorstats.rules import Rule, StepView  # noqa: E402
from tensorstats.torch.record import losses  # noqa: E402


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
            assert len(monitor._loop.steps.losses._entries) <= 6
    assert monitor.series("losses", "loss")[0].tolist() == [step for step in range(11) for _ in range(2)]
    assert monitor.series("losses", "loss")[1].tolist() == [step + half for step in range(11) for half in (0.0, 0.5)]
    assert monitor.series("losses", "other")[1].tolist() == [-step for step in range(11)]
    assert monitor.errors == []


def test_a_loss_of_several_numbers_is_refused_without_waiting() -> None:
    with ts.watch(build(), backend="torch") as monitor, pytest.warns(ts.torch.WatchWarning):
        monitor.log_loss(torch.ones(2))
    assert monitor.errors == ["log_loss: ValueError: a loss must be one number, got a tensor of shape [2]"]
