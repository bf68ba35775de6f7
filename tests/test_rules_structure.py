"""The rules on what a model is set to: modes, running statistics, alike units, weights that fade, rates that end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

RULES = {"still-statistics", "trained-in-eval-mode", "symmetric-units", "collapsed-weights", "decayed-rate"}


def mlp(width: int = 16) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))


def normed(**options: Any) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16, **options), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def run(
    model: nn.Module,
    *,
    steps: int = 20,
    optimizer: torch.optim.Optimizer | None = None,
    schedule: Callable[[torch.optim.Optimizer], Any] | None = None,
    loss_scale: float = 1.0,
    data_scale: float = 1.0,
    batch: int = 32,
) -> ts.torch.Monitor:
    """A classifier of three classes that a line can tell apart."""
    torch.manual_seed(1)
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=1e-2)
    scheduler = None if schedule is None else schedule(optimizer)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(steps):
            inputs = torch.randn(batch, 8)
            targets = inputs[:, :3].argmax(1)
            loss = nn.functional.cross_entropy(model(inputs * data_scale), targets) * loss_scale
            monitor.log_loss(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
    assert monitor.errors == [] or all("eval mode" in error for error in monitor.errors)
    return monitor


def found(monitor: ts.torch.Monitor) -> dict[str, str]:
    """Of these rules: where and how bad."""
    return {each.rule: f"{each.status} at {each.where}" for each in monitor.findings if each.rule in RULES}


def constant(model: nn.Sequential, value: float = 0.01) -> nn.Sequential:
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, value)
            nn.init.zeros_(module.bias)
    return model


# --- running statistics -----------------------------------------------------------------------------------------------


def test_a_norm_that_learns_nothing_of_the_batches_is_a_failure():
    monitor = run(normed(momentum=0.0))
    assert found(monitor) == {"still-statistics": "failure at 1"}
    assert "(momentum 0) have not changed" in monitor.findings[0].why


@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"momentum": 1e-4}, {"track_running_stats": False}])
def test_norms_that_learn_or_have_nothing_to_learn_are_none(options: Any):
    assert found(run(normed(**options))) == {}


def test_a_norm_that_is_frozen_by_eval_is_none():
    model = normed(momentum=0.0)
    model.train()
    model[1].eval()
    assert found(run(model)) == {}


def test_many_norms_make_one_finding():
    blocks = [nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8, momentum=0.0), nn.ReLU()) for _ in range(4)]
    monitor = run(nn.Sequential(*blocks, nn.Linear(8, 3)))
    assert found(monitor) == {"still-statistics": "failure at (model)"}
    assert "4 normalisation layers" in monitor.findings[0].why


# --- modes ------------------------------------------------------------------------------------------------------------


def test_training_in_eval_mode_is_told_where_something_minds():
    model = normed()
    model.eval()
    assert found(run(model)) == {"trained-in-eval-mode": "warning at (model)"}
    plain = mlp()
    plain.eval()
    assert found(run(plain)) == {}
    quiet = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.0), nn.Linear(16, 3))
    quiet.eval()
    assert found(run(quiet)) == {}


# --- alike units ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [16, 64])
@pytest.mark.parametrize("loss_scale", [1e-4, 1e4])
@pytest.mark.parametrize("data_scale", [0.25, 4.0])
def test_units_that_start_alike_stay_alike(width: int, loss_scale: float, data_scale: float):
    monitor = run(constant(mlp(width)), loss_scale=loss_scale, data_scale=data_scale)
    rules = [each.rule for each in monitor.findings]
    assert rules[0] == "symmetric-units", rules
    assert monitor.findings[0].status == "failure"
    assert monitor.findings[0].where.startswith(("0", "2"))


def test_zeros_and_ones_that_leave_each_other_are_none():
    class Healthy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 16)
            self.norm = nn.LayerNorm([2, 8])
            self.head = nn.Linear(16, 3)
            nn.init.zeros_(self.head.weight)

        def forward(self, x: Any) -> Any:
            return self.head(self.norm(self.inner(x).view(-1, 2, 8)).flatten(1).tanh())

    assert found(run(Healthy())) == {}
    assert found(run(mlp())) == {}


# --- weights that fade ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.05, weight_decay=10.0),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.005, weight_decay=190.0),
    ],
    ids=["SGD", "AdamW"],
)
def test_a_decay_that_wins_over_the_loss_is_named_before_what_it_does(make: Callable[[Any], torch.optim.Optimizer]):
    torch.manual_seed(0)
    model = mlp()
    monitor = run(model, steps=80, optimizer=make(model.parameters()))
    first = monitor.findings[0]
    assert first.rule == "collapsed-weights", [each.rule for each in monitor.findings]
    assert first.status == "failure"  # it does not learn
    assert "weight_decay is" in first.why
    assert [each.rule for each in monitor.findings] == ["collapsed-weights"]


@pytest.mark.parametrize("decay", [0.0, 1e-4, 0.01, 0.1])
def test_a_usual_decay_is_none(decay: float):
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=decay)
    assert found(run(model, steps=150, optimizer=optimizer)) == {}


# --- rates that end ---------------------------------------------------------------------------------------------------


def test_a_rate_that_is_halved_every_step_is_told():
    torch.manual_seed(0)
    monitor = run(
        mlp(),
        steps=120,
        schedule=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
    )
    rules = found(monitor)
    assert rules["decayed-rate"].startswith(("warning", "failure"))
    first = next(each for each in monitor.findings if each.rule == "decayed-rate")
    assert first.step == 14  # 0.5 ** 14 < 1e-4
    assert [each.rule for each in monitor.findings] == ["decayed-rate"]


@pytest.mark.parametrize(
    "schedule",
    [
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200),
        lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 200),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 20),
        lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, 1e-6, 1.0, 150),
        lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98),
        lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [60, 120, 180], 0.1),
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=210),
    ],
    ids=["cosine", "linear", "restarts", "warm-up", "exponential", "steps", "one cycle"],
)
def test_usual_schedules_are_none(schedule: Callable[[torch.optim.Optimizer], Any]):
    torch.manual_seed(0)
    assert found(run(mlp(), steps=200, schedule=schedule)) == {}
