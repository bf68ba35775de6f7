"""The published programs 1 to 25: what is wrong with data, outputs, starts and losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gallery import causes, data, loops, models
from gallery.program import Score, bug

KIND = "known"


@bug(
    KIND,
    "XOR by a sigmoid network with the absolute error and slow SGD: it stays at one half",
    causes=causes.NOT_LEARNING + causes.RATE + causes.SATURATED,
    origin="SO 31556268",
)
def xor_absolute_error(ts: Any) -> Score:
    inputs = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    targets = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    model = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1), nn.Sigmoid())
    table = data.Table(inputs, targets, inputs, targets)
    loops.fit(ts, model, table, nn.L1Loss(), loops.sgd(model, 0.05, 0.0), size=4, steps=400, validate=0)
    return loops.regressed(model, inputs, targets)


@bug(
    KIND,
    "a softmax over one unit before the squared error: the output is always 1",
    causes=("one-unit-softmax", "softmax-over-one", "~softmax", *causes.RANGE, *causes.SAME_OUTPUT),
    place=r"^(5|4)",
    origin="SO 33969059, 34311586",
)
def softmax_on_one_unit(ts: Any) -> Score:
    table = data.diabetes(raw_targets=True)
    model = nn.Sequential(*models.mlp(10, 32, 16, 1), nn.Softmax(dim=1))
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model))
    return loops.regressed(model, *table.test)


@bug(
    KIND,
    "no activation between linear layers drawn from N(0, 1), learning rate 3",
    causes=causes.RATE + causes.FINITE + causes.EXPLODES + causes.START,
    origin="SO 48385830",
)
def linear_with_rate_3(ts: Any) -> Score:
    table = data.diabetes()
    model = models.scaled(nn.Sequential(nn.Linear(10, 64), nn.Linear(64, 64), nn.Linear(64, 1)), lambda w: w.normal_())
    loops.fit(ts, model, table, nn.MSELoss(), loops.sgd(model, 3.0, 0.0))
    return loops.regressed(model, *table.test)


@bug(
    KIND,
    "x to the fourth on -100 to 100, neither inputs nor targets scaled",
    causes=causes.TARGETS + causes.INPUTS,
    origin="SO 52800582",
)
def fourth_power_unscaled(ts: Any) -> Score:
    x = torch.rand(800, 1) * 200 - 100
    table = data.split(x, x**4)
    model = models.mlp(1, 50, 50, 1)
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model, 1e-3))
    return loops.regressed(model, *table.test)


@bug(
    KIND,
    "class numbers divided by 255 like the pixels: one class is left",
    causes=causes.ONE_CLASS,
    origin="SO 59325381",
)
def labels_divided_by_255(ts: Any) -> Score:
    table = data.digits(raw=True)
    table.inputs, table.test_inputs = table.inputs / 16, table.test_inputs / 16
    table.targets, table.test_targets = (table.targets / 255).long(), (table.test_targets / 255).long()
    model = models.mlp(64, 64, 10)
    loops.fit(ts, model, table, nn.CrossEntropyLoss(), loops.adam(model))
    return loops.classified(model, *table.test)


@bug(
    KIND,
    "a sigmoid at the end for targets from 3 to 53",
    causes=causes.RANGE + causes.SATURATED,
    place=r"^(3|4|5)",
    origin="SO 48221692",
)
def sigmoid_for_large_targets(ts: Any) -> Score:
    x = torch.randn(800, 6)
    table = data.split(x, 3 + 50 * torch.sigmoid(x @ torch.randn(6, 1)))
    model = nn.Sequential(*models.mlp(6, 32, 1), nn.Sigmoid())
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model))
    return loops.regressed(model, *table.test)


class Exp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


@bug(
    KIND,
    "six layers with the exponential as activation",
    causes=causes.FINITE + causes.EXPLODES,
    place=r"^\d+",
    origin="AUTOTRAINER, gradient explosion on Blob",
)
def exponential_activations(ts: Any) -> Score:
    table = data.blobs()
    model = models.mlp(2, 16, 16, 16, 16, 16, 16, 3, act=Exp)
    loops.fit(ts, model, table, nn.CrossEntropyLoss(), loops.sgd(model, 0.01, 0.0))
    return loops.classified(model, *table.test)


@bug(
    KIND,
    "hidden biases at -50",
    causes=causes.DEAD,
    place=r"^[123]\b",
    origin="re-created from the description of a dead layer",
)
def hidden_bias_of_minus_50(ts: Any) -> Score:
    table = data.digits()
    model = models.mlp(64, 64, 64, 10)
    nn.init.constant_(model[2].bias, -50.0)
    loops.fit(ts, model, table, nn.CrossEntropyLoss(), loops.adam(model))
    return loops.classified(model, *table.test)


@bug(
    KIND,
    "all weights start at 0.01",
    causes=causes.SYMMETRIC + causes.START,
    place=r"^[01234]",
    origin="TheDeepChecker",
)
def constant_weights(ts: Any) -> Score:
    table = data.digits()
    model = models.scaled(models.mlp(64, 64, 32, 10), lambda w: w.fill_(0.01))
    loops.fit(ts, model, table, nn.CrossEntropyLoss(), loops.sgd(model, 0.05))
    return loops.classified(model, *table.test)


@bug(
    KIND,
    "all weights start from N(0, 1)",
    causes=causes.START + causes.EXPLODES,
    origin="TheDeepChecker; SO IPS_4",
)
def weights_from_unit_normal(ts: Any) -> Score:
    table = data.digits()
    model = models.scaled(models.mlp(64, 256, 256, 10), lambda w: w.normal_())
    loops.fit(ts, model, table, nn.CrossEntropyLoss(), loops.sgd(model, 1e-3, 0.0))
    return loops.classified(model, *table.test)


@bug(
    KIND,
    "a softmax before the cross-entropy, which has one of its own",
    causes=causes.LOSS_INPUT,
    place=r"^3|loss",
    origin="TheDeepChecker (red_soft)",
)
def softmax_before_cross_entropy(ts: Any) -> Score:
    table = data.digits()
    model = nn.Sequential(*models.mlp(64, 64, 10), nn.Softmax(dim=1))
    loops.fit(ts, model, table, nn.CrossEntropyLoss(), loops.sgd(model, 0.05))
    return loops.classified(model, *table.test)


class SoftmaxOverBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = models.mlp(64, 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.body(x), dim=0)


@bug(
    KIND,
    "a softmax over the batch in place of the classes",
    causes=(*causes.MIX, "~softmax"),
    origin="TheDeepChecker (wrong_soft)",
)
def softmax_over_the_batch(ts: Any) -> Score:
    table = data.digits()
    model = SoftmaxOverBatch()
    pick = nn.NLLLoss()
    loops.fit(ts, model, table, lambda p, t: pick((p + 1e-8).log(), t), loops.adam(model))
    return loops.classified(model, *table.test)


@bug(
    KIND,
    "a column of predictions against a row of targets: the squared error compares all with all",
    causes=causes.SHAPE,
    origin="TheDeepChecker (wrong_loss2)",
)
def broadcast_in_the_loss(ts: Any) -> Score:
    table = data.diabetes()
    table.targets, table.test_targets = table.targets[:, 0], table.test_targets[:, 0]
    model = models.mlp(10, 32, 1)
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model))
    return loops.regressed(model, table.test_inputs, table.test_targets[:, None])
