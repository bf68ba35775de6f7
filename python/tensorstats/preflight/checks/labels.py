"""The checks on targets: one class alone, extreme imbalance, and numbers far beyond what a model starts with."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tensorstats.preflight.checks.check import Check, Measurement, Skip, Status, Subject

__all__ = ["Imbalance", "OneClass", "TargetScale"]

_FEWEST_SAMPLES = 16


class OneClass(Check):
    """Targets that are all the same."""

    id = "one-class"
    asks = "are there different targets?"
    default_limit = 0.0
    why = "Whatever predicts this alone is perfect, so that nothing is learnt about the inputs."
    advice = (
        "Look at the targets: were labels divided or scaled like pixels, cast to integers after that, or is the data "
        "sorted by class and this its beginning?"
    )
    leads_to = frozenset(
        {"overfit", "input-ignored", "class-imbalance", "generalises", "zero-gradient", "initial-loss", "loss-flat"}
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Say 1 where all targets that count are equal."""
        targets = subject.data.targets
        if not subject.data.has_targets:
            raise Skip("the batch has no targets that are known as such")
        if subject.view is not None and subject.view.labels is not None and subject.batch is subject.data:
            values = subject.view.labels
        elif isinstance(targets, torch.Tensor):
            values = targets.flatten()
        elif subject.view is not None:
            values = subject.view.targets.flatten()
        else:
            raise Skip("targets are not known")
        if values.numel() < _FEWEST_SAMPLES:
            raise Skip(f"{values.numel()} targets are too few to say; at least {_FEWEST_SAMPLES} are needed")
        same = bool((values == values[0]).all())
        # Of few samples, one class in ten may be missing by chance: 0.9 ** 16 is 19 %, 0.9 ** 48 less than 1 %.
        status: Status = "failure" if values.numel() >= 3 * _FEWEST_SAMPLES else "warning"
        note = f"All {values.numel()} targets are {values[0].item():g}."
        yield Measurement("targets", float(same), note, status=status)


class Imbalance(Check):
    """One class in nearly all samples."""

    id = "class-imbalance"
    asks = "is no class in nearly all samples?"
    default_limit = 0.95
    status = "warning"
    why = "A model that always answers it looks good; accuracy will not tell whether it has learnt anything."
    advice = "Look at recall per class, draw batches by class, or weight the loss."
    leads_to = frozenset({"generalises"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the share of the commonest class, of one label a sample."""
        view = subject.known_view
        targets = subject.data.targets
        if view.classes < 2 or not isinstance(targets, torch.Tensor) or targets.numel() != len(targets):
            raise Skip("targets are not one class a sample")
        if len(targets) < 3 * _FEWEST_SAMPLES:
            raise Skip(
                f"{len(targets)} samples are too few to tell a rare class; at least {3 * _FEWEST_SAMPLES} are needed"
            )
        values, counts = targets.detach().flatten().unique(return_counts=True)
        share = float(counts.max()) / len(targets)
        note = f"{share:.1%} of {len(targets)} samples are of class {values[counts.argmax()].item():g}."
        yield Measurement("targets", share if len(values) > 1 else 0.0, note)


class TargetScale(Check):
    """Numbers to be predicted that are far larger than what a model starts with."""

    id = "target-scale"
    asks = "are the numbers to be predicted of a size that the model can reach soon?"
    default_limit = 300.0
    status = "warning"
    why = "Outputs start near 0: gradients are as much too large, or the way there takes most of the training."
    advice = "Standardise the targets with the mean and deviation of the training set, and undo it on predictions."
    leads_to = frozenset({"initial-loss", "overfit", "learning-rate", "input-ignored", "generalises"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the root mean square of the targets, over that of the outputs' weights where these are scaled up."""
        view = subject.known_view
        if view.kind not in ("mse", "l1", "huber", "regression"):
            raise Skip("targets are no numbers to be met")
        rms = float(view.targets.double().square().mean().sqrt())
        start = float(view.predictions.double().square().mean().sqrt())
        # A model whose outputs are of that size already scales them itself.
        size = rms if rms > 10 * start else 0.0
        yield Measurement("targets", size, f"Targets are of about {rms:.3g}, outputs start at about {start:.2g}.")
