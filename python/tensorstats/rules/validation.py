"""The rules on the validation curve; knows no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule
from tensorstats.rules.view import StepView

__all__ = ["Overfit", "TrainEvalGap"]


class Overfit(Rule):
    """The validation loss rises far above its best while the training loss goes on falling.

    Invariant under the scale of the loss and of the data, the width and the batch size.
    """

    id = "overfit"
    default_limit = limits.OVERFIT
    symptom = False
    why = "What is learnt from here on holds for the training data alone."
    advice = (
        "Stop at the best validation loss and keep that checkpoint; more data, augmentation, weight decay, dropout."
    )

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield how far above its best it was, at the least, in the last evaluations."""
        evaluations = view.evaluations
        patience = limits.OVERFIT_PATIENCE
        if len(evaluations) <= patience:
            return
        best = min(evaluations[:-patience], key=lambda evaluation: evaluation.value)
        last = evaluations[-patience:]
        least = min(evaluation.value for evaluation in last)
        room = limits.OVERFIT_ROOM * (0.0 if view.fed is None or math.isnan(view.fed.constant) else view.fed.constant)
        if not best.value > 0.0 or least - best.value < room or not last[-1].training < best.training:
            yield Measurement("validation", 0.0)
            return
        note = (
            f"The validation loss was {best.value:.4g} at step {best.step} and is {last[-1].value:.4g} now, while the "
            f"training loss fell from {best.training:.4g} to {last[-1].training:.4g}. {self.why}"
        )
        yield Measurement("validation", least / best.value - 1.0, note, step=best.step)


class TrainEvalGap(Rule):
    """Validation has been no better than a constant from the first evaluation on, while training does well.

    Invariant under the scale of the loss and of the data, the width and the batch size.
    """

    id = "train-eval-gap"
    default_limit = limits.EVAL_GAP
    status = "failure"
    symptom = False
    leads_to = frozenset({"overfit"})
    why = "Nothing of what training shows is there when the model is used."
    advice = (
        "Are validation data prepared, scaled and labelled as the training data are? Does augmentation leave anything "
        "of the data, and do labels belong to their inputs, or is the training set learnt by heart?"
    )

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield the best validation loss over that of the constant."""
        fed, evaluations = view.fed, view.evaluations
        if fed is None or len(evaluations) < limits.EVAL_GAP_EVALUATIONS or not fed.constant > 0.0:
            return
        if not fed.gain >= limits.EVAL_GAP_TRAINING or len(fed.values) < limits.NOT_LEARNING_LOSSES:
            return
        best = min(evaluation.value for evaluation in evaluations)
        note = (
            f"Of {len(evaluations)} evaluations the best had a loss of {best:.4g}; a constant answer loses "
            f"{fed.constant:.4g}, and training is at {fed.recent():.4g}. {self.why}"
        )
        yield Measurement("validation", best / fed.constant, note, step=evaluations[0].step)

    def advise(self, view: StepView) -> str:
        """What to try, which depends on whether something behaves otherwise in eval mode."""
        norms = [
            output.module for output in view.outputs if output.module_type.startswith(("BatchNorm", "SyncBatchNorm"))
        ]
        first = ""
        if norms:
            first = (
                f"'{norms[0]}' normalises by running statistics in eval mode: are they learnt (momentum not 0, "
                "statistics not reset, not shared between unlike data)? "
            )
        return first + self.advice
