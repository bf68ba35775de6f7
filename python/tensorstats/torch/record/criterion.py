"""Counts what a loss was given in recorded steps: classes, ranges, errors; keeps no tensor and judges nothing.

What is counted on a device travels with the other numbers of its step. Of predictions with many values, rows evenly
taken are looked at beyond their summary; of more classes than `CLASSES_COUNTED` none are.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tensorstats._core import Summary
from tensorstats.device.backend import Statistics, is_countable
from tensorstats.device.numbers import Numbers
from tensorstats.device.results import PendingSummary
from tensorstats.rules.fed import ABSOLUTE, CLASS_LOSSES, HUBER, LossKind, LossState, LossStep, varies
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.record.collect import PendingList
from tensorstats.torch.record.guess import Guess

__all__ = ["CriterionCall", "CriterionRecorder", "CriterionStep"]

# Class counts of a step take one number each: half a megabyte on its way from a device at most.
CLASSES_COUNTED = 1 << 16
# Pairs of target and prediction: 32 KiB.
CLASSES_CONFUSED = 64
# Columns of targets that have a constant of their own; beyond, one constant stands for all.
COLUMNS = 1024
# Values of predictions that are looked at row by row.
ROWS_VALUES = 1 << 20


class CriterionCall:
    """One call of the loss, until its numbers are on the host."""

    def __init__(self, step: LossStep) -> None:
        self.step = step
        self.summaries: dict[str, Summary] = {}
        self.parts: list[tuple[str, int]] = []  # names and lengths, in the order of the numbers
        self.numbers: Numbers | list[float] = []
        self.per_target = True  # whether the loss is the mean over targets, else the sum
        self.guess: Guess | None = None  # finds the kind

    def finish(self, state: LossState) -> LossStep:
        """The numbers, once they are on the host."""
        step, numbers = self.step, self.numbers
        given = numbers.read() if isinstance(numbers, Numbers) else numbers
        start, found = 0, {}
        for name, length in self.parts:
            found[name] = np.array(given[start : start + length], dtype=np.float64)
            start += length
        for name, summary in self.summaries.items():
            setattr(step, name, summary)
        _fill(step, found)
        step.varied = step.count == 1 or varies(step)
        if "shift" in found:
            state.shift = float(found["shift"][0])
        if not self.per_target:
            step.value /= max(step.count, 1)
        if self.guess is not None:
            was_open = self.guess.kind is None
            factor = self.guess.decide(step, found)
            if factor != 1.0:
                state.rescale(factor)
            if was_open and step.kind.name == HUBER:
                step.constant = math.nan  # that of an absolute error
        return step


def _fill(step: LossStep, found: dict[str, np.ndarray[Any, np.dtype[np.float64]]]) -> None:
    """Put numbers where they belong."""
    for name in ("value", "spread", "rows_off", "columns_off", "scores_off", "constant"):
        if name in found:
            setattr(step, name, float(found[name][0]))
    for name in ("column_sums", "column_squares"):
        if name in found:
            setattr(step, name, found[name])
    if "beyond" in found:
        low, negative, high = (int(number) for number in found["beyond"])
        step.beyond = low, negative, high
    if "target_counts" in found:
        counts = found["target_counts"].astype(np.int64)
        step.target_counts, step.ignored = counts[:-1], int(counts[-1])
        step.count = int(counts[:-1].sum())
    if "confusion" in found:
        step.confusion = found["confusion"][:-1].astype(np.int64).reshape(step.classes, step.classes)
        step.predicted_counts = step.confusion.sum(axis=0)
    elif "predicted_counts" in found:
        step.predicted_counts = found["predicted_counts"][:-1].astype(np.int64)


class CriterionStep:
    """The calls of the loss in one recorded step."""

    def __init__(self, statistics: Statistics) -> None:
        self.calls: list[CriterionCall] = []
        self.pending = PendingList(statistics)

    @property
    def on_devices(self) -> bool:
        """Whether numbers must be copied first."""
        return any(isinstance(call.numbers, Numbers) for call in self.calls)

    def deliver(self, number: int, state: LossState) -> None:
        """Add the step to what is known of the run."""
        self.pending.settle()
        merged: LossStep | None = None
        for call in self.calls:
            step = call.finish(state)
            if merged is None:
                merged = step
            else:
                merged.merge(step)
        if merged is not None:
            state.add(number, merged)


class _Middle:
    """The mean of the medians of the batches so far: near the median of all, without keeping any."""

    def __init__(self) -> None:
        self._mean: torch.Tensor | None = None
        self._batches = 0

    def expected(self, median: torch.Tensor) -> torch.Tensor:
        """That of the batches before, and of the first batch its own; then take this one in."""
        before = self._mean
        if before is None or before.device != median.device:
            before, self._batches = median, 0
        self._batches += 1
        self._mean = before + (median - before) / self._batches
        return before


class CriterionRecorder:
    """Counts the calls of a loss in the open step.

    Attributes
    ----------
    open : CriterionStep
        Of the step that is open.
    """

    def __init__(self, statistics: Statistics, guard: Guard) -> None:
        self._statistics = statistics
        self._guard = guard
        self._shift: torch.Tensor | None = None
        self._guess = Guess()
        self._middle = _Middle()
        self.open = CriterionStep(statistics)

    def take(self) -> CriterionStep:
        """The calls of the step that has ended; the next one begins."""
        taken, self.open = self.open, CriterionStep(self._statistics)
        return taken

    @torch.no_grad()
    def record(
        self,
        predictions: torch.Tensor,
        targets: torch.Tensor,
        loss: torch.Tensor | float,
        kind: LossKind | None,
        criterion: nn.Module | None = None,
    ) -> None:
        """One call of the loss. A `kind` of None is told from the values."""
        if not is_countable(predictions) or not is_countable(targets) or not predictions.is_floating_point():
            self._guard.leave_out("the loss", "predictions and targets must be dense tensors of real numbers")
            return
        if predictions.numel() == 0 or targets.numel() == 0:
            return
        known, kind = kind is not None, kind or self._guess.kind
        parts: dict[str, torch.Tensor] = {}
        step = LossStep(kind or LossKind(), count=targets.numel(), batch=len(targets) if targets.dim() else 1)
        step.prediction_shape, step.target_shape = tuple(predictions.shape), tuple(targets.shape)
        call = CriterionCall(step)
        if not known:
            call.guess = self._guess
        given = loss if isinstance(loss, torch.Tensor) else predictions.new_tensor(loss)
        call.per_target = not known or getattr(criterion, "reduction", "mean") != "sum"
        parts["value"] = given.detach().to(torch.float64 if given.is_cpu else torch.float32).mean()
        if _are_classes(kind, predictions, targets):
            ignore = int(getattr(criterion, "ignore_index", -100))
            self._count_classes(step, parts, predictions, targets, ignore)
        else:
            self._count_values(call, parts, predictions, targets, kind, criterion)
        if not known:
            parts.update(self._guess.candidates(predictions, targets))
        self._summarise(call, "predictions", predictions)
        self._send(call, parts, predictions)
        self.open.calls.append(call)

    def _send(self, call: CriterionCall, parts: dict[str, torch.Tensor], beside: torch.Tensor) -> None:
        call.parts = [(name, part.numel()) for name, part in parts.items()]
        numbers = [part.to(beside.device) for part in parts.values()]
        if self._statistics.uses_core(beside):
            call.numbers = torch.cat([number.reshape(-1).to(torch.float64) for number in numbers]).tolist()
        else:
            call.numbers = self._statistics.numbers(numbers)

    def _summarise(self, call: CriterionCall, name: str, x: torch.Tensor) -> None:
        counted, _ = self._statistics.parts(x, histogram=False)
        if isinstance(counted, PendingSummary):
            self.open.pending.add(counted, lambda state, _first: call.summaries.__setitem__(name, state))
        else:
            call.summaries[name] = counted

    # --- classes ------------------------------------------------------------------------------------------------------

    def _count_classes(
        self,
        step: LossStep,
        parts: dict[str, torch.Tensor],
        predictions: torch.Tensor,
        targets: torch.Tensor,
        ignore: int,
    ) -> None:
        rows = predictions.movedim(1, -1) if predictions.dim() > 1 else predictions[None]
        step.classes = classes = rows.shape[-1]
        labels = targets.reshape(-1).to(torch.int64)
        rows = rows.reshape(-1, classes)
        stride = max(1, math.ceil(rows.numel() / ROWS_VALUES))
        looked_at = rows[::stride]
        if predictions.dim() == 2:
            _look_at_rows(parts, looked_at, whole=stride == 1)
        else:
            _look_at_rows(parts, looked_at, whole=False)
        if classes > CLASSES_COUNTED:
            return
        labels = torch.where((labels == ignore) | (labels < 0) | (labels >= classes), classes, labels)
        parts["target_counts"] = _count(labels, classes + 1)
        chosen, labels = looked_at.argmax(dim=1), labels[::stride]
        known = labels < classes
        if classes <= CLASSES_CONFUSED:
            pairs = torch.where(known, labels * classes + chosen, classes * classes)
            parts["confusion"] = _count(pairs, classes * classes + 1)
        else:
            parts["predicted_counts"] = _count(torch.where(known, chosen, classes), classes + 1)

    # --- values -------------------------------------------------------------------------------------------------------

    def _count_values(
        self,
        call: CriterionCall,
        parts: dict[str, torch.Tensor],
        predictions: torch.Tensor,
        targets: torch.Tensor,
        kind: LossKind | None,
        criterion: nn.Module | None,
    ) -> None:
        step = call.step
        self._summarise(call, "targets", targets)
        if predictions.shape == targets.shape:
            self._summarise(call, "error", predictions - targets)
        values = targets.to(torch.float64 if targets.is_cpu else torch.float32)
        if self._shift is None or self._shift.device != values.device:
            self._shift = values.mean()
        parts["shift"] = self._shift
        columns = values.numel() // max(step.batch, 1)
        table = values.reshape(step.batch, -1) - self._shift
        if columns <= COLUMNS:
            parts["column_sums"], parts["column_squares"] = table.sum(0), table.square().sum(0)
        else:
            parts["column_sums"], parts["column_squares"] = table.sum()[None], table.square().sum()[None]
        parts["beyond"] = torch.stack([(values < -1).sum(), (values < 0).sum(), (values > 1).sum()])
        if step.kind.name in CLASS_LOSSES:  # of class probabilities
            step.classes = predictions.shape[1] if predictions.dim() > 1 else predictions.numel()
            step.count = predictions.numel() // max(step.classes, 1)
        if kind is None or step.kind.name in (ABSOLUTE, HUBER):
            median = values.median()
            middle = self._middle.expected(median).expand(values.shape)
            of: Any = functional.l1_loss
            if step.kind.name == HUBER:
                of = _huber_of(criterion)
            parts["constant"] = of(middle, values).mean()
        if predictions.dim() == 2:
            stride = max(1, math.ceil(predictions.numel() / ROWS_VALUES))
            _look_at_rows(parts, predictions[::stride], whole=stride == 1)
        elif predictions.dim() == 1:
            _look_at_rows(parts, predictions[:, None], whole=True)


def _are_classes(kind: LossKind | None, predictions: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether targets are indices of classes."""
    if kind is not None and kind.name not in CLASS_LOSSES:
        return False
    if targets.is_floating_point() or targets.dtype == torch.bool or predictions.dim() != targets.dim() + 1:
        return False
    return predictions.shape[:1] + predictions.shape[2:] == targets.shape or predictions.dim() == 1


