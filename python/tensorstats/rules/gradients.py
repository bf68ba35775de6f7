"""The rules on gradients: vanishing, exploding, never reset; knows no torch."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial

from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule, Told, describe, place_of
from tensorstats.rules.view import ParameterView, StepView

__all__ = ["ExplodingGradient", "GradientsKept", "VanishingGradient"]


def _weights(view: StepView) -> list[ParameterView]:
    """Weights (two or more dimensions) with a finite gradient that is not zero throughout, in the order of execution.

    A gradient of exact zeros is another fault: a dead layer or a cut graph, named by the rules on units and parameters.
    One that no optimizer holds piles up, for nobody resets it.
    """
    return [
        parameter
        for parameter in view.parameters
        if parameter.dimensions >= 2
        and parameter.gradient is not None
        and parameter.gradient.nonfinite_count == 0
        and parameter.gradient.l2 > 0
        and (parameter.in_optimizer or not view.has_optimizer)
    ]


def _mean_abs(parameter: ParameterView) -> float:
    gradient = parameter.gradient
    return float(gradient.l1) / gradient.finite_count if gradient is not None and gradient.finite_count else math.nan


class VanishingGradient(Rule):
    """Gradients that shrink on the way back to the first layers, or that were never large enough to matter.

    Two measurements: the norm of the first layer's gradient over that of the last (limit 1e-3, with the first below
    1e-4), and the mean of the absolute gradient of each layer that never reached 1e-7.
    """

    id = "vanishing-gradient"
    default_limit = limits.VANISHING_RATIO
    default_patience = limits.VANISHING_PATIENCE
    once = True
    leads_to = frozenset({"update-ratio"})
    why = "The first layers hardly learn while the last ones do, so the network cannot use its depth."
    advice = (
        "Replace sigmoid and tanh inside the network by ReLU or GELU, initialise for the activation used (kaiming or "
        "xavier), add normalisation layers or residual connections, or use fewer layers."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._largest: dict[str, float] = {}

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Measure the first layer against the last, and every layer against the absolute limit."""
        weights = _weights(view)
        if len(weights) >= 2:
            yield from self._first_against_last(weights, view)
        for parameter in weights:
            mean_abs = _mean_abs(parameter)
            largest = max(mean_abs, self._largest.get(parameter.name, 0.0))
            self._largest[parameter.name] = largest
            if view.learning is not True:
                note = partial(self._never_large, parameter.name, mean_abs, largest)
                yield Measurement(
                    place_of(parameter), largest, note=note, limit=limits.VANISHING_MEAN_ABS, key=parameter.name
                )

    def _never_large(self, name: str, mean_abs: float, largest: float) -> str:
        return (
            f"The mean absolute gradient of {name} is {mean_abs:.2e} and was never above {largest:.2e}: too small to "
            f"move the weights. {self.why}"
        )

    def _first_against_last(self, weights: Sequence[ParameterView], view: StepView) -> Iterable[Measurement]:
        first, last = weights[0], weights[-1]
        assert first.gradient is not None
        assert last.gradient is not None
        first_norm, last_norm = first.gradient.l2, last.gradient.l2
        ratio = first_norm / last_norm if first_norm < limits.VANISHING_FIRST_NORM else math.inf
        note = (
            f"The gradient of the first layer, {describe(first.module, view)}, has norm {first_norm:.2e}; that of the "
            f"last, {describe(last.module, view)}, has {last_norm:.2e}: a ratio of {first_norm / last_norm:.1e}. "
            f"{self.why}"
        )
        yield Measurement(place_of(first), ratio, note=note, key="ratio")

    def verdict(self, measurement: Measurement) -> bool:
        """Below the limit."""
        return measurement.value < (self.limit if measurement.limit is None else measurement.limit)

    def gather(self, broken: Sequence[Measurement], _view: StepView, /) -> Sequence[Measurement]:
        """The ratio tells more than the single layers; otherwise the smallest gradient stands for all."""
        for measurement in broken:
            if measurement.key == "ratio":
                return [measurement]
        return [min(broken, key=lambda measurement: measurement.value)]

    def explains(self, mine: Told, other: Told, /) -> bool:
        """Updates that are too small, not those that are too large."""
        return super().explains(mine, other) and other.key.endswith("+low")


