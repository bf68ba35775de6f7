"""The rule on steps that never end: skipped by a gradient scaler, or left by the loop; knows no torch."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule
from tensorstats.rules.view import Skips, StepView

__all__ = ["SkippedSteps"]


class SkippedSteps(Rule):
    """The share of steps in which no weight was changed, because the scaler or the loop left them out.

    A share of steps: invariant under every scale, the width and the batch size.

    Steps in which a gradient scaler still looks for its scale are not counted: outputs are finite, and the scale is
    above 1.
    """

    id = "skipped-steps"
    default_limit = limits.SKIPPED_SHARE
    default_patience = limits.SKIPPED_PATIENCE
    symptom = False
    why = "A skipped step changes no weight: what its batch could have taught is lost."
    advice = (
        "Look at what the skipped steps held: the first output, gradient or loss that was not finite. A gradient "
        "scaler that skips for good means that values overflow float16 at any scale: use bfloat16, scale the inputs, "
        "or run the module that overflows in float32. If the loop skips bad batches on purpose, look at the data. If "
        "it should skip none: is optimizer.step() called, on the optimizer that was handed over?"
    )

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield the share of the last steps."""
        skips = view.skips
        if skips is None:
            return
        share = skips.recent_skipped / skips.recent_steps
        never = skips.final and skips.skipped == skips.steps and skips.skipped >= limits.SKIPPED_ALL_STEPS
        most = skips.recent_skipped >= limits.SKIPPED_MOST_STEPS and share > limits.SKIPPED_MOST
        if never or most:
            yield Measurement(
                "optimizer",
                share,
                partial(self._sentence, skips),
                max(self.limit, limits.SKIPPED_MOST),
                "failure",
                patience=1,
                step=skips.first_step,
                key="most",
            )
        if skips.recent_steps == Skips.WINDOW:
            yield Measurement("optimizer", share, partial(self._sentence, skips), step=skips.first_step)

    def _sentence(self, skips: Skips) -> str:
        scaler = f", {skips.by_scaler} of them by the gradient scaler" if skips.by_scaler else ""
        recent = ""
        if skips.recent_steps < skips.steps:
            recent = f" ({skips.recent_skipped} of the last {skips.recent_steps})"
        return f"{skips.skipped} of {skips.steps} steps were skipped{recent}{scaler}. {self.why}"
