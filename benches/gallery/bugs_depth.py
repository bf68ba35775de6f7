"""Bugs of our own: scale through depth, features apart, symmetric or collapsed units."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gallery import causes, data, loops, models
from gallery.program import Score, bug

SCALE, FEATURES, SYMMETRY = "scale through depth", "features", "symmetry and collapse"
CE = nn.CrossEntropyLoss


@bug(
    SCALE,
    "twenty-four tanh layers from N(0, 0.01): signals and gradients vanish",
    causes=causes.VANISHES + causes.START,
    place=r"^\d",
)
def deep_tanh_from_small_weights(ts: Any) -> Score:
    table = data.digits()
    model = models.scaled(models.mlp(64, *[32] * 24, 10, act=nn.Tanh), lambda w: w.normal_(std=0.05))
    loops.fit(ts, model, table, CE(), loops.sgd(model, 0.05), steps=200)
    return loops.classified(model, *table.test)


@bug(
    SCALE,
    "ten sigmoid layers: the first hardly learn",
    causes=causes.VANISHES,
    place=r"^\d",
)
def deep_sigmoid(ts: Any) -> Score:
    table, model = data.cancer(), models.mlp(30, *[24] * 10, 2, act=nn.Sigmoid)
    loops.fit(ts, model, table, CE(), loops.sgd(model, 0.05), size=32, steps=200)
    return loops.classified(model, *table.test)


class Doubling(nn.Module):
    """Residual blocks that add their branch three times, without a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(64, 48)
        self.branches = nn.ModuleList(models.mlp(48, 96, 48) for _ in range(24))
        for branch in self.branches:
            nn.init.kaiming_normal_(branch[0].weight)
            nn.init.kaiming_normal_(branch[2].weight)
        self.leave = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for branch in self.branches:
            x = x + 3 * branch(x)
        return self.leave(x)


@bug(
    SCALE,
    "24 residual branches are added three times each, without normalisation: activations grow to 1e12",
    causes=causes.EXPLODES + causes.START,
    place="branches|leave|enter",
)
def residuals_that_grow(ts: Any) -> Score:
    table, model = data.digits(), Doubling()
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-3), size=32, steps=100)
    return loops.classified(model, *table.test)


