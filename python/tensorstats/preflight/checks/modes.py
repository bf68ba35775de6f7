"""The checks on training and evaluation mode: passes that differ, statistics that stand still, modes that disagree."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from tensorstats.preflight.checks.check import Check, Measurement, Skip, Subject
from tensorstats.preflight.subject.batch import leaves
from tensorstats.preflight.subject.seen import OUTSIDE

__all__ = ["EvalDiffers", "NormStatistics", "StrongDropout", "TrainEval"]


class EvalDiffers(Check):
    """Two passes in evaluation mode that differ: dropout that never ends, or noise."""

    id = "eval-differs"
    asks = "do two passes in evaluation mode agree?"
    default_limit = 1e-6
    leads_to = frozenset({"train-eval"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Compare the outputs of two passes, and name what drew random numbers."""
        with subject.mode(train=False):
            whole = subject.caller.outputs(subject.batch)
            one = subject.outputs(subject.batch)
            two = subject.outputs(subject.batch)
        scale = max(float(one.abs().max()), 1e-30)
        change = float((one - two).abs().nan_to_num().max()) / scale
        # What a step draws around the model is its augmentation.
        seen = [call for call in subject.evaluated.of("dropout", "noise") if call.where != OUTSIDE]
        if not seen and any(call.where == OUTSIDE for call in subject.evaluated.of("noise")):
            raise Skip("the step draws random numbers outside of the model")
        dice = [call for call in seen if call.kind == "dropout"]
        if dice:
            note = f"The outputs differ: {dice[0].name} with p={dice[0].share:g} stays active."
            advice = "Hand it training=self.training (dropout_p=self.p if self.training else 0.0), or use nn.Dropout."
            yield Measurement(dice[0].where or "(model)", change, f"{note} {advice}")
            return
        noise = [call for call in seen if call.kind == "noise"]
        several = not isinstance(whole, torch.Tensor) and sum(1 for _ in leaves(whole)) > 1
        if noise and several:
            # A model that samples hands over what it sampled from, as a VAE its means and variances.
            yield Measurement("(model)", 0.0, f"It samples with {noise[0].name} and returns several tensors.")
            return
        note = f"The outputs differ by {change:.2g} of their size."
        note += f" {noise[0].name} was called." if noise else ""
        note += " Predictions are then a matter of luck; draw numbers in training mode alone (if self.training)."
        yield Measurement((noise[0].where if noise else "") or "(model)", change, note, status="warning")


class StrongDropout(Check):
    """Dropout that leaves hardly anything."""

    id = "dropout-too-strong"
    asks = "does dropout keep enough?"
    default_limit = 0.75
    status = "warning"
    why = "p is the share that is dropped, not the share that is kept."
    advice = "Take 0.1 to 0.5."
    leads_to = frozenset({"train-eval"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the largest p of all dropouts that were called in training mode."""
        for call in subject.first.seen.of("dropout"):
            yield Measurement(call.where or "(model)", call.share, f"{call.share:.0%} of the values are dropped.")


class NormStatistics(Check):
    """A batch norm that trains on statistics of the batch, and whose running ones stand still or keep nothing."""

    id = "batch-norm-statistics"
    asks = "do batch norms learn the statistics that evaluation uses?"
    why = "Evaluation normalises with other numbers than training."
    advice = "momentum is the weight of the new batch, 0.1 by default (Keras writes 0.9 for what is 0.1 here)."
    leads_to = frozenset({"train-eval"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Say 1 for one whose running mean is the same after a training, and for a momentum of 0.9 and more."""
        norms = {
            name: module
            for name, module in subject.model.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
        }
        if not norms:
            raise Skip("there is no batch norm")
        short = subject.short
        for name, module in norms.items():
            momentum = module.momentum
            if name in short.unmoved and len(short.curve.losses) > 1:
                steps = len(short.curve.losses)
                note = f"Its running mean did not change in {steps} steps of training (momentum {momentum})."
                yield Measurement(name, 1.0, note)
            elif momentum is not None and momentum >= 0.9:
                note = f"Its momentum is {momentum:g}: the running statistics are those of the last batch."
                yield Measurement(name, 1.0, note, status="warning")
            else:
                yield Measurement(name, 0.0)


class TrainEval(Check):
    """After a short training, a loss in evaluation mode far above that in training mode on the same batch."""

    id = "train-eval"
    asks = "after a little training, is the loss in evaluation mode that of training mode?"
    default_limit = 0.5
    status = "warning"
    why = "What was learnt is lost where the mode is switched."
    advice = (
        "Look at batch norms (momentum, batches too small or too unlike each other, one norm used for two kinds of "
        "input) and at what your forward does with self.training."
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the part of what was learnt that is lost in evaluation mode, dropout aside."""
        short = subject.short
        start, train, evaluated = short.curve.first, short.train_loss, short.eval_loss
        if not all(map(math.isfinite, (start, train))):
            raise Skip("the loss is not finite")
        learnt = start - train
        if learnt <= 0.1 * abs(start):
            raise Skip("the short training learnt too little to lose")
        lost = (evaluated - train) / learnt if math.isfinite(evaluated) else math.inf
        note = f"{start:.4g} at the start; then {train:.4g} in training mode and {evaluated:.4g} in evaluation mode."
        yield Measurement(
            "(model)", lost, note, status="failure" if lost > 2 * self.limit and evaluated > start else None
        )
