"""Healthy runs have no finding, and neither has anything unusual that is done on purpose."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from digit_runs import OPTIMIZERS, adam, cnn, mlp, sgd, train  # noqa: E402
from tensorstats.rules import limits  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


HEALTHY = {
    "relu": mlp,
    "tanh": lambda: mlp(nn.Tanh),
    "sigmoid": lambda: mlp(nn.Sigmoid),
    "deep": lambda: mlp(depth=6),
    "dropout": lambda: mlp(dropout=0.5, width=64),
    "batch norm": lambda: mlp(norm=True),
    "cnn": cnn,
    "linear": lambda: nn.Sequential(nn.Linear(64, 10)),
}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_has_no_finding(name: str, optimizer: str, digits: tuple[Any, Any]) -> None:
    for seed in range(2):
        torch.manual_seed(seed)
        model = HEALTHY[name]()
        monitor = train(model, OPTIMIZERS[optimizer](model.parameters()), digits, steps=60, seed=seed)
        assert monitor.findings == [], str(monitor.findings[0])


def test_a_run_that_has_converged_has_no_finding(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    few = (digits[0][:64], digits[1][:64])
    monitor = train(model, sgd(model.parameters()), few, steps=400, every=4)
    assert monitor.series("gradients", "0.weight", "l2")[1][-1] < 0.05
    assert monitor.findings == []


def test_a_sigmoid_output_that_is_sure_of_itself_has_no_finding() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    x = torch.randn(256, 2) + 4 * torch.sign(torch.randn(256, 1))
    y = (x.sum(1, keepdim=True) > 0).float()
    with ts.watch(model, optimizer) as monitor:
        for _ in range(150):
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy(model(x), y)
            monitor.log_loss(loss)
            loss.backward()
            optimizer.step()
    assert monitor.series("outputs", "3", "saturated_fraction")[1][-1] > limits.SATURATED_LAYER_FRACTION
    assert monitor.findings == []


def test_a_warm_up_from_zero_and_a_decay_to_zero_have_no_finding(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    optimizer = sgd(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step / 20, max(0.0, (80 - step) / 60)))
    x, y = digits
    with ts.watch(model, optimizer) as monitor:
        for step in range(90):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[step * 16 : step * 16 + 64]), y[step * 16 : step * 16 + 64]).backward()
            optimizer.step()
            schedule.step()
    assert monitor.errors == []
    assert monitor.findings == []


def test_a_backbone_frozen_on_purpose_has_no_finding(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    model[:2].requires_grad_(False)
    monitor = train(model, adam(parameter for parameter in model.parameters() if parameter.requires_grad), digits)
    assert monitor.findings == []


@pytest.mark.parametrize("warm_up", [0, 60])
@pytest.mark.parametrize("optimizer", ["sgd+momentum", "adam"])
def test_a_matrix_that_starts_at_zero_has_no_finding(optimizer: str, warm_up: int, digits: tuple[Any, Any]) -> None:
    class Adapted(nn.Module):
        """A frozen layer with a low-rank addition (Hu et al. 2021), whose second matrix starts at zero."""

        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(64, 32).requires_grad_(False)
            self.down = nn.Linear(64, 4, bias=False)
            self.up = nn.Linear(4, 32, bias=False)
            nn.init.zeros_(self.up.weight)
            self.head = nn.Linear(32, 10)

        def forward(self, x: Any) -> Any:
            return self.head(nn.functional.relu(self.base(x) + self.up(self.down(x))))

    torch.manual_seed(0)
    model = Adapted()
    chosen = OPTIMIZERS[optimizer]([parameter for parameter in model.parameters() if parameter.requires_grad])
    schedule = torch.optim.lr_scheduler.LambdaLR(chosen, lambda step: min(1.0, (step + 1) / (warm_up + 1)))
    monitor = train(model, chosen, digits, steps=80, after_step=lambda _: schedule.step())
    assert monitor.findings == [], str(monitor.findings[0])


def test_two_optimizers_that_share_the_model_have_no_finding(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    first, second = sgd(model[:2].parameters()), sgd(model[2:].parameters())
    x, y = digits
    with ts.watch(model, first) as monitor:
        for _ in range(20):
            first.zero_grad()
            second.zero_grad()
            nn.functional.cross_entropy(model(x[:64]), y[:64]).backward()
            first.step()
            second.step()
    assert monitor.findings == []


def test_accumulation_on_purpose_has_no_finding(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    optimizer = sgd(model.parameters())
    x, y = digits
    with ts.watch(model, optimizer) as monitor:
        for _ in range(12):
            for part in range(4):
                (nn.functional.cross_entropy(model(x[part * 16 :][:16]), y[part * 16 :][:16]) / 4).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    assert monitor.findings == []


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("when", ["before forward", "before backward", "after step"])
def test_gradients_may_be_reset_anywhere_in_the_step(when: str, to_none: bool) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(8):
            if when == "before forward":
                optimizer.zero_grad(set_to_none=to_none)
            loss = (model(torch.randn(8, 4)) - 1).square().mean()
            if when == "before backward":
                optimizer.zero_grad(set_to_none=to_none)
            loss.backward()
            optimizer.step()
            if when == "after step":
                optimizer.zero_grad(set_to_none=to_none)
    assert monitor.findings == []
