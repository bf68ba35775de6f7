"""Records what an optimizer keeps between steps (moments, momentum) and its learning rates; changes none of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from tensorstats._core import Histogram, Snapshots, Summaries, Summary, are_ordinary, summaries_from
from tensorstats.device.backend import Statistics, is_countable
from tensorstats.device.histogram import LogTable
from tensorstats.run.histograms import HistogramSeries, StepHistograms
from tensorstats.run.record import RunRecord
from tensorstats.run.step import SignalStep
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.modules import ROOT_NAME
from tensorstats.torch.attach.targets import states_of
from tensorstats.torch.record.collect import PendingList
from tensorstats.torch.record.counted_parameters import GroupRates
from tensorstats.torch.record.recorder import Counted, Locate, Opening, Told

__all__ = ["OptimizerRecorder", "group_rates", "log_learning_rates"]

_SIGNAL = "optimizer_state"


def group_rates(optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[int, GroupRates]:
    """The learning rate and the weight decay of every parameter in the optimizers, by identity."""
    rates: dict[int, GroupRates] = {}
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            of_group = GroupRates(_plain(group.get("lr")), _plain(group.get("weight_decay")))
            rates.update((id(parameter), of_group) for parameter in group["params"])
    return rates


def _plain(number: object) -> float | None:
    return float(number) if isinstance(number, (int, float)) else None


def log_learning_rates(step: int, optimizers: Mapping[str, torch.optim.Optimizer], record: RunRecord) -> None:
    """Append the rate of every parameter group: ``"0"``, ``"1"``, ..., after the optimizer's name if it has one."""
    for name, optimizer in optimizers.items():
        for place, group in enumerate(optimizer.param_groups):
            rate = group.get("lr")
            # A rate that is a tensor may be on a device: it is left alone there.
            if isinstance(rate, torch.Tensor) and rate.device.type == "cpu":
                rate = float(rate)
            if isinstance(rate, (int, float)):
                of_group = f"{name}.{place}" if name else str(place)
                record.add_number("learning_rates", of_group, step, float(rate))


class CountedOptimizerState(Counted):
    """The state of the optimizers at the end of one step, by name."""

    signals = (_SIGNAL,)

    def __init__(self, histograms: StepHistograms, empty: Histogram) -> None:
        self.histograms = histograms
        self._empty = empty
        self.summaries: dict[str, Summary] = {}
        self.table: Summaries | None = None  # of exactly these, in their order
        self.tables: list[tuple[str, LogTable]] = []

    def target(self, name: str) -> Histogram:
        """The histogram that a tensor goes into."""
        return self.histograms.target(name, self._empty)

    def settle(self) -> None:
        """Take in the histograms that were counted on devices."""
        tables, self.tables = self.tables, []
        for name, table in tables:
            self.target(name).merge(table.histogram())

    def told(self) -> Iterable[Told]:
        """What was counted, for other ranks."""
        for name, summary in self.summaries.items():
            parameter = name.rpartition(".")[0]
            yield Told(_SIGNAL, name, summary, parameter=parameter, about=(parameter,))

    def put(self, _signal: str, name: str, _kind: str, state: object, _about: tuple[str, ...]) -> None:
        """Replace what was counted on this rank by what all ranks have together."""
        if isinstance(state, Summary):
            self.summaries.pop(name, None)  # names are in the order of all ranks
            self.summaries[name], self.table = state, None

    def drop(self, is_dropped: Callable[[tuple[str, str]], bool]) -> None:
        """Forget the tensors for whose signal and name this is true."""
        self.tables = [(name, table) for name, table in self.tables if not is_dropped((_SIGNAL, name))]
        for name in [name for name in self.summaries if is_dropped((_SIGNAL, name))]:
            del self.summaries[name]
            self.table = None

    def rows(self) -> dict[str, SignalStep]:
        """What was counted, as plain data."""
        if not self.summaries:
            return {}
        modules = [name.rpartition(".")[0].rpartition(".")[0] or ROOT_NAME for name in self.summaries]
        table = self.table or summaries_from(list(self.summaries.values()))
        return {_SIGNAL: SignalStep(list(self.summaries), modules, table)}


