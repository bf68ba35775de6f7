"""The rule on learning rates over a run; knows no torch."""

from __future__ import annotations

from collections.abc import Iterable

from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule
from tensorstats.rules.view import StepView

__all__ = ["DecayedRate"]


class DecayedRate(Rule):
    """A learning rate that has been next to nothing for longer than it was anything else.

    A schedule that ends at 0 (cosine, linear) is there for its last steps only. Measured against the highest rate so
    far: invariant under every scale, the width and the batch size.
    """

    id = "decayed-rate"
    default_limit = limits.DECAYED_SHARE
    leads_to = frozenset({"unchanged", "update-ratio", "flat-loss", "not-learning"})
    why = "Since then the optimizer has hardly moved a weight: the run costs time and learns nothing."
    advice = (
        "Does the scheduler step once a batch where it was meant to step once an epoch? Look at its gamma, its step "
        "size and the number of steps that it was told; print scheduler.get_last_lr() now and then."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._peak = 0.0
        self._lively = 0  # recorded steps up to the last one with a rate that counts
        self._last = 0  # its number
        self._steps = 0

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Measure the share of all steps that came after the last one with a rate that counts."""
        rates = [parameter.learning_rate for parameter in view.parameters if parameter.learning_rate is not None]
        if not rates:
            return
        rate = max(map(abs, rates))
        self._steps += 1
        self._peak = max(self._peak, rate)
        if rate > limits.DECAYED_RATE * self._peak or self._peak == 0:
            self._lively, self._last = self._steps, view.step
            if not self.suspects:
                return
        idle = self._steps - self._lively
        share = idle / self._steps if idle >= limits.DECAYED_FEWEST_STEPS else 0.0
        note = (
            f"It was {rate:.3g} in the last recorded step, after {self._peak:.3g} at its highest, and has been below "
            f"{limits.DECAYED_RATE:g} of that since step {self._last + 1}. {self.why}"
        )
        yield Measurement("learning rate", share, note, step=self._last + 1)
