"""Bugs of our own: normalisation that normalises nothing, and numbers lost in low precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gallery import causes, data, loops, models
from gallery.program import Score, bug

NORM, PRECISION = "normalisation", "low precision"
CE = nn.CrossEntropyLoss


class NormOfOne(nn.Module):
    """A layer normalisation over the one feature that there is."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(1)
        self.rest = models.Recurrent()

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.norm(x))


@bug(
    NORM,
    "layer normalisation over a dimension of size 1: every value becomes the bias",
    causes=causes.NORM,
    place="norm",
)
def layer_norm_over_one_value(ts: Any) -> Score:
    table, model = data.waves(), NormOfOne()
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model, 1e-2), size=32, steps=120)
    return loops.regressed(model, *table.test)


@bug(
    NORM,
    "group normalisation with a group per channel after pooling to one pixel: everything becomes the bias",
    causes=causes.NORM,
    place=r"^5",
)
def group_norm_of_one_pixel(ts: Any) -> Score:
    table = data.images()
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.GroupNorm(32, 32),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    loops.fit(ts, model, table, CE(), loops.adam(model), size=32, steps=100)
    return loops.classified(model, *table.test)


@bug(
    NORM,
    "batch normalisation is frozen in eval mode before it has seen any data: it normalises nothing",
    causes=causes.STATISTICS + causes.MODE,
    place=r"^[147]\b|norm",
)
def frozen_norm_without_statistics(ts: Any) -> Score:
    table = data.digits(raw=True)
    model = models.mlp(64, 64, 64, 10, norm=nn.BatchNorm1d)
    criterion, optimizer = CE(), loops.sgd(model, 0.01)
    model.train()
    model[1].eval()
    model[4].eval()
    ts.preflight(model, (table.inputs[:64], table.targets[:64]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for inputs, targets in data.batches(table.train, 64, 200):
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            optimizer.step()
    return loops.classified(model, *table.test)


@bug(
    NORM,
    "a batch of two in batch normalisation: training sees noise, and eval another network",
    causes=(*causes.STATISTICS, "TA304", "~batch (size )?(is|of|has)", "norm-.*"),
    place=r"^[14]\b|norm",
)
def batch_norm_of_two_samples(ts: Any) -> Score:
    table, model = data.diabetes(), models.mlp(10, 32, 32, 1, norm=nn.BatchNorm1d)
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model, 1e-2), size=2, steps=400, validate=100)
    return loops.regressed(model, *table.test)


@bug(
    PRECISION,
    "weights in bfloat16 and a small rate: most updates are rounded away",
    causes=causes.PRECISION,
    place=r"^\d",
)
def bfloat16_weights_lose_updates(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10).bfloat16()
    table.inputs, table.test_inputs = table.inputs.bfloat16(), table.test_inputs.bfloat16()
    loops.fit(ts, model, table, CE(), loops.sgd(model, 2e-4, 0.0), steps=300)
    return loops.classified(model, *table.test)


@bug(
    PRECISION,
    "float16 without a loss scaler: gradients below 6e-8 become 0",
    causes=causes.PRECISION + causes.VANISHES,
    place=r"^\d",
)
def float16_without_a_scaler(ts: Any) -> Score:
    inputs = torch.randn(1000, 16)
    targets = 1e-3 * (inputs @ torch.randn(16, 64)).tanh()
    table = data.split(inputs.half(), targets.half())
    model = models.scaled(models.mlp(16, 64, 64, 64), lambda w: w.normal_(std=2e-2)).half()
    for layer in model[::2]:
        nn.init.zeros_(layer.bias)
    loops.fit(ts, model, table, nn.MSELoss(), loops.sgd(model, 0.1), size=128, steps=200)
    return loops.regressed(model, *table.test)


@bug(
    PRECISION,
    "a loss that overflows float16: inf in the sum of squares",
    causes=(*causes.FINITE, "~overflow"),
)
def float16_overflows(ts: Any) -> Score:
    inputs = torch.randn(800, 8)
    targets = 150 + 60 * inputs @ torch.randn(8, 1)
    table, model = data.split(inputs.half(), targets.half()), models.mlp(8, 32, 1).half()
    loops.fit(ts, model, table, nn.MSELoss(reduction="sum"), loops.sgd(model, 1e-5, 0.0), size=64, steps=100)
    return loops.regressed(model, *table.test)
