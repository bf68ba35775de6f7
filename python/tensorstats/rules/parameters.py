"""The rules on parameters: frozen by mistake, without gradient, never changing, updates out of band; knows no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from tensorstats.rules import limits
from tensorstats.rules.base import ROOT, Measurement, Rule, describe, group_by_module, place_of, sentence
from tensorstats.rules.finding import Status
from tensorstats.rules.view import ParameterView, StepView

# The key of measurements of parameters whose gradient is exactly 0 throughout.
ZERO_GRADIENT = "zero gradient"

__all__ = ["ZERO_GRADIENT", "Frozen", "NoGradient", "Unchanged", "UpdateRatio"]


def _fold(broken: Sequence[Measurement], view: StepView) -> list[Measurement]:
    """One measurement per module all of whose parameters are concerned; the note lists them."""
    folded = []
    for key in dict.fromkeys(measurement.key for measurement in broken):
        by_name = {measurement.where: measurement for measurement in broken if measurement.key == key}
        groups = group_by_module(by_name, (parameter.name for parameter in view.parameters))
        for where, names in groups.items():
            first = by_name[names[0]]
            listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            if where == ROOT:
                listed = f"all {len(names)} watched parameters"
            folded.append(replace(first, where=where, note=f"{listed}: {sentence(first)}"))
    return folded


class _ParameterRule(Rule):
    """A rule that measures parameters one by one and reports them by module."""

    def gather(self, broken: Sequence[Measurement], view: StepView, /) -> Sequence[Measurement]:
        """Fold parameters into the modules that hold them."""
        return _fold(broken, view)


class Frozen(_ParameterRule):
    """Parameters that ask for gradients but are in no optimizer, or that an optimizer holds though they are frozen.

    ``requires_grad=False`` outside the optimizer is a decision and no finding.
    """

    id = "frozen"
    default_patience = limits.FROZEN_PATIENCE
    symptom = False
    why = "These weights stay as they are, whatever the data says."
    advice = (
        "If they should learn, set requires_grad_(True) and hand them to the optimizer (after replacing a layer, build "
        "the optimizer anew). If they should not, set requires_grad_(False) and leave them out of the optimizer: that "
        "also saves the time and memory of their gradients."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._last: dict[str, tuple[float, float, float]] = {}

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield every parameter that stands still outside the optimizer, or is frozen inside it."""
        if not view.has_optimizer:
            return
        for parameter in view.parameters:
            if parameter.requires_grad and not parameter.in_optimizer and self._stands_still(parameter):
                note = (
                    f"requires_grad is True, but no parameter group of the optimizer holds it and it does not change. "
                    f"{self.why}"
                )
                yield Measurement(parameter.name, 1.0, note=note, status="failure", key="outside")
            elif parameter.in_optimizer and not parameter.requires_grad:
                note = f"handed to the optimizer, but requires_grad is False, so there is never a gradient. {self.why}"
                yield Measurement(parameter.name, 1.0, note=note, status="warning", key="inside")

    def _stands_still(self, parameter: ParameterView) -> bool:
        """Whether it is as it was at the last recorded step; another optimizer may hold it."""
        value = parameter.value
        if value is None:
            return True
        now = (float(value.sum), float(value.l2), float(value.absmax))
        before = self._last.get(parameter.name, now)
        self._last[parameter.name] = now
        return now == before


