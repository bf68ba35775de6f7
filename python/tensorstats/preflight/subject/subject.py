"""Owns what is checked: model, batch, loss and optimizers together, and the short trainings that checks share."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from torch import nn

from tensorstats.preflight.subject.batch import Batch
from tensorstats.preflight.subject.losses import LossView
from tensorstats.preflight.subject.passes import FirstPass, Passes, Skip
from tensorstats.preflight.subject.seen import seeing
from tensorstats.preflight.subject.training import DEFAULT_RATE, Curve, Training, twin_of

__all__ = ["FEW", "FEW_STEPS", "FirstPass", "Skip", "Subject"]

FEW = 8
FEW_STEPS = 300
SHORT_STEPS = 100


class Subject(Passes):
    """A model with its batch, loss and optimizers; every pass and training begins from the weights that were given."""

    @cached_property
    def few(self) -> Batch:
        """A few samples, with targets as different as there are."""
        targets = self.batch.targets
        order = torch.arange(self.batch.size)
        if isinstance(targets, torch.Tensor) and targets.numel() == self.batch.size and not targets.isnan().any():
            values = targets.detach().flatten().cpu().unique(return_inverse=True)[1]
            counts: dict[int, int] = {}
            rank = []
            for value in values.tolist():  # the first of each value, then the second of each ...
                counts[value] = counts.get(value, -1) + 1
                rank.append(counts[value])
            order = torch.tensor(rank).argsort(stable=True)
        return self.batch.take(order[: min(FEW, self.batch.size)])

    def twins(self, **changed: float) -> list[torch.optim.Optimizer]:
        """Twins of the user's optimizers."""
        return [twin_of(optimizer, **changed) for optimizer in self.optimizers]

    def default_optimizers(self, rate: float = DEFAULT_RATE) -> list[torch.optim.Optimizer]:
        """Adam on all that takes gradients."""
        held = [p for p in self.model.parameters() if p.requires_grad]
        if not held:
            raise Skip("no parameter takes gradients")
        # Adam refuses the sparse gradients of some embeddings.
        modules = [m for m in self.model.modules() if getattr(m, "sparse", None) is True]
        sparse = [p for module in modules for p in module.parameters(recurse=False) if p.requires_grad]
        dense = [p for p in held if not any(p is other for other in sparse)]
        found: list[torch.optim.Optimizer] = [torch.optim.Adam(dense, lr=rate)] if dense else []
        return [*found, torch.optim.SparseAdam(sparse, lr=rate)] if sparse else found

    def train(
        self,
        batch: Batch,
        steps: int,
        optimizers: Callable[[], list[torch.optim.Optimizer]],
        *,
        until: float = -math.inf,
        dropout: bool = True,
        check: Callable[[], float] | None = None,
        every: int = 10,
        share: float = 0.25,
        keep: bool = False,
    ) -> Curve:
        """A training from the weights that were given, which are there again afterwards unless `keep`.

        `share` is that of the time for all checks that it may take.
        """
        if not self.first.loss.requires_grad:
            raise Skip("the loss has no gradient to train with")
        self.reset()
        self.model.train()
        if not dropout:
            self._dropout_off()
        now = time.monotonic()
        until_when = min(now + share * self._seconds, self._deadline)
        training = Training(self.model, lambda: self.caller.run(batch)[0], optimizers(), until_when)
        try:
            return training.run(steps, until=until, check=check, every=every)
        finally:
            if not keep:
                self.reset()

    @cached_property
    def overfit(self) -> Curve:
        """A training on the few samples with the user's optimizer, or Adam without one."""
        return self.train(self.few, FEW_STEPS, self.own_or_default, until=self.overfit_goal, dropout=False, share=0.25)

    @cached_property
    def overfit_by_default(self) -> Curve:
        """The best of two trainings on the few samples with Adam, whatever the user's optimizer is."""
        curves = []
        for rate in (DEFAULT_RATE, 10 * DEFAULT_RATE):
            curve = self.train(
                self.few,
                FEW_STEPS,
                lambda rate=rate: self.default_optimizers(rate),  # type: ignore[misc]
                until=self.overfit_goal,
                dropout=False,
                share=0.2,
            )
            curves.append(curve)
            if curve.last <= self.overfit_goal or not curve.complete:
                break
        return min(curves, key=lambda curve: curve.last)

    @cached_property
    def overfit_goal(self) -> float:
        """The loss at which the few samples count as learnt: a fifth of the way left from the start to the lowest."""
        start, lowest = self.few_room
        return lowest + 0.2 * (start - lowest)

    @cached_property
    def few_room(self) -> tuple[float, float]:
        """From where to where the few samples are to be learnt.

        From the loss before training, or that of the best constant where this is lower: a wild start that falls to it
        has learnt nothing. To that of perfect predictions.
        """
        view, start = self.few_view, self.few_start
        if view is not None and view.whole and math.isfinite(view.constant):
            start = min(start, view.constant)
        return start, min(self.few_lowest, start)

    @property
    def few_learnable(self) -> bool:
        """Whether the few samples leave anything to learn beyond the best constant."""
        start, lowest = self.few_room
        return math.isfinite(start) and start - lowest > 1e-3 * max(abs(start), 1e-3)

    @cached_property
    def few_view(self) -> LossView | None:
        """What the loss knows of the few samples, in training mode without dropout."""
        with self.mode(train=True):
            self._dropout_off()
            with seeing(self.model) as seen:
                loss, outputs = self.caller.run(self.few)
            return self.view_of(FirstPass(loss, outputs, seen))

    @cached_property
    def few_start(self) -> float:
        """The loss of the few samples before training."""
        with self.mode(train=True):
            self._dropout_off()
            return self.loss(self.few)

    @property
    def few_lowest(self) -> float:
        """The loss of perfect predictions for them, as far as that is known."""
        view = self.few_view
        if view is None:
            return 0.0
        if view.whole:
            return view.lowest
        # One term of several: in proportion.
        now = view.evaluate(view.predictions)
        return self.few_start * view.lowest / now if now > 0 and view.lowest >= 0 else 0.0

    def own_or_default(self) -> list[torch.optim.Optimizer]:
        """Twins of the user's optimizers, or Adam where there are none."""
        return self.twins() if self.optimizers else self.default_optimizers()

    def _dropout_off(self) -> None:
        for module in self.model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()

    @cached_property
    def short(self) -> ShortTraining:
        """A training on the batch as the user would do it."""
        return ShortTraining(self)


