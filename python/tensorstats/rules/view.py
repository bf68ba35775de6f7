"""What one recorded step looks like to a rule: plain facts and states; knows no torch and no limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, overload

from tensorstats._core import Summary, UnitActivity
from tensorstats.rules.fed import LossState

__all__ = [
    "Evaluation",
    "FlatLosses",
    "ModuleView",
    "Offender",
    "OutputView",
    "ParameterView",
    "RankSpread",
    "Rows",
    "Skips",
    "StepView",
]


# Views are facts and not to be changed. They are made anew at every recorded step, and freezing them would take longer
# than what most rules do with them.
@dataclass(slots=True)
class OutputView:
    """One output tensor of one call of one module, in the order of execution.

    `units` is the state accumulated over all recorded steps, of the tensors that the summaries are of; `updates_before`
    says how many updates it had before this step. `saturated_fraction` is this step's share of values beyond the bounds
    (NaN when the module has none).
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
    masked: bool = False  # some values do not count, perhaps more of one unit than of another


@dataclass(slots=True)
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
    row_spread: float | None = None  # how far rows lie from the first, as long as all are nearly alike; else None
    rows: int = 0
    weight_decay: float | None = None  # of its group in the optimizer
    _update_ratio: float | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def update_ratio(self) -> float:
        """Norm of the update over that of the parameter after it; NaN when either is unknown or the parameter is 0."""
        if self._update_ratio is None:
            self._update_ratio = self._find_update_ratio()
        return self._update_ratio

    def _find_update_ratio(self) -> float:
        if self.update is None or self.value is None:
            return float("nan")
        norm = self.value.l2
        return float(self.update.l2 / norm) if norm > 0 else float("nan")


@dataclass(slots=True)
class ModuleView:
    """What a module is set to at a recorded step, beside the tensors that it returns."""

    name: str
    kind: str  # "normalisation" or "dropout"
    training: bool
    ran: bool  # in this step
    still: bool | None = None  # its running statistics are what they were at first; None where it has none, or unknown
    setting: float | None = None  # momentum, or the share that is dropped
    minds_mode: bool = True  # what it does differs in eval mode


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
    weight: str | None = None  # the parameter of that module which already held one
    unseen: bool = False  # what comes before it in a step was not counted
    standing: bool = False  # a parameter that was so before, and that no optimizer changes
    masking: bool = False  # all that is not finite there is -inf, as in masked logits


@dataclass(frozen=True, slots=True)
class RankSpread:
    """One tensor on every rank.

    `replicated` says that ranks hold copies or parts of one tensor, or tensors of their own, and not the same of
    different batches; `differs` that copies which something keeps equal are not. `unlike` says of each rank what the
    tensor is there, where it is not the same on all of them; `lacking` are the ranks that have none of this name.
    """

    name: str
    signal: str
    ranks: Sequence[Summary | None]
    replicated: bool = False
    differs: bool = False
    unlike: Mapping[int, str] = field(default_factory=dict)
    lacking: tuple[int, ...] = ()

    def odd_ranks(self) -> list[int]:
        """The ranks that hold something else than most do; of two camps of one size, the one without the first rank."""
        held = {rank: summary.to_bytes() for rank, summary in enumerate(self.ranks) if summary is not None}
        camps = Counter(held.values())
        most = max(camps.values(), default=0)
        usual = next((data for data in held.values() if camps[data] == most), b"")
        return [rank for rank, data in held.items() if data != usual]


@dataclass(frozen=True, slots=True)
class Skips:
    """Steps that never ended: a gradient scaler left them out, or the loop did; the last `WINDOW` steps apart."""

    WINDOW: ClassVar[int] = 100

    skipped: int
    steps: int  # skipped ones included
    by_scaler: int
    first_step: int
    recent_skipped: int
    recent_steps: int
    final: bool = False  # the run is over


@dataclass(frozen=True, slots=True)
class FlatLosses:
    """So many losses, from the first one on, that were the same; `still` if the last one was, too."""

    count: int
    value: float
    step: int  # of the first
    still: bool


class _Table(Protocol):
    def __getitem__(self, index: int, /) -> Summary: ...


class Rows(Protocol):
    """The tensors of one signal at one step: names, the modules they belong to, and a summary each."""

    @property
    def names(self) -> Sequence[str]:
        """Of the tensors."""

    @property
    def modules(self) -> Sequence[str]:
        """That they belong to."""

    @property
    def table(self) -> _Table:
        """What was counted of each."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One point of the validation curve, and the training loss of the time."""

    step: int
    value: float
    training: float


