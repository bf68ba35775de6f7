"""The rules on gradients: vanishing, exploding, never reset; knows no torch."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TypeAlias

from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule, Told, describe, place_of
from tensorstats.rules.view import ParameterView, StepView

__all__ = ["ExplodingGradient", "GradientsKept", "VanishingGradient"]

_Weight: TypeAlias = tuple[ParameterView, float]  # with the norm of its gradient


def _mean_abs(parameter: ParameterView) -> float:
    gradient = parameter.gradient
    return float(gradient.l1) / gradient.finite_count if gradient is not None and gradient.finite_count else math.nan


class VanishingGradient(Rule):
    """Gradients that shrink on the way back to the first layers, or that were never large enough to matter.

    Two measurements: the norm of the first layer's gradient over that of the last (limit 1e-3, with the first below
    1e-4), and the mean of the absolute gradient of each layer that never reached 1e-7.
    """

    id = "vanishing-gradient"
    selective = True
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
        self._large_enough: set[str] = set()  # the weights that once reached the absolute limit

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Measure the first layer against the last, and every layer that was never above the absolute limit."""
        weights = view.weight_gradients
        if len(weights) >= 2 and (weights[0][1] < limits.VANISHING_FIRST_NORM or self.suspects):
            yield from self._first_against_last(weights, view)
        done = self.done_with(self._large_enough)
        for parameter, _ in weights:
            if parameter.name in done:
                continue
            mean_abs = _mean_abs(parameter)
            largest = max(mean_abs, self._largest.get(parameter.name, 0.0))
            self._largest[parameter.name] = largest
            if view.learning is not True:
                if largest >= limits.VANISHING_MEAN_ABS:
                    self._large_enough.add(parameter.name)
                note = partial(self._never_large, parameter.name, mean_abs, largest)
                yield Measurement(
                    place_of(parameter), largest, note=note, limit=limits.VANISHING_MEAN_ABS, key=parameter.name
                )

    def _never_large(self, name: str, mean_abs: float, largest: float) -> str:
        return (
            f"The mean absolute gradient of {name} is {mean_abs:.2e} and was never above {largest:.2e}: too small to "
            f"move the weights. {self.why}"
        )

    def _first_against_last(self, weights: Sequence[_Weight], view: StepView) -> Iterable[Measurement]:
        (first, first_norm), (_, last_norm) = weights[0], weights[-1]
        ratio = first_norm / last_norm if first_norm < limits.VANISHING_FIRST_NORM else math.inf
        place = place_of(first)
        if ratio < self.limit or place in self.suspects:
            yield Measurement(place, ratio, note=partial(self._shrinks, weights, view), key="ratio")

    def _shrinks(self, weights: Sequence[_Weight], view: StepView) -> str:
        (first, first_norm), (last, last_norm) = weights[0], weights[-1]
        return (
            f"The gradient of the first layer, {describe(first.module, view)}, has norm {first_norm:.2e}; that of the "
            f"last, {describe(last.module, view)}, has {last_norm:.2e}: a ratio of {first_norm / last_norm:.1e}. "
            f"{self.why}"
        )

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
    selective = True
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
        """Measure every weight's gradient, its growth, and the first layer against the last, where they are large."""
        weights, suspects = view.weight_gradients, self.suspects
        for parameter, norm in weights:
            name = parameter.name
            if norm > self.limit or (suspects and place_of(parameter) in suspects):
                note = partial(self._large, parameter, norm, view)
                yield Measurement(place_of(parameter), norm, note=note, key=name)
            recent = self._recent.get(name)
            if recent is None:
                self._first[name] = norm
                self._recent[name] = recent = deque(maxlen=limits.EXPLODING_USUAL_STEPS)
            elif norm > limits.EXPLODING_RATIO_NORM:
                yield from self._growth(parameter, norm, recent, view)
            recent.append(norm)
        if len(weights) >= 2 and weights[0][1] > limits.EXPLODING_RATIO_NORM:
            yield from self._first_against_last(weights, view)

    def _growth(
        self, parameter: ParameterView, norm: float, recent: Sequence[float], view: StepView
    ) -> Iterable[Measurement]:
        first, place = self._first[parameter.name], place_of(parameter)
        # The growth over the larger of two norms is no more than that over the first of them.
        if norm / first > limits.EXPLODING_GROWTH or place in self.suspects:
            growth = norm / max(first, statistics.median(recent))
            note = partial(self._large, parameter, norm, view, growth)
            key = parameter.name + "+growth"
            yield Measurement(place, growth, note=note, limit=limits.EXPLODING_GROWTH, key=key)

    def _large(self, parameter: ParameterView, norm: float, view: StepView, growth: float | None = None) -> str:
        grown = "" if growth is None else f", {growth:.3g} times what it was before"
        place = describe(parameter.module, view)
        return f"The gradient of {parameter.name}, in {place}, has norm {norm:.3g}{grown}. {self.why}"

    def _first_against_last(self, weights: Sequence[_Weight], view: StepView) -> Iterable[Measurement]:
        (first, first_norm), (_, last_norm) = weights[0], weights[-1]
        ratio, place = first_norm / last_norm, place_of(first)
        if ratio > limits.EXPLODING_RATIO or place in self.suspects:
            yield Measurement(
                place,
                ratio,
                note=partial(self._grows, weights, view),
                limit=limits.EXPLODING_RATIO,
                patience=limits.EXPLODING_RATIO_PATIENCE,
                key="ratio",
            )

    def _grows(self, weights: Sequence[_Weight], view: StepView) -> str:
        (first, first_norm), (last, last_norm) = weights[0], weights[-1]
        return (
            f"The gradient of the first layer, {describe(first.module, view)}, has norm {first_norm:.3g}, "
            f"{first_norm / last_norm:.3g} times that of the last, {describe(last.module, view)}: it grows on the way "
            f"back. {self.why}"
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
    selective = True
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
        if self._in_a_row > self.limit or "optimizer" in self.suspects:
            yield Measurement("optimizer", float(self._in_a_row), note=partial(self._piled_up, self._in_a_row))

    def _piled_up(self, steps: int) -> str:
        return (
            f"In {steps} recorded steps in a row the new gradients were added onto those that the last optimizer step "
            f"had already used. {self.why}"
        )
