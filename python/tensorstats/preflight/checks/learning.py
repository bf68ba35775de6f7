"""The checks that train a little: whether inputs matter, a few samples can be learnt, and others are helped by it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator

import torch

from tensorstats.preflight.checks.check import Check, Measurement, Skip, Subject
from tensorstats.preflight.checks.weights import is_affine
from tensorstats.preflight.subject.batch import Batch, leaves
from tensorstats.preflight.subject.training import DEFAULT_RATE, Curve

__all__ = ["Generalises", "InputIgnored", "OutputsAlike", "Overfit"]

# Real input must cost less than this part of what none costs (Karpathy's recipe; one alarm in 34 healthy programs).
_BEATS = 0.9
_FEWEST_HELD_OUT = 96
_STEPS = 120
_ORDERS = 20
_FOLDS = 3
_SURE = 4.0  # deviations of one fold that need no other


class InputIgnored(Check):
    """A model that learns no more from its inputs than from inputs that are all alike, or of the wrong samples."""

    id = "input-ignored"
    asks = "do a few samples train better with their inputs than with none?"
    default_limit = _BEATS
    why = "What it learns is one answer for all."
    advice = (
        "Follow a sample from the batch to the output: is it overwritten, normalised away, multiplied by 0, cut by "
        "detach or an index, or do the outputs not vary at all?"
    )
    leads_to = frozenset({"overfit", "generalises", "zero-gradient", "outputs-alike", "network-is-linear"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Train twins with real and with emptied inputs, and take the loss of the first over that of the second."""
        few = subject.few
        _differing(few)
        real = _best_training(subject)
        view = subject.few_view
        lowest = subject.few_room[1]
        constant = view.constant if view is not None and view.whole else math.nan
        if math.isfinite(constant) and real.last - lowest < 0.5 * self.limit * (constant - lowest):
            note = f"Trained, {few.size} samples cost {real.last:.4g}; the best constant costs {constant:.4g}."
            yield Measurement("inputs", (real.last - lowest) / (constant - lowest), note)
            return
        empty = subject.train(
            few.without_input(),
            len(real.losses),
            subject.own_or_default if real is subject.overfit else subject.default_optimizers,
            dropout=False,
            share=0.15,
        )
        if not real.complete or not empty.complete:
            raise Skip(f"a twin's training was not finished: {real.stopped or empty.stopped}")
        if not math.isfinite(empty.last) or not math.isfinite(real.last):
            raise Skip("the loss of a twin is not finite")
        room = max(empty.last - lowest, 1e-30)
        if subject.few_start - empty.last < 0.02 * abs(
            subject.few_start
        ) and subject.few_start - real.last < 0.02 * abs(subject.few_start):
            raise Skip("neither twin learnt anything; see overfit")
        ratio = (real.last - lowest) / room
        note = (
            f"After {len(real.losses)} steps on {few.size} samples the loss is {real.last:.4g} with their inputs and "
        )
        yield Measurement("inputs", ratio, f"{note}{empty.last:.4g} with inputs that say nothing.")


