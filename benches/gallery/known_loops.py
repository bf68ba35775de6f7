"""The published programs 27 to 49: what is wrong with the optimizer, the graph, normalisation and features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gallery import causes, data, loops, models
from gallery.program import Score, bug

KIND = "known"


@bug(
    KIND,
    "a learning rate of 1e-8",
    causes=causes.RATE,
    origin="TheDeepChecker (low_lr)",
)
def rate_of_1e_8(ts: Any) -> Score:
    table = data.digits()
    model = models.mlp(64, 64, 10)
    loops.fit(ts, model, table, nn.CrossEntropyLoss(), loops.sgd(model, 1e-8))
    return loops.classified(model, *table.test)


@bug(
    KIND,
    "a weight decay of 10",
    causes=(*causes.WEIGHT_DECAY, "optimizer-settings"),
    origin="TheDeepChecker (over_reg)",
)
def weight_decay_of_10(ts: Any) -> Score:
    table = data.digits()
    model = models.mlp(64, 64, 10)
    loops.fit(ts, model, table, nn.CrossEntropyLoss(), loops.sgd(model, 0.01, weight_decay=10.0))
    return loops.classified(model, *table.test)


class Uncalled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(64, 64)
        self.middle = nn.Linear(64, 64)
        self.leave = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.enter(x).relu())


@bug(
    KIND,
    "a layer that is made and never called",
    causes=causes.UNREACHED,
    place="middle",
    origin="torchtest2 gallery",
)
def layer_never_called(ts: Any) -> Score:
    table = data.digits()
    model = Uncalled()
    loops.fit(ts, model, table, nn.CrossEntropyLoss(), loops.adam(model))
    return loops.classified(model, *table.test)


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = models.mlp(64, 64, 64)
        self.head = models.mlp(64, 32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x).relu().detach())


@bug(
    KIND,
    "detach() between the two halves of a network",
    causes=causes.UNREACHED,
    place="backbone",
    origin="torchtest2 gallery",
)
def detached_backbone(ts: Any) -> Score:
    table = data.digits()
    model = Detached()
    loops.fit(ts, model, table, nn.CrossEntropyLoss(), loops.adam(model))
    return loops.classified(model, *table.test)


@bug(
    KIND,
    "batch normalisation with momentum 0: its running statistics never move",
    causes=causes.STATISTICS,
    place=r"^[14]\b",
    origin="TheDeepChecker (miss_infer_bn)",
)
def batch_norm_momentum_0(ts: Any) -> Score:
    table = data.digits(raw=True)
    model = models.mlp(64, 64, 64, 10, norm=lambda width: nn.BatchNorm1d(width, momentum=0.0))
    loops.fit(ts, model, table, nn.CrossEntropyLoss(), loops.adam(model))
    return loops.classified(model, *table.test)


@bug(
    KIND,
    "noise augmentation five times as strong as the signal",
    causes=causes.SHIFT,
    origin="TheDeepChecker (wrong_augm)",
)
def noise_far_too_strong(ts: Any) -> Score:
    table = data.digits()
    model = models.mlp(64, 64, 10)

    def augment(x: Tensor) -> Tensor:
        return x + 5 * torch.randn_like(x)

    loops.fit(ts, model, table, nn.CrossEntropyLoss(), loops.adam(model), augment=augment)
    return loops.classified(model, *table.test)


@bug(
    KIND,
    "the label stands among the features",
    causes=causes.COPIED,
    place=r"30|feature|input",
    origin="re-created from the description of a label leak",
)
def label_among_the_features(ts: Any) -> Score:
    table = data.cancer()
    table.inputs = torch.cat([table.inputs, table.targets[:, None].float()], 1)
    table.test_inputs = torch.cat([table.test_inputs, torch.zeros(len(table.test_inputs), 1)], 1)
    model = models.mlp(31, 32, 2)
    loops.fit(ts, model, table, nn.CrossEntropyLoss(), loops.adam(model))
    return loops.classified(model, *table.test)


class Clipped(nn.Module):
    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return (predictions - targets).square().clamp(max=1.0).mean()


@bug(
    KIND,
    "the loss is clipped at 1 where gradients were meant to be",
    causes=causes.FLAT,
    origin="Karpathy's recipe",
)
def loss_clipped(ts: Any) -> Score:
    table = data.diabetes(raw_targets=True)
    model = models.mlp(10, 32, 1)
    loops.fit(ts, model, table, Clipped(), loops.adam(model))
    return loops.regressed(model, *table.test)


@bug(
    KIND,
    "half of the features are zeroed by mistake",
    causes=causes.CONSTANT_INPUTS + causes.UNUSED_INPUT,
    origin="re-created from the description of constant features",
)
def half_the_features_zeroed(ts: Any) -> Score:
    table = data.digits()
    table.inputs[:, 32:] = 0.0
    model = models.mlp(64, 64, 10)
    loops.fit(ts, model, table, nn.CrossEntropyLoss(), loops.adam(model))
    return loops.classified(model, *table.test)


@bug(
    KIND,
    "the learning rate is halved every step in place of every epoch",
    causes=causes.DECAYED,
    origin="re-created from the description of a rate decayed to nothing",
)
def rate_halved_every_step(ts: Any) -> Score:
    table = data.digits()
    model = models.mlp(64, 64, 10)
    optimizer = loops.sgd(model, 0.05)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    loops.fit(ts, model, table, nn.CrossEntropyLoss(), optimizer, schedule=schedule)
    return loops.classified(model, *table.test)


class Distances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = models.mlp(4, 16, 8)

    def forward(self, x: Tensor) -> Tensor:
        points = self.embed(x)
        return (points[:, None] - points[None]).square().sum(-1).sqrt()


@bug(
    KIND,
    "pairwise distances with the root of 0 on the diagonal: finite forward, NaN backward",
    causes=(*causes.FINITE, "gradient_magnitude"),
    place=r"embed",
    origin="re-created from the description of sqrt at 0",
)
def root_of_zero(ts: Any) -> None:
    table = data.iris()
    model = Distances()
    optimizer = loops.adam(model)

    def spread(distances: Tensor, labels: Tensor) -> Tensor:
        same = (labels[:, None] == labels[None]).float()
        return (same * distances + (1 - same) * (2 - distances).clamp(min=0)).mean()

    loops.fit(ts, model, table, spread, optimizer, size=32, steps=150)


@bug(
    KIND,
    "targets of hundreds times ten, unscaled",
    causes=causes.TARGETS,
    origin="TheDeepChecker (over_scaled)",
)
def targets_times_ten(ts: Any) -> Score:
    table = data.diabetes(raw_targets=True)
    table.targets, table.test_targets = table.targets * 10, table.test_targets * 10
    model = models.mlp(10, 32, 1)
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model))
    return loops.regressed(model, *table.test)
