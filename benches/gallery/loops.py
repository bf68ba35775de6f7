"""The plain loop that most programs share, written as its author would, and what a model has reached at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gallery.data import Table, batches
from gallery.program import Score

__all__ = ["adam", "classified", "fit", "next_token", "regressed", "sgd", "trained_before"]


def adam(model: nn.Module, rate: float = 3e-3, **options: Any) -> torch.optim.Optimizer:
    """Adam over what is to be trained."""
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate, **options)


def sgd(model: nn.Module, rate: float = 0.1, momentum: float = 0.9, **options: Any) -> torch.optim.Optimizer:
    """Stochastic gradient descent over what is to be trained."""
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=rate, momentum=momentum, **options)


def fit(
    ts: Any,
    model: nn.Module,
    data: Table,
    criterion: nn.Module | Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    steps: int = 250,
    size: int = 64,
    schedule: Any = None,
    clip: float | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
    validate: int = 50,
) -> None:
    """Preflight on the first batch, then train under a watch and validate now and then (`validate` 0: never).

    A loss that is a module is handed to the watch; what a function makes is logged in the loop.
    """
    is_module = isinstance(criterion, nn.Module)
    first = next(iter(batches(data.train, size, 1)))
    ts.preflight(model, (augment(first[0]) if augment else first[0], first[1]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, **({"loss_fn": criterion} if is_module else {})) as monitor:
        for step, (inputs, targets) in enumerate(batches(data.train, size, steps)):
            optimizer.zero_grad()
            predictions = model(augment(inputs) if augment else inputs)
            loss = criterion(predictions, targets)
            loss.backward()
            if not is_module:
                monitor.log_loss(loss, predictions=predictions, targets=targets)
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            if schedule is not None:
                schedule.step()
            if validate and (step + 1) % validate == 0:
                model.eval()
                with torch.no_grad():
                    predictions = model(data.test_inputs)
                    loss = criterion(predictions, data.test_targets)
                monitor.log_validation(loss, predictions=predictions, targets=data.test_targets)
                model.train()


def trained_before(table: Table, model: nn.Module, kinds: int) -> None:
    """What another script did: a hundred steps on the classes modulo `kinds`."""
    optimizer = adam(model)
    for inputs, targets in batches(table.train, 64, 100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets % kinds).backward()
        optimizer.step()


@torch.no_grad()
def classified(model: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor) -> Score:
    """The share of wrong answers, against that of the most frequent class."""
    if isinstance(model, nn.Module):
        model.eval()
    scores = model(inputs)
    answers = scores.argmax(1) if scores.dim() > 1 and scores.shape[1] > 1 else (scores.flatten() > 0).long()
    targets = targets.long().flatten() if scores.shape[-1] == 1 else targets
    wrong = (answers != targets).double().mean().item()
    return Score(wrong, 1 - targets.flatten().bincount().max().item() / targets.numel())


@torch.no_grad()
def regressed(model: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor) -> Score:
    """The mean squared error, against that of the mean."""
    if isinstance(model, nn.Module):
        model.eval()
    error = (model(inputs).double() - targets.double()).square().mean().item()
    return Score(error, targets.double().var(0, correction=0).mean().item())


@torch.no_grad()
def next_token(model: nn.Module, inputs: Tensor, targets: Tensor) -> Score:
    """The cross-entropy of the next token in nats, against that of the frequencies."""
    model.eval()
    shares = targets.flatten().bincount().double() / targets.numel()
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum().item()
    return Score(nn.functional.cross_entropy(model(inputs), targets).item(), entropy)