def _huber_of(criterion: nn.Module | None) -> Any:
    """The Huber loss of a module, as its mean."""
    if isinstance(criterion, nn.HuberLoss):
        return partial(functional.huber_loss, delta=criterion.delta)
    return partial(functional.smooth_l1_loss, beta=getattr(criterion, "beta", 1.0))


def _count(indices: torch.Tensor, size: int) -> torch.Tensor:
    """How often each index appears; unlike torch.bincount it waits for no device."""
    counts = torch.zeros(size, dtype=torch.int64, device=indices.device)
    return counts.scatter_add_(0, indices, torch.ones_like(indices))


def _look_at_rows(parts: dict[str, torch.Tensor], rows: torch.Tensor, *, whole: bool) -> None:
    """What the sums of rows and columns tell, and how much outputs differ between samples."""
    rows = rows.to(torch.float32) if rows.element_size() < 4 else rows
    if len(rows) > 1:
        parts["spread"] = (rows.amax(0) - rows.amin(0)).max() / rows.abs().max().clamp_min(1e-37)
        if whole:
            columns = rows.sum(0)
            parts["columns_off"] = (columns - 1.0).abs().max()
    if rows.shape[1] > 1:
        parts["rows_off"] = (rows.sum(1) - 1.0).abs().max()
        parts["scores_off"] = rows.logsumexp(1).abs().max()
