"""The rules on units: dead, saturated, and outputs that are zero throughout; knows no torch."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tensorstats._core import UnitActivity
from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule, Told, describe
from tensorstats.rules.parameters import ZERO_GRADIENT
from tensorstats.rules.view import OutputView, StepView

__all__ = ["AllZeroOutput", "DeadUnits", "SaturatedActivation"]


class _Mark(NamedTuple):
    """The accumulated state as it was before one recorded step."""

    step: int
    updates: int
    values: int  # finite ones, of the unit that has the fewest


@dataclass(slots=True)
class _Window:
    """The recorded steps that are looked back on, and the values per unit seen until now."""

    marks: deque[_Mark] = field(default_factory=deque)
    values: int = 0
    updates: int = 0  # the accumulated state's when it was last looked at
    alive: int = 0  # while the window begins before this update, the units known to be alive are enough

    def add(self, output: OutputView, units: UnitActivity, number: int) -> None:
        """Take in the values of one recorded step.

        Units have equally many values without a mask, and equally many finite ones where all are finite: arrays are
        read otherwise.
        """
        follows = output.updates_before == self.updates  # nothing was counted since we last looked but this step
        if follows and not output.masked and output.summary.nonfinite_count == 0:
            self.values += output.summary.count // number
        else:
            self.values = int((np.asarray(units.count) - np.asarray(units.nonfinite_count)).min())
        if not follows:
            self.alive = 0
        self.updates = units.updates


# What a layer that is silent throughout does to the layers after it and to every parameter.
_SILENCE_LEADS_TO = frozenset({"dead-units", "all-zero", "unchanged", "vanishing-gradient", "flat-loss"})


def _silence_explains(mine: Told, other: Told) -> bool:
    """Silence spreads forward through the layers, and takes the gradient of everything that it touches."""
    if other.finding.rule == "unchanged":
        return other.key == ZERO_GRADIENT
    return other.order > mine.order or other.finding.rule in ("vanishing-gradient", "flat-loss")


class DeadUnits(Rule):
    """Units of a ReLU that were never active during a window of recorded steps.

    Invariant under the scale of the loss, under the width (it is a share) and under the batch size (small batches
    lengthen the window); under the scale of the data as far as biases are small against it.

    Parameters
    ----------
    limit : float, default 0.7
        The share of dead units a layer may have.
    patience : int, default 1
        Recorded steps in a row for which the share must be above the limit.
    window : int, default 10
        Recorded steps in which a dead unit was silent; more of them when they hold fewer than 500 values per unit.
    """

    id = "dead-units"
    selective = True
    default_limit = limits.DEAD_LAYER_FRACTION
    leads_to = _SILENCE_LEADS_TO
    why = (
        "A unit whose output is always 0 passes no gradient back, so its weights never change: that part of the layer "
        "is lost, and when a whole layer is dead everything before it stops learning too."
    )
    advice = (
        "Lower the learning rate, look for a large negative bias or unscaled inputs, initialise with "
        "torch.nn.init.kaiming_normal_, put a normalisation layer before the ReLU, or use LeakyReLU or GELU."
    )

    def __init__(
        self, *, limit: float | None = None, patience: int | None = None, window: int = limits.DEAD_WINDOW_STEPS
    ) -> None:
        super().__init__(limit=limit, patience=patience)
        self.window = window
        self._windows: dict[str, _Window] = {}

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Measure the share of dead units of every ReLU whose window is full, unless enough are known to be alive."""
        for order, output in enumerate(view.outputs):
            if output.kind == "relu" and output.units is not None:
                measurement = self._measure(output, output.units, view, order)
                if measurement is not None:
                    yield measurement

    def _measure(self, output: OutputView, units: UnitActivity, view: StepView, order: int) -> Measurement | None:
        number = units.units
        if number == 0:
            return None
        window = self._windows.get(output.name)
        if window is None:
            window = self._windows[output.name] = _Window()
        marks = window.marks
        marks.append(_Mark(view.step, output.updates_before, window.values))
        window.add(output, units, number)
        while len(marks) > self.window and window.values - marks[1].values >= limits.DEAD_WINDOW_VALUES:
            marks.popleft()
        begin = marks[0]
        if len(marks) < self.window or (begin.updates < window.alive and output.name not in self.suspects):
            return None
        last_active = np.asarray(units.last_active)
        window.alive = self._enough_alive(last_active)
        dead = int(np.count_nonzero(last_active <= begin.updates))
        values = window.values - begin.values
        if values < limits.DEAD_WINDOW_VALUES and dead < number:
            return None  # few values: only a layer that is silent as a whole is told
        note = partial(self._sentence, output, view, f"{dead} of {number}", values, len(marks))
        return Measurement(output.name, dead / number, note=note, step=begin.step, order=order)

    def _enough_alive(self, last_active: npt.NDArray[np.int64]) -> int:
        """The update before which a window must begin for the units known to be active in it to be enough.

        Units only ever become active later than they were: as long as the window begins before that update, no more
        than the share `limit` of them can be dead, and there is nothing to look at.
        """
        if not 0 < self.limit <= 1:
            return 0
        allowed = math.ceil(self.limit * len(last_active)) - 1
        return int(np.partition(last_active, allowed)[allowed])

    def _sentence(self, output: OutputView, view: StepView, share: str, values: int, steps: int) -> str:
        return (
            f"{share} units of {describe(output.module, view)} were 0 for every one of {values} values in {steps} "
            f"recorded steps. {self.why}"
        )

    def explains(self, mine: Told, other: Told, /) -> bool:
        """A layer that is dead as a whole silences what follows it."""
        return mine.finding.value >= 1.0 and super().explains(mine, other) and _silence_explains(mine, other)


