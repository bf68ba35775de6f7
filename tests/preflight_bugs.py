"""Buggy programs for the tests of `ts.preflight`: model, batch, loss, optimizer, and the rule that must come first."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from preflight_programs import (
    Program,
    Recurrent,
    Transformer,
    adam,
    binary,
    classifier,
    cnn,
    digits,
    language,
    mlp,
    regression,
    sgd,
    table,
)


def _with(program: Program, **changed: Any) -> Program:
    model, batch, loss, optimizer = program
    return (
        changed.get("model", model),
        changed.get("batch", batch),
        changed.get("loss", loss),
        changed.get("optimizer", optimizer),
    )


def softmax_before_loss() -> Program:
    return classifier(nn.Sequential(mlp(), nn.Softmax(dim=1)))


def broadcast() -> Program:
    model, (x, y), loss, optimizer = regression(mlp(10, 1))
    return model, (x, y.flatten()), loss, optimizer


def broadcast_by_hand() -> Program:
    model, batch, _, optimizer = broadcast()
    return model, batch, lambda p, t: (p - t).square().mean(), optimizer


class OverBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x).softmax(0)


class MeanOverBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x).relu()
        return self.b(h - h.mean(0))


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = mlp(64, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).detach())


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.a(x).relu())


class AlwaysDropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(F.dropout(self.a(x).relu(), 0.5))


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x + torch.randn_like(x))


class Zeroed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x * 0)


class Distances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.head = nn.Linear(10, 8), nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.net(x)
        return self.head((h - h).square().sum(1, keepdim=True).sqrt()) + h[:, :1]


class View(nn.Module):
    """Reads sequences of 8 rows by 8 as if time came first."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(8, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def constant_weights(value: float) -> Program:
    model = mlp()
    for p in model.parameters():
        nn.init.constant_(p, value)
    return classifier(model)


def normal_weights(std: float, model: nn.Module | None = None) -> Program:
    model = model or mlp(width=256)
    for p in model.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, 0, std)
    return classifier(model)


def deep(act: type[nn.Module], depth: int = 10) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(64, 32), act()]
    for _ in range(depth):
        layers += [nn.Linear(32, 32), act()]
    return nn.Sequential(*layers, nn.Linear(32, 10))


def dead() -> Program:
    model = mlp()
    nn.init.constant_(model[2].bias, -50.0)
    return classifier(model)


def momentum_of_norms(momentum: float) -> Program:
    model = cnn()
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
    return classifier(model, shape=(1, 8, 8))


