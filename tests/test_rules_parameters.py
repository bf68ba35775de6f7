"""Planted bugs in parameters: frozen, cut off, lost to rounding, updated too much or too little."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from digit_runs import adam, mlp, only, sgd, told, train  # noqa: E402
from tensorstats.rules import Judge, ParameterView, StepView, limits  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def test_parameters_in_no_optimizer_are_named_by_module(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    finding = only(train(model, sgd(model[2:].parameters()), digits))
    assert (finding.rule, finding.where, finding.step, finding.status) == ("frozen", "0", 0, "failure")
    assert finding.why.startswith("0.weight, 0.bias: requires_grad is True")


def test_frozen_parameters_in_the_optimizer_are_a_warning(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(mlp(), nn.Linear(10, 10))
    model[0].requires_grad_(False)
    finding = only(train(model, sgd(model.parameters()), digits))
    assert (finding.rule, finding.where, finding.status) == ("frozen", "0", "warning")
    assert "0.0.weight, 0.0.bias, 0.2.weight, 0.2.bias and 2 more" in finding.why


def test_parameters_cut_from_the_loss_are_named(digits: tuple[Any, Any]) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, 16), nn.ReLU())
            self.unused = nn.Linear(4, 4)
            self.head = nn.Linear(16, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.encoder(x).detach())

    torch.manual_seed(0)
    model = Cut()
    monitor = train(model, adam(model.parameters()), digits)
    assert told(monitor) == {("no-gradient", "encoder"), ("no-gradient", "unused")}
    assert {finding.status for finding in monitor.findings} == {"failure"}


def test_updates_lost_to_rounding_are_named() -> None:
    torch.manual_seed(0)
    model = nn.Linear(16, 4, dtype=torch.bfloat16)
    model.weight.data.add_(10.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(8):
            optimizer.zero_grad()
            model(torch.randn(8, 16, dtype=torch.bfloat16)).square().mean().backward()
            optimizer.step()
    finding = next(finding for finding in monitor.findings if finding.rule == "unchanged")
    assert finding.where == "weight"
    assert "yet every update is (bfloat16)" in finding.why


def test_a_learning_rate_of_zero_is_a_warning(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    groups = [{"params": list(model[0].parameters()), "lr": 0.0}, {"params": list(model[2:].parameters())}]
    finding = only(train(model, sgd(groups), digits))
    assert (finding.rule, finding.where, finding.status) == ("unchanged", "0", "warning")
    assert "the learning rate of its group is 0" in finding.why


@pytest.mark.parametrize(("rate", "side"), [(1e-8, "hardly moves"), (30.0, "overshoot")])
def test_updates_out_of_band_are_named(rate: float, side: str, digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 10))
    monitor = train(model, torch.optim.Adam(model.parameters(), lr=rate), digits, rules=[ts.rules.UpdateRatio()])
    finding = only(monitor)
    assert (finding.rule, finding.where) == ("update-ratio", "0")
    assert side in finding.why


@pytest.mark.parametrize(("before", "steps"), [(1.0, 3), (0.0, limits.UPDATE_RATIO_FROM_ZERO_REPLACED_PATIENCE)])
def test_a_matrix_that_is_replaced_at_every_step_is_named_wherever_it_started(before: float, steps: int) -> None:
    judge = Judge([ts.rules.UpdateRatio()])
    value, update = ts.summary(np.array([[1.0]])), ts.summary(np.array([[0.5]]))
    weight = ParameterView("layer.weight", "layer", 2, "float64", True, True, 0.1, True, value, None, update)
    for step in range(steps):
        assert judge.findings == []
        norm_before = before if step == 0 else math.nan
        judge.judge(StepView(step, step - 1 if step else None, parameters=[replace(weight, norm_before=norm_before)]))
    (finding,) = judge.findings
    assert (finding.where, finding.step, finding.limit) == ("layer", 0, limits.UPDATE_RATIO_REPLACED)