class SaturatedActivation(Rule):
    """A sigmoid or tanh layer most of whose values sit in the flat ends of the curve.

    The activation of the output layer is left out unless the logged losses say that the run does not learn: a
    classifier that is sure of itself saturates there, and that is no fault.

    Invariant under the scale of the loss, the width and the batch size. The scale of the data is what it finds.
    """

    id = "saturated"
    selective = True
    default_limit = limits.SATURATED_LAYER_FRACTION
    default_patience = limits.SATURATED_PATIENCE
    leads_to = frozenset({"vanishing-gradient"})
    why = "There the slope is nearly 0, so almost no gradient passes to the layers before it."
    advice = (
        "Scale the inputs to mean 0 and standard deviation 1, initialise with torch.nn.init.xavier_uniform_, lower the "
        "learning rate, put a normalisation layer before the activation, or use ReLU or GELU inside the network."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._since: dict[str, int] = {}

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Measure the saturated share of every sigmoid and tanh but the output layer's."""
        for output in view.outputs:
            if output.kind not in ("sigmoid", "tanh") or math.isnan(output.saturated_fraction):
                continue
            if output.saturated_fraction > self.limit:
                since = self._since.setdefault(output.name, view.step)
            else:
                since = self._since.pop(output.name, view.step)
                if output.name not in self.suspects:
                    continue
            if output.is_last and view.learning is not False:
                continue
            note = partial(self._sentence, output, view)
            yield Measurement(output.name, output.saturated_fraction, note=note, step=since)

    def _sentence(self, output: OutputView, view: StepView) -> str:
        return (
            f"{output.saturated_fraction:.0%} of the outputs of {describe(output.module, view)} belonged to arguments "
            f"beyond -5 .. 5. {self.why}"
        )


class AllZeroOutput(Rule):
    """A module whose output is exactly zero everywhere; only the first one, since zeros are passed on.

    Invariant under every scale, the width and the batch size. Masks and counts (bool and integer outputs) may be zero.
    """

    id = "all-zero"
    default_limit = limits.ALL_ZERO_FRACTION
    default_patience = limits.ALL_ZERO_PATIENCE
    leads_to = _SILENCE_LEADS_TO
    why = "Nothing of the input gets past this point, and no gradient gets back."
    advice = (
        "Look at the module's weights (all zero? a mask that removes everything?) and at the activation before it; a "
        "layer that is meant to start at zero must leave it within the first steps."
    )

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Look for the first output of the step that is zero throughout."""
        for order, output in view.silent_outputs[:1]:
            # One of a ReLU is named by the rule on dead units; masks and indices may well be False or 0.
            if output.kind != "relu" and "float" in (output.summary.dtype or "float"):
                yield Measurement(output.name, 1.0, note=partial(self._sentence, output, view), order=order)

    def _sentence(self, output: OutputView, view: StepView) -> str:
        place = describe(output.module, view)
        return f"All {output.summary.count} values of the output of {place} were exactly 0. {self.why}"

    def verdict(self, measurement: Measurement) -> bool:
        """Reached, not exceeded: the limit is a share of 100 %."""
        return measurement.value >= self.limit

    def explains(self, mine: Told, other: Told, /) -> bool:
        """Zeros are passed on, and no gradient comes back."""
        return super().explains(mine, other) and _silence_explains(mine, other)