def data(change: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> Program:
    model, (x, y), loss, _ = classifier(mlp())
    x, y = change(x.clone(), y.clone())
    model[0] = nn.Linear(x.shape[1], 64)
    return model, (x, y), loss, adam(model)


def half_zero(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x[:, 32:] = 0
    return x, y


def one_nan(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x[3, 7] = math.nan
    return x, y


def shuffled(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x, y[torch.randperm(len(y), generator=torch.Generator().manual_seed(9))]


def minus_one_labels() -> Program:
    model, (x, y), loss, optimizer = binary(mlp(30, 1))
    return model, (x, 2 * y - 1), loss, optimizer


def x_to_the_fourth() -> Program:
    x = torch.linspace(-100, 100, 200).reshape(-1, 1)
    model = mlp(1, 1)
    return model, (x, x**4), nn.MSELoss(), adam(model)


def raw_diabetes(factor: float) -> Program:
    x, y = table(load_diabetes)
    model = mlp(10, 1)
    return model, (x, factor * y.float().reshape(-1, 1)), nn.MSELoss(), adam(model)


def _with_sgd(program: Program) -> Program:
    return _with(program, optimizer=sgd(program[0], 0.01))


def far_targets(last: nn.Module) -> Program:
    x = torch.randn(256, 6, generator=torch.Generator().manual_seed(5))
    y = (28 + 12 * torch.tanh(x[:, :1] + x[:, 1:2])).clamp(3, 53)
    model = nn.Sequential(mlp(6, 1), last)
    return model, (x, y), nn.MSELoss(), adam(model, 1e-2)


def other_model() -> Program:
    return _with(classifier(mlp()), optimizer=adam(mlp()))


def replaced_head() -> Program:
    model, batch, loss, optimizer = classifier(mlp())
    model[4] = nn.Linear(64, 10)
    return model, batch, loss, optimizer


def clamped() -> Program:
    return _with(classifier(mlp()), loss=lambda p, t: F.cross_entropy(p, t).clamp(max=1.0))


def ignored_targets() -> Program:
    return _with(classifier(mlp()), loss=lambda p, t: F.cross_entropy(p, p.argmax(1)))


def negated() -> Program:
    return _with(classifier(mlp()), loss=lambda p, t: -F.cross_entropy(p, t))


def detached_loss() -> Program:
    return _with(classifier(mlp()), loss=lambda p, t: F.cross_entropy(p.detach(), t))


def summed() -> Program:
    return _with(classifier(mlp(), sgd), loss=nn.CrossEntropyLoss(reduction="sum"))


def sgd_program(**settings: Any) -> Program:
    return classifier(mlp(), lambda m: torch.optim.SGD(m.parameters(), **settings))


def unshifted() -> Program:
    model, (x, _), loss, optimizer = language(lambda v: Transformer(v, v, causal=True))
    return model, (x, x), loss, optimizer


BUGGY: dict[str, Callable[[], tuple[Any, ...]]] = {
    "softmax before cross entropy": lambda: (*softmax_before_loss(), "loss-input"),
    "sigmoid before its loss": lambda: (*binary(nn.Sequential(mlp(30, 1), nn.Sigmoid())), "loss-input"),
    "logits into nll": lambda: (*_with(classifier(mlp()), loss=nn.NLLLoss()), "loss-input"),
    "broadcast": lambda: (*broadcast(), "loss-broadcast"),
    "broadcast by hand": lambda: (*broadcast_by_hand(), "loss-broadcast"),
    "softmax over the batch": lambda: (*classifier(OverBatch()), "samples-mix"),
    "mean over the batch": lambda: (*classifier(MeanOverBatch()), "samples-mix"),
    "lstm without batch_first": lambda: (*_sequences(View()), "samples-mix"),
    "transformer without batch_first": lambda: (*_sequences(Transformer(10, batch_first=False)), "samples-mix"),
    "transformer without mask": lambda: (*language(lambda v: Transformer(v, v)), "future-leaks"),
    "bidirectional language model": lambda: (
        *language(lambda v: Recurrent(nn.LSTM, 32, v, v, bidirectional=True)),
        "future-leaks",
    ),
    "targets not shifted": lambda: (*unshifted(), "targets-unshifted"),
    "detach": lambda: (*classifier(Detached()), "no-gradient"),
    "unused layer": lambda: (*classifier(Unused()), "no-gradient"),
    "dropout in evaluation": lambda: (*classifier(AlwaysDropped()), "eval-differs"),
    "noise in evaluation": lambda: (*classifier(Noisy()), "eval-differs"),
    "input times zero": lambda: (*classifier(Zeroed()), "input-ignored"),
    "root of zero": lambda: (*regression(Distances()), "nonfinite"),
    "constant weights": lambda: (*constant_weights(0.01), "symmetric-units"),
    "zero weights": lambda: (*constant_weights(0.0), "symmetric-units"),
    "wide weights": lambda: (*normal_weights(1.0), "scale-through-depth"),
    "tiny weights": lambda: (*normal_weights(1e-4), "outputs-alike"),
    "deep sigmoid": lambda: (*classifier(deep(nn.Sigmoid)), "vanishing-gradient"),
    "no activation": lambda: (*classifier(mlp(act=nn.Identity)), "network-is-linear"),
    "dead layer": lambda: (*dead(), "dead-at-start"),
    "batch norm momentum 0": lambda: (*momentum_of_norms(0.0), "batch-norm-statistics"),
    "batch norm momentum 0.99": lambda: (*momentum_of_norms(0.99), "batch-norm-statistics"),
    "dropout 0.9": lambda: (
        *classifier(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.9), nn.Linear(128, 10))),
        "dropout-too-strong",
    ),
    "one class": lambda: (*data(lambda x, y: (x, y // 255)), "one-class"),
    "rare class": lambda: (*data(lambda x, y: (x, (torch.arange(len(y)) < 4).long())), "class-imbalance"),
    "label among features": lambda: (*data(lambda x, y: (torch.cat([x, y[:, None].float()], 1), y)), "leaking-feature"),
    "half the features zero": lambda: (*data(half_zero), "constant-features"),
    "copied features": lambda: (*data(lambda x, y: (torch.cat([x[:, :32], x[:, :32]], 1), y)), "duplicate-features"),
    "nan": lambda: (*data(one_nan), "data-nonfinite"),
    "shuffled labels": lambda: (*data(shuffled), "generalises"),
    "features scales apart": lambda: (*binary(mlp(30, 1), scaled=False), "feature-scales"),
    "pixels to 255": lambda: (*data(lambda x, y: (x * 100, y)), "input-range"),
    "labels of -1 and 1": lambda: (*minus_one_labels(), "loss-targets"),
    "x to the fourth": lambda: (*x_to_the_fourth(), "input-range"),
    "targets times ten": lambda: (*raw_diabetes(10.0), "target-scale"),
    "targets times ten under sgd": lambda: (*_with_sgd(raw_diabetes(10.0)), "target-scale"),
    "sigmoid for 3 to 53": lambda: (*far_targets(nn.Sigmoid()), "output-range"),
    "tanh for 3 to 53": lambda: (*far_targets(nn.Tanh()), "output-range"),
    "softmax of one unit": lambda: (*far_targets(nn.Softmax(dim=1)), "one-unit-softmax"),
    "optimizer of another model": lambda: (*other_model(), "not-in-optimizer"),
    "head replaced after the optimizer": lambda: (*replaced_head(), "not-in-optimizer"),
    "loss clamped": lambda: (*clamped(), "loss-flat"),
    "loss detached": lambda: (*detached_loss(), "loss-flat"),
    "targets ignored": lambda: (*ignored_targets(), "loss-ignores-targets"),
    "loss negated": lambda: (*negated(), "loss-sign"),
    "sum at a rate for means": lambda: (*summed(), "loss-reduction"),
    "maximize": lambda: (*sgd_program(lr=0.05, maximize=True), "optimizer-settings"),
    "rate 0": lambda: (*sgd_program(lr=0.0), "optimizer-settings"),
    "rate 1e-8": lambda: (*sgd_program(lr=1e-8), "learning-rate"),
    "rate 100": lambda: (*sgd_program(lr=100.0), "learning-rate"),
    "adam at 1": lambda: (*classifier(mlp(), lambda m: adam(m, 1.0)), "learning-rate"),
    "adam at 1e-6": lambda: (*classifier(mlp(), lambda m: adam(m, 1e-6)), "learning-rate"),
    "weight decay 10": lambda: (*sgd_program(lr=0.05, weight_decay=10.0), "weight-decay"),
    "adam with weight decay 10": lambda: (
        *classifier(mlp(), lambda m: torch.optim.Adam(m.parameters(), weight_decay=10.0)),
        "weight-decay",
    ),
    "momentum 1": lambda: (*sgd_program(lr=0.05, momentum=1.0), "optimizer-settings"),
}


def _sequences(model: nn.Module) -> Program:
    x, y = digits()
    return model, (x.reshape(-1, 8, 8), y), nn.CrossEntropyLoss(), adam(model, 3e-3)
