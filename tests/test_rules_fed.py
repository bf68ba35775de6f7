"""What a loss is fed: each rule finds its bug at any scale, and nothing in the healthy twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:Using a target size"),
]


@dataclass(frozen=True)
class Setting:
    loss: float = 1.0
    data: float = 1.0
    width: int = 32
    batch: int = 64


SETTINGS = {
    "as it is": Setting(),
    "loss / 10,000": Setting(loss=1e-4),
    "loss x 10,000": Setting(loss=1e4),
    "data / 4": Setting(data=0.25),
    "data x 4": Setting(data=4.0),
    "width 16": Setting(width=16),
    "width 256": Setting(width=256),
    "batch of 8": Setting(batch=8),
    "batch of 256": Setting(batch=256),
}


@dataclass(frozen=True)
class Program:
    """A loop: what ends the model, which loss it has, what the targets are made to."""

    outputs: int
    criterion: Callable[[], nn.Module]
    end: Callable[[], list[nn.Module]] = list
    targets: Callable[[Any], Any] = lambda y: y
    answer: Callable[[Any], Any] = lambda y: y


def classes(x: Any) -> Any:
    return (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def numbers(x: Any) -> Any:
    return x[:, :1] * 2 + x[:, 1:2]


def answers(x: Any) -> Any:
    return (x[:, :1] > 0).float()


def run(program: Program, made: Callable[[Any], Any], setting: Setting, *, steps: int = 120, hook: bool = True) -> Any:
    torch.manual_seed(0)
    width = setting.width
    body = [nn.Linear(8, width), nn.ReLU(), nn.Linear(width, program.outputs)]
    model = nn.Sequential(*body, *program.end())
    criterion = program.criterion()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with ts.watch(model, optimizer, loss_fn=criterion if hook else None) as monitor:
        for _ in range(steps):
            x = torch.randn(setting.batch, 8)
            y = program.targets(made(x))
            optimizer.zero_grad()
            predictions = program.answer(model(x * setting.data))
            loss = criterion(predictions, y) * setting.loss
            if not hook:
                monitor.log_loss(loss, predictions=predictions, targets=y)
            loss.backward()
            optimizer.step()
    assert monitor.errors == []
    return monitor


ONE = [nn.Softmax(dim=1)]
HEALTHY = {
    "classes": (Program(3, nn.CrossEntropyLoss), classes),
    "log-softmax before a cross entropy": (Program(3, nn.CrossEntropyLoss, lambda: [nn.LogSoftmax(1)]), classes),
    "log-probabilities": (Program(3, nn.NLLLoss, lambda: [nn.LogSoftmax(1)]), classes),
    "numbers": (Program(1, nn.MSELoss), numbers),
    "numbers in a row": (Program(1, nn.MSELoss, targets=lambda y: y[:, 0], answer=lambda p: p[:, 0]), numbers),
    "absolute": (Program(1, nn.L1Loss), numbers),
    "huber": (Program(1, nn.SmoothL1Loss), numbers),
    "answers": (Program(1, nn.BCEWithLogitsLoss), answers),
    "probabilities": (Program(1, nn.BCELoss, lambda: [nn.Sigmoid()]), answers),
    "answers by a squared error": (Program(1, nn.MSELoss, lambda: [nn.Sigmoid()]), answers),
    "a tanh that reaches": (Program(1, nn.MSELoss, lambda: [nn.Tanh()]), lambda x: numbers(x).sign()),
}
BROKEN = {
    "broadcast-loss": (Program(1, nn.MSELoss, targets=lambda y: y[:, 0]), numbers),
    "activation-before-loss, softmax": (Program(3, nn.CrossEntropyLoss, lambda: [nn.Softmax(1)]), classes),
    "activation-before-loss, sigmoid": (Program(1, nn.BCEWithLogitsLoss, lambda: [nn.Sigmoid()]), answers),
    "activation-before-loss, sigmoid of classes": (Program(3, nn.CrossEntropyLoss, lambda: [nn.Sigmoid()]), classes),
    "not-log-probabilities": (Program(3, nn.NLLLoss), classes),
    "not-log-probabilities, no log": (Program(3, nn.NLLLoss, lambda: [nn.Softmax(1)]), classes),
    "softmax-over-batch": (
        Program(3, nn.MSELoss, lambda: [nn.Softmax(0)], lambda y: nn.functional.one_hot(y, 3).float()),
        classes,
    ),
    "softmax-over-one": (Program(1, nn.BCELoss, lambda: ONE), answers),
    "target-range, sigmoid": (Program(1, nn.MSELoss, lambda: [nn.Sigmoid()], lambda y: y * 10 + 20), numbers),
    "target-range, relu": (Program(1, nn.MSELoss, lambda: [nn.ReLU()]), numbers),
    "target-range, tanh": (Program(1, nn.L1Loss, lambda: [nn.Tanh()], lambda y: y * 3), numbers),
    "same-targets": (Program(3, nn.CrossEntropyLoss, targets=lambda y: y * 0), classes),
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_program_is_silent_at_any_scale_width_and_batch(name: str, setting: str) -> None:
    monitor = run(*HEALTHY[name], SETTINGS[setting])
    assert monitor.findings == [], str(monitor.findings[0])


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_program_is_named_alike_at_any_scale_width_and_batch(name: str, setting: str) -> None:
    monitor = run(*BROKEN[name], SETTINGS[setting], steps=300 if name == "same-targets" else 120)
    found = [(finding.rule, finding.status) for finding in monitor.findings]
    assert found == [(name.partition(",")[0], "failure")], [str(finding) for finding in monitor.findings]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_functional_loss_is_told_from_its_values_at_any_factor(name: str) -> None:
    by_hook = run(*HEALTHY[name], Setting(), steps=60)
    by_hand = run(*HEALTHY[name], Setting(loss=0.25), steps=60, hook=False)
    given, found = by_hook.loss_state(), by_hand.loss_state()
    kinds = {"negative log-likelihood": "cross entropy"}  # of log-probabilities both are the same
    assert kinds.get(given.kind.name, given.kind.name) == found.kind.name
    assert found.constant == pytest.approx(given.constant, rel=0.02)
    assert found.values[-1] == pytest.approx(given.values[-1], rel=0.2)
    assert by_hand.findings == []


@pytest.mark.parametrize("end", [nn.Tanh, nn.ReLU])
def test_an_activation_that_bounds_logits_warns(end: type[nn.Module]) -> None:
    monitor = run(Program(3, nn.CrossEntropyLoss, lambda: [end()]), classes, Setting())
    found = [(finding.rule, finding.status, finding.where) for finding in monitor.findings]
    assert found == [("activation-before-loss", "warning", "3")], [str(finding) for finding in monitor.findings]


def test_what_is_fed_by_hand_is_judged_alike() -> None:
    for name in ("broadcast-loss", "activation-before-loss, softmax", "activation-before-loss, sigmoid"):
        monitor = run(*BROKEN[name], Setting(loss=0.5), hook=False)
        assert [finding.rule for finding in monitor.findings] == [name.partition(",")[0]], name
