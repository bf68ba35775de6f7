"""Rules leave out what is fine: findings are those of rules that measure everything, and nobody else is affected."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from digit_runs import OPTIMIZERS, cnn, mlp, sgd, train  # noqa: E402
from tensorstats.rules import (  # noqa: E402
    DeadUnits,
    ExplodingGradient,
    Judge,
    Measurement,
    OutputView,
    ParameterView,
    StepView,
    UpdateRatio,
    VanishingGradient,
    limits,
)
from tensorstats.rules.base import EVERYWHERE  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


# --- the oracle: a judge whose rules measure everything ---------------------------------------------------------------


@pytest.fixture
def both_judges(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Lets a judge whose rules measure everything look at each step too; holds how many findings both had."""
    found: list[int] = []
    everything: dict[int, Judge] = {}
    judge_alone = Judge.judge

    def judge(self: Judge, view: StepView) -> Any:
        if id(self) not in everything:
            other = everything[id(self)] = Judge(copy.deepcopy(self.rules))
            for rule in other.rules:
                rule.suspects = EVERYWHERE
        other = everything[id(self)]
        other.losses = self.losses
        expected = judge_alone(other, view)
        assert judge_alone(self, view) == expected
        assert self.findings == other.findings
        found.append(len(expected))
        return expected

    monkeypatch.setattr(Judge, "judge", judge)
    yield found
    assert len(found) > 0


def with_weights(model: nn.Module, change: Callable[[Any], Any]) -> nn.Module:
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            change(layer.weight.data)
    return model