class ExplodingGradient(Rule):
    """Gradients that are too large: in themselves, against the last layer, or against the layer's own past."""

    id = "exploding-gradient"
    default_limit = limits.EXPLODING_NORM
    default_patience = limits.EXPLODING_PATIENCE
    once = True
    leads_to = frozenset({"dead-units", "all-zero", "saturated", "vanishing-gradient", "update-ratio"})
    why = "One step with such a gradient throws the weights far away; the loss jumps, and soon becomes NaN."
    advice = (
        "Lower the learning rate, clip the gradients (torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) before "
        "the optimizer's step), scale inputs and targets, check the initial scale of the weights, and average the loss "
        "instead of summing it."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._first: dict[str, float] = {}
        self._recent: dict[str, deque[float]] = {}

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Measure every weight's gradient, its growth, and the first layer against the last."""
        weights = _weights(view)
        for parameter in weights:
            assert parameter.gradient is not None
            norm = parameter.gradient.l2
            note = partial(self._large, parameter, norm, view)
            yield Measurement(place_of(parameter), norm, note=note, key=parameter.name)
            first = self._first.setdefault(parameter.name, norm)
            recent = self._recent.setdefault(parameter.name, deque(maxlen=limits.EXPLODING_USUAL_STEPS))
            if norm > limits.EXPLODING_RATIO_NORM and recent:
                growth = norm / max(first, statistics.median(recent))
                note = partial(self._large, parameter, norm, view, growth)
                key = parameter.name + "+growth"
                yield Measurement(place_of(parameter), growth, note=note, limit=limits.EXPLODING_GROWTH, key=key)
            recent.append(norm)
        if len(weights) >= 2:
            yield from self._first_against_last(weights, view)

    def _large(self, parameter: ParameterView, norm: float, view: StepView, growth: float | None = None) -> str:
        grown = "" if growth is None else f", {growth:.3g} times what it was before"
        place = describe(parameter.module, view)
        return f"The gradient of {parameter.name}, in {place}, has norm {norm:.3g}{grown}. {self.why}"

    def _first_against_last(self, weights: Sequence[ParameterView], view: StepView) -> Iterable[Measurement]:
        first, last = weights[0], weights[-1]
        assert first.gradient is not None
        assert last.gradient is not None
        if first.gradient.l2 <= limits.EXPLODING_RATIO_NORM:
            return
        ratio = first.gradient.l2 / last.gradient.l2
        note = (
            f"The gradient of the first layer, {describe(first.module, view)}, has norm {first.gradient.l2:.3g}, "
            f"{ratio:.3g} times that of the last, {describe(last.module, view)}: it grows on the way back. {self.why}"
        )
        yield Measurement(
            place_of(first),
            ratio,
            note=note,
            limit=limits.EXPLODING_RATIO,
            patience=limits.EXPLODING_RATIO_PATIENCE,
            key="ratio",
        )

    def gather(self, broken: Sequence[Measurement], _view: StepView, /) -> Sequence[Measurement]:
        """The largest norm names the place; ratios only when no norm broke its limit."""
        norms = [measurement for measurement in broken if measurement.limit is None]
        return [max(norms or broken, key=lambda measurement: measurement.value)]

    def explains(self, mine: Told, other: Told, /) -> bool:
        """What begins while it lasts or right after it; units take longer to die."""
        steps = limits.DEATH_ECHO_STEPS if other.finding.rule == "dead-units" else limits.ECHO_STEPS
        return super().explains(mine, other) and mine.echoes(other, steps)


class GradientsKept(Rule):
    """Backward passes that add onto the gradients of the last optimizer step: ``zero_grad`` is missing."""

    id = "gradients-not-reset"
    default_limit = 0.0
    default_patience = limits.GRADIENTS_KEPT_PATIENCE
    status = "failure"
    symptom = False
    leads_to = frozenset(
        {"dead-units", "all-zero", "saturated", "exploding-gradient", "vanishing-gradient", "update-ratio"}
    )
    why = (
        "Every step then follows the sum of all gradients since the start instead of the gradient of this batch: the "
        "updates grow and point backwards in time."
    )
    advice = (
        "Call optimizer.zero_grad() once per optimizer step, before loss.backward(). To accumulate over several "
        "batches on purpose, call backward several times, then step, then zero_grad."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._in_a_row = 0

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Count the recorded steps in a row in which nothing reset the gradients."""
        if view.gradients_kept is None:
            return
        self._in_a_row = self._in_a_row + 1 if view.gradients_kept else 0
        note = (
            f"In {self._in_a_row} recorded steps in a row the new gradients were added onto those that the last "
            f"optimizer step had already used. {self.why}"
        )
        yield Measurement("optimizer", float(self._in_a_row), note=note)