class Hot(nn.Module):
    """Attention whose scores are not divided by the root of the width, from large weights."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(12, 64)
        self.query, self.key, self.value = (nn.Linear(64, 64) for _ in range(3))
        self.head = nn.Linear(64, 2)
        for layer in (self.query, self.key):
            nn.init.normal_(layer.weight, std=0.6)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        weights = functional.softmax(self.query(x) @ self.key(x).transpose(1, 2), dim=-1)
        return self.head((x + weights @ self.value(x)).mean(1))


@bug(
    SCALE,
    "attention without 1/sqrt(d) from large weights: every softmax is one-hot",
    causes=causes.SOFTMAX,
    place="query|key|attention|softmax",
)
def attention_not_scaled(ts: Any) -> Score:
    table, model = data.sorted_tokens(), Hot()
    loops.fit(ts, model, table, CE(), loops.sgd(model, 1e-3), size=32, steps=150)
    return loops.classified(model, *table.test)


@bug(
    FEATURES,
    "features from 0.001 to 1000 as they are",
    causes=causes.INPUTS,
)
def features_as_they_are(ts: Any) -> Score:
    table, model = data.cancer(raw=True), models.mlp(30, 32, 2)
    loops.fit(ts, model, table, CE(), loops.sgd(model, 0.01), size=32)
    return loops.classified(model, *table.test)


@bug(
    FEATURES,
    "pixels divided by 255 twice: inputs of 1e-4",
    causes=causes.INPUTS,
)
def divided_by_255_twice(ts: Any) -> Score:
    table, model = data.digits(raw=True), models.mlp(64, 64, 10)
    table.inputs, table.test_inputs = table.inputs / 16 / 255, table.test_inputs / 16 / 255
    loops.fit(ts, model, table, CE(), loops.sgd(model, 0.05))
    return loops.classified(model, *table.test)


@bug(
    FEATURES,
    "missing values are written as -9999",
    causes=(*causes.INPUTS, "~outlier|sentinel"),
)
def missing_as_minus_9999(ts: Any) -> Score:
    table, model = data.diabetes(), models.mlp(10, 32, 1)
    for inputs in (table.inputs, table.test_inputs):
        inputs[torch.rand(inputs.shape) < 0.05] = -9999.0
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model), size=32)
    return loops.regressed(model, *table.test)


@bug(
    FEATURES,
    "images are written over each other by a wrong stride: every second row is a copy of the first image's",
    causes=causes.CONSTANT_INPUTS + causes.UNUSED_INPUT,
)
def half_of_every_image_is_the_first(ts: Any) -> Score:
    table, model = data.images(), models.cnn()
    table.inputs[:, :, ::2] = table.inputs[:1, :, ::2].clone()
    loops.fit(ts, model, table, CE(), loops.adam(model), steps=120)
    return loops.classified(model, *table.test)


@bug(
    SYMMETRY,
    "all weights and biases start at zero",
    causes=causes.SYMMETRIC + causes.START + causes.DEAD + ("zero-gradient",),
    place=r"^[0-4]",
)
def everything_starts_at_zero(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 64, 10)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    loops.fit(ts, model, table, CE(), loops.adam(model))
    return loops.classified(model, *table.test)


class Cloned(nn.Module):
    """Four experts copied from one, mixed by equal weights."""

    def __init__(self) -> None:
        super().__init__()
        expert = models.mlp(64, 24, 10)
        self.experts = nn.ModuleList(copy.deepcopy(expert) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([expert(x) for expert in self.experts]).mean(0)


@bug(
    SYMMETRY,
    "four experts are deep copies of one and stay equal for ever",
    causes=causes.COPIES,
    place="experts",
)
def experts_are_copies(ts: Any) -> Score:
    table, model = data.digits(), Cloned()
    loops.fit(ts, model, table, CE(), loops.adam(model), steps=200)
    return loops.classified(model, *table.test)


class Siamese(nn.Module):
    """Two views of a batch, stacked, to two embeddings, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = models.mlp(64, 64, 16)

    def forward(self, views: Tensor) -> Tensor:
        return torch.stack([self.encoder(views[:, 0]), self.encoder(views[:, 1])], 1)


@bug(
    SYMMETRY,
    "two views are pulled together and nothing pushes apart: all embeddings become one",
    causes=causes.SAME_OUTPUT,
    place="encoder",
)
def views_pulled_together_alone(ts: Any) -> None:
    table, model = data.digits(), Siamese()
    optimizer = loops.adam(model, 1e-2)

    def apart(model: nn.Module, views: Tensor) -> Tensor:
        pair = model(views)
        return (pair[:, 0] - pair[:, 1]).square().sum(1).mean()

    def views(x: Tensor) -> Tensor:
        return torch.stack([x + 0.3 * torch.randn_like(x), x + 0.3 * torch.randn_like(x)], 1)

    ts.preflight(model, views(table.inputs[:64]), apart, optimizer=optimizer)
    with ts.watch(model, optimizer) as monitor:
        for (inputs,) in data.batches((table.inputs,), 64, 200):
            optimizer.zero_grad()
            loss = apart(model, views(inputs))
            loss.backward()
            optimizer.step()
            monitor.log_loss(loss)


@bug(
    SYMMETRY,
    "the embedding of every token starts at one and the same vector, without positions",
    causes=causes.SYMMETRIC + causes.START,
    place=r"^[0-4]",
)
def tokens_start_equal(ts: Any) -> Score:
    table = data.sorted_tokens()
    model = nn.Sequential(nn.Embedding(12, 16), nn.Flatten(), *models.mlp(128, 32, 2))
    for place in (0, 2, 4):
        nn.init.constant_(model[place].weight, 0.05)
    loops.fit(ts, model, table, CE(), loops.sgd(model, 0.05), size=32, steps=150)
    return loops.classified(model, *table.test)
