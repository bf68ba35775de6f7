"""The rules on targets: do they fit the loss and the output, and is there anything to learn in them; knows no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule
from tensorstats.rules.fed import CLASS_LOSSES, PLAIN_LOSSES, LossState, LossStep
from tensorstats.rules.view import OutputView, StepView

__all__ = ["FOLLOWING", "BroadcastLoss", "IgnoredTargets", "SameTargets", "TargetRange", "last_output"]

# What an output or a loss that is fed wrongly shows in turn.
FOLLOWING = frozenset(
    {
        *(
            "one-class-predicted",
            "constant-output",
            "not-learning",
            "flat-loss",
            "wild-start",
            "unchanged",
            "no-gradient",
        ),
        *("saturated", "vanishing-gradient", "update-ratio", "dead-units", "all-zero", "exploding-gradient"),
        *("train-eval-gap", "overfit"),
    }
)


def last_output(view: StepView, predictions: LossStep) -> OutputView | None:
    """The output of a module that went into the loss as it was, or None."""
    given = predictions.predictions
    for output in reversed(view.outputs):
        summary = output.summary
        if given is not None and (summary.count, summary.min, summary.max) == (given.count, given.min, given.max):
            return output
    return None


class BroadcastLoss(Rule):
    """Predictions and targets whose shapes differ and broadcast: every prediction is compared with every target.

    Invariant under everything but the shapes.
    """

    id = "broadcast-loss"
    status = "failure"
    symptom = False
    leads_to = FOLLOWING
    why = (
        "The loss broadcasts them against each other: every prediction is compared with every target, so the best that "
        "the model can do is to predict the mean."
    )
    advice = "Give both one shape: predictions.squeeze(1), or targets.unsqueeze(1)."

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Say whether the shapes of this step do."""
        fed = view.fed
        if fed is None or fed.kind.name not in PLAIN_LOSSES or not fed.latest.broadcasts:
            return
        step = fed.latest
        note = f"Predictions are {list(step.prediction_shape)} and targets {list(step.target_shape)}. {self.why}"
        yield Measurement("loss", 1.0, note)


class SameTargets(Rule):
    """Targets that were the same since watching began, while the loss has gone to nothing.

    Invariant under the scale of the loss and of the data, the width and the batch size.
    """

    id = "same-targets"
    symptom = False
    leads_to = FOLLOWING
    why = "There is nothing to learn: the answer does not depend on the input."
    advice = (
        "Look at the labels where they are made: integers divided by 255, a column filled with a default, data "
        "sorted by class, a filter that left one class."
    )

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Count the targets, if all were one."""
        fed = view.fed
        if fed is None or len(fed.steps) < limits.SAME_TARGETS_STEPS or fed.samples < limits.SAME_TARGETS:
            return
        what, even = _only_target(fed)
        if what is None:
            return
        if fed.recent() <= limits.SAME_TARGETS_LOSS * even:
            note = f"All {fed.samples} targets so far were {what}, and the loss is at {fed.recent():.3g}. {self.why}"
            yield Measurement("targets", float(fed.samples), note, status="failure", step=fed.steps[0])


def _only_target(fed: LossState) -> tuple[str | None, float]:
    """The only target there was, in words, and what is lost without knowing it."""
    counts = fed.target_counts
    if counts is not None and fed.kind.name in CLASS_LOSSES:
        present = counts.nonzero()[0]
        if len(present) == 1 and len(counts) > 1:
            return f"class {int(present[0])} of {len(counts)}", math.log(len(counts))
    elif fed.targets.count and fed.targets.min == fed.targets.max and fed.kind.name not in CLASS_LOSSES:
        return f"{fed.targets.min:.4g}", fed.first.value if fed.kind.name in PLAIN_LOSSES else math.log(2.0)
    return None, math.nan


class IgnoredTargets(Rule):
    """Nearly all targets are ones that the loss leaves out (``ignore_index``).

    Invariant under the scale of the loss and of the data, the width and the batch size.
    """

    id = "ignored-targets"
    default_limit = limits.IGNORED_TARGETS
    default_patience = limits.IGNORED_TARGETS_PATIENCE
    why = "The model learns from the rest alone."
    advice = "Is the padding or masking of labels the right way round, and ignore_index the value that was meant?"

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield the share of this step."""
        fed = view.fed
        if fed is not None and fed.latest.ignored:
            step = fed.latest
            of = step.ignored + step.count
            yield Measurement("targets", step.ignored / of, f"{step.ignored} of {of} targets are ignored. {self.why}")


_RANGES = {
    "sigmoid": (0.0, 1.0, "between 0 and 1"),
    "Softmax": (0.0, 1.0, "between 0 and 1"),
    "tanh": (-1.0, 1.0, "between -1 and 1"),
    "relu": (0.0, math.inf, "never negative"),
}


class TargetRange(Rule):
    """Targets that the activation at the end cannot reach: beyond 0..1 of a sigmoid, below 0 of a ReLU.

    Invariant under the scale of the loss, the width and the batch size; of the data it is the scale that it judges.
    """

    id = "target-range"
    default_limit = limits.OUT_OF_REACH
    default_patience = limits.OUT_OF_REACH_PATIENCE
    status = "failure"
    symptom = False
    leads_to = FOLLOWING
    why = "No training can bring the output there, and the activation saturates on the way."
    advice = "Leave out the activation at the end, or scale the targets into its range."

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield the share of all targets so far that lie beyond."""
        fed = view.fed
        if fed is None or fed.kind.name not in PLAIN_LOSSES or fed.samples == 0:
            return
        output = last_output(view, fed.latest)
        if output is None:
            return
        bounds = _RANGES.get(output.kind) or _RANGES.get(output.module_type)
        if bounds is None:
            return
        low, high, words = bounds
        below_minus, negative, above = fed.beyond
        share = ((negative if low == 0.0 else below_minus) + (above if high == 1.0 else 0)) / fed.samples
        yield Measurement(output.module, share, partial(self._sentence, fed, output, share, words))

    def _sentence(self, fed: LossState, output: OutputView, share: float, words: str) -> str:
        return (
            f"The output of '{output.module}' ({output.module_type}) is {words}, targets go from {fed.targets.min:.4g} "
            f"to {fed.targets.max:.4g}: {share:.0%} of them are out of its reach. {self.why}"
        )
