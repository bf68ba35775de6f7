"""Owns the model that the tests of held steps train, and what they compare of two runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402

SIGNALS = (
    "inputs",
    "outputs",
    "output_gradients",
    "parameters",
    "gradients",
    "updates",
    "raw_gradients",
    "optimizer_state",
)


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2), nn.Sigmoid())


def batches(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(16, 6, generator=generator) for _ in range(count)]


def train(
    model: nn.Module,
    inputs: list[torch.Tensor],
    *,
    after: Callable[[Any, int], object] = lambda _monitor, _step: None,
    **options: Any,
) -> Any:
    """A watched run; `after` is called with monitor and number after every step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with ts.watch(model, optimizer, **options) as monitor:
        for step, x in enumerate(inputs):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            monitor.log_loss(loss)
            loss.backward()
            optimizer.step()
            after(monitor, step)
    return monitor


def everything(monitor: Any) -> dict[str, Any]:
    """All series and totals, to compare runs."""
    found: dict[str, Any] = {"errors": monitor.errors, "findings": monitor.findings}
    for signal in SIGNALS:
        for name in monitor.names(signal):
            steps, counts = monitor.series(signal, name, "count")
            found[f"{signal} {name}"] = (steps.tolist(), counts.tolist(), monitor.total(signal, name).max)
            found[f"{signal} {name} zeros"] = monitor.series(signal, name, "zero_fraction")[1].tolist()
            for field in ("dead_fraction", "saturated_fraction"):
                found[f"{signal} {name} {field}"] = [str(x) for x in monitor.series(signal, name, field)[1]]
    for name in monitor.names("losses"):
        found[f"losses {name}"] = [array.tolist() for array in monitor.series("losses", name)]
    for name in monitor.names("learning_rates"):
        found[f"rates {name}"] = [array.tolist() for array in monitor.series("learning_rates", name)]
    for name in monitor.names("outputs"):
        if name in monitor._reading._record.logs["train"]["outputs"].units:
            units = monitor.units(name)
            found[f"units {name}"] = (units.updates, units.active_count.tolist(), units.last_active.tolist())
    return found
