"""The rules that hold a run against the best constant answer; knows no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule
from tensorstats.rules.fed import CLASS_LOSSES, SQUARED, LossState
from tensorstats.rules.finding import Status
from tensorstats.rules.view import StepView

__all__ = ["NotLearning", "WildStart"]


class NotLearning(Rule):
    """A loss no better than that of the best constant answer, which has stood still since the learning rate last rose.

    It becomes a failure when it lasts. Any other finding explains it.

    Invariant under the scale of the loss and of the data, the width and the batch size.
    """

    id = "not-learning"
    default_limit = limits.NO_GAIN
    default_patience = limits.NO_GAIN_PATIENCE
    symptom = False
    follows_any = True
    why = "Whoever never looks at the input does as well."
    advice = (
        "Do inputs and targets still belong together (a shuffle, a sort or an index of one of them)? Does the model "
        "see what the answer depends on? Then try a learning rate ten times larger and ten times smaller, and one "
        "batch alone: what cannot learn that by heart has a fault in the model or the loss."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._highest = 0.0  # learning rate so far
        self._since = 0  # losses before it was reached

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield how much better than the constant the last losses were, at the most."""
        fed = view.fed
        if fed is None:
            return
        highest = max((p.learning_rate for p in view.parameters if p.learning_rate is not None), default=0.0)
        if highest > self._highest:
            self._highest, self._since = highest, len(fed.values) - 1
        waited = len(fed.values) - self._since
        if waited < limits.NO_GAIN_STEPS:
            return
        gain = fed.gain_at_most
        if math.isnan(gain):
            return
        if gain < self.limit and not fed.stands_still(self._since, least=limits.STANDS_STILL):
            gain = math.inf
        note = partial(self._sentence, fed)
        yield Measurement("loss", gain, note, status="warning", key="warning")
        if waited >= limits.NO_GAIN_FAILED_STEPS:
            yield Measurement("loss", gain, note, status="failure", key="failure")

    def verdict(self, measurement: Measurement) -> bool:
        """Whether it is below the limit."""
        return measurement.value < self.limit

    def _sentence(self, fed: LossState) -> str:
        return (
            f"The loss is {fed.recent():.4g} per target and has stood still; {_constant(fed)} for every input loses "
            f"{fed.constant:.4g}. {self.why}"
        )


def _constant(fed: LossState) -> str:
    """The best constant in words."""
    if fed.kind.name in CLASS_LOSSES:
        return "predicting the class frequencies"
    return "predicting the mean" if fed.kind.name == SQUARED else "the best constant"


class WildStart(Rule):
    """A loss that begins far above that of the best constant and does not come down fast.

    Of a cross entropy its value; of a squared error the spread of the predictions over that of the targets, so that
    targets which are merely far from 0 say nothing.

    Invariant under the scale of the loss, the width and the batch size; of the data as far as the first layer makes up
    for it.
    """

    id = "wild-start"
    default_limit = limits.WILD_START
    default_patience = 1
    leads_to = frozenset({"not-learning", "train-eval-gap"})
    why = "The first outputs are far larger than the targets ask for, and training has to undo that first."
    advice = (
        "Initialise with the scale that torch uses (1 / sqrt of the inputs of a layer), normalise the inputs, and make "
        "the last layer small."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._first = math.nan

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield how far above the first losses were, once it is clear that it lasts."""
        fed = view.fed
        if fed is None:
            return
        if len(fed.values) == 1:
            self._first = self._excess(fed)
        steps, constant = len(fed.values), fed.constant
        if not self._first > self.limit or steps < limits.WILD_START_STEPS or not constant > 0.0:
            return
        left = fed.recent(fewest=10) / constant
        if left > limits.WILD_START_LEFT:
            failed = steps >= limits.WILD_START_FAILED_STEPS
            note = (
                f"The loss began at {fed.values[0]:.4g} per target and is {fed.recent():.4g} after {steps} steps; the "
                f"best constant loses {constant:.4g}. {self.why}"
            )
            key: Status = "failure" if failed else "warning"
            yield Measurement("loss", self._first, note, status=key, step=fed.steps[0], key=key)

    def _excess(self, fed: LossState) -> float:
        """How far the first outputs are beyond the size of the targets."""
        if fed.kind.name == SQUARED:
            step = fed.first
            if step.predictions is None or step.targets is None or step.targets.count < 2:
                return math.nan
            spread = step.targets.var()
            return step.predictions.var() / spread if spread > 0.0 else math.nan
        return fed.values[0] / fed.constant if fed.constant > 0.0 else math.nan
