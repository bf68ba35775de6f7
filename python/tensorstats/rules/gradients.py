"""The rules on gradients: vanishing, exploding, never reset; knows no torch."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import TypeAlias

from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule, Told, describe, place_of
from tensorstats.rules.view import ParameterView, StepView

__all__ = ["ExplodingGradient", "GradientsKept", "VanishingGradient"]

_Weight: TypeAlias = tuple[ParameterView, float]  # with the norm of its gradient


def _follows_depth(weights: Sequence[_Weight]) -> float:
    """Spearman's rank correlation of gradient norms with the depth, from -1 to 1; 0 for too few weights to tell."""
    count = len(weights)
    if count < limits.DEPTH_TREND_WEIGHTS:
        return 0.0
    by_norm = sorted(range(count), key=lambda place: weights[place][1])
    squares = sum((place - rank) ** 2 for rank, place in enumerate(by_norm))
    return 1.0 - 6.0 * squares / (count * (count**2 - 1))


def _steps_in_proportion(parameter: ParameterView, norm: float) -> bool:
    """Whether a step is at least half the rate times the gradient, and replaces the weight, as far as known.

    A small rate makes up for a loss in large units: what counts is the step.
    """
    rate, update = parameter.learning_rate, parameter.update
    if not rate or update is None:
        return True
    return update.l2 >= 0.5 * rate * norm and not parameter.update_ratio < limits.UPDATE_RATIO_REPLACED


def _outputs_grow(view: StepView) -> bool:
    """Whether the layers with weights, but the last, pass on more and more: the scale of the loss is not to blame."""
    weighted = {parameter.module for parameter in view.parameters if parameter.dimensions >= 2}
    sizes = [float(output.summary.rms) for output in view.outputs if output.module in weighted][:-1]
    if len(sizes) < limits.DEPTH_TREND_WEIGHTS or not sizes[0] > 0:
        return False
    rising = sum(after > before for before, after in pairwise(sizes))
    return rising >= limits.DEPTH_TREND * (len(sizes) - 1) and sizes[-1] > limits.EXPLODING_OUTPUT_GROWTH * sizes[0]


class VanishingGradient(Rule):
    """Gradients that shrink on the way back to the first layers: first over last below 1e-3, all of them in order.

    Invariant under the scale of the loss and of the targets, and under the batch size. Layers too slow for their
    weights are the business of the rule on update ratios.
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

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Measure the first layer against the last."""
        weights = view.weight_gradients
        if len(weights) < 2:
            return
        (first, first_norm), (_, last_norm) = weights[0], weights[-1]
        ratio, place = first_norm / last_norm, place_of(first)
        if ratio < self.limit and _follows_depth(weights) < limits.DEPTH_TREND:
            ratio = math.inf  # a gate, a scale or a branch that starts at zero makes it small, not the depth
        if ratio < self.limit or place in self.suspects:
            yield Measurement(place, ratio, note=partial(self._shrinks, weights, view), key="ratio")

    def _shrinks(self, weights: Sequence[_Weight], view: StepView) -> str:
        (first, first_norm), (last, last_norm) = weights[0], weights[-1]
        return (
            f"The gradient of the first layer, {describe(first.module, view)}, had norm (l2) {first_norm:.2e}; that of "
            f"the last, {describe(last.module, view)}, had {last_norm:.2e}: a ratio of {first_norm / last_norm:.1e}, "
            f"and they shrink from layer to layer. {self.why}"
        )

    def verdict(self, measurement: Measurement) -> bool:
        """Below the limit."""
        return measurement.value < (self.limit if measurement.limit is None else measurement.limit)

    def explains(self, mine: Told, other: Told, /) -> bool:
        """Updates that are too small, not those that are too large."""
        return super().explains(mine, other) and other.key.endswith("+low")


class ExplodingGradient(Rule):
    """Gradients that are too large: against the layer's own past, against the last layer's, or as steps.

    Growth up to 1000 times counts only where the loss, if it is known, rises with it for two steps. Growth and ratio
    are invariant under the scale of the loss and of the targets, and under the batch size. The limit on the norm itself
    is not: it counts only where the step is in proportion to the gradient (SGD) and replaces the weight, or where the
    outputs grow through the depth as the gradients do. Adam and its kin divide the scale of the loss out, a small rate
    makes up for it, and there no size of a gradient is too large by itself.
    """

    id = "exploding-gradient"
    selective = True
    default_limit = limits.EXPLODING_NORM
    default_patience = limits.EXPLODING_PATIENCE
    lasting = True
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
        usual = max(self._first.values(), default=0.0)
        for parameter, norm in weights:
            name = parameter.name
            if norm > self.limit or (suspects and place_of(parameter) in suspects):
                note = partial(self._large, parameter, norm, view)
                size = norm if _steps_in_proportion(parameter, norm) or _outputs_grow(view) else 0.0
                yield Measurement(place_of(parameter), size, note=note, key=name)
            recent = self._recent.get(name)
            if recent is None:
                self._first[name] = norm
                self._recent[name] = recent = deque(maxlen=limits.EXPLODING_USUAL_STEPS)
            elif norm > usual and len(recent) >= limits.EXPLODING_FEWEST_STEPS:
                yield from self._growth(parameter, norm, recent, view)
            recent.append(norm)
        if len(weights) >= 2:
            yield from self._first_against_last(weights, view)

    def _growth(
        self, parameter: ParameterView, norm: float, recent: Sequence[float], view: StepView
    ) -> Iterable[Measurement]:
        first, place = self._first[parameter.name], place_of(parameter)
        # The growth over the larger of two norms is no more than that over the first of them.
        if norm / first > limits.EXPLODING_GROWTH or place in self.suspects:
            # A layer behind weights that are born small catches up with the others: that is no explosion.
            catches_up = norm <= max(map(max, self._recent.values()))
            growth = 0.0 if catches_up else norm / max(first, statistics.median(recent))
            patience = None
            if growth <= limits.EXPLODING_GROWTH_ALONE and view.loss_rose is not None:
                patience = limits.EXPLODING_GROWTH_PATIENCE
                growth = growth if view.loss_rose else 0.0  # otherwise a plateau is left, and the loss falls
            note = partial(self._large, parameter, norm, view, growth)
            key = parameter.name + "+growth"
            yield Measurement(place, growth, note=note, limit=limits.EXPLODING_GROWTH, patience=patience, key=key)

    def _large(self, parameter: ParameterView, norm: float, view: StepView, growth: float | None = None) -> str:
        grown = "" if growth is None else f", {growth:.3g} times what it was before"
        place = describe(parameter.module, view)
        return f"The gradient of {parameter.name}, in {place}, had norm (l2) {norm:.3g}{grown}. {self.why}"

    def _first_against_last(self, weights: Sequence[_Weight], view: StepView) -> Iterable[Measurement]:
        (first, first_norm), (_, last_norm) = weights[0], weights[-1]
        ratio, place = first_norm / last_norm, place_of(first)
        if ratio > limits.EXPLODING_RATIO and (
            _follows_depth(weights) > -limits.DEPTH_TREND or first.update_ratio < limits.UPDATE_RATIO_HIGH
        ):
            ratio = 0.0
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
            f"The gradient of the first layer, {describe(first.module, view)}, had norm (l2) {first_norm:.3g}, "
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
    """Backward passes that add onto the gradients of the last optimizer step: ``zero_grad`` is missing.

    Invariant under every scale, the width and the batch size: it asks whether, not how much.
    """

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
