"""Bugs of our own: calls of a loop in the wrong order, and models in the wrong mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gallery import causes, data, loops, models
from gallery.program import Score, bug

LOOP = "order and mode"
CE = nn.CrossEntropyLoss


@bug(
    LOOP,
    "zero_grad() between backward() and step(): every gradient is thrown away",
    causes=causes.THROWN,
)
def zero_grad_before_step(ts: Any) -> Score:
    table, model, criterion = data.digits(), models.mlp(64, 64, 10), CE()
    optimizer = loops.adam(model)
    ts.preflight(model, (table.inputs[:64], table.targets[:64]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for inputs, targets in data.batches(table.train, 64, 200):
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.zero_grad()
            optimizer.step()
    return loops.classified(model, *table.test)


@bug(
    LOOP,
    "zero_grad() is forgotten: gradients of all batches add up",
    causes=causes.RESET,
)
def zero_grad_forgotten(ts: Any) -> Score:
    table, model, criterion = data.images(), models.cnn(norm=False), CE()
    optimizer = loops.sgd(model, 0.02)
    ts.preflight(model, (table.inputs[:64], table.targets[:64]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for inputs, targets in data.batches(table.train, 64, 150):
            criterion(model(inputs), targets).backward()
            optimizer.step()
    return loops.classified(model, *table.test)


@bug(
    LOOP,
    "gradients are to accumulate over 8 batches, but zero_grad() comes with each: 7 of 8 are lost",
    causes=causes.THROWN + causes.RESET,
)
def accumulation_that_keeps_the_last(ts: Any) -> Score:
    table, model, criterion = data.digits(), models.mlp(64, 64, 10), CE()
    optimizer = loops.sgd(model, 0.01)
    ts.preflight(model, (table.inputs[:8], table.targets[:8]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for number, (inputs, targets) in enumerate(data.batches(table.train, 8, 480)):
            optimizer.zero_grad()
            (criterion(model(inputs), targets) / 8).backward()
            if number % 8 == 7:
                optimizer.step()
    return loops.classified(model, *table.test)


@bug(
    LOOP,
    "after the first validation the model stays in eval mode: batch normalisation learns no statistics any more",
    causes=causes.MODE,
)
def left_in_eval_mode(ts: Any) -> Score:
    table, criterion = data.digits(raw=True), CE()
    model = models.mlp(64, 64, 64, 10, norm=nn.BatchNorm1d, dropout=0.2)
    optimizer = loops.adam(model)
    ts.preflight(model, (table.inputs[:64], table.targets[:64]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion) as monitor:
        for step, (inputs, targets) in enumerate(data.batches(table.train, 64, 250)):
            if step % 50 == 5:
                model.eval()
                with torch.no_grad():
                    scores = model(table.test_inputs)
                    loss = criterion(scores, table.test_targets)
                monitor.log_validation(loss, predictions=scores, targets=table.test_targets)
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            optimizer.step()
    return loops.classified(model, *table.test)


@bug(
    LOOP,
    "validation in training mode: dropout is on, and batch normalisation learns from the test set",
    causes=causes.MODE,
)
def validated_in_training_mode(ts: Any) -> Score:
    table, criterion = data.digits(), CE()
    model = models.mlp(64, 64, 64, 10, norm=nn.BatchNorm1d, dropout=0.5)
    optimizer = loops.adam(model)
    ts.preflight(model, (table.inputs[:64], table.targets[:64]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion) as monitor:
        for step, (inputs, targets) in enumerate(data.batches(table.train, 64, 250)):
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            optimizer.step()
            if step % 25 == 24:
                with torch.no_grad():
                    scores = model(table.test_inputs)
                    loss = criterion(scores, table.test_targets)
                monitor.log_validation(loss, predictions=scores, targets=table.test_targets)
    return loops.classified(model, *table.test)


@bug(
    LOOP,
    "the loss is made a new tensor before backward(): no gradient reaches the model",
    causes=causes.THROWN,
)
def loss_made_anew(ts: Any) -> Score:
    table, model, criterion = data.diabetes(), models.mlp(10, 32, 1), nn.MSELoss()
    optimizer = loops.sgd(model, 0.05)
    ts.preflight(model, (table.inputs[:32], table.targets[:32]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion) as monitor:
        for step, (inputs, targets) in enumerate(data.batches(table.train, 32, 200)):
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            loss = torch.tensor(loss.item(), requires_grad=True)
            loss.backward()
            optimizer.step()
            if step % 50 == 49:
                with torch.no_grad():
                    predictions = model(table.test_inputs)
                    loss = criterion(predictions, table.test_targets)
                monitor.log_validation(loss, predictions=predictions, targets=table.test_targets)
    return loops.regressed(model, *table.test)
