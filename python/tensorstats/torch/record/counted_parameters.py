"""What was counted of parameters, their gradients and their updates in one step; counts nothing and reads no tensor."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from tensorstats._core import Histogram, Summaries, Summary, summaries_from
from tensorstats.device.histogram import LogTable
from tensorstats.rules import ParameterView
from tensorstats.run.histograms import StepHistograms
from tensorstats.run.step import SignalStep
from tensorstats.torch.attach.modules import ROOT_NAME
from tensorstats.torch.record.recorder import NORM_BEFORE, Counted, Told

__all__ = ["FIELDS", "CountedParameters", "GroupRates", "ParameterStep"]

_NAN = float("nan")

# Which field of a step holds what of which signal.
FIELDS = {"parameters": "value", "gradients": "gradient", "updates": "update"}


class GroupRates(NamedTuple):
    """What an optimizer does to the parameters of a group; None where it is not a plain number."""

    learning_rate: float | None = None
    weight_decay: float | None = None


_NO_RATES = GroupRates()


class ParameterStep:
    """One parameter within the current step. An object serves many steps, one after the other."""

    __slots__ = (
        "before",
        "begun",
        "copied",
        "first",
        "gradient",
        "has_gradient",
        "initial_norm",
        "module",
        "name",
        "parameter",
        "place",
        "required_grad",
        "row_spread",
        "update",
        "value",
    )

    def __init__(self, name: str, parameter: nn.Parameter, place: int) -> None:
        self.name = name
        self.module = name.rpartition(".")[0] or ROOT_NAME  # that holds it
        self.parameter = parameter
        self.place = place  # of its copy
        self.begin()

    def begin(self) -> None:
        """Forget the last step."""
        self.before: torch.Tensor | None = None  # its value before the step, where the core cannot hold it
        self.copied = False  # whether the core holds its value before the step
        self.has_gradient = False
        self.begun = False  # its value after the step is on its way from a device
        self.value: Summary | None = None
        self.gradient: Summary | None = None
        self.update: Summary | None = None
        self.initial_norm = _NAN  # before the step, at the first recorded one
        self.row_spread: float | None = None  # where its rows have been alike in every step so far
        # Of what was counted on a device: the row-major position of the first non-finite value.
        self.first: dict[str, int | None] | None = None
        # At the end of a step that is closed later: by then the parameter may be frozen, or thawed.
        self.required_grad: bool | None = None


class CountedParameters(Counted):
    """The parameters of one step.

    Parameters
    ----------
    steps
        By name, in the order of definition.
    histograms
        By signal; a signal without any is not recorded.
    records
        Whether a tensor of a signal is recorded, by name: more may be counted.
    """

    def __init__(
        self,
        steps: dict[str, ParameterStep],
        histograms: Mapping[str, StepHistograms],
        empty: Histogram,
        records: Callable[[str, str], bool],
    ) -> None:
        self.steps = steps
        self.signals = (*histograms, NORM_BEFORE)
        self._histograms = histograms
        self._empty = empty
        self._records = records
        self._tables: list[tuple[str, str, LogTable]] = []
        # By signal: the only table of the step, and the parameters that its rows are of; None if there were several.
        self._whole: dict[str, tuple[Sequence[ParameterStep], Summaries] | None] = {}

    def targets(self, signal: str, steps: Sequence[ParameterStep]) -> list[Histogram] | None:
        """The histograms that parameters go into."""
        histograms = self._histograms.get(signal)
        return None if histograms is None else [histograms.target(step.name, self._empty) for step in steps]

    def count_into(self, signal: str, name: str, table: Histogram | LogTable) -> None:
        """Add a histogram once it has come from a device."""
        if isinstance(table, LogTable) and signal in self._histograms:
            self._tables.append((signal, name, table))

    def note_whole(self, signal: str, steps: Sequence[ParameterStep], table: Summaries) -> None:
        """Remember a table that may be just what the log wants of the step; where there are two, neither is."""
        self._whole[signal] = None if signal in self._whole else (steps, table)

    def forget_gradients(self) -> None:
        """Forget the gradients of this step: they are read again."""
        self._whole.pop("gradients", None)
        for step in self.steps.values():
            step.gradient, step.has_gradient = None, False

    def settle(self) -> None:
        """Take in the histograms that were counted on devices."""
        tables, self._tables = self._tables, []
        for signal, name, table in tables:
            self._histograms[signal].target(name, self._empty).merge(table.histogram())

    def told(self) -> Iterable[Told]:
        """What was counted, for other ranks."""
        for name, step in self.steps.items():
            for signal, what in FIELDS.items():
                state = getattr(step, what)
                if state is not None:
                    yield Told(signal, name, state, parameter=name)
            if step.initial_norm == step.initial_norm:
                # The norm of the whole is the norm of the norms of its parts.
                norm = Summary().update(torch.tensor([step.initial_norm], dtype=torch.float64))
                yield Told(NORM_BEFORE, name, norm, parameter=name)

    def put(self, signal: str, name: str, _kind: str, state: object, _about: tuple[str, ...]) -> None:
        """Replace what was counted of a parameter on this rank by what all ranks have together."""
        step = self.steps.get(name)
        if step is None or not isinstance(state, Summary):
            return
        if signal == NORM_BEFORE:
            step.initial_norm = state.l2
            return
        self._whole[signal] = None
        setattr(step, FIELDS[signal], state)
        step.has_gradient = step.has_gradient or signal == "gradients"

    def drop(self, is_dropped: Callable[[tuple[str, str]], bool]) -> None:
        """Forget the tensors for whose signal and name this is true."""
        self._tables = [entry for entry in self._tables if not is_dropped(entry[:2])]
        for signal, what in FIELDS.items():
            for name, step in self.steps.items():
                if is_dropped((signal, name)):
                    self._whole[signal] = None
                    setattr(step, what, None)

    def rows(self) -> dict[str, SignalStep]:
        """What was counted, as plain data."""
        rows = {}
        for signal in self._histograms:
            what = FIELDS[signal]
            steps = [
                step
                for step in self.steps.values()
                if getattr(step, what) is not None and self._records(signal, step.name)
            ]
            if not steps:
                continue
            whole = self._whole.get(signal)
            if whole is not None and whole[0] == steps:  # steps are equal to themselves alone
                table = whole[1]
            else:
                table = summaries_from([getattr(step, what) for step in steps])
            rows[signal] = SignalStep([step.name for step in steps], [step.module for step in steps], table)
        return rows

    def gradients_nonfinite(self) -> bool:
        """Whether any gradient read in this step holds a NaN or an infinity, as far as the host knows."""
        return any(step.gradient is not None and step.gradient.nonfinite_count > 0 for step in self.steps.values())

    def views(self, rates: Mapping[int, GroupRates] | None, ran: Mapping[str, int]) -> list[ParameterView]:
        """What the rules see, in the order in which the modules ran; in that of definition if some were not seen to.

        `rates` are those of the optimizers' groups by the identity of the parameter, `ran` the place of every module
        that ran.
        """
        views = []
        for step in self.steps.values():
            parameter = step.parameter
            of_group = _NO_RATES if rates is None else rates.get(id(parameter), _NO_RATES)
            views.append(
                ParameterView(
                    step.name,
                    step.module,
                    parameter.dim(),
                    _dtype_name(parameter.dtype),
                    parameter.requires_grad if step.required_grad is None else step.required_grad,
                    rates is not None and id(parameter) in rates,
                    of_group.learning_rate,
                    step.has_gradient,
                    step.value,
                    step.gradient,
                    step.update,
                    step.initial_norm,
                    step.row_spread,
                    parameter.shape[0] if parameter.dim() else 0,
                    of_group.weight_decay,
                )
            )
        if all(view.module in ran for view in views):
            views.sort(key=lambda view: ran[view.module])
        return views


@functools.cache
def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