class OptimizerRecorder:
    """Summarises the tensors of the optimizer's state that have the shape of their parameter.

    Names are ``"<parameter>.<key>"``: ``"0.weight.exp_avg_sq"``, ``"0.weight.momentum_buffer"``.
    """

    signals = (_SIGNAL,)

    def __init__(
        self,
        statistics: Statistics,
        guard: Guard,
        series: HistogramSeries,
        pending: PendingList,
        chosen: Callable[[str, str], bool],
        *,
        histograms: bool,
    ) -> None:
        self._statistics = statistics
        self._guard = guard
        self._series = series
        self._pending = pending
        self._chosen = chosen
        self._histograms = histograms
        self._snapshots = Snapshots(0)
        self._known: dict[tuple[str, str], _Known] = {}
        self.locate: Locate | None = None
        self.begin()

    def begin(self, _opening: Opening | None = None, /) -> None:
        """A step begins."""
        self.counted = CountedOptimizerState(self._series.step, self._statistics.empty_histogram)

    def let_go(self) -> None:
        """The step that was counted is closed later."""
        self.begin()

    def read(
        self, optimizers: Mapping[str, torch.optim.Optimizer], parameters: Mapping[str, torch.nn.Parameter]
    ) -> None:
        """Summarise the state of these parameters; counts that are not of the parameter's shape are left out."""
        tensors: dict[str, torch.Tensor] = {}
        states = [state for optimizer in optimizers.values() for state in states_of(optimizer)]
        for name, parameter in parameters.items():
            for of_optimizer in states:
                state = of_optimizer.get(parameter)
                if not state:
                    continue
                for key, value in state.items():
                    known = self._known.get((name, key))
                    if known is None or known.value() is not value:
                        if not isinstance(value, torch.Tensor):
                            continue
                        # Most optimizers change their moments in place, so that this happens once.
                        self._known[(name, key)] = known = self._look_at(f"{name}.{key}", parameter, value)
                    if known.place is not None:
                        tensors[known.place] = value
        if self.locate is not None or not (self._statistics.prefers_core and are_ordinary(list(tensors.values()))):
            self._count(self._countable(tensors))
        elif tensors:
            self.counted.table = self._count(tensors)

    def _look_at(self, place: str, parameter: torch.Tensor, value: torch.Tensor) -> _Known:
        meant = parameter.dim() > 0 and value.shape == parameter.shape and self._chosen(_SIGNAL, place)
        return _Known(weakref.ref(value), place if meant else None)

    def _countable(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What lies in host memory; what does not is begun on its device."""
        here: dict[str, torch.Tensor] = {}
        for place, value in tensors.items():
            part = value if self.locate is None else self.locate(_SIGNAL, place, value)
            if not is_countable(part):
                continue
            if self._statistics.uses_core(part):
                here[place] = part
            else:
                self._begin_on_device(place, part)
        return here

    def _begin_on_device(self, name: str, tensor: torch.Tensor) -> None:
        counted = self.counted
        self._pending.add(self._statistics.start(tensor), lambda summary, _: counted.summaries.update({name: summary}))
        if self._histograms:
            table = self._statistics.histogram(tensor)
            if isinstance(table, LogTable):
                counted.tables.append((name, table))

    def _count(self, tensors: Mapping[str, torch.Tensor]) -> Summaries | None:
        """All tensors in host memory, in one native call."""
        if not tensors:
            return None
        histograms = [self.counted.target(name) for name in tensors] if self._histograms else None
        table, _ = self._snapshots.count(
            list(tensors.values()), [None] * len(tensors), histograms, None, threads=self._statistics.threads
        )
        self.counted.summaries.update((name, table[row]) for row, name in enumerate(tensors))
        return table


@dataclass(frozen=True, slots=True)
class _Known:
    """A tensor of the state that was looked at once, held weakly, and its name; None for one that is not recorded."""

    value: weakref.ref[torch.Tensor]
    place: str | None