class _Trend:
    """What the losses say of a run. Given as a function, it is asked when first read: that means adding up losses."""

    @overload
    def __get__(self, view: None, owner: type) -> None: ...

    @overload
    def __get__(self, view: StepView, owner: type) -> bool | None: ...

    def __get__(self, view: StepView | None, owner: type) -> bool | None:
        if view is None:
            return None  # the default of the field
        trend: bool | Callable[[], bool | None] | None = view.__dict__["learning"]
        if callable(trend):
            trend = view.__dict__["learning"] = trend()
        return trend

    def __set__(self, view: StepView, trend: bool | Callable[[], bool | None] | None) -> None:
        view.__dict__["learning"] = trend


@dataclass
class StepView:
    """Everything the rules may look at after one recorded step.

    What several rules need is found out when the first of them asks, and kept.
    """

    step: int
    previous_step: int | None  # the recorded step before this one
    outputs: Sequence[OutputView] = ()
    parameters: Sequence[ParameterView] = ()
    offender: Offender | None = None
    parameters_nonfinite: bool = False
    gradients_kept: bool | None = None  # True: added onto the last step's; None: not known
    has_optimizer: bool = True
    ranks: Sequence[RankSpread] = ()  # empty where there is one rank
    skips: Skips | None = None  # of all steps up to this one; None where none was skipped
    loss_rose: bool | None = None  # whether the last logged loss lies far above those before it; None: not known
    flat_losses: FlatLosses | None = None  # None where no loss was logged, or the first was 0
    fed: LossState | None = None  # what the loss was given so far; None where it was not called in this step
    evaluations: Sequence[Evaluation] = ()
    learning: _Trend = _Trend()  # a descriptor: True, False, or None where it is not known
    modules: Sequence[ModuleView] = ()  # those that normalise or drop
    trains_in_eval: bool | None = None  # whether the training happens in eval mode; None: not known
    notes: list[str] = field(default_factory=list)
    rows: Mapping[str, Rows] = field(default_factory=dict)  # by signal: everything that was counted of the step
    _weight_gradients: list[tuple[ParameterView, float]] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    _silent_outputs: list[tuple[int, OutputView]] | None = field(default=None, init=False, repr=False, compare=False)

    def tensors(self, signal: str) -> Iterator[tuple[str, str, Summary]]:
        """Name, module and summary of every tensor of a signal that was counted in this step."""
        rows = self.rows.get(signal)
        if rows is not None:
            for place, (name, module) in enumerate(zip(rows.names, rows.modules, strict=True)):
                yield name, module, rows.table[place]

    @property
    def weight_gradients(self) -> list[tuple[ParameterView, float]]:
        """Weights (two or more dimensions) that a finite gradient moves, with its norm, in the order of execution.

        A gradient of exact zeros is another fault: a dead layer or a cut graph, named by the rules on units and
        parameters. One that no optimizer holds piles up, for nobody resets it.
        """
        if self._weight_gradients is None:
            self._weight_gradients = self._find_weight_gradients()
        return self._weight_gradients

    def _find_weight_gradients(self) -> list[tuple[ParameterView, float]]:
        found = []
        for parameter in self.parameters:
            gradient = parameter.gradient
            if parameter.dimensions < 2 or gradient is None or gradient.nonfinite_count > 0:
                continue
            if parameter.in_optimizer or not self.has_optimizer:
                norm = gradient.l2
                if norm > 0:
                    found.append((parameter, norm))
        return found

    @property
    def silent_outputs(self) -> list[tuple[int, OutputView]]:
        """Outputs that are exactly zero throughout, with their places among all of them."""
        if self._silent_outputs is None:
            self._silent_outputs = self._find_silent_outputs()
        return self._silent_outputs

    def _find_silent_outputs(self) -> list[tuple[int, OutputView]]:
        found = []
        for order, output in enumerate(self.outputs):
            zeros = output.summary.zero_count
            if zeros > 0 and zeros == output.summary.count:
                found.append((order, output))
        return found

    def module_type(self, module: str) -> str:
        """The class name of a module that ran in this step, or an empty string."""
        for output in self.outputs:
            if output.module == module:
                return output.module_type
        return ""