class ShortTraining:
    """What a short training on the whole batch leaves: its curve, the losses after it in both modes, and what moved."""

    def __init__(self, subject: Subject) -> None:
        model = subject.model
        self.statistics = {
            name: module.running_mean.detach().clone()
            for name, module in model.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
        }
        self.curve = subject.train(subject.batch, SHORT_STEPS, subject.own_or_default, share=0.15, keep=True)
        try:
            self.unmoved = {
                name
                for name, module in model.named_modules()
                if name in self.statistics and module.training and self._is_still(name, module)
            }
            self.alike = dict(_rows_alike(model))
            self.train_loss = self.eval_loss = math.nan
            with contextlib.suppress(Exception):
                self.train_loss = self._loss(subject, train=True)
                self.eval_loss = self._loss(subject, train=False)
        finally:
            subject.reset()

    def _is_still(self, name: str, module: nn.Module) -> bool:
        return torch.equal(module.running_mean, self.statistics[name])  # type: ignore[arg-type]

    @staticmethod
    def _loss(subject: Subject, *, train: bool) -> float:
        subject.model.train(train)
        subject._dropout_off()
        return subject.loss(subject.batch)


def _rows_alike(model: nn.Module) -> Iterator[tuple[str, bool]]:
    """By weight of at least two units, whether all its units have the same weights; True for all zero."""
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 or parameter.shape[0] < 2 or not parameter.requires_grad:
            continue
        rows = parameter.detach().flatten(1)
        scale = float(rows.abs().max())
        if float((rows - rows[:1]).abs().max()) <= 1e-5 * scale:
            yield name, scale == 0
