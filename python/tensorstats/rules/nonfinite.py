"""The rule on NaN and infinities: the first offender of a step; knows no torch."""

from __future__ import annotations

from collections.abc import Iterable

from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule, Told
from tensorstats.rules.view import Offender, StepView

__all__ = ["NonFinite"]

_ADVICE = {
    "input": (
        "Look at the sample at that index: print it before the model sees it, and check the data once with ts.check(x, "
        "finite=True). Missing values, a division by a zero standard deviation and log(0) are the usual sources."
    ),
    "output": (
        "Look at the operation in this module: log or sqrt of zero, a division by zero, exp of a large number, or a "
        "value beyond the range of a 16-bit dtype (float16 ends at 65504). Clamp its argument, add a small epsilon, or "
        "run it in float32."
    ),
    "passed on": (
        "Look at what this module is given: print it, check the data once with ts.check(x, finite=True), and look at "
        "what is computed between the modules before it and this one: log or sqrt of zero, a division by zero, exp of "
        "a large number, a value beyond the range of a 16-bit dtype."
    ),
    "unseen": (
        "Record more to see where it comes from: every step, and the signals that come before it in a step (outputs, "
        "gradients, updates). If those are finite, look at a loss that takes the log of zero or divides by a count of "
        "0, at a derivative such as that of sqrt at zero, and at the learning rate."
    ),
    "weight": (
        "That parameter was not finite before this step: look at how it is initialised or loaded, and at the "
        "checkpoint (ts.summaries(state_dict) shows which tensors hold a NaN). If it came up during the run, an update "
        "brought it that no recorded step shows: watch every step."
    ),
    "output gradient": (
        "The forward pass was finite, so a derivative between this output and the loss is at fault: sqrt, norm or pow "
        "at zero, log of zero, torch.where over a branch that is not finite, or a loss scale that is too large."
    ),
    "gradient": (
        "The forward pass was finite, so the derivative is at fault: sqrt, norm or pow at zero, torch.where over a "
        "branch that is not finite, or a loss scale that is too large. Lower the learning rate or clip the gradients "
        "if they grew before."
    ),
    "parameter": (
        "The update itself was not finite: lower the learning rate, clip the gradients "
        "(torch.nn.utils.clip_grad_norm_), and check the optimizer's epsilon in 16-bit dtypes. Restart from a "
        "checkpoint before this step."
    ),
    "loss": (
        "Every watched tensor was finite, so the loss is at fault: log of zero, a division by the number of valid "
        "samples when there are none, or a target outside its range."
    ),
}


# The key of a parameter that was never finite and takes no part in the training: nothing follows from it.
_STANDING = "standing"


class NonFinite(Rule):
    """A NaN or an infinity, named by the first tensor of the step that holds one.

    Invariant under every scale that the format of the numbers can hold, under the width and the batch size.
    """

    id = "non-finite"
    default_limit = 0.0
    status = "failure"
    symptom = False
    reads_nonfinite = True
    why = (
        "One NaN spreads: it turns the loss, then every gradient, then every weight into NaN, and nothing is learned "
        "after that."
    )

    leads_to = frozenset(
        {
            "dead-units",
            "all-zero",
            "saturated",
            "exploding-gradient",
            "vanishing-gradient",
            "update-ratio",
            "unchanged",
            "skipped-steps",
        }
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._clean_steps = limits.ECHO_STEPS

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Count the non-finite values of the step's first offender, unless the last one was a few steps ago."""
        offender = view.offender
        if offender is None:
            self._clean_steps += 1
            return
        if offender.standing:
            # It is so in every step, and hides nothing that comes up beside it.
            self._clean_steps += 1
            note = self._sentence(offender)
            yield Measurement(offender.where, float(offender.nonfinite_count), note=note, key=_STANDING)
            return
        echo = self._clean_steps < limits.ECHO_STEPS
        self._clean_steps = 0
        if echo:
            return
        yield Measurement(offender.where, float(offender.nonfinite_count), note=self._sentence(offender))

    def explains(self, mine: Told, other: Told, /) -> bool:
        """What begins right after it."""
        return mine.key != _STANDING and super().explains(mine, other) and mine.echoes(other, limits.ECHO_STEPS)

    def _sentence(self, offender: Offender) -> str:
        if offender.signal == "loss":
            return f"The loss was {offender.value}. {offender.origin} {self.why}"
        place = f"the first at index {list(offender.index)}" if offender.index is not None else "position unknown"
        call = f" in call {offender.call}" if offender.call else ""
        noun = {
            "output": "output of",
            "output gradient": "gradient with respect to the output of",
            "gradient": "gradient of",
            "parameter": "values of",
        }
        subject = f"{noun.get(offender.signal, '')} {offender.where}".strip()
        if offender.signal == "input":
            subject = "The data given to the model"
        else:
            subject = f"The {subject}{call}"
        return (
            f"{subject}: {offender.nonfinite_count} of {offender.count} values are not finite, {place} "
            f"({offender.value}). {offender.origin} {self.why}"
        )

    def advise(self, view: StepView) -> str:
        """The advice depends on the kind of tensor."""
        offender = view.offender
        if offender is None:
            return ""
        if offender.weight is not None:
            return _ADVICE["weight"]
        if offender.unseen:
            return _ADVICE["unseen"]
        return _ADVICE["passed on" if offender.argument is not None else offender.signal]
