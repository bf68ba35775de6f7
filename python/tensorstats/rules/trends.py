"""What logged losses say of a run: whether it learns, and how its validation goes; knows no rule."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

from tensorstats.rules import limits
from tensorstats.rules.fed import LossState
from tensorstats.rules.view import Evaluation, FlatLosses, Offender

__all__ = ["LossTrend", "ValidationTrend"]


class LossTrend:
    """Says from logged losses whether a run learns: against the best constant answer, where targets are known.

    Elsewhere the first tenth of the losses stands against the last tenth.

    Attributes
    ----------
    state : LossState
        What the loss was given; empty where that is not known.
    """

    def __init__(self) -> None:
        self.state = LossState()
        self.steps: list[int] = []
        self.values: list[float] = []
        self._unjudged: tuple[int, float] | None = None  # the first that is not finite since a step was judged
        self._flat = 0  # so many losses, from the first one on, were the same

    def log(self, step: int, value: float) -> None:
        """Add one loss."""
        self.steps.append(step)
        self.values.append(float(value))
        if self._unjudged is None and not math.isfinite(self.values[-1]):
            self._unjudged = step, self.values[-1]
        if self._flat == len(self.values) - 1 and self._is_the_first(self.values[-1]):
            self._flat += 1

    def _is_the_first(self, value: float) -> bool:
        first = self.values[0]
        return abs(value - first) <= limits.FLAT_LOSS_PRECISION * abs(first)

    def rose(self) -> bool | None:
        """Whether the last loss lies far above those before it; None for too few."""
        before = self.values[-limits.LOSS_ROSE_LOSSES - 1 : -1]
        if len(before) < limits.LOSS_ROSE_LOSSES:
            return None
        usual = statistics.median(before)
        return not self.values[-1] <= usual + limits.LOSS_ROSE * abs(usual)

    def flat(self) -> FlatLosses | None:
        """How long the loss stayed as it was."""
        if not self._flat or self.values[0] == 0.0:
            return None
        return FlatLosses(self._flat, self.values[0], self.steps[0], self._flat == len(self.values))

    @property
    def unjudged_step(self) -> int | None:
        """The step of the first loss that is not finite, of those that came in since the last step was judged."""
        return None if self._unjudged is None else self._unjudged[0]

    def offender(self) -> Offender | None:
        """That loss."""
        if self._unjudged is None:
            return None
        origin = "Every watched output of the step is finite."
        return Offender("loss", "loss", 1, 1, None, str(self._unjudged[1]), origin)

    def judged(self) -> None:
        """A step has been judged, and the losses with it."""
        self._unjudged = None

    @property
    def learning(self) -> bool | None:
        """True or False once there is enough to tell; a loss that is not finite says False at once."""
        return self.after(len(self.values))

    def after(self, losses: int) -> bool | None:
        """What the first so many losses say."""
        if losses and not math.isfinite(self.values[losses - 1]):
            return False
        if losses < limits.NOT_LEARNING_LOSSES:
            return None
        if len(self.state.values) >= limits.NOT_LEARNING_LOSSES and not math.isnan(self.state.gain):
            return self._beats_the_constant()
        tenth = losses // 10
        first = sum(self.values[:tenth]) / tenth
        last = sum(self.values[losses - tenth : losses]) / tenth
        # A loss may be negative (log densities): a fall is measured against the size of the start.
        return last <= first - (1.0 - limits.NOT_LEARNING_FRACTION) * abs(first)

    def _beats_the_constant(self) -> bool | None:
        """Whether the last losses do; None while they do not but are on their way."""
        if self.state.gain >= 1.0 - limits.NOT_LEARNING_FRACTION:
            return True
        return False if self.state.stands_still(least=limits.STANDS_STILL) else None

    def recent(self) -> float:
        """The mean of the last tenth of the losses; NaN without any."""
        count = max(1, len(self.values) // 10)
        last = self.values[-count:]
        return sum(last) / len(last) if last else math.nan


class ValidationTrend:
    """The validation curve, with the training loss of the time; the batches of one evaluation are one point."""

    def __init__(self, training: LossTrend) -> None:
        self._training = training
        self._batches = 0  # of the last evaluation
        self.evaluations: list[Evaluation] = []
        self.state = LossState()

    def log(self, step: int, value: float) -> None:
        """Add the loss of one batch, or of a whole evaluation; all between two steps are one."""
        if self.evaluations and self.evaluations[-1].step == step:
            last = self.evaluations[-1]
            value = (last.value * self._batches + value) / (self._batches + 1)
            self._batches += 1
            self.evaluations[-1] = replace(last, value=value)
            return
        self._batches = 1
        self.evaluations.append(Evaluation(step, float(value), self._training.recent()))
