"""The checks on what a loss answers: to predictions, to targets, to more samples, at the start and by its sign."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from tensorstats.preflight.checks.check import Check, Measurement, Skip, Subject
from tensorstats.preflight.subject.activations import last_activation

__all__ = [
    "FlatLoss",
    "IgnoredTargets",
    "InitialLoss",
    "LossSign",
    "Reduction",
]

_LEARNING = frozenset({"overfit", "input-ignored", "generalises", "learning-rate"})
_NUMBERS = ("mse", "l1", "huber", "regression")


class FlatLoss(Check):
    """A loss that does not depend on the predictions, or that has no gradient at all."""

    id = "loss-flat"
    asks = "does the loss depend on the predictions?"
    why = "Nothing can be learnt from it."
    leads_to = _LEARNING | {
        "no-gradient",
        "zero-gradient",
        "outputs-alike",
        "loss-ignores-targets",
        "vanishing-gradient",
        "initial-loss",
    }
    advice = (
        "Clip gradients, not the loss (torch.nn.utils.clip_grad_norm_); look for clamp, round, argmax, .item(), "
        ".detach() or torch.no_grad() between the outputs and the loss."
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Say 1 where the gradient is missing, or 0 everywhere while targets are not met."""
        first = subject.first
        if not first.loss.requires_grad:
            reason = "The loss has no graph: it was detached, or computed without gradients."
            if not any(p.requires_grad for p in subject.model.parameters()):
                reason = "No parameter of the model takes gradients."
            yield Measurement("loss", 1.0, reason)
            return
        if first.error:
            yield Measurement("loss", 1.0, f"Its backward pass fails with {first.error}.")
            return
        gradients = [g for g in first.gradients.values() if g is not None]
        if not gradients:
            yield Measurement("loss", 1.0, "No parameter gets a gradient from it.")
            return
        zero = all(not bool(g.any()) for g in gradients)
        low = abs(first.value) < 1e-6
        view = subject.view
        if view is not None and view.kind == "cross entropy" and view.classes == 1:
            return  # one-unit-softmax says it
        note = f"It is {first.value:.4g}, and its gradient is exactly 0 in all {len(gradients)} parameters."
        yield Measurement("loss", float(zero and not low), note)


class IgnoredTargets(Check):
    """A loss that is the same whatever the targets are."""

    id = "loss-ignores-targets"
    asks = "does the loss depend on the targets?"
    why = "The model is trained on something else than the targets."
    advice = (
        "Which variable does the loss compare with? Look for the input, the prediction or an old batch in its place."
    )
    leads_to = _LEARNING | {"initial-loss"}

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Say 1 where targets of other samples change nothing in it."""
        if not subject.batch.has_targets:
            raise Skip("targets are not known")
        order = torch.arange(subject.batch.size).roll(1)
        for shift in range(1, subject.batch.size):
            order = torch.arange(subject.batch.size).roll(shift)
            targets = subject.batch.with_targets_of(order).tensors()
            if any(
                name.startswith("targets") and not torch.equal(old, new)
                for (name, old), (_, new) in zip(subject.batch.tensors(), targets, strict=True)
            ):
                break
        else:
            raise Skip("all targets are the same")
        other = subject.batch.with_targets_of(order)
        outputs = subject.first.outputs
        if subject.caller.kind == "loss" and isinstance(outputs, torch.Tensor):
            # Predictions that differ widely: at the start all are nearly alike, and targets may change places.
            loss_fn, probe = subject.caller.loss_fn, _probe(outputs)
            assert loss_fn is not None
            one, two = (float(loss_fn(probe, batch.targets)) for batch in (subject.batch, other))
            note = f"It is {one:.6g} for random predictions with their targets, and with those of other samples too."
            yield Measurement("loss", float(one == two), note)
            return
        with subject.mode(train=False):
            if _spread(subject) < 1e-3:
                raise Skip("the model gives nearly the same output for every sample, so that targets may change places")
            losses = [subject.loss(batch) for batch in (subject.batch, other)]
            again = subject.loss(subject.batch)
        if losses[0] != again:
            raise Skip("two passes differ without a change of targets")
        note = f"It is {losses[0]:.6g} with its targets, and with those of other samples too."
        yield Measurement("loss", float(losses[0] == losses[1]), note)


def _probe(outputs: torch.Tensor) -> torch.Tensor:
    """Random outputs of the kind that the model returns: logits, or probabilities if it ends in such an activation."""
    logits = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs)
    last = last_activation(outputs)
    if last is None:
        return logits
    if "softmax" in last.name and outputs.ndim > 1:
        return logits.log_softmax(1) if last.name.startswith("log") else logits.softmax(1)
    return logits.sigmoid()


def _spread(subject: Subject) -> float:
    """How far the outputs of samples are apart, in parts of their size; infinite where they are not known."""
    try:
        outputs = subject.outputs(subject.batch)
    except Skip:
        return math.inf
    if outputs.ndim == 0 or outputs.shape[0] != subject.batch.size:
        return math.inf
    return float((outputs - outputs[:1]).abs().max()) / max(float(outputs.abs().max()), 1e-30)


class LossSign(Check):
    """A loss that is lower for wrong predictions than for right ones."""

    id = "loss-sign"
    asks = "is the loss lower for right predictions than for wrong ones?"
    why = "Training makes the model worse."
    advice = "Is the loss negated twice, or a score taken for a loss? Take the negative of what is to be large."
    leads_to = _LEARNING | {"initial-loss"}

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take how much more perfect predictions cost than wrong ones, in parts of both."""
        view = subject.known_view
        perfect = view.perfect
        loss_fn, batch = subject.caller.loss_fn, subject.batch
        if perfect is None:
            raise Skip("which predictions are right is not known for this loss")
        evaluate: Callable[[torch.Tensor], float] = view.evaluate
        if subject.caller.kind == "loss" and loss_fn is not None and isinstance(subject.first.outputs, torch.Tensor):
            if subject.first.outputs.shape != perfect.shape:
                raise Skip("the loss is not fed what the model returns")
            evaluate = lambda p: float(loss_fn(p, batch.targets))  # noqa: E731 - one of two, chosen here
        elif math.isclose(subject.first.value, -view.evaluate(view.predictions), rel_tol=1e-4):
            evaluate = lambda p: -view.evaluate(p)  # noqa: E731 - one of two, chosen here
        elif not view.whole:
            raise Skip("the loss has several terms")
        with torch.no_grad():
            if view.kind in ("cross entropy", "nll"):
                wrong = perfect.roll(1, view.class_dim)
            elif view.kind.startswith("binary"):
                wrong = -perfect if view.kind == "binary logits" else 1 - perfect
            else:
                wrong = perfect + 1.0
            right_loss, wrong_loss = evaluate(perfect), evaluate(wrong)
        size = max(abs(right_loss), abs(wrong_loss), 1e-30)
        note = f"Right predictions cost {right_loss:.4g}, wrong ones {wrong_loss:.4g}."
        yield Measurement("loss", (right_loss - wrong_loss) / size, note, limit=1e-3)


