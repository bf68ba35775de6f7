"""Bugs of our own: noise in place of a gradient, and parts of a model that are never used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gallery import causes, data, loops, models
from gallery.program import Score, bug

NOISE, PARTS = "noise for a gradient", "parts never used"
CE = nn.CrossEntropyLoss


@bug(
    NOISE,
    "dropout of 0.97 between all layers",
    causes=causes.DROPOUT,
    place=r"^\d",
)
def dropout_of_97_percent(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 64, 64, 10, dropout=0.97)
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-3))
    return loops.classified(model, *table.test)


@bug(
    NOISE,
    "noise for privacy is added before gradients are averaged: it drowns them",
    causes=(*causes.NOISE, "update-ratio"),
)
def noise_drowns_the_gradient(ts: Any) -> Score:
    table, model, criterion = data.digits(), models.mlp(64, 64, 10), CE()
    optimizer = loops.sgd(model, 0.05, 0.0)
    ts.preflight(model, (table.inputs[:64], table.targets[:64]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for inputs, targets in data.batches(table.train, 64, 200):
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.grad += 10.0 * torch.randn_like(parameter)
            optimizer.step()
    return loops.classified(model, *table.test)


@bug(
    NOISE,
    "one sample per step with momentum 0.99: steps follow no batch",
    causes=causes.RATE + causes.NOISE + causes.FINITE,
)
def one_sample_with_much_momentum(ts: Any) -> Score:
    table, model = data.diabetes(), models.mlp(10, 32, 1)
    loops.fit(ts, model, table, nn.MSELoss(), loops.sgd(model, 0.02, 0.99), size=1, steps=300, validate=100)
    return loops.regressed(model, *table.test)


class Adapted(nn.Module):
    """A frozen layer with a low-rank addition, both of whose factors start at zero."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Parameter(torch.zeros(4, layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + x @ self.down.T @ self.up.T


@bug(
    PARTS,
    "both factors of a low-rank adapter start at zero: neither ever gets a gradient",
    causes=causes.LOST,
    place="down|up|^0",
)
def adapter_with_two_zeros(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10)
    loops.trained_before(table, model, 3)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model[0] = Adapted(model[0])
    model[2] = nn.Linear(64, 10)
    loops.fit(ts, model, table, CE(), loops.adam(model), steps=150)
    return loops.classified(model, *table.test)


class Dropped(models.Attention):
    """Computes attention and leaves it."""

    def forward(self, x: Tensor, padding: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        normed = self.before(x)
        self.attention(normed, normed, normed, key_padding_mask=padding, attn_mask=mask, need_weights=False)
        return x + self.feed(self.between(x))


@bug(
    PARTS,
    "attention is computed and its result left unused",
    causes=causes.UNREACHED,
    place="attention|before",
)
def attention_left_unused(ts: Any) -> Score:
    table, model = data.sorted_tokens(), models.Classifier()
    model.blocks = nn.ModuleList(Dropped() for _ in range(2))
    loops.fit(ts, model, table, CE(), loops.adam(model), size=32, steps=120)
    return loops.classified(model, *table.test)


class Router(nn.Module):
    """Sends each sample to the expert of the largest score; no gradient reaches the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(64, 4)
        self.experts = nn.ModuleList(models.mlp(64, 24, 10) for _ in range(4))
        with torch.no_grad():
            self.gate.bias[0] = 20.0

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.gate(x).argmax(1)
        out = x.new_zeros(len(x), 10)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero()[:, 0]
            if len(rows):
                out = out.index_add(0, rows, expert(x[rows]))
        return out


@bug(
    PARTS,
    "a router chooses by argmax: it never learns, and three of four experts are never called",
    causes=causes.UNREACHED,
    place="gate|experts",
)
def router_that_cannot_learn(ts: Any) -> Score:
    table, model = data.digits(), Router()
    loops.fit(ts, model, table, CE(), loops.adam(model), steps=150)
    return loops.classified(model, *table.test)


class Closed(nn.Module):
    """A branch behind a gate that is a buffer, and zero."""

    def __init__(self) -> None:
        super().__init__()
        self.main = models.mlp(64, 32, 10)
        self.branch = models.mlp(64, 64, 10)
        self.register_buffer("gate", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.gate * self.branch(x)


@bug(
    PARTS,
    "a branch is multiplied by a gate that is no parameter and stays at zero",
    causes=causes.LOST,
    place="branch",
)
def branch_behind_a_closed_gate(ts: Any) -> Score:
    table, model = data.digits(), Closed()
    loops.fit(ts, model, table, CE(), loops.adam(model), steps=150)
    return loops.classified(model, *table.test)
