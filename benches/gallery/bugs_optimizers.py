"""Bugs of our own: optimizers with the wrong parameters, rates, decay, clipping, at the start or after a schedule."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gallery import causes, data, loops, models
from gallery.program import Score, bug

OPTIMIZER = "optimizer"
CE = nn.CrossEntropyLoss


@bug(
    OPTIMIZER,
    "the optimizer was made before the head was replaced",
    causes=causes.OPTIMIZER,
    place=r"^4",
)
def head_replaced_after_the_optimizer(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 64, 100)
    optimizer = loops.adam(model, 1e-3)
    model[4] = nn.Linear(64, 10)
    loops.fit(ts, model, table, CE(), optimizer)
    return loops.classified(model, *table.test)


@bug(
    OPTIMIZER,
    "only the head is in the optimizer, above a random backbone that nobody froze",
    causes=causes.OPTIMIZER,
    place=r"^[0-6]\b",
)
def backbone_not_in_the_optimizer(ts: Any) -> Score:
    table, model = data.images(), models.cnn()
    optimizer = torch.optim.Adam(model[-1].parameters(), lr=3e-3)
    loops.fit(ts, model, table, CE(), optimizer, steps=150)
    return loops.classified(model, *table.test)


@bug(
    OPTIMIZER,
    "maximize=True: it climbs",
    causes=causes.SIGN,
)
def optimizer_that_climbs(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10)
    loops.fit(ts, model, table, CE(), loops.sgd(model, 1e-3, maximize=True))
    return loops.classified(model, *table.test)


@bug(
    OPTIMIZER,
    "gradients are clipped to a norm of 1e-6 and stochastic gradient descent follows them",
    causes=causes.CLIPPED,
)
def clipped_to_nothing(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10)
    loops.fit(ts, model, table, CE(), loops.sgd(model, 0.05), clip=1e-6)
    return loops.classified(model, *table.test)


@bug(
    OPTIMIZER,
    "Adam with a learning rate of 1",
    causes=causes.RATE,
)
def adam_with_rate_1(ts: Any) -> Score:
    table, model = data.images(), models.cnn()
    loops.fit(ts, model, table, CE(), loops.adam(model, 1.0), steps=150)
    return loops.classified(model, *table.test)


@bug(
    OPTIMIZER,
    "the warm-up counts in epochs what it gets in steps: step // 1000 is 0",
    causes=(*causes.DECAYED, "unchanged"),
)
def warm_up_that_never_begins(ts: Any) -> Score:
    table, model = data.sorted_tokens(), models.Classifier()
    optimizer = loops.adam(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step // 1000))
    loops.fit(ts, model, table, CE(), optimizer, schedule=schedule, size=32, steps=150)
    return loops.classified(model, *table.test)


@bug(
    OPTIMIZER,
    "a schedule for epochs is stepped per batch: the rate is 1e-9 after 30 of 250 steps",
    causes=causes.DECAYED,
)
def step_schedule_per_batch(ts: Any) -> Score:
    table, model = data.waves(), models.Recurrent()
    optimizer = loops.adam(model, 1e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.1)
    loops.fit(ts, model, table, nn.MSELoss(), optimizer, schedule=schedule, size=32, steps=200)
    return loops.regressed(model, *table.test)


@bug(
    OPTIMIZER,
    "the schedule rises: the factor was meant to be 0.98, not 1.08",
    causes=causes.DECAYED,
)
def schedule_that_rises(ts: Any) -> Score:
    table, model = data.cancer(), models.mlp(30, 32, 32, 2)
    optimizer = loops.sgd(model, 0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 1.08)
    loops.fit(ts, model, table, CE(), optimizer, schedule=schedule, size=32, steps=250)
    return loops.classified(model, *table.test)


@bug(
    OPTIMIZER,
    "AdamW with a decay of 20 on everything: the norms' scales go to zero",
    causes=(*causes.WEIGHT_DECAY, "optimizer-settings"),
)
def decay_of_a_transformer(ts: Any) -> Score:
    table, model = data.sorted_tokens(), models.Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=20.0)
    loops.fit(ts, model, table, CE(), optimizer, size=32, steps=150)
    return loops.classified(model, *table.test)


@bug(
    OPTIMIZER,
    "the epsilon of Adam is 1, copied from another task: steps are a thousandth of what they should be",
    causes=(*causes.RATE, "~eps"),
)
def epsilon_of_1(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 64, 10)
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-4, eps=1.0))
    return loops.classified(model, *table.test)