BROKEN: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], dict[str, Any]]] = {
    "too fast": (mlp, lambda p: torch.optim.SGD(p, lr=5.0, momentum=0.9), {}),
    "far too fast": (mlp, lambda p: torch.optim.Adam(p, lr=3.0), {}),
    "too slow": (mlp, lambda p: torch.optim.Adam(p, lr=1e-9), {}),
    "stands still": (mlp, lambda p: torch.optim.SGD(p, lr=0.0), {}),
    "deep sigmoid": (lambda: mlp(nn.Sigmoid, depth=9), sgd, {}),
    "saturated tanh": (lambda: with_weights(mlp(nn.Tanh), lambda weight: weight.mul_(60)), sgd, {}),
    "huge weights": (lambda: with_weights(mlp(depth=6), lambda weight: weight.mul_(8)), sgd, {}),
    "weights of zero": (lambda: with_weights(mlp(depth=6), lambda weight: weight.zero_()), sgd, {}),
    "never reset": (mlp, sgd, {"zero_grad": False}),
    "one wild batch": (mlp, sgd, {"spoil": lambda step, batch: batch.mul_(1000.0 if step == 12 else 1.0)}),
    "one bad batch": (mlp, sgd, {"spoil": lambda step, batch: batch[0].fill_(float("nan") if step == 12 else 0.0)}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_run_has_the_findings_of_rules_that_measure_everything(
    name: str, digits: tuple[Any, Any], both_judges: list[int]
) -> None:
    build, optimizer, options = BROKEN[name]
    torch.manual_seed(0)
    model = build()
    train(model, optimizer(model.parameters()), digits, steps=80, **options)
    assert sum(both_judges) > 0


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("build", [mlp, cnn])
def test_a_healthy_run_has_none_either_way(
    build: Callable[[], Any], optimizer: str, digits: tuple[Any, Any], both_judges: list[int]
) -> None:
    torch.manual_seed(0)
    model = build()
    train(model, OPTIMIZERS[optimizer](model.parameters()), digits)
    assert sum(both_judges) == 0


# --- what is left out -------------------------------------------------------------------------------------------------


def weights_at(norms: Iterable[float], step: int) -> StepView:
    """A step of a model whose weights have these gradient norms, values of norm 1 and updates of 0.001."""
    value, update = ts.summary(np.array([[1.0]])), ts.summary(np.array([[0.001]]))
    parameters = [
        ParameterView(
            f"{i}.weight", str(i), 2, "float64", True, True, None, True, value, ts.summary(np.array([[norm]])), update
        )
        for i, norm in enumerate(norms)
    ]
    return StepView(step, step - 1 if step else None, parameters=parameters)


def test_a_healthy_step_is_judged_without_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    judge = Judge()
    for rule in judge.rules:
        monkeypatch.setattr(rule, "verdict", lambda measurement: measured.append(measurement.where) or False)
    for step in range(3):
        measured.clear()
        judge.judge(weights_at([1.0, 1.0], step))
    assert measured == []


def test_a_place_that_was_fine_in_between_begins_anew() -> None:
    judge = Judge([ExplodingGradient(patience=3)])
    for step, norm in enumerate([2000.0, 2000.0, 1.0, 2000.0, 2000.0, 2000.0]):
        assert judge.findings == []
        judge.judge(weights_at([norm], step))
    (finding,) = judge.findings
    assert (finding.where, finding.step) == ("0", 3)


def test_a_copy_outside_a_judge_measures_everything() -> None:
    rule = Judge([Stricter()]).rules[0]
    assert copy.deepcopy(rule).suspects is pickle.loads(pickle.dumps(rule)).suspects is EVERYWHERE


def test_outside_a_judge_rules_measure_everything() -> None:
    view = weights_at([1.0, 1.0], 0)
    rules = (ExplodingGradient(), VanishingGradient(), UpdateRatio())
    keys = [measurement.key for rule in rules for measurement in rule.statistic(view)]
    assert keys == [
        *("0.weight", "1.weight", "ratio"),
        "ratio",
        *("0.weight+high", "0.weight+replaced", "0.weight+low", "1.weight+high", "1.weight+replaced", "1.weight+low"),
    ]


class Stricter(ExplodingGradient):
    """With a verdict that its statistic knows nothing of."""

    def verdict(self, measurement: Measurement) -> bool:
        return measurement.value > 0.5


class Doubled(ExplodingGradient):
    """With another number than the one that was measured."""

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        for measurement in super().statistic(view):
            measurement.value *= 1000.0
            yield measurement


@pytest.mark.parametrize("rules", [[Stricter()], [Doubled(limit=500.0)]])
def test_a_subclass_sees_every_measurement(rules: list[Any]) -> None:
    judge = Judge(rules)
    judge.judge(weights_at([1.0], 0))
    assert [finding.where for finding in judge.findings] == ["0"]


def test_two_rules_of_one_id_share_their_streaks() -> None:
    judge = Judge([ExplodingGradient(limit=10.0, patience=2), ExplodingGradient(limit=1000.0)])
    for step in range(3):
        judge.judge(weights_at([20.0], step))
    assert judge.findings == []  # the second rule, which is content, ends what the first begins


# --- dead units: counted as little as possible ------------------------------------------------------------------------


def dead_share(history: list[tuple[int, int]], units: Any) -> tuple[float, int]:
    """The share of dead units and the values of each, from all that was counted; a share of 0 while it is too early.

    `history` is of the updates before each step, and of the values at the end of the one before.
    """
    values = finite_values(units)
    marks = list(history)
    while len(marks) > limits.DEAD_WINDOW_STEPS and values - marks[1][1] >= limits.DEAD_WINDOW_VALUES:
        del marks[0]
    dead, each = int((units.last_active <= marks[0][0]).sum()), values - marks[0][1]
    early = len(marks) < limits.DEAD_WINDOW_STEPS or (each < limits.DEAD_WINDOW_VALUES and dead < units.units)
    return (0.0 if early else dead / units.units), each


def finite_values(units: Any) -> int:
    """Those of the unit that has the fewest."""
    return int((units.count - units.nonfinite_count).min())


@pytest.mark.parametrize("seed", range(8))
def test_the_share_of_dead_units_is_that_of_every_value_counted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    units = ts.UnitActivity(1)
    judge = Judge([DeadUnits(limit=0.5)])
    history: list[tuple[int, int]] = []
    dies = rng.integers(5, 60, 6)  # the step in which each unit dies
    share, counted = 0.0, 0
    while share <= 0.5:
        assert judge.findings == []
        step = len(history)
        if rng.random() < 0.2:
            units.update(np.zeros((7, 6)))  # by somebody else
        before = units.updates
        history.append((before, counted))
        summary = ts.Summary()
        for _ in range(rng.integers(1, 3)):
            x = rng.random((rng.integers(1, 120), 6)) * (dies > step)
            if rng.random() < 0.1:
                x[0, rng.integers(6)] = np.nan
            summary.update(x)
            units.update(x)
        share, values = dead_share(history, units)
        counted = finite_values(units)
        output = OutputView("0", "0", "ReLU", "relu", summary, units, before, 0.0, False)
        judge.judge(StepView(step, step - 1, [output]))
    (finding,) = judge.findings
    assert finding.value == share
    assert f"{round(share * 6)} of 6 units of '0' (ReLU) were 0 for every one of {values} values" in finding.why


# --- the trend of the losses ------------------------------------------------------------------------------------------


def test_losses_are_added_up_for_a_rule_that_asks() -> None:
    judge = Judge([])
    for step in range(60):
        judge.losses.log(step, 1.0)
    view = StepView(59, 58)
    assert view.learning is None
    judge.judge(view)
    for step in range(60, 120):
        judge.losses.log(step, 0.0)
    assert view.learning is False  # as it was at the step
    assert judge.losses.learning is True
    assert StepView(0, None, learning=True).learning is True
