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
    """Parameters that gradients reach but no optimizer holds, or that an optimizer holds though they are frozen.

    ``requires_grad=False`` outside the optimizer is a decision and no finding, and so are weights that no gradient ever
    reaches: a target network that is copied to now and then, a backbone that runs under ``torch.no_grad()``.

    Invariant under every scale, the width and the batch size: it asks whether, not how much.
    """

    id = "frozen"
    default_patience = limits.FROZEN_PATIENCE
    symptom = False
    why = "So far these weights are what they were at the start, whatever the data says."
    advice = (
        "If they should learn, set requires_grad_(True) and hand them to the optimizer (after replacing a layer, build "
        "the optimizer anew). If they should not, set requires_grad_(False) and leave them out of the optimizer: that "
        "also saves the time and memory of their gradients."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._last: dict[str, tuple[float, float, float]] = {}
        self._reached: set[str] = set()  # by a gradient, at any step
        self._moved: set[str] = set()  # seen to change: copied to, averaged, or trained for part of the time

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield every parameter that stands still outside the optimizer, or is frozen inside it."""
        if not view.has_optimizer:
            return
        for parameter in view.parameters:
            if parameter.has_gradient:
                self._reached.add(parameter.name)
            reached = parameter.name in self._reached
            outside = parameter.requires_grad and not parameter.in_optimizer and reached
            # What is frozen for a part of each round (a critic while its generator is trained) has had gradients.
            inside = parameter.in_optimizer and not parameter.requires_grad and not reached
            if not self._stands_still(parameter) or not (outside or inside):
                continue
            if outside:
                note = (
                    f"requires_grad is True and gradients reach it, but no parameter group of the optimizer holds it; "
                    f"it did not change in the recorded steps. {self.why}"
                )
                yield Measurement(parameter.name, 1.0, note=note, status="failure", key="outside")
            else:
                note = (
                    "handed to the optimizer, but requires_grad was False, so there was no gradient in the recorded "
                    f"steps. {self.why}"
                )
                yield Measurement(parameter.name, 1.0, note=note, status="warning", key="inside")

    def _stands_still(self, parameter: ParameterView) -> bool:
        """Whether it was never seen to change; another optimizer may hold it, or another network be copied to it."""
        name, value = parameter.name, parameter.value
        if value is not None and name not in self._moved:
            now = (float(value.sum), float(value.l2), float(value.absmax))
            if now != self._last.setdefault(name, now):
                self._moved.add(name)
        return name not in self._moved


class NoGradient(_ParameterRule):
    """Parameters in the optimizer that have received no gradient at all since watching began.

    One whose module holds others that get gradients is left out by a forward pass that knows it: the token for masked
    patches in a classifier, say. It is no finding. Invariant under every scale, the width and the batch size.
    """

    id = "no-gradient"
    selective = True
    default_patience = limits.NO_GRADIENT_PATIENCE
    status = "failure"
    symptom = False
    why = "The loss does not depend on it, or the path is cut: as long as that is so it cannot learn."
    advice = (
        "Is the module called in forward, and does its result reach the loss? Look for .detach(), .data, .item(), "
        "numpy(), torch.no_grad() or a re-created tensor between it and the loss. Remove the module if it is not "
        "needed."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._had_gradient: set[str] = set()
        self._used: set[str] = set()  # modules that hold one of them
        self._steps = 0

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield 1 for every parameter that never had a gradient, and 0 when it has its first."""
        self._steps += 1
        if not view.has_optimizer and not self._had_gradient and not any(p.has_gradient for p in view.parameters):
            return  # nobody asks for gradients: evaluation, or a search without them
        done = self.done_with(self._had_gradient) if self.limit >= 0 else ()
        for parameter in view.parameters:
            name = parameter.name
            if name in done:
                continue
            if parameter.has_gradient:
                self._had_gradient.add(name)
                self._used.add(parameter.module)
        for parameter in view.parameters:
            name = parameter.name
            if name in done or not parameter.requires_grad or (view.has_optimizer and not parameter.in_optimizer):
                continue
            missing = name not in self._had_gradient and parameter.module not in self._used
            yield Measurement(name, float(missing), note=self._sentence)

    def _sentence(self) -> str:
        return f"the gradient was None in each of the {self._steps} recorded steps so far. {self.why}"


class Unchanged(_ParameterRule):
    """Parameters that get a gradient and are in the optimizer, and still never change.

    Invariant under the scale of the loss with Adam, under the width and the batch size; with SGD a loss so small that
    no update reaches the next number is what it finds.
    """

    id = "unchanged"
    selective = True
    default_patience = limits.UNCHANGED_PATIENCE
    status = "failure"
    symptom = False
    why = "It kept exactly the values it started with."
    advice = (
        "A gradient of exact zeros comes from a dead or cut layer after this one: look there first. Otherwise look at "
        "the learning rate of its parameter group and, in bfloat16 or float16, at updates smaller than the distance to "
        "the next number: keep float32 master weights."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._changed: set[str] = set()
        self._reached: set[str] = set()  # modules with a weight whose gradient was not 0

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield 1 for every parameter that has a gradient and never changed, and 0 when it first does."""
        self._note_reached(view)
        done = self.done_with(self._changed) if self.limit >= 0 else ()
        for parameter in view.parameters:
            name, update = parameter.name, parameter.update
            if name in done or update is None or parameter.gradient is None or update.count == 0:
                continue
            if update.zero_count < update.count:
                self._changed.add(name)
            if parameter.in_optimizer and parameter.requires_grad:
                yield from self._measure(parameter, name not in self._changed, view)

    def _note_reached(self, view: StepView) -> None:
        for parameter in view.parameters:
            gradient = parameter.gradient
            if parameter.dimensions >= 2 and gradient is not None and gradient.zero_count < gradient.count:
                self._reached.add(parameter.module)

    def _measure(self, parameter: ParameterView, still: bool, view: StepView) -> Iterable[Measurement]:
        note, status, key = self._cause(parameter)
        if key == "lost update" and not _worth_an_update(parameter):
            return
        if key == ZERO_GRADIENT and parameter.dimensions < 2 and parameter.module in self._reached:
            still = False  # the loss does not ask for it: a critic's last bias, of which only differences count
        # A layer that is silent throughout is the cause, and the rules on units take longer to be sure of it.
        waits = key == ZERO_GRADIENT and view.silent_outputs
        patience = limits.DEAD_WINDOW_STEPS + 1 if waits else None
        note = f"{note} {self.why}"
        yield Measurement(parameter.name, float(still), note=note, status=status, patience=patience, key=key)

    def _cause(self, parameter: ParameterView) -> tuple[str, Status, str]:
        gradient = parameter.gradient
        assert gradient is not None
        if gradient.zero_count == gradient.count:
            return "every gradient was exactly 0.", "failure", ZERO_GRADIENT
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
    return float(gradient.l1) / gradient.finite_count > limits.NOISE_MEAN_ABS


def _ordinary_norm(parameter: ParameterView) -> float:
    """A tenth of the norm that torch's own initialisation gives a weight of this shape: below it, it was born small.

    Class tokens, layer scales, relative position tables, zero-initialised matrices and scaled-down heads grow to many
    times their birth size on purpose, so that their own size is no measure of a step. Uniform in +-1 / sqrt(fan_in)
    (torch's default for Linear and convolutions) has the norm sqrt(rows / 3).
    """
    shape = None if parameter.value is None else parameter.value.shape
    return limits.BORN_SMALL * math.sqrt((shape[0] if shape else 1) / 3)


class UpdateRatio(Rule):
    """Updates too large or too small for the weights they change: norm of the update over norm of the weight.

    Invariant under the scale of the loss with Adam (with SGD where the rate makes up for it), under the batch size, and
    (being relative to fan-in) under the width. Weights smaller than a tenth of what torch would have given them are not
    judged for large steps: they are meant to grow.
    """

    id = "update-ratio"
    selective = True
    default_limit = limits.UPDATE_RATIO_HIGH
    default_patience = limits.UPDATE_RATIO_HIGH_PATIENCE
    lasting = True
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
            small = parameter.value is not None and parameter.value.l2 < _ordinary_norm(parameter)
            if (ratio > high and not small) or (suspects and place_of(parameter) in suspects):
                yield from self._high(parameter, 0.0 if small else ratio, view)
            if parameter.norm_before > 0 and not small and parameter.value is not None:
                yield self._first_step(parameter, ratio, parameter.value.l2 / parameter.norm_before, view)
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
            f"One step changed {parameter.name}, in {describe(parameter.module, view)}, by {ratio:.2g} of its own "
            f"size (update_ratio): the steps overshoot. {self.why}"
        )

    def _first_step(self, parameter: ParameterView, ratio: float, grown: float, view: StepView) -> Measurement:
        note = (
            f"The first recorded step made {parameter.name}, in {describe(parameter.module, view)}, {grown:.3g} times "
            f"as large as it was (update_ratio {ratio:.2g}): nothing of the initial weights is left and the steps "
            f"overshoot. {self.why}"
        )
        return Measurement(
            place_of(parameter),
            ratio if grown > limits.UPDATE_RATIO_FIRST_GROWTH else 0.0,
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
            f"One step changed {parameter.name}, in {describe(parameter.module, view)}, by {ratio:.1e} of its own "
            f"size (update_ratio), and none so far by more than {largest:.1e}: it hardly moves. {self.why}"
        )

    def verdict(self, measurement: Measurement) -> bool:
        """Above the upper limits, below the lower one."""
        if measurement.key.endswith("+low"):
            return measurement.value < limits.UPDATE_RATIO_LOW
        return super().verdict(measurement)

    def gather(self, broken: Sequence[Measurement], _view: StepView, /) -> Sequence[Measurement]:
        """The weight furthest out of the band stands for all."""
        return [max(broken, key=lambda measurement: abs(math.log(measurement.value / limits.UPDATE_RATIO_LOW)))]