class OutputsAlike(Check):
    """Outputs that are the same for all samples but for rounding, at the start."""

    id = "outputs-alike"
    asks = "do the outputs of samples differ at the start?"
    default_limit = 1e5
    status = "warning"
    why = "What tells samples apart is lost on the way to the output, and gradients of the first layers with it."
    advice = "Look at the spread of each layer's output over samples: are weights tiny, units flat, or biases huge?"
    leads_to = frozenset({"overfit", "generalises", "network-is-linear"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the size of the outputs over their spread between samples, in evaluation mode."""
        with subject.mode(train=False):
            outputs = subject.outputs(subject.batch).double()
        if outputs.ndim == 0 or outputs.shape[0] != subject.batch.size or subject.batch.size < 2:
            raise Skip(f"outputs {list(outputs.shape)} are not one for each of {subject.batch.size} samples")
        size, spread = float(outputs.abs().max()), float((outputs - outputs[:1]).abs().max())
        if size == 0:
            raise Skip("all outputs are 0, as with a last layer that starts at 0")
        _differing(subject.batch)
        note = f"Outputs of about {size:.2g} differ between samples by {spread:.2g}."
        yield Measurement("(model)", size / max(spread, 1e-300), note)


class Overfit(Check):
    """A few samples that a training cannot learn by heart."""

    id = "overfit"
    asks = "can a few samples be learnt by heart?"
    why = (
        "A model that cannot learn eight samples will not learn more; something between input, loss and step is wrong."
    )
    advice = (
        "Look at a gradient and an update of the last layer: does the loss see what the model returns, do outputs vary "
        "with the input, does the optimizer hold what it should, and is the rate neither tiny nor huge?"
    )
    default_limit = 0.2

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take what is left of the loss of eight samples after at most 300 steps, of the way from start to lowest."""
        few = subject.few
        _differing(few)
        start, lowest = subject.few_room
        if not math.isfinite(start):
            raise Skip("the loss is not finite")
        if not subject.few_learnable:
            raise Skip(f"the start or the best constant costs {start:.3g} for {few.size} samples: nothing to learn")
        curve = subject.overfit
        left = _left(curve, start, lowest)
        if left > self.limit and curve.stopped:
            raise Skip(f"{curve.stopped}; {1 - left:.0%} of the way was made")
        tried = "the optimizer" if subject.optimizers else "Adam"
        if left > self.limit:
            other = subject.overfit_by_default
            if other.stopped and other.last > subject.overfit_goal:
                raise Skip(f"with other rates {other.stopped}")
            if other.last < curve.last:
                left, curve, tried = _left(other, start, lowest), other, "Adam, with a rate of 1e-3 or 1e-2"
        if left > self.limit and subject.few_view is not None and not subject.few_view.whole:
            raise Skip("the loss has several terms, and how low they can get together is not known")
        if left > self.limit and _small(subject):
            raise Skip("the outputs are a linear function of too few inputs to tell eight samples apart")
        note = f"{len(curve.losses)} steps of {tried} bring the loss of {few.size} samples from {curve.first:.4g} to "
        note += f"{curve.last:.4g}, where the best constant or the start costs {start:.4g}."
        yield Measurement("(model)", left, note)


class Generalises(Check):
    """Samples that are not helped by what was learnt of others, as with targets of the wrong samples."""

    id = "generalises"
    asks = "does what is learnt of some samples help with others?"
    default_limit = -2.5
    status = "warning"
    why = "Targets may not belong to their inputs (shuffled, shifted, joined wrongly), or inputs hold no hint of them."
    advice = "Look at a few samples after all preparation; train a linear model on the same (reference=True)."

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Train on two thirds; compare the loss of the rest with that of the same targets in other orders.

        A permutation test over three folds: the value is how many deviations the loss of the right order lies above
        the mean of the others.
        """
        batch = subject.batch
        if not batch.has_targets:
            raise Skip("targets are not known")
        if any(
            y.shape == x.shape and torch.equal(y, x) for _, y in leaves(batch.targets) for _, x in leaves(batch.inputs)
        ):
            raise Skip("targets are the inputs")
        if batch.size < _FEWEST_HELD_OUT:
            raise Skip(f"{batch.size} samples are too few to hold some out; at least {_FEWEST_HELD_OUT} are needed")
        own = bool(subject.optimizers) and subject.overfit.last <= subject.overfit_goal
        choices = [subject.default_optimizers, lambda: subject.default_optimizers(10 * DEFAULT_RATE)]
        best = math.inf
        for optimizers in [subject.own_or_default, *choices] if own else choices:
            best = min(best, _held_out_score(subject, optimizers))
            if best <= self.limit:
                break
        if not math.isfinite(best):
            raise Skip("the order of targets makes no difference")
        note = (
            f"After a training on two thirds of {batch.size} samples the loss of the others is no lower with their own "
        )
        note += f"targets than with each other's ({-best:.1f} deviations; chance gives less than {-self.limit:g})."
        yield Measurement("targets", best, note)


def _held_out_score(subject: Subject, optimizers: Callable[[], list[torch.optim.Optimizer]]) -> float:
    """The lowest score along three trainings, each with another third of the samples held out."""
    order = torch.randperm(subject.batch.size, generator=torch.Generator().manual_seed(1))
    folds: list[list[float]] = []
    for fold in range(_FOLDS):
        inside = torch.arange(len(order)) % _FOLDS == fold
        known, held_out = subject.batch.take(order[~inside]), subject.batch.take(order[inside])

        def check(held_out: Batch = held_out) -> float:
            subject.model.eval()
            score = _score(subject, held_out)
            subject.model.train()
            return score

        curve = subject.train(known, _STEPS, optimizers, check=check, every=_STEPS // 4, share=0.1)
        folds.append(curve.checked)
        # Deviations of independent folds add up as their squares do.
        together = [sum(scores) / math.sqrt(len(folds)) for scores in zip(*folds, strict=False)]
        lowest = min((score for score in together if math.isfinite(score)), default=math.inf)
        if lowest <= -_SURE:
            break
        if curve.stopped:
            raise Skip(curve.stopped)
    return lowest


def _score(subject: Subject, held_out: Batch) -> float:
    """The loss of the right targets, in deviations from the mean loss of targets in other orders."""
    generator = torch.Generator().manual_seed(2)
    right = subject.loss(held_out)
    orders = [torch.randperm(held_out.size, generator=generator) for _ in range(_ORDERS)]
    wrong = [subject.loss(held_out.with_targets_of(order)) for order in orders]
    spread = statistics.pstdev(wrong) if all(map(math.isfinite, wrong)) else 0.0
    return (right - statistics.fmean(wrong)) / spread if spread > 0 else math.nan


def _left(curve: Curve, start: float, lowest: float) -> float:
    return (curve.last - lowest) / (start - lowest) if math.isfinite(curve.last) else math.inf


def _best_training(subject: Subject) -> Curve:
    """The user's training on the few samples, or the default one where that reaches more."""
    own = subject.overfit
    if own.last <= subject.overfit_goal or not own.complete:
        return own
    other = subject.overfit_by_default
    return other if other.complete and other.last < own.last else own


def _differing(batch: Batch) -> None:
    """Skip where samples do not differ."""
    if batch.size < 2:
        raise Skip("one sample is too few")
    inputs = [tensor for _, tensor in leaves(batch.inputs) if batch.dim_of(tensor) is not None]
    if inputs and all(bool((t == t.narrow(batch.dim_of(t) or 0, 0, 1)).all()) for t in inputs):
        raise Skip("all inputs are the same")


def _small(subject: Subject) -> bool:
    """Whether a linear model has too few inputs to learn the few samples by heart."""
    try:
        affine = is_affine(subject)
    except Skip:
        return False
    features = sum(t[0].numel() for _, t in leaves(subject.few.inputs))
    return affine and features + 1 < subject.few.size
