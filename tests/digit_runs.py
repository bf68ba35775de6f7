"""Owns small networks for scikit-learn's digits, and the watched loop that trains them."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.rules import Finding  # noqa: E402


def mlp(
    activation: Any = nn.ReLU, *, depth: int = 3, width: int = 32, norm: bool = False, dropout: float = 0.0
) -> nn.Sequential:
    layers: list[nn.Module] = []
    size = 64
    for _ in range(depth - 1):
        layers.append(nn.Linear(size, width))
        if norm:
            layers.append(nn.BatchNorm1d(width))
        layers.append(activation())
        if dropout:
            layers.append(nn.Dropout(dropout))
        size = width
    return nn.Sequential(*layers, nn.Linear(size, 10))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def adam(parameters: Any) -> Any:
    return torch.optim.Adam(parameters, lr=3e-3)


def train(
    model: nn.Module,
    optimizer: Any,
    digits: tuple[Any, Any],
    *,
    steps: int = 40,
    zero_grad: bool = True,
    before_step: Any = None,
    after_step: Any = None,
    spoil: Any = None,
    log_loss: bool = True,
    seed: int = 0,
    **options: Any,
) -> ts.torch.Monitor:
    x, y = digits
    generator = torch.Generator().manual_seed(seed)
    with ts.watch(model, optimizer, **options) as monitor:
        for step in range(steps):
            chosen = torch.randint(0, len(x), (64,), generator=generator)
            batch = x[chosen].clone()
            if spoil is not None:
                spoil(step, batch)
            if zero_grad:
                optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch), y[chosen])
            if log_loss:
                monitor.log_loss(loss)
            loss.backward()
            if before_step is not None:
                before_step(step)
            optimizer.step()
            if after_step is not None:
                after_step(step)
    assert monitor.errors == []
    return monitor


def told(monitor: ts.torch.Monitor) -> set[tuple[str, str]]:
    return {(finding.rule, finding.where) for finding in monitor.findings}


def only(monitor: ts.torch.Monitor) -> Finding:
    assert len(monitor.findings) == 1, [str(finding) for finding in monitor.findings]
    return monitor.findings[0]


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.03),
    "sgd+momentum": sgd,
    "adam": adam,
    "adam, fast": lambda p: torch.optim.Adam(p, lr=1e-2),
}
