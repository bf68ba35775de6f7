"""The checks on what a loss is fed: shapes that are spread over each other, activations before it, its targets."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from tensorstats.preflight.checks.check import Check, Measurement, Skip, Status, Subject
from tensorstats.preflight.subject.activations import last_activation

__all__ = ["Broadcast", "LossInput", "TargetValues"]

_LEARNING = frozenset({"overfit", "input-ignored", "generalises", "learning-rate"})


class Broadcast(Check):
    """Predictions and targets of shapes that are not the same, and are spread over each other."""

    id = "loss-broadcast"
    asks = "do predictions and targets have one shape?"
    why = "Every prediction is compared with every target: the best answer is then the mean, whatever the input."
    advice = "Bring both to one shape before the loss: predictions.squeeze(1), or targets.unsqueeze(1)."
    leads_to = _LEARNING | {"initial-loss", "loss-reduction", "loss-ignores-targets", "loss-sign"}

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Say 1 where the shapes differ and the loss is another once they do not."""
        view = subject.known_view
        mine, theirs = tuple(view.predictions.shape), tuple(view.targets.shape)
        if not view.targets.is_floating_point() or view.kind in ("cross entropy", "nll") or mine == theirs:
            yield Measurement("loss", 0.0)
            return
        matters = 1.0
        if view.predictions.numel() == view.targets.numel():
            # Predictions that differ, so that it shows which is compared with which.
            probe = torch.rand(mine, generator=torch.Generator().manual_seed(0)).to(view.predictions) * 0.8 + 0.1
            as_is, fitting = view.evaluate(probe), view.evaluate(probe, view.targets.reshape(mine))
            matters = float(not math.isclose(as_is, fitting, rel_tol=1e-5))
        elif view.kind == "other":
            raise Skip("the loss was written by hand and may compare what it likes")
        yield Measurement("loss", matters, f"Predictions are {list(mine)} and targets {list(theirs)}.")


class LossInput(Check):
    """An activation before a loss that has its own, or a loss that misses the one it needs."""

    id = "loss-input"
    asks = "is the loss fed what it expects: logits, log-probabilities or probabilities?"
    default_limit = 0.1
    leads_to = _LEARNING | {"initial-loss", "vanishing-gradient", "output-range", "saturated-at-start"}

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the part of the way to 0 that the activation shuts off."""
        view = subject.known_view
        last = last_activation(view.output)
        if view.kind in ("nll", "kl"):
            sums = view.predictions.double().exp().sum(view.class_dim)
            off = float((sums - 1).abs().mean())
            note = f"{view.kind.upper()} takes log-probabilities, whose exponentials add up to 1; "
            note += f"here to {float(sums.mean()):.3g}."
            yield Measurement("loss", off, f"{note} Put log_softmax before it, or take cross_entropy of the logits.")
        elif view.kind == "cross entropy" and last is not None and last.name != "log_softmax":
            if view.classes == 1:
                return  # one-unit-softmax says it
            low, high = last.low, last.high
            floor = math.log1p((view.classes - 1) * math.exp(low - high)) / math.log(view.classes)
            note = (
                f"The outputs go through {last.name} before a cross entropy, which has a softmax of its own: the loss "
                f"cannot fall below {floor * math.log(view.classes):.3g}."
            )
            if last.name == "relu":
                note = (
                    "The outputs go through relu before a cross entropy: logits below 0 are lost, and their gradient."
                )
                floor = 2 * self.limit
            status: Status | None = "warning" if last.name == "relu" else None
            yield Measurement("loss", floor, f"{note} Hand it the values before {last.name}.", status=status)
        elif view.kind == "binary logits" and last is not None and last.name in ("sigmoid", "softmax", "relu"):
            note = f"The outputs go through {last.name} before a loss that has a sigmoid of its own: it sees "
            note += "probabilities of a half and more alone." if last.name != "relu" else "no negative logit."
            yield Measurement("loss", 1.0, f"{note} Hand it the values before {last.name}.")
        else:
            yield Measurement("loss", 0.0)


class TargetValues(Check):
    """Targets that are none for this loss: labels of -1 and 1 for a loss of probabilities, shares that add up to 2."""

    id = "loss-targets"
    asks = "are the targets such as the loss expects?"
    why = "The loss then has its lowest point where no right answer lies."
    advice = "Labels of two classes are 0 and 1; shares of several add up to 1."
    leads_to = _LEARNING | {"initial-loss", "loss-sign", "output-range"}

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Count targets outside of what the loss expects."""
        view = subject.known_view
        targets = view.targets.double()
        if view.kind in ("binary", "binary logits"):
            bad = (targets < 0) | (targets > 1)
            note = f"{int(bad.sum())} of {bad.numel()} targets of a binary cross entropy are outside 0 to 1"
            yield Measurement(
                "targets", int(bad.sum()), f"{note} ({float(targets.min()):g} to {float(targets.max()):g})."
            )
        elif (
            view.kind == "cross entropy"
            and view.targets.is_floating_point()
            and targets.shape == view.predictions.shape
        ):
            bad = ((targets.sum(view.class_dim) - 1).abs() > 1e-2) | (targets < 0).any(view.class_dim)
            note = f"{int(bad.sum())} of {bad.numel()} targets are no shares of classes that add up to 1."
            yield Measurement("targets", int(bad.sum()), note)
        else:
            yield Measurement("targets", 0.0)
