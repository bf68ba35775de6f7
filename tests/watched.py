"""Owns the small models that the watcher's tests watch, and the loop that trains them."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def train(model: nn.Module, optimizer: Any, steps: int, *, batch: int = 16, inputs: Any = None) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(batch, 4, generator=generator) if inputs is None else inputs
        optimizer.zero_grad()
        output = model(x)
        (output if isinstance(output, torch.Tensor) else output[0]).square().mean().backward()
        optimizer.step()


def watched(model: nn.Module, steps: int = 3, **options: Any) -> ts.torch.Monitor:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with ts.watch(model, optimizer, **options) as monitor:
        train(model, optimizer, steps)
    assert monitor.errors == []
    return monitor


class Returns(nn.Module):
    """A leaf that returns whatever `make` makes of its input."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Any) -> Any:
        return self.make(x * self.scale)
