"""The rules on what modules are set to: their mode, the statistics that they learn; knows no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from tensorstats.rules import limits
from tensorstats.rules.base import ROOT, Measurement, Rule, describe, group_by_module
from tensorstats.rules.view import ModuleView, StepView

__all__ = ["StillStatistics", "TrainedInEvalMode"]


class StillStatistics(Rule):
    """A normalisation in training mode whose running statistics are what they were when watching began.

    One in eval mode is frozen on purpose, and one without running statistics has none to learn. Statistics on an
    accelerator are not compared: there the momentum, if it is 0, says it.

    Invariant under every scale, the width and the batch size: it asks whether, not how much.
    """

    id = "still-statistics"
    default_patience = limits.STILL_STATISTICS_PATIENCE
    status = "failure"
    symptom = False
    why = (
        "In training it normalises by the batch, in evaluation by these statistics, which know nothing of the data: "
        "what the model returns there is another function than the one that was trained."
    )
    advice = (
        "Is its momentum 0? torch's default is 0.1, the share of the new batch. If the statistics shall stay as they "
        "are, call eval() on the layer, so that training uses them too."
    )

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield 1 for every normalisation that runs in training mode and learns nothing of the batches."""
        for module in view.modules:
            if module.kind == "normalisation" and module.ran and module.still is not None:
                broken = float(module.training and module.still)
                yield Measurement(module.name, broken, partial(self._sentence, module, view))

    def gather(self, broken: Sequence[Measurement], view: StepView, /) -> Sequence[Measurement]:
        """One measurement where many layers have the same fault."""
        if len(broken) < 3:
            return broken
        names = [module.name for module in view.modules if module.kind == "normalisation"]
        groups = group_by_module([measurement.where for measurement in broken], names)
        return [
            Measurement(where, 1.0, f"{len(members)} normalisation layers: {self.why}", step=None)
            for where, members in groups.items()
        ]

    def _sentence(self, module: ModuleView, view: StepView) -> str:
        momentum = "" if module.setting is None else f" (momentum {module.setting:g})"
        return f"The running statistics of {describe(module.name, view)}{momentum} have not changed. {self.why}"


class TrainedInEvalMode(Rule):
    """A model that is trained in eval mode although it holds dropout or learns statistics of normalisation.

    A model whose parts alone are in eval mode has them frozen on purpose. Invariant under every scale, the width and
    the batch size: it asks whether, not how much.
    """

    id = "trained-in-eval-mode"
    default_patience = limits.TRAINED_IN_EVAL_PATIENCE
    symptom = False
    why = "There dropout is off, and batch norm uses running statistics that it does not learn."
    advice = (
        "Call model.train() before the loop, and again after every evaluation. Models of transformers' from_pretrained "
        "come in eval mode. If it is meant so, suppress this rule."
    )

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield 1 where the training is known to happen in eval mode, and something in the model minds."""
        if view.trains_in_eval is None:
            return
        minds = [module for module in view.modules if module.minds_mode]
        if minds:
            asleep = view.trains_in_eval and not any(module.training for module in minds)
            yield Measurement(ROOT, float(asleep), partial(self._sentence, minds))

    def _sentence(self, minds: Sequence[ModuleView]) -> str:
        listed = ", ".join(module.name for module in minds[:3]) + (f" and {len(minds) - 3} more" if minds[3:] else "")
        return f"The optimizer steps while the model is in eval mode ({listed}). {self.why}"
