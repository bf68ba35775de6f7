"""Healthy programs on tables and images, with plain networks and ordinary losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gallery import data, loops, models
from gallery.program import Score, healthy

CE = nn.CrossEntropyLoss


@healthy("an ordinary network with Adam; digits have three pixels that are always 0")
def digits_with_adam(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10)
    loops.fit(ts, model, table, CE(), loops.adam(model))
    return loops.classified(model, *table.test)


@healthy("stochastic gradient descent with momentum; inputs from -0.8 to 1.9")
def digits_with_sgd(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 128, 64, 10)
    loops.fit(ts, model, table, CE(), loops.sgd(model, 0.03))
    return loops.classified(model, *table.test)


@healthy("learning rate 0.03 without momentum: slow, but it goes", origin="section 5")
def slow_sgd(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10)
    loops.fit(ts, model, table, CE(), loops.sgd(model, 0.03, 0.0), steps=400)
    return loops.classified(model, *table.test)


@healthy("half of the units dropped: the loss of training lies above that of validation", origin="section 5")
def dropout_of_one_half(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 128, 128, 10, dropout=0.5)
    loops.fit(ts, model, table, CE(), loops.adam(model), steps=300)
    return loops.classified(model, *table.test)


@healthy("clouds that overlap: many points cannot be told apart", origin="section 5")
def overlapping_blobs(ts: Any) -> Score:
    table, model = data.blobs(spread=3.0), models.mlp(2, 32, 3)
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-2))
    return loops.classified(model, *table.test)


@healthy("noisy rings: only a curve tells them apart, and not all points", origin="section 5")
def noisy_circles(ts: Any) -> Score:
    table, model = data.circles(0.15), models.mlp(2, 32, 32, 2)
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-2))
    return loops.classified(model, *table.test)


@healthy("a linear model: one layer, no activation", origin="section 5")
def linear_classifier(ts: Any) -> Score:
    table, model = data.digits(), nn.Sequential(nn.Linear(64, 10))
    loops.fit(ts, model, table, CE(), loops.sgd(model, 0.03))
    return loops.classified(model, *table.test)


@healthy("linear regression of a target of which half can be explained", origin="section 5")
def linear_regression(ts: Any) -> Score:
    table, model = data.diabetes(), nn.Linear(10, 1)
    loops.fit(ts, model, table, nn.MSELoss(), loops.sgd(model, 0.02, 0.0))
    return loops.regressed(model, *table.train)


@healthy("nine of one class to one of the other, and it is learned", origin="section 5")
def imbalance_that_is_learned(ts: Any) -> Score:
    inputs = torch.randn(1500, 8)
    targets = (inputs[:, 0] + inputs[:, 1].abs() > 2.1).long()
    table, model = data.split(inputs, targets), models.mlp(8, 32, 2)
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-2), steps=400)
    return loops.classified(model, *table.train)


@healthy("pixels from 0 to 16 as they are, into batch normalisation", origin="section 5")
def raw_pixels_into_batch_norm(ts: Any) -> Score:
    table = data.digits(raw=True)
    model = nn.Sequential(nn.BatchNorm1d(64), *models.mlp(64, 64, 10, norm=nn.BatchNorm1d))
    loops.fit(ts, model, table, CE(), loops.adam(model))
    return loops.classified(model, *table.test)


@healthy("targets from 0 to 50, not standardised", origin="section 5")
def targets_up_to_50(ts: Any) -> Score:
    inputs = torch.randn(800, 6)
    table = data.split(inputs, 50 * torch.sigmoid(inputs @ torch.randn(6, 1)))
    model = models.mlp(6, 64, 1)
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model, 1e-2), steps=400)
    return loops.regressed(model, *table.test)


@healthy("counts of words, of which 95 of 100 are 0", origin="section 5")
def sparse_bag_of_words(ts: Any) -> Score:
    targets = torch.randint(0, 4, (1500,))
    rates = torch.full((4, 300), 0.03)
    rates[torch.arange(4)[:, None], torch.arange(4)[:, None] * 20 + torch.arange(20)] = 0.3
    table, model = data.split(torch.poisson(rates[targets]), targets), models.mlp(300, 64, 4)
    loops.fit(ts, model, table, CE(), loops.adam(model))
    return loops.classified(model, *table.test)


@healthy("a schedule that ends at a rate of 0", origin="section 5")
def cosine_to_zero(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10)
    optimizer = loops.sgd(model, 0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 250)
    loops.fit(ts, model, table, CE(), optimizer, schedule=schedule)
    return loops.classified(model, *table.test)


@healthy("a warm-up from a rate of nearly 0")
def warm_up(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10)
    optimizer = loops.adam(model, 5e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 100))
    loops.fit(ts, model, table, CE(), optimizer, schedule=schedule, steps=300)
    return loops.classified(model, *table.test)


@healthy("a cycle of rates with a high middle")
def one_cycle(ts: Any) -> Score:
    table, model = data.images(), models.cnn()
    optimizer = loops.sgd(model, 0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=200)
    loops.fit(ts, model, table, CE(), optimizer, schedule=schedule, steps=200)
    return loops.classified(model, *table.test)


@healthy("a head of zeros: all outputs are equal at the start")
def head_of_zeros(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10)
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    loops.fit(ts, model, table, CE(), loops.adam(model))
    return loops.classified(model, *table.test)


@healthy("smoothed labels: the loss never gets below a floor")
def label_smoothing(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10)
    loops.fit(ts, model, table, CE(label_smoothing=0.2), loops.adam(model))
    return loops.classified(model, *table.test)


@healthy("gradients clipped to a norm that they exceed at every step")
def clipping_that_always_clips(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10)
    loops.fit(ts, model, table, CE(), loops.sgd(model, 0.1), clip=0.1)
    return loops.classified(model, *table.test)


@healthy("convolutions without bias, before batch normalisation")
def convolutions(ts: Any) -> Score:
    table, model = data.images(), models.cnn()
    loops.fit(ts, model, table, CE(), loops.adam(model), steps=200)
    return loops.classified(model, *table.test)


@healthy("convolutions without normalisation")
def convolutions_without_norm(ts: Any) -> Score:
    table, model = data.images(), models.cnn(norm=False)
    loops.fit(ts, model, table, CE(), loops.adam(model), steps=250)
    return loops.classified(model, *table.test)


@healthy("one score and a sigmoid inside the loss, targets as numbers")
def logistic_regression(ts: Any) -> Score:
    table, model = data.cancer(), nn.Sequential(nn.Linear(30, 1))
    table.targets, table.test_targets = table.targets[:, None].float(), table.test_targets[:, None].float()
    loops.fit(ts, model, table, nn.BCEWithLogitsLoss(), loops.sgd(model, 0.05))
    return loops.classified(model, *table.test)


@healthy("few samples in small batches")
def wine_in_small_batches(ts: Any) -> Score:
    table, model = data.wine(), models.mlp(13, 16, 3)
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-2), size=8)
    return loops.classified(model, *table.test)


@healthy("SELU and alpha dropout, eight layers deep")
def self_normalising(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, *[48] * 8, 10, act=nn.SELU)
    for layer in model[::2]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-3), steps=300)
    return loops.classified(model, *table.test)


@healthy("GELU and layer normalisation")
def gelu_and_layer_norm(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 64, 10, act=nn.GELU, norm=nn.LayerNorm)
    loops.fit(ts, model, table, CE(), loops.adam(model, 2e-3))
    return loops.classified(model, *table.test)


@healthy("all of a small set at once, with a closure that runs the model many times per step")
def lbfgs_with_a_closure(ts: Any) -> Score:
    table, model, criterion = data.iris(), models.mlp(4, 16, 3, act=nn.Tanh), CE()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5)
    ts.preflight(model, table.train, criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for _ in range(30):

            def closure() -> Tensor:
                optimizer.zero_grad()
                loss = criterion(model(table.inputs), table.targets)
                loss.backward()
                return loss

            optimizer.step(closure)
    return loops.classified(model, *table.test)


@healthy("the margin loss reaches exactly 0 for most samples")
def margin_loss(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10)
    loops.fit(ts, model, table, nn.MultiMarginLoss(), loops.adam(model), steps=300)
    return loops.classified(model, *table.test)


@healthy("a focal loss, written as a function: small from the start")
def focal_loss(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10)

    def focal(scores: Tensor, targets: Tensor) -> Tensor:
        loss = functional.cross_entropy(scores, targets, reduction="none")
        return ((1 - torch.exp(-loss)) ** 2 * loss).mean()

    loops.fit(ts, model, table, focal, loops.adam(model))
    return loops.classified(model, *table.test)


@healthy("outliers a hundred times as large, and a loss that does not mind")
def huber_with_outliers(ts: Any) -> Score:
    inputs = torch.randn(1000, 6)
    clean = inputs @ torch.randn(6, 1)
    targets = torch.where(torch.rand(1000, 1) < 0.03, 100 * torch.randn(1000, 1), clean)
    table, model = data.split(inputs, targets), models.mlp(6, 32, 1)
    loops.fit(ts, model, table, nn.HuberLoss(), loops.adam(model), steps=300)
    return loops.regressed(model, inputs, clean)


@healthy("counts as targets; the model gives their logarithm, and the loss may be negative")
def poisson_counts(ts: Any) -> Score:
    inputs = torch.randn(1200, 5)
    rate = (inputs @ (0.5 * torch.randn(5, 1)) + 0.5).exp()
    table, model = data.split(inputs, torch.poisson(rate)), models.mlp(5, 32, 1)
    loops.fit(ts, model, table, nn.PoissonNLLLoss(), loops.adam(model))
    return loops.regressed(lambda x: model(x).exp(), inputs, rate)