class Reduction(Check):
    """A loss that grows with the number of samples."""

    id = "loss-reduction"
    asks = "is the loss independent of the number of samples?"
    default_limit = 1.5
    status = "warning"
    why = "Gradients grow with the batch, so that a rate that suits one batch size does not suit another."
    advice = 'Take reduction="mean", or divide the rate by the batch size.'
    leads_to = frozenset({"learning-rate", "overfit", "initial-loss"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Double the batch; the loss should stay."""
        size = min(subject.batch.size, 32)
        once = torch.arange(size)
        with subject.mode(train=False):
            one = subject.loss(subject.batch.take(once))
            two = subject.loss(subject.batch.take(torch.cat([once, once])))
            if one != subject.loss(subject.batch.take(once)):
                raise Skip("two passes differ, so that the losses cannot be compared")
        ratio = two / one if one else 1.0
        if subject.optimizers and all(_scale_free(optimizer) for optimizer in subject.optimizers):
            yield Measurement("loss", 1.0, "It grows with the batch, which steps of this optimizer do not depend on.")
        else:
            calm = bool(subject.optimizers) and max(subject.short.curve.ratios.values(), default=0.0) < 0.1
            yield Measurement("loss", 1.0 if calm else ratio, f"Twice the batch gives {ratio:.3g} times the loss.")


def _scale_free(optimizer: torch.optim.Optimizer) -> bool:
    """Whether steps have a size of their own: Adam and those like it."""
    return any("betas" in group or "alpha" in group for group in optimizer.param_groups)


class InitialLoss(Check):
    """A loss that begins far above what somebody who knows nothing would get."""

    id = "initial-loss"
    asks = "does the loss begin at what an equal guess costs (ln k, or the spread of the targets)?"
    default_limit = 2.0
    status = "warning"
    why = "The model begins sure of what is wrong; the first steps are spent on unlearning it."
    advice = (
        "Are the last layer's weights drawn too wide, or its inputs too large? torch's own initialisation begins at "
        "about the loss of equal guesses. For numbers, start the last bias at the mean of the targets."
    )
    leads_to = frozenset({"learning-rate"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the first loss over that of equal guesses, or of the worse of 0 and the best constant."""
        view = subject.known_view
        start = view.evaluate(view.predictions)
        reference = view.uninformed
        if not (math.isfinite(start) and math.isfinite(reference)) or reference <= 0:
            raise Skip(f"the loss begins at {start:.4g}, and what an equal guess costs is not known")
        limit = 5 * self.limit if view.kind in _NUMBERS else None
        ratio = start / reference
        note = f"It begins at {start:.4g}, where an equal guess costs {reference:.4g}."
        if view.classes > 1:
            note = f"It begins at {start:.4g}, where an equal guess among {view.classes} classes costs {reference:.4g}."
        failing = ratio > 5 * (limit or self.limit)
        yield Measurement("loss", ratio, note, limit=limit, status="failure" if failing else None)
