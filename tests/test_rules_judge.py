"""From measurements to findings: told once, in words, with limits and rules of the user's own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from digit_runs import mlp, sgd, train  # noqa: E402
from tensorstats.rules import Finding, Judge, Measurement, Rule, StepView, default_rules  # noqa: E402
from tensorstats.rules.base import group_by_module  # noqa: E402
from tensorstats.rules.judge import LossTrend  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def test_findings_are_told_once_with_the_first_step_and_handed_to_the_callback(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    heard: list[Finding] = []
    monitor = train(model, sgd(model[2:].parameters()), digits, every=3, start=6, on_finding=heard.append)
    last = [finding.last_step for finding in monitor.findings]
    assert [replace(finding, last_step=step) for finding, step in zip(heard, last, strict=True)] == monitor.findings
    assert heard[0].step == 6


def test_the_text_of_a_finding_names_everything() -> None:
    finding = Finding(
        "dead-units", "warning", "features.3", 12, 0.75, 0.5, "Most units never fired.", "Lower the rate."
    )
    assert str(finding) == (
        "WARNING  dead-units at features.3, since step 12\n"
        "  measured  0.75 (limit 0.5)\n"
        "  why       Most units never fired.\n"
        "  try       Lower the rate."
    )


class Largest(Rule):
    """A rule of a user: the largest output."""

    id = "largest"
    default_limit = 3.0
    default_patience = 2
    why = "Too large."
    advice = "Make it smaller."

    def statistic(self, view: StepView) -> Any:
        for output in view.outputs:
            yield Measurement(output.name, output.summary.max)


def test_a_user_writes_a_rule_and_changes_a_limit() -> None:
    model = nn.Sequential(nn.Identity(), nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rule = Largest(limit=2.5)
    assert repr(rule) == "Largest(limit=2.5, patience=2)"
    with ts.watch(model, optimizer, rules=[rule]) as monitor:
        for value in (1.0, 3.0, 1.0, 3.0, 4.0, 5.0):
            model(torch.full((1, 1), value)).sum().backward()
            optimizer.step()
    finding = next(finding for finding in monitor.findings if finding.where == "0")
    assert (finding.step, finding.value, finding.limit, finding.why, finding.advice) == (
        3,
        4.0,
        2.5,
        "Too large.",
        "Make it smaller.",
    )


def test_rules_are_copied_so_that_two_monitors_do_not_share_what_they_saw(digits: tuple[Any, Any]) -> None:
    rules = default_rules()
    for _ in range(2):
        torch.manual_seed(0)
        model = mlp()
        assert train(model, sgd(model.parameters()), digits, steps=8, rules=rules).findings == []
    assert Judge(rules).rules[0] is not rules[0]


def test_patience_must_be_positive() -> None:
    with pytest.raises(ValueError, match="patience must be at least 1 recorded step, got 0"):
        ts.rules.DeadUnits(patience=0)


def test_every_rule_explains_itself() -> None:
    for rule in default_rules():
        assert rule.id
        assert rule.why.endswith(".")
        assert rule.advice or rule.id == "non-finite"
    assert len({rule.id for rule in default_rules()}) == len(default_rules())


@pytest.mark.parametrize(
    ("losses", "learning"),
    [
        ([1.0] * 20, None),
        ([1.0] * 60, False),
        (list(np.linspace(1, 0.5, 60)), True),
        (list(np.linspace(-1, -2, 60)), True),
        ([1.0, math.nan], False),
    ],
)
def test_the_trend_of_the_loss(losses: list[float], learning: bool | None) -> None:
    trend = LossTrend()
    for step, loss in enumerate(losses):
        trend.log(step, loss)
    assert trend.learning is learning


def test_parameters_are_grouped_under_the_highest_module_that_holds_only_them() -> None:
    names = ["a.0.weight", "a.0.bias", "a.1.weight", "b.weight", "b.bias", "c"]
    assert group_by_module(["a.0.weight", "a.0.bias"], names) == {"a.0": ["a.0.weight", "a.0.bias"]}
    assert group_by_module(["a.0.weight", "c"], names) == {"a.0.weight": ["a.0.weight"], "c": ["c"]}
    assert set(group_by_module(names[:4], names)) == {"a", "b.weight"}
