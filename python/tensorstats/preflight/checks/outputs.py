"""The checks on outputs: ranges that cannot reach the targets, one unit under a softmax, numbers that are none."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tensorstats.preflight.checks.check import Check, Measurement, Skip, Subject
from tensorstats.preflight.subject.activations import last_activation

__all__ = ["NonFinite", "OneUnitSoftmax", "OutputRange"]

_LEARNING = frozenset({"overfit", "input-ignored", "generalises", "learning-rate"})


class NonFinite(Check):
    """An output, loss or gradient of the first pass that is not finite."""

    id = "nonfinite"
    asks = "are outputs, loss and gradients of the first pass finite?"
    why = "The first step makes the weights NaN."
    advice = (
        "Outputs: is an exp, a division or a log fed what it cannot take, or do values grow from layer to layer? "
        "Gradients of a finite loss: sqrt, norm and cdist have none at 0; add a small constant inside."
    )
    leads_to = _LEARNING | {
        "initial-loss",
        "scale-through-depth",
        "eval-differs",
        "train-eval",
        "network-is-linear",
    }

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Name the first layer that makes them, or the parameters whose gradient has them."""
        first = subject.first
        for call in first.seen.calls:
            if not call.finite_out and call.finite_in:
                yield Measurement(
                    call.where or "(model)", 1.0, f"The first values that are not finite come from its {call.name}."
                )
                return
        if not math.isfinite(first.value):
            yield Measurement("loss", 1.0, f"The loss is {first.value}, of outputs that are finite.")
            return
        bad = [
            name for name, gradient in first.gradients.items() if gradient is not None and not gradient.isfinite().all()
        ]
        where = bad[-1] if bad else "(model)"
        note = (
            f"The loss is {first.value:.4g}, but {len(bad)} parameters have a gradient that is not finite, {where} one."
        )
        yield Measurement(where, len(bad), note)


class OneUnitSoftmax(Check):
    """A softmax over one unit is 1, and the cross entropy of one class is 0, whatever comes in."""

    id = "one-unit-softmax"
    asks = "has a softmax more than one unit to choose from?"
    why = "Its only answer is 1: the output never changes and no gradient passes."
    advice = "Two classes take two units, or one and binary_cross_entropy_with_logits; numbers take no activation."
    leads_to = _LEARNING | {
        "loss-input",
        "output-range",
        "no-gradient",
        "zero-gradient",
        "outputs-alike",
        "initial-loss",
        "loss-flat",
        "loss-ignores-targets",
        "target-scale",
    }

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Say 1 where the last activation is such a one."""
        view = subject.view
        if view is None:
            raise Skip("predictions are not known")
        last = last_activation(view.output)
        if last is not None and last.units == 1 and "softmax" in last.name:
            yield Measurement("(model)", 1.0, f"The output is a {last.name} over a dimension of one unit.")
        elif view.kind in ("cross entropy", "nll") and view.classes == 1:
            yield Measurement(
                "(model)", 1.0, f"A cross entropy is taken of outputs {list(view.predictions.shape)}: of one class."
            )
        else:
            yield Measurement("(model)", 0.0)


class OutputRange(Check):
    """Targets that the last activation cannot reach."""

    id = "output-range"
    asks = "can the outputs reach the targets?"
    default_limit = 0.01
    why = "However long it is trained, the rest of the way stays."
    advice = (
        "Leave the last activation out for numbers, or bring the targets into its range and undo that on predictions."
    )
    leads_to = _LEARNING | {"initial-loss", "saturated-at-start", "target-scale", "vanishing-gradient"}

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the loss of the nearest targets that can be reached, over that of the best constant."""
        view = subject.known_view
        last = last_activation(view.output)
        if view.kind not in ("mse", "l1", "huber", "regression") or view.targets.shape != view.predictions.shape:
            yield Measurement("(model)", 0.0)
            return
        if last is None:
            yield Measurement("(model)", 0.0)
            return
        nearest = view.evaluate(view.targets.clamp(last.low, last.high))
        share = nearest / max(view.constant, 1e-30)
        low, high = float(view.targets.min()), float(view.targets.max())
        note = f"Outputs of {last.name} lie in {last.low:g} to {last.high:g}, targets in {low:.4g} to {high:.4g}."
        yield Measurement("(model)", share, note, status="failure" if share > 10 * self.limit else "warning")
