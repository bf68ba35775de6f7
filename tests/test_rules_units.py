"""Planted bugs in activations: dead and saturated layers, and outputs of zeros."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from digit_runs import mlp, only, sgd, told, train  # noqa: E402
from tensorstats.rules import limits  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def test_dead_units_are_named_by_layer(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp(depth=4)
    model[2].bias.data.fill_(-50.0)
    monitor = train(model, sgd(model.parameters()), digits)
    finding = next(finding for finding in monitor.findings if finding.rule == "dead-units")
    assert (finding.where, finding.step, finding.value, finding.limit) == ("3", 0, 1.0, 0.7)
    assert "32 of 32 units of '3' (ReLU)" in finding.why
    assert told(monitor) == {("dead-units", "3")}
    assert finding.consequences == ("unchanged at 0, 2, 4.weight, since step 0",)
    assert "all-zero" not in {finding.rule for finding in monitor.findings}


def test_most_of_a_layer_dead_is_a_warning_while_the_run_learns(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp(width=64)
    model[0].bias.data[:50] = -50.0
    finding = only(train(model, sgd(model.parameters()), digits, steps=80))
    assert (finding.rule, finding.where, finding.status) == ("dead-units", "1", "warning")
    assert finding.value == 50 / 64


def test_a_symptom_in_a_run_that_does_not_learn_is_a_failure(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp(width=64)
    model[0].bias.data[:50] = -50.0
    monitor = train(model, torch.optim.SGD(model.parameters(), lr=1e-4), digits, steps=60)
    assert {finding.status for finding in monitor.findings} == {"failure"}
    assert ("dead-units", "1") in told(monitor)


def test_units_that_are_silent_in_single_batches_only_are_not_dead() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    model[0].weight.data.copy_(torch.eye(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with ts.watch(model, optimizer) as monitor:
        for step in range(40):
            optimizer.zero_grad()
            x = torch.full((100, 2), -1.0)
            x[:, (step // 5) % 2] = 1.0  # each unit fires in every second group of five batches
            model(x).sum().backward()
            optimizer.step()
    assert set(monitor.series("outputs", "1", "dead_fraction")[1]) == {0.5}
    assert "dead-units" not in {finding.rule for finding in monitor.findings}


def test_a_layer_that_is_silent_as_a_whole_is_told_after_ten_steps_of_any_size() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    model[0].bias.data.fill_(-100.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with ts.watch(model, optimizer, rules=[ts.rules.DeadUnits()]) as monitor:
        for step in range(1, 21):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            assert bool(monitor.findings) == (step >= limits.DEAD_WINDOW_STEPS)


def test_small_batches_lengthen_the_window() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    model[0].bias.data[:] = torch.tensor([-100.0, -100.0, -100.0, 100.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with ts.watch(model, optimizer, rules=[ts.rules.DeadUnits()]) as monitor:
        for step in range(1, 101):
            model(torch.randn(10, 2)).sum().backward()
            optimizer.step()
            assert bool(monitor.findings) == (step >= 50)  # 500 values per unit


@pytest.mark.parametrize(("activation", "scale"), [(nn.Tanh, 60.0), (nn.Sigmoid, 90.0)])
def test_saturated_layers_are_named(activation: Any, scale: float, digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp(activation)
    model[2].weight.data.mul_(scale)
    model[2].bias.data.mul_(scale)
    monitor = train(model, torch.optim.SGD(model.parameters(), lr=1e-3), digits)
    assert ("saturated", "3") in told(monitor)
    assert ("saturated", "1") not in told(monitor)


def test_an_output_of_zeros_is_named_once(digits: tuple[Any, Any]) -> None:
    class Zero(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 0

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), Zero(), nn.Dropout(0.1), nn.Linear(16, 10))
    monitor = train(model, sgd(model.parameters()), digits, steps=10)
    assert [finding.where for finding in monitor.findings if finding.rule == "all-zero"] == ["1"]
