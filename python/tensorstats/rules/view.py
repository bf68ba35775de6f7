"""What one recorded step looks like to a rule: plain facts and states; knows no torch and no limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tensorstats._core import Summary, UnitActivity

__all__ = ["Offender", "OutputView", "ParameterView", "StepView"]


@dataclass(frozen=True, slots=True)
class OutputView:
    """One output tensor of one call of one module, in the order of execution.

    `units` is the state accumulated over all recorded steps; `updates_before` says how many updates it had before this
    step. `saturated_fraction` is this step's share of values beyond the bounds (NaN when the module has none).
    """

    name: str
    module: str
    module_type: str
    kind: str  # "relu", "sigmoid", "tanh" or "other"
    summary: Summary
    units: UnitActivity | None
    updates_before: int
    saturated_fraction: float
    is_last: bool  # no module with parameters ran after it


@dataclass(frozen=True, slots=True)
class ParameterView:
    """One parameter at one recorded step, in the order in which the modules ran."""

    name: str
    module: str
    dimensions: int
    dtype: str
    requires_grad: bool
    in_optimizer: bool
    learning_rate: float | None
    has_gradient: bool
    value: Summary | None
    gradient: Summary | None
    update: Summary | None
    norm_before: float = float("nan")  # before the update, where it was measured: at its first recorded step

    @property
    def update_ratio(self) -> float:
        """Norm of the update over that of the parameter after it; NaN when either is unknown or the parameter is 0."""
        if self.update is None or self.value is None or not self.value.l2 > 0:
            return float("nan")
        return float(self.update.l2 / self.value.l2)


@dataclass(frozen=True, slots=True)
class Offender:
    """The first non-finite value of a step: where it is, and whether that module made it or passed it on."""

    where: str
    signal: str  # "input", "output", "output gradient", "gradient", "parameter" or "loss"
    nonfinite_count: int
    count: int
    index: tuple[int, ...] | None  # of the first one in the tensor
    value: str  # "nan", "inf" or "-inf"
    origin: str  # one sentence: produced here, or passed on, or unknown
    call: int = 0
    module: str = ""  # the module it belongs to
    argument: str | None = None  # the argument of that module through which it came in, when it was passed on
    backward: bool = False  # met on the way back
    produced: bool | None = None  # by that module; None: not known


@dataclass(slots=True)
class StepView:
    """Everything the rules may look at after one recorded step."""

    step: int
    previous_step: int | None  # the recorded step before this one
    outputs: Sequence[OutputView] = ()
    parameters: Sequence[ParameterView] = ()
    offender: Offender | None = None
    parameters_nonfinite: bool = False
    gradients_kept: bool | None = None  # True: added onto the last step's; None: not known
    has_optimizer: bool = True
    learning: bool | None = None  # what the logged losses say; None: not known
    notes: list[str] = field(default_factory=list)

    def module_type(self, module: str) -> str:
        """The class name of a module that ran in this step, or an empty string."""
        for output in self.outputs:
            if output.module == module:
                return output.module_type
        return ""
