"""The rule on losses that were handed over; knows no torch."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule
from tensorstats.rules.view import StepView

__all__ = ["FlatLoss"]


class FlatLoss(Rule):
    """A logged loss that has been the same ever since watching began, to six digits; 0 says nothing.

    Invariant under the scale of the loss, of the data, under the width and the batch size.
    """

    id = "flat-loss"
    follows_any = True
    leads_to = frozenset({"not-learning"})
    default_limit = limits.FLAT_LOSSES
    why = "Nothing that the optimizer does reaches it, or it is not computed from what the model returns."
    advice = (
        "Is the loss computed from this batch's output? Look for an output that does not depend on the input (dead "
        "units, a saturated last activation, a softmax over one value), a detached output, a learning rate of 0, or a "
        "number that is logged again and again."
    )

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Count the losses that were equal to the first."""
        flat = view.flat_losses
        if flat is not None and (flat.count > self.limit or "loss" in self.suspects):
            count = flat.count if flat.still else 0
            yield Measurement("loss", float(count), partial(self._sentence, flat.count, flat.value), step=flat.step)

    def _sentence(self, count: int, value: float) -> str:
        return f"All {count} losses logged so far were {value:.6g}. {self.why}"
