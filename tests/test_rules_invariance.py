"""What a rule finds does not depend on the scale of the loss under Adam, of the data, on the width or on the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from digit_runs import mlp  # noqa: E402
from tensorstats.rules import default_rules  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Setting:
    loss: float = 1.0
    data: float = 1.0
    width: int = 32
    batch: int = 32


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


def run(
    digits: tuple[Any, Any], setting: Setting, build: Callable[[int], nn.Module], spoil: Callable[[nn.Module], None]
) -> Any:
    torch.manual_seed(0)
    model = build(setting.width)
    spoil(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = digits
    generator = torch.Generator().manual_seed(1)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(90):
            chosen = torch.randint(0, len(x), (setting.batch,), generator=generator)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[chosen] * setting.data), y[chosen]) * setting.loss
            monitor.log_loss(loss)
            loss.backward()
            optimizer.step()
    return monitor


def nothing(_model: nn.Module) -> None: ...


def silent(model: nn.Module) -> None:
    model[2].bias.data.fill_(-1e4)


def cut(model: nn.Module) -> None:
    model[2].register_forward_hook(lambda _module, _inputs, output: output.detach())


def constant(model: nn.Module) -> None:
    for parameter in model[4].parameters():
        parameter.register_hook(torch.zeros_like)


HEALTHY: dict[str, Callable[[int], nn.Module]] = {
    "relu": lambda width: mlp(width=width),
    "tanh, normalised": lambda width: mlp(nn.Tanh, width=width, norm=True),
    "gelu, deep": lambda width: mlp(nn.GELU, width=width, depth=6),
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("model", HEALTHY)
def test_a_healthy_run_is_silent_at_any_scale_width_and_batch(
    model: str, setting: str, digits: tuple[Any, Any]
) -> None:
    monitor = run(digits, SETTINGS[setting], HEALTHY[model], nothing)
    assert monitor.findings == [], str(monitor.findings[0])


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    ("spoil", "found"),
    [(silent, ("dead-units", "3")), (cut, ("no-gradient", "0")), (constant, ("unchanged", "4"))],
)
def test_a_broken_run_is_named_alike_at_any_scale_width_and_batch(
    spoil: Callable[[nn.Module], None], found: tuple[str, str], setting: str, digits: tuple[Any, Any]
) -> None:
    monitor = run(digits, SETTINGS[setting], HEALTHY["relu"], spoil)
    assert found in [(finding.rule, finding.where) for finding in monitor.findings], monitor.findings


@pytest.mark.slow
@pytest.mark.parametrize("setting", [name for name in SETTINGS if not name.startswith("data")])
def test_vanishing_gradients_are_named_at_any_scale_of_the_loss_width_and_batch(
    setting: str, digits: tuple[Any, Any]
) -> None:
    monitor = run(digits, SETTINGS[setting], lambda width: mlp(nn.Sigmoid, depth=8, width=width), nothing)
    assert "vanishing-gradient" in [finding.rule for finding in monitor.findings], monitor.findings


def test_every_rule_says_what_it_is_invariant_under() -> None:
    for rule in default_rules():
        assert "nvariant under" in " ".join((type(rule).__doc__ or "").split()), rule.id


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
@pytest.mark.parametrize(("rate", "rules"), [(1e-2, set()), (30.0, {"update-ratio", "exploding-gradient"})])
def test_sgd_is_judged_by_its_steps_whatever_the_units_of_the_loss(
    rate: float, rules: set[str], scale: float, momentum: float, digits: tuple[Any, Any]
) -> None:
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate / scale, momentum=momentum)
    x, y = digits
    with ts.watch(model, optimizer) as monitor:
        for _ in range(60):
            chosen = torch.randint(0, len(x), (64,))
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[chosen]), y[chosen]) * scale
            monitor.log_loss(loss)
            loss.backward()
            optimizer.step()
    found = {finding.rule for finding in monitor.findings}
    assert found == rules or (rules and found & rules), monitor.findings