class NoGradient(_ParameterRule):
    """Parameters in the optimizer that have received no gradient at all since watching began."""

    id = "no-gradient"
    selective = True
    default_patience = limits.NO_GRADIENT_PATIENCE
    status = "failure"
    symptom = False
    why = "The loss does not depend on it, or the path was cut, so it can never learn."
    advice = (
        "Is the module called in forward, and does its result reach the loss? Look for .detach(), .data, .item(), "
        "numpy(), torch.no_grad() or a re-created tensor between it and the loss. Remove the module if it is not "
        "needed."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._had_gradient: set[str] = set()

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield 1 for every parameter that never had a gradient, and 0 when it has its first."""
        done = self.done_with(self._had_gradient) if self.limit >= 0 else ()
        for parameter in view.parameters:
            name = parameter.name
            if name in done:
                continue
            if parameter.has_gradient:
                self._had_gradient.add(name)
            if (parameter.in_optimizer or not view.has_optimizer) and parameter.requires_grad:
                missing = name not in self._had_gradient
                yield Measurement(name, float(missing), note=self._sentence)

    def _sentence(self) -> str:
        return f"the gradient is None at every optimizer step. {self.why}"


class Unchanged(_ParameterRule):
    """Parameters that get a gradient and are in the optimizer, and still never change."""

    id = "unchanged"
    selective = True
    default_patience = limits.UNCHANGED_PATIENCE
    status = "failure"
    symptom = False
    why = "It has exactly the values it started with."
    advice = (
        "A gradient of exact zeros comes from a dead or cut layer after this one: look there first. Otherwise look at "
        "the learning rate of its parameter group and, in bfloat16 or float16, at updates smaller than the distance to "
        "the next number: keep float32 master weights."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._changed: set[str] = set()

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield 1 for every parameter that has a gradient and never changed, and 0 when it first does."""
        done = self.done_with(self._changed) if self.limit >= 0 else ()
        for parameter in view.parameters:
            name, update = parameter.name, parameter.update
            if name in done or update is None or parameter.gradient is None or update.count == 0:
                continue
            if update.zero_count < update.count:
                self._changed.add(name)
            if parameter.in_optimizer and parameter.requires_grad:
                yield from self._measure(parameter, name not in self._changed, view)

    def _measure(self, parameter: ParameterView, still: bool, view: StepView) -> Iterable[Measurement]:
        note, status, key = self._cause(parameter)
        if key == "lost update" and not _worth_an_update(parameter):
            return
        # A layer that is silent throughout is the cause, and the rules on units take longer to be sure of it.
        waits = key == ZERO_GRADIENT and view.silent_outputs
        patience = limits.DEAD_WINDOW_STEPS + 1 if waits else None
        note = f"{note} {self.why}"
        yield Measurement(parameter.name, float(still), note=note, status=status, patience=patience, key=key)

    def _cause(self, parameter: ParameterView) -> tuple[str, Status, str]:
        gradient = parameter.gradient
        assert gradient is not None
        if gradient.zero_count == gradient.count:
            return "every gradient is exactly 0.", "failure", ZERO_GRADIENT
        if parameter.learning_rate == 0:
            return "the learning rate of its group is 0.", "warning", "zero rate"
        return (
            f"the gradient is not zero (norm {gradient.l2:.2e}), yet every update is ({parameter.dtype}).",
            "failure",
            "lost update",
        )


def _worth_an_update(parameter: ParameterView) -> bool:
    """Whether a gradient is more than rounding noise.

    The bias before a batch norm has a gradient of exactly 0 in theory and of 1e-8 in practice, and rightly never moves.
    """
    gradient = parameter.gradient
    if gradient is None or parameter.dimensions < 2 or gradient.finite_count == 0:
        return False
    return float(gradient.l1) / gradient.finite_count > limits.VANISHING_MEAN_ABS


class UpdateRatio(Rule):
    """Updates too large or too small for the weights they change: norm of the update over norm of the weight."""

    id = "update-ratio"
    selective = True
    default_limit = limits.UPDATE_RATIO_HIGH
    default_patience = limits.UPDATE_RATIO_HIGH_PATIENCE
    once = True
    leads_to = frozenset({"dead-units", "saturated"})
    why = "About 0.001 per step is usual."
    advice = (
        "Change the learning rate of this parameter's group; check the scale of the inputs, of the initial weights and "
        "of the loss."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._first: dict[str, float] = {}
        self._largest: dict[str, float] = {}
        self._moves: set[str] = set()  # the weights that were once above the lower end
        self._from_zero: set[str] = set()

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Measure both ends of the band, for every weight that is or was out of it."""
        high = min(limits.UPDATE_RATIO_REPLACED, self.limit)
        suspects, moves = self.suspects, self.done_with(self._moves)
        for parameter in view.parameters:
            if parameter.dimensions < 2 or not parameter.in_optimizer:
                continue
            ratio = parameter.update_ratio
            if math.isnan(ratio):
                continue
            if parameter.norm_before == 0:
                self._from_zero.add(parameter.name)
            if ratio > high or (suspects and place_of(parameter) in suspects):
                yield from self._high(parameter, ratio, view)
            if parameter.norm_before > 0 and parameter.update is not None:
                yield self._first_step(parameter, parameter.update.l2 / parameter.norm_before, view)
            if ratio > 0 and parameter.name not in moves:  # exactly 0 is the rule on unchanged parameters
                yield self._low(parameter, ratio, view)

    def _high(self, parameter: ParameterView, ratio: float, view: StepView) -> Iterable[Measurement]:
        high, replaced = self.patience, limits.UPDATE_RATIO_REPLACED_PATIENCE
        if parameter.name in self._from_zero:
            high = max(high, limits.UPDATE_RATIO_FROM_ZERO_HIGH_PATIENCE)
            replaced = limits.UPDATE_RATIO_FROM_ZERO_REPLACED_PATIENCE
        note = partial(self._overshoots, parameter, ratio, view)
        yield Measurement(place_of(parameter), ratio, note=note, patience=high, key=parameter.name + "+high")
        yield Measurement(
            place_of(parameter),
            ratio,
            note=note,
            limit=limits.UPDATE_RATIO_REPLACED,
            patience=replaced,
            key=parameter.name + "+replaced",
        )

    def _overshoots(self, parameter: ParameterView, ratio: float, view: StepView) -> str:
        return (
            f"One step changes {parameter.name}, in {describe(parameter.module, view)}, by {ratio:.2g} of its own "
            f"size: the steps overshoot. {self.why}"
        )

    def _first_step(self, parameter: ParameterView, ratio: float, view: StepView) -> Measurement:
        note = (
            f"The first recorded step changes {parameter.name}, in {describe(parameter.module, view)}, by {ratio:.2g} "
            f"times its size before the step: nothing of the initial weights is left and the steps overshoot. "
            f"{self.why}"
        )
        return Measurement(
            place_of(parameter),
            ratio,
            note=note,
            limit=limits.UPDATE_RATIO_FIRST,
            patience=1,
            key=parameter.name + "+first",
        )

    def _low(self, parameter: ParameterView, ratio: float, view: StepView) -> Measurement:
        first = self._first.setdefault(parameter.name, ratio)
        largest = max(ratio, self._largest.get(parameter.name, 0.0))
        self._largest[parameter.name] = largest
        if largest >= limits.UPDATE_RATIO_LOW:
            self._moves.add(parameter.name)
        rising = ratio > limits.UPDATE_RATIO_RISING * first
        note = partial(self._hardly_moves, parameter, ratio, largest, view)
        # A ratio that is still rising (warm-up) is not judged yet.
        return Measurement(
            place_of(parameter),
            math.inf if rising else largest,
            note=note,
            limit=limits.UPDATE_RATIO_LOW,
            patience=limits.UPDATE_RATIO_LOW_PATIENCE,
            key=parameter.name + "+low",
        )

    def _hardly_moves(self, parameter: ParameterView, ratio: float, largest: float, view: StepView) -> str:
        return (
            f"One step changes {parameter.name}, in {describe(parameter.module, view)}, by {ratio:.1e} of its own "
            f"size, and never by more than {largest:.1e}: it hardly moves. {self.why}"
        )

    def verdict(self, measurement: Measurement) -> bool:
        """Above the upper limits, below the lower one."""
        if measurement.key.endswith("+low"):
            return measurement.value < limits.UPDATE_RATIO_LOW
        return super().verdict(measurement)

    def gather(self, broken: Sequence[Measurement], _view: StepView, /) -> Sequence[Measurement]:
        """The weight furthest out of the band stands for all."""
        return [max(broken, key=lambda measurement: abs(math.log(measurement.value / limits.UPDATE_RATIO_LOW)))]
