"""Records parameters, their gradients and their updates around the optimizers' steps; knows no module output.

All gradients are counted in one native call, all parameters and their updates in another. The copies that updates are
measured from live in the core. They are taken anew before every recorded step: what happens to a parameter between two
steps (weight clipping, loading a checkpoint) is no update, and not all of it leaves a trace that could be looked for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tensorstats._core import Histogram, Snapshots, Summaries, Summary, summaries_from
from tensorstats.rules import ParameterView
from tensorstats.torch.collect import PendingList
from tensorstats.torch.device_histogram import LogTable
from tensorstats.torch.guard import Guard
from tensorstats.torch.log import SignalLog
from tensorstats.torch.modules import ROOT_NAME
from tensorstats.torch.states import Statistics, is_countable

__all__ = ["ParameterRecorder", "ParameterStep"]


@dataclass(slots=True)
class ParameterStep:
    """One parameter within the current step."""

    name: str
    parameter: nn.Parameter
    place: int  # of its copy
    before: torch.Tensor | None = None  # its value before the step, where the core cannot hold it
    copied: bool = False  # whether the core holds its value before the step
    has_gradient: bool = False
    begun: bool = False  # its value after the step is on its way from a device
    value: Summary | None = None
    gradient: Summary | None = None
    update: Summary | None = None
    initial_norm: float = float("nan")  # before the step, at the first recorded one
    # Of what was counted on a device: the row-major position of the first non-finite value.
    first: dict[str, int | None] | None = None
    required_grad: bool | None = None  # in a step that is closed later, when the parameter may be frozen or not

    @property
    def module(self) -> str:
        """The module that holds it."""
        return self.name.rpartition(".")[0] or ROOT_NAME


@dataclass(slots=True)
class _Batch:
    """Tensors of one signal that are counted in one native call."""

    steps: list[ParameterStep] = field(default_factory=list)
    tensors: list[torch.Tensor] = field(default_factory=list)


class ParameterRecorder:
    """Reads gradients right before an optimizer's step, and values and updates right after it.

    Parameters
    ----------
    logs
        By signal: ``"parameters"``, ``"gradients"``, ``"updates"``; a signal without one is not recorded.
    chosen
        Whether a tensor of a signal is recorded, by name.
    """

    def __init__(
        self,
        statistics: Statistics,
        guard: Guard,
        logs: Mapping[str, SignalLog],
        pending: PendingList,
        chosen: Callable[[str, str], bool],
        *,
        histograms: bool = False,
    ) -> None:
        self._statistics = statistics
        self._guard = guard
        self._logs = logs
        self._pending = pending
        self._chosen = chosen
        self._histograms = histograms
        self._places: dict[str, int] = {}
        self._snapshots = Snapshots(0)
        self._buffers: dict[str, torch.Tensor] = {}
        self._norms: dict[str, float] = {}
        self._choices: dict[tuple[str, str], bool] = {}
        self._tables: list[tuple[str, str, Any]] = []
        self.steps: dict[str, ParameterStep] = {}
        # While ranks are merged: the part of a sharded tensor on this rank, by signal and name.
        self.locate: Callable[[str, str, torch.Tensor], torch.Tensor] | None = None

    def begin(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Start a step with these parameters."""
        for name in parameters:
            self._places.setdefault(name, len(self._places))
        if len(self._snapshots) < len(self._places):
            self._snapshots = Snapshots(len(self._places))
        self.steps = {name: ParameterStep(name, p, self._places[name]) for name, p in parameters.items()}
        self._tables = []

    def take(self) -> ParameterRecorder:
        """The step, to be kept later; the recorder forgets it."""
        taken = copy.copy(self)
        for step in self.steps.values():
            step.required_grad = step.parameter.requires_grad
        self.steps, self._tables = {}, []
        return taken

    def forget(self) -> None:
        """Let go of all parameters and of the memory of the copies."""
        self.begin({})
        self._buffers.clear()
        self._snapshots = Snapshots(0)

    # --- before the optimizer's step ----------------------------------------------------------------------------------

    def read_gradients(self, scale: float | None = None, only: Collection[str] | None = None) -> None:
        """Summarise what is in ``.grad`` now, divided by `scale` if a gradient scaler left that to the optimizer.

        `only` names the parameters of one of several optimizers.
        """
        batch = _Batch()
        for step in self.steps.values():
            gradient = step.parameter.grad
            if gradient is None or (only is not None and step.name not in only):
                continue
            step.has_gradient = True
            if not self._records("gradients", step.name):
                continue
            gradient = self._here("gradients", step, gradient if scale is None else gradient / scale)
            if self._takes(gradient, "gradient", step):
                batch.steps.append(step)
                batch.tensors.append(gradient)
        self._count_gradients(batch)

    def read_gradient(self, name: str, gradient: torch.Tensor) -> None:
        """Summarise one gradient; the latest one counts."""
        step = self.steps.get(name)
        if step is None:
            return
        step.has_gradient = True
        gradient = self._here("gradients", step, gradient)
        if self._records("gradients", name) and self._takes(gradient, "gradient", step):
            self._count_gradients(_Batch([step], [gradient]))

    def _count_gradients(self, batch: _Batch) -> None:
        if not batch.tensors:
            return
        histograms = self._histograms_of("gradients", batch.steps)
        table, _ = self._snapshots.count(
            batch.tensors, [None] * len(batch.tensors), histograms, None, threads=self._statistics.threads
        )
        for row, step in enumerate(batch.steps):
            step.gradient = table[row]

    def before_update(self, only: Collection[str] | None = None) -> None:
        """Hold on to the values of the parameters about to be updated: all, or those named."""
        if "updates" not in self._logs:
            return
        places: list[int] = []
        tensors: list[torch.Tensor] = []
        for step in self.steps.values():
            parameter = self._here("updates", step, step.parameter)
            named = only is None or step.name in only
            if not named or not step.parameter.requires_grad or not self._records("updates", step.name):
                continue
            if not is_countable(parameter):
                continue
            if not self._statistics.uses_core(parameter):
                self._copy_on_device(step, parameter)
                continue
            step.copied = True
            places.append(step.place)
            tensors.append(parameter)
            self._note_initial(step, parameter)
        if tensors:
            self._snapshots.take(tensors, places)

    def _here(self, signal: str, step: ParameterStep, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if self.locate is None else self.locate(signal, step.name, tensor)

    def _note_initial(self, step: ParameterStep, parameter: torch.Tensor) -> None:
        if step.name not in self._norms:
            self._norms[step.name] = step.initial_norm = self._statistics.norm(parameter)

    def _copy_on_device(self, step: ParameterStep, parameter: torch.Tensor) -> None:
        buffer = self._buffers.get(step.name)
        if buffer is None or buffer.shape != parameter.shape or buffer.device != parameter.device:
            # The difference of two 16-bit numbers is exact in 32 bits, not in 16.
            narrow = parameter.is_floating_point() and parameter.element_size() < 4
            dtype = torch.float32 if narrow else parameter.dtype
            self._buffers[step.name] = buffer = torch.empty_like(parameter, dtype=dtype, requires_grad=False)
        with torch.no_grad():
            buffer.copy_(parameter)
        if step.name not in self._norms:
            self._norms[step.name] = float("nan")

            def noted(summary: Summary, _first: int | None) -> None:
                step.initial_norm = summary.l2

            self._pending.add(self._statistics.start(parameter), noted)
        step.before = buffer

    # --- after the optimizer's step -----------------------------------------------------------------------------------

    def read_values(self, only: Collection[str] | None = None) -> None:
        """Summarise parameters, and their updates where they were held on to; those not read yet, or those named."""
        if "parameters" not in self._logs and "updates" not in self._logs:
            return
        batch = _Batch()
        for step in self.steps.values():
            wanted = step.value is None and not step.begun if only is None else step.name in only
            if not wanted:
                continue
            value = self._here("parameters", step, step.parameter)
            if not self._takes(value, "value", step):
                continue
            if self._records("parameters", step.name) or self._records("updates", step.name):
                batch.steps.append(step)
                batch.tensors.append(value)
        if batch.tensors:
            self._count_values(batch)

    def _count_values(self, batch: _Batch) -> None:
        places = [step.place if step.copied else None for step in batch.steps]
        values, updates = self._snapshots.count(
            batch.tensors,
            places,
            self._histograms_of("parameters", batch.steps),
            self._histograms_of("updates", batch.steps),
            threads=self._statistics.threads,
        )
        for row, step in enumerate(batch.steps):
            step.value = values[row]
            if step.copied:
                step.update = updates[row]

    # --- one tensor ---------------------------------------------------------------------------------------------------

    def _takes(self, tensor: torch.Tensor, what: str, step: ParameterStep) -> bool:
        """Whether the core counts a tensor; one elsewhere is begun on its device, one that nobody counts is noted."""
        if not is_countable(tensor):
            kind = type(tensor).__name__
            self._guard.note(
                f"{what} of {step.name}", f"a {kind}, {tensor.layout}, {tensor.dtype} tensor is not counted"
            )
            return False
        if self._statistics.uses_core(tensor):
            return True
        self._begin_on_device(tensor, what, step)
        step.begun = step.begun or what == "value"
        if what == "value" and step.before is not None:
            with torch.no_grad():
                update = torch.sub(tensor, step.before, out=step.before)
            step.before = None
            self._begin_on_device(update, "update", step)
        return False

    def _begin_on_device(self, tensor: torch.Tensor, what: str, step: ParameterStep) -> None:
        def counted(summary: Summary, first: int | None) -> None:
            setattr(step, what, summary)
            step.first = {**(step.first or {}), what: first}

        self._pending.add(self._statistics.start(tensor), counted)
        if self._histograms:
            signal = {"value": "parameters", "gradient": "gradients", "update": "updates"}[what]
            self._tables.append((signal, step.name, self._statistics.histogram(tensor)))

    def _histograms_of(self, signal: str, steps: Sequence[ParameterStep]) -> list[Histogram] | None:
        log = self._logs.get(signal)
        if not self._histograms or log is None:
            return None
        empty = self._statistics.empty_histogram
        return [log.histogram(step.name, empty) for step in steps]

    def _records(self, signal: str, name: str) -> bool:
        if signal not in self._logs:
            return False
        choice = self._choices.get((signal, name))
        if choice is None:
            self._choices[(signal, name)] = choice = self._chosen(signal, name)
        return choice

    # --- the end of a step --------------------------------------------------------------------------------------------

    def settle_tables(self) -> None:
        """Take in the histograms that were counted on devices."""
        tables, self._tables = self._tables, []
        for signal, name, table in tables:
            if isinstance(table, LogTable) and signal in self._logs:
                self._logs[signal].histogram(name, self._statistics.empty_histogram).merge(table.histogram())

    def keep(self, number: int, views: Sequence[ParameterView]) -> None:
        """Append the step to the logs; everything is on the host now."""
        ratios = {view.name: view.update_ratio for view in views if view.update is not None}
        for signal, what in (("parameters", "value"), ("gradients", "gradient"), ("updates", "update")):
            log = self._logs.get(signal)
            if log is None:
                continue
            steps = [step for step in self.steps.values() if getattr(step, what) is not None]
            steps = [step for step in steps if self._records(signal, step.name)]
            if not steps:
                continue
            table = self._table([getattr(step, what) for step in steps])
            extras = {"update_ratio": ratios} if signal == "updates" else {}
            log.add(number, [step.name for step in steps], [step.module for step in steps], table, extras)

    @staticmethod
    def _table(rows: list[Summary]) -> Summaries:
        return summaries_from(rows)

    def parameters_nonfinite(self) -> bool:
        """Whether any parameter holds a NaN or an infinity after the step."""
        return any(step.value is not None and step.value.nonfinite_count > 0 for step in self.steps.values())

    def gradients_nonfinite(self) -> bool:
        """Whether any gradient read in this step holds a NaN or an infinity, as far as the host knows."""
        return any(step.gradient is not None and step.gradient.nonfinite_count > 0 for step in self.steps.values())

    def views(self, rates: Mapping[int, float | None] | None, ran: Mapping[str, int]) -> list[ParameterView]:
        """What the rules see, in the order in which the modules ran; in that of definition if some were not seen to.

        `rates` are the learning rates by the identity of the parameter, `ran` the place of every module that ran.
        """
        views = [
            ParameterView(
                name=step.name,
                module=step.module,
                dimensions=step.parameter.dim(),
                dtype=str(step.parameter.dtype).removeprefix("torch."),
                requires_grad=step.parameter.requires_grad if step.required_grad is None else step.required_grad,
                in_optimizer=rates is not None and id(step.parameter) in rates,
                learning_rate=None if rates is None else rates.get(id(step.parameter)),
                has_gradient=step.has_gradient,
                value=step.value,
                gradient=step.gradient,
                update=step.update,
                norm_before=step.initial_norm,
            )
            for step in self.steps.values()
        ]
        if all(view.module in ran for view in views):
            views.sort(key=lambda view: ran[view.module])
        return views
