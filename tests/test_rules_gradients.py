"""Planted bugs in gradients: vanishing, exploding, never reset."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from digit_runs import OPTIMIZERS, mlp, only, train  # noqa: E402
from tensorstats.rules import limits  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def test_vanishing_gradients_are_named_at_the_first_layer(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp(nn.Sigmoid, depth=9)
    monitor = train(model, torch.optim.SGD(model.parameters(), lr=0.01), digits)
    finding = next(finding for finding in monitor.findings if finding.rule == "vanishing-gradient")
    assert (finding.where, finding.step) == ("0", 0)
    assert finding.value < finding.limit == limits.VANISHING_RATIO
    assert "'0' (Linear)" in finding.why
    assert "'16' (Linear)" in finding.why


def test_exploding_gradients_are_named(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp(depth=6)
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight.data.mul_(8)
    monitor = train(model, torch.optim.SGD(model.parameters(), lr=1e-9), digits, steps=6)
    finding = only(monitor)
    assert (finding.rule, finding.step, finding.limit) == ("exploding-gradient", 0, limits.EXPLODING_NORM)
    norms = {
        name: monitor.series("gradients", name, "l2")[1][0] for name in monitor.names("gradients") if "weight" in name
    }
    assert finding.where + ".weight" == max(norms, key=lambda name: norms[name])


@pytest.mark.parametrize("rate", [5.0, 50.0, 500.0])
def test_a_learning_rate_that_blows_up_is_told(rate: float, digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    monitor = train(model, torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9), digits)
    assert {"exploding-gradient", "update-ratio"} & {finding.rule for finding in monitor.findings}
    assert monitor.findings[0].step <= 10


@pytest.mark.parametrize("optimizer", ["sgd+momentum", "adam"])
@pytest.mark.parametrize("every", [1, 4])
def test_missing_zero_grad_is_named(optimizer: str, every: int, digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    monitor = train(model, OPTIMIZERS[optimizer](model.parameters()), digits, zero_grad=False, every=every)
    finding = next(finding for finding in monitor.findings if finding.rule == "gradients-not-reset")
    assert (finding.where, finding.status) == ("optimizer", "failure")
    assert finding.step == (1 if every == 1 else 4)
    assert monitor.findings[0] == finding
