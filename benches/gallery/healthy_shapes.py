"""Healthy programs with unusual shapes of model: sequences, residuals, gates, generators, parts that rest."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gallery import data, loops, models
from gallery.program import Score, healthy

CE = nn.CrossEntropyLoss


@healthy("a backbone that was trained before and is frozen; only the head learns", origin="section 5")
def frozen_backbone(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 64, 10)
    loops.trained_before(table, model, 5)
    for parameter in model[:4].parameters():
        parameter.requires_grad_(False)
    model[4] = nn.Linear(64, 10)
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-2))
    return loops.classified(model, *table.test)


@healthy("an autoencoder with a sigmoid at its end, for pixels from 0 to 1", origin="section 5")
def autoencoder(ts: Any) -> Score:
    pixels = data.digits(raw=True).inputs / 16
    table = data.split(pixels, pixels.clone())
    model = nn.Sequential(*models.mlp(64, 32, 12), nn.ReLU(), *models.mlp(12, 32, 64), nn.Sigmoid())
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model, 5e-3), steps=300)
    return loops.regressed(model, *table.test)


@healthy("a transformer that leaves padding out", origin="section 5")
def transformer_classifier(ts: Any) -> Score:
    table, model = data.sorted_tokens(), models.Classifier()
    loops.fit(ts, model, table, CE(), loops.adam(model), size=32, steps=200)
    return loops.classified(model, *table.test)


@healthy("a causal transformer over characters: the loss starts at the logarithm of 60")
def causal_language_model(ts: Any) -> Score:
    inputs, targets, size = data.text_windows()
    table, model = data.split(inputs, targets), models.Language(size)
    loops.fit(ts, model, table, CE(), loops.adam(model, 5e-3), size=32, steps=200)
    return loops.next_token(model, *table.test)


@healthy("an LSTM that forecasts a wave: its input nearly says the answer", origin="section 5")
def lstm_forecast(ts: Any) -> Score:
    table, model = data.waves(), models.Recurrent(nn.LSTM)
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model, 1e-2), size=32, steps=150)
    return loops.regressed(model, *table.test)


class Letters(nn.Module):
    """A GRU over characters, scores as cross-entropy takes them; `tied` uses the embedding as its head."""

    def __init__(self, size: int, *, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(size, 32)
        self.cell = nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, size)
        if tied:
            self.head.weight = self.embed.weight
            nn.init.normal_(self.embed.weight, std=0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.cell(self.embed(tokens))[0]).transpose(1, 2)


@healthy("a GRU over characters, of which some are rare", origin="section 5")
def gru_language_model(ts: Any) -> Score:
    inputs, targets, size = data.text_windows(16)
    table, model = data.split(inputs, targets), Letters(size)
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-2), size=32, steps=150, clip=1.0)
    return loops.next_token(model, *table.test)


@healthy("the head is the embedding: one parameter in two modules")
def tied_weights(ts: Any) -> Score:
    inputs, targets, size = data.text_windows(16)
    table, model = data.split(inputs, targets), Letters(size, tied=True)
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-2), size=32, steps=150)
    return loops.next_token(model, *table.test)


class Residual(nn.Module):
    """Pre-norm residual blocks; `zero` starts each branch at zero, `drop` leaves some out at random in training."""

    def __init__(self, depth: int = 6, *, zero: bool = False, drop: float = 0.0) -> None:
        super().__init__()
        self.enter = nn.Linear(64, 48)
        self.branches = nn.ModuleList(nn.Sequential(nn.LayerNorm(48), *models.mlp(48, 96, 48)) for _ in range(depth))
        self.leave = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 10))
        self.drop = drop
        if zero:
            for branch in self.branches:
                nn.init.zeros_(branch[3].weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for branch in self.branches:
            if self.training and self.drop and torch.rand(()) < self.drop:
                continue
            x = x + branch(x) / (1 if self.training else 1 / (1 - self.drop))
        return self.leave(x)


@healthy("pre-norm residual blocks: their sum grows through the depth", origin="section 5")
def pre_norm_residual(ts: Any) -> Score:
    table, model = data.digits(), Residual()
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-3), steps=200)
    return loops.classified(model, *table.test)


@healthy("residual branches that start at zero: their first layers get no gradient at the first step")
def branches_of_zeros(ts: Any) -> Score:
    table, model = data.digits(), Residual(zero=True)
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-3), steps=200)
    return loops.classified(model, *table.test)


@healthy("stochastic depth: some blocks are not called in some steps")
def stochastic_depth(ts: Any) -> Score:
    table, model = data.digits(), Residual(drop=0.3)
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-3), steps=250)
    return loops.classified(model, *table.test)


class Highway(nn.Module):
    """Layers that pass their input on until a gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(64, 48)
        self.layers = nn.ModuleList(nn.Linear(48, 48) for _ in range(5))
        self.gates = nn.ModuleList(nn.Linear(48, 48) for _ in range(5))
        self.leave = nn.Linear(48, 10)
        for gate in self.gates:
            nn.init.constant_(gate.bias, -3.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        for layer, gate in zip(self.layers, self.gates, strict=True):
            share = gate(x).sigmoid()
            x = share * layer(x).relu() + (1 - share) * x
        return self.leave(x)


@healthy("gates that are nearly closed at the start")
def closed_gates(ts: Any) -> Score:
    table, model = data.digits(), Highway()
    loops.fit(ts, model, table, CE(), loops.adam(model, 2e-3))
    return loops.classified(model, *table.test)


@healthy("a second model follows the first by an average and is evaluated; it is in no optimizer")
def average_of_weights(ts: Any) -> Score:
    table, model, criterion = data.digits(), models.mlp(64, 64, 10), CE()
    average = copy.deepcopy(model)
    optimizer = loops.adam(model)
    ts.preflight(model, (table.inputs[:64], table.targets[:64]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion) as monitor:
        for step, (inputs, targets) in enumerate(data.batches(table.train, 64, 250)):
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                    slow.lerp_(fast, 0.05)
                if step % 50 == 49:
                    scores = average(table.test_inputs)
                    loss = functional.cross_entropy(scores, table.test_targets)
                    monitor.log_validation(loss, predictions=scores, targets=table.test_targets)
    return loops.classified(average, *table.test)


class Experts(nn.Module):
    """The best of four experts answers; one gate starts so low that its expert rests."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(64, 4)
        self.experts = nn.ModuleList(models.mlp(64, 32, 10) for _ in range(4))
        with torch.no_grad():
            self.gate.bias[3] = -8.0

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.gate(x).softmax(1).topk(2, 1)
        out = x.new_zeros(len(x), 10)
        for number, expert in enumerate(self.experts):
            rows, place = (chosen == number).nonzero(as_tuple=True)
            if len(rows):
                out = out.index_add(0, rows, weights[rows, place, None] * expert(x[rows]))
        return out


@healthy("a mixture of experts of which one is hardly ever chosen")
def experts_with_an_idle_one(ts: Any) -> Score:
    table, model = data.digits(), Experts()
    loops.fit(ts, model, table, CE(), loops.adam(model))
    return loops.classified(model, *table.test)


class Rated(nn.Module):
    """Users times things."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.things = nn.Embedding(400, 6), nn.Embedding(300, 6)
        nn.init.normal_(self.users.weight, std=0.3)
        nn.init.normal_(self.things.weight, std=0.3)

    def forward(self, pairs: Tensor) -> Tensor:
        return (self.users(pairs[:, 0]) * self.things(pairs[:, 1])).sum(1)


@healthy("an embedding with rows that hardly any batch touches")
def rare_rows_of_an_embedding(ts: Any) -> Score:
    users = (torch.rand(6000) ** 4 * 399).long()
    things = (torch.rand(6000) ** 4 * 299).long()
    ratings = (torch.randn(400, 3)[users] * torch.randn(300, 3)[things]).sum(1) / 1.7
    table, model = data.split(torch.stack([users, things], 1), ratings), Rated()
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model, 0.03), size=256, steps=400)
    return loops.regressed(model, *table.train)
