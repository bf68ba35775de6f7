"""Healthy programs with unusual loops: adapters, frozen parts, low precision, accumulation, carried states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gallery import data, loops, models
from gallery.program import Score, healthy

CE = nn.CrossEntropyLoss


class Adapted(nn.Module):
    """A frozen layer with a low-rank addition whose second factor starts at zero."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Parameter(torch.randn(4, layer.in_features) / layer.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + x @ self.down.T @ self.up.T


@healthy("low-rank adapters on a frozen model: one factor starts at zero, the other gets no gradient at first")
def low_rank_adapters(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 64, 10)
    loops.trained_before(table, model, 5)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for place in (0, 2):
        model[place] = Adapted(model[place])
    model[4] = nn.Linear(64, 10)
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-2), steps=250)
    return loops.classified(model, *table.test)


@healthy("fine-tuning with a rate of 1e-5 below and 1e-2 at the head")
def rates_that_differ_by_layer(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 64, 10)
    loops.trained_before(table, model, 5)
    model[4] = nn.Linear(64, 10)
    groups = [{"params": model[:4].parameters(), "lr": 1e-5}, {"params": model[4].parameters(), "lr": 1e-2}]
    loops.fit(ts, model, table, CE(), torch.optim.AdamW(groups), steps=200)
    return loops.classified(model, *table.test)


@healthy("fine-tuning with batch normalisation kept in eval mode, its statistics learned before")
def norms_frozen_after_training(ts: Any) -> Score:
    table, model, criterion = data.images(), models.cnn(), CE()
    loops.trained_before(table, model, 5)
    model[-1] = nn.Linear(128, 10)
    for layer in (model[1], model[5]):
        layer.eval().requires_grad_(False)
    optimizer = loops.adam(model, 1e-3)
    ts.preflight(model, (table.inputs[:64], table.targets[:64]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for inputs, targets in data.batches(table.train, 64, 150):
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            optimizer.step()
    return loops.classified(model, *table.test)


@healthy("bfloat16 by autocast, weights in float32")
def autocast_in_bfloat16(ts: Any) -> Score:
    table, model, criterion = data.digits(), models.mlp(64, 64, 64, 10, norm=nn.LayerNorm), CE()
    optimizer = loops.adam(model)

    def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return criterion(model(batch[0]), batch[1])

    ts.preflight(model, (table.inputs[:64], table.targets[:64]), step, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for batch in data.batches(table.train, 64, 200):
            optimizer.zero_grad()
            step(model, batch).backward()
            optimizer.step()
    return loops.classified(model, *table.test)


@healthy("gradients of eight batches of eight, added up on purpose")
def accumulation_over_batches(ts: Any) -> Score:
    table, model, criterion = data.digits(), models.mlp(64, 64, 10), CE()
    optimizer = loops.adam(model, 5e-3)
    ts.preflight(model, (table.inputs[:8], table.targets[:8]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for number, (inputs, targets) in enumerate(data.batches(table.train, 8, 1000)):
            (criterion(model(inputs), targets) / 8).backward()
            if number % 8 == 7:
                optimizer.step()
                optimizer.zero_grad()
    return loops.classified(model, *table.test)


@healthy("mixed samples with mixed labels: each batch is new, and the loss has a floor")
def mixed_samples(ts: Any) -> Score:
    table, model, criterion = data.digits(), models.mlp(64, 64, 10), CE()
    optimizer = loops.adam(model, 5e-3)

    def mixed(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        share, order = torch.rand(len(inputs), 1), torch.randperm(len(inputs))
        soft = functional.one_hot(targets, 10).float()
        return torch.lerp(inputs, inputs[order], share), torch.lerp(soft, soft[order], share)

    ts.preflight(model, mixed(table.inputs[:64], table.targets[:64]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for batch in data.batches(table.train, 64, 250):
            inputs, targets = mixed(*batch)
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            optimizer.step()
    return loops.classified(model, *table.test)


@healthy("a state carried from window to window of one long text, cut off from its gradient on purpose")
def state_carried_on(ts: Any) -> Score:
    letters, size = data.text()
    streams = letters[: len(letters) // 16 * 16].view(16, -1)

    class Letters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(size, 32), nn.Linear(32, size)
            self.cell = nn.GRU(32, 32, batch_first=True)
            self.state: Tensor | None = None

        def forward(self, tokens: Tensor) -> Tensor:
            states, state = self.cell(self.embed(tokens), self.state)
            self.state = state.detach()
            return self.head(states).transpose(1, 2)

    model, criterion = Letters(), CE()
    optimizer = loops.adam(model, 1e-2)
    ts.preflight(model, (streams[:, :20], streams[:, 1:21]), criterion, optimizer=optimizer)
    model.state = None
    with ts.watch(model, optimizer, loss_fn=criterion):
        for step in range(200):
            place = step * 20 % (streams.shape[1] - 21)
            optimizer.zero_grad()
            criterion(model(streams[:, place : place + 20]), streams[:, place + 1 : place + 21]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    model.state = None
    return loops.next_token(model, streams[:, :200], streams[:, 1:201])
