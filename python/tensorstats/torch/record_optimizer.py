"""Records what an optimizer keeps between steps (moments, momentum) and its learning rates; changes none of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch

from tensorstats._core import Snapshots, Summary, summaries_from
from tensorstats.torch.collect import PendingList
from tensorstats.torch.guard import Guard
from tensorstats.torch.log import ScalarLog, SignalLog
from tensorstats.torch.modules import ROOT_NAME
from tensorstats.torch.states import Statistics, is_countable

__all__ = ["OptimizerRecorder", "learning_rates", "log_learning_rates"]


def learning_rates(optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[int, float | None]:
    """The learning rate of every parameter in the optimizers, by identity; None where it is not a plain number."""
    rates: dict[int, float | None] = {}
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            rate = group.get("lr")
            known = float(rate) if isinstance(rate, (int, float)) else None
            rates.update((id(parameter), known) for parameter in group["params"])
    return rates


def log_learning_rates(step: int, optimizers: Mapping[str, torch.optim.Optimizer], logs: dict[str, ScalarLog]) -> None:
    """Append the rate of every parameter group: ``"0"``, ``"1"``, ..., after the optimizer's name if it has one."""
    for name, optimizer in optimizers.items():
        for place, group in enumerate(optimizer.param_groups):
            rate = group.get("lr")
            # A rate that is a tensor may be on a device: it is left alone there.
            if isinstance(rate, torch.Tensor) and rate.device.type == "cpu":
                rate = float(rate)
            if isinstance(rate, (int, float)):
                logs.setdefault(f"{name}.{place}" if name else str(place), ScalarLog()).add(step, float(rate))


class OptimizerRecorder:
    """Summarises the tensors of the optimizer's state that have the shape of their parameter.

    Names are ``"<parameter>.<key>"``: ``"0.weight.exp_avg_sq"``, ``"0.weight.momentum_buffer"``.
    """

    def __init__(
        self,
        statistics: Statistics,
        guard: Guard,
        log: SignalLog,
        pending: PendingList,
        chosen: Callable[[str, str], bool],
        *,
        histograms: bool,
    ) -> None:
        self._statistics = statistics
        self._guard = guard
        self._log = log
        self._pending = pending
        self._chosen = chosen
        self._histograms = histograms
        self._snapshots = Snapshots(0)
        self._choices: dict[str, bool] = {}
        self._rows: dict[str, Summary] = {}
        self.locate: Callable[[str, str, torch.Tensor], torch.Tensor] | None = None  # see ParameterRecorder

    def read(
        self, optimizers: Mapping[str, torch.optim.Optimizer], parameters: Mapping[str, torch.nn.Parameter]
    ) -> None:
        """Summarise the state of these parameters; counts that are not of the parameter's shape are left out."""
        self._rows = {}
        here: dict[str, torch.Tensor] = {}
        for name, parameter in parameters.items():
            shape = parameter.shape
            if len(shape) == 0:
                continue
            for optimizer in optimizers.values():
                state = optimizer.state.get(parameter)
                if not state:
                    continue
                for key, value in state.items():
                    if not isinstance(value, torch.Tensor) or value.shape != shape:
                        continue
                    place = f"{name}.{key}"
                    if self.locate is not None:
                        value = self.locate("optimizer_state", place, value)
                    if not is_countable(value) or not self._records(place):
                        continue
                    if self._statistics.uses_core(value):
                        here[place] = value
                    else:
                        self._begin_on_device(place, value)
        self._count(here)

    def _records(self, name: str) -> bool:
        choice = self._choices.get(name)
        if choice is None:
            self._choices[name] = choice = self._chosen("optimizer_state", name)
        return choice

    def _begin_on_device(self, name: str, tensor: torch.Tensor) -> None:
        rows = self._rows
        self._pending.add(self._statistics.start(tensor), lambda summary, _: rows.update({name: summary}))

    def _count(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """All tensors in CPU memory, in one native call."""
        if not tensors:
            return
        histograms = None
        if self._histograms:
            histograms = [self._log.histogram(name, self._statistics.empty_histogram) for name in tensors]
        table, _ = self._snapshots.count(
            list(tensors.values()), [None] * len(tensors), histograms, None, threads=self._statistics.threads
        )
        self._rows.update((name, table[row]) for row, name in enumerate(tensors))

    def take(self) -> OptimizerRecorder:
        """The step, to be kept later; the recorder forgets it."""
        taken = copy.copy(self)
        self._rows = {}
        return taken

    def keep(self, step: int) -> None:
        """Append the step to the log; everything is on the host now."""
        rows, self._rows = self._rows, {}
        if rows:
            modules = [name.rpartition(".")[0].rpartition(".")[0] or ROOT_NAME for name in rows]
            self._log.add(step, list(rows), modules, summaries_from(list(rows.values())), {})
