"""Records parameters, their gradients and their updates around the optimizers' steps; knows no module output.

All gradients are counted in one native call, all parameters and their updates in another. The copies that updates are
measured from live in the core. They are taken anew before every recorded step: what happens to a parameter between two
steps (weight clipping, loading a checkpoint) is no update, and not all of it leaves a trace that could be looked for.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tensorstats._core import Histogram, Snapshots, Summaries, Summary, are_ordinary, summaries_from
from tensorstats.device.backend import Statistics, is_countable, real_parts
from tensorstats.device.histogram import LogTable
from tensorstats.rules import ParameterView
from tensorstats.run.histograms import HistogramSeries, StepHistograms
from tensorstats.run.step import SignalStep
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.modules import ROOT_NAME
from tensorstats.torch.record.collect import PendingList

__all__ = ["FIELDS", "ParameterRecorder", "ParameterStep"]

_NAN = float("nan")

# Which field of a step holds what of which signal.
FIELDS = {"parameters": "value", "gradients": "gradient", "updates": "update"}
_SIGNALS = {name: signal for signal, name in FIELDS.items()}


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
        # Of what was counted on a device: the row-major position of the first non-finite value.
        self.first: dict[str, int | None] | None = None
        # At the end of a step that is closed later: by then the parameter may be frozen, or thawed.
        self.required_grad: bool | None = None


@dataclass(slots=True)
class _Batch:
    """Tensors of one signal that are counted in one native call."""

    steps: list[ParameterStep] = field(default_factory=list)
    tensors: list[torch.Tensor] = field(default_factory=list)


class ParameterRecorder:
    """Reads gradients right before an optimizer's step, and values and updates right after it.

    Parameters
    ----------
    series
        By signal: ``"parameters"``, ``"gradients"``, ``"updates"``; a signal without one is not recorded.
    chosen
        Whether a tensor of a signal is recorded, by name.
    """

    def __init__(
        self,
        statistics: Statistics,
        guard: Guard,
        series: Mapping[str, HistogramSeries],
        pending: PendingList,
        chosen: Callable[[str, str], bool],
        *,
        histograms: bool = False,
    ) -> None:
        self._statistics = statistics
        self._guard = guard
        self._series = series
        self.signals = tuple(series)
        self._pending = pending
        self._chosen = chosen
        self._histograms = histograms
        self._places: dict[str, int] = {}
        self._snapshots = Snapshots(0)
        self._buffers: dict[str, torch.Tensor] = {}
        self._norms: dict[str, float] = {}
        self._choices: dict[tuple[str, str], bool] = {}
        self._tables: list[tuple[str, str, Any]] = []
        self._given: Mapping[str, nn.Parameter] = {}
        self._step_histograms: dict[str, StepHistograms] = {}  # of this step, by signal
        # By signal: the only table of the step, and the parameters that its rows are of; None if there were several.
        self._whole: dict[str, tuple[list[ParameterStep], Summaries] | None] = {}
        self._ratios: dict[str, float] = {}  # of this step: norm of the update over that of the parameter
        self.steps: dict[str, ParameterStep] = {}
        # While ranks are merged: the part of a sharded tensor on this rank, by signal and name.
        self.locate: Callable[[str, str, torch.Tensor], torch.Tensor] | None = None

    def begin(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Start a step with these parameters."""
        self._tables = []
        self._whole = {}
        self._step_histograms = {signal: series.step for signal, series in self._series.items()}
        if parameters is self._given and self.steps:
            for step in self.steps.values():
                step.begin()
            return
        self._given = parameters
        for name in parameters:
            self._places.setdefault(name, len(self._places))
        if len(self._snapshots) < len(self._places):
            self._snapshots = Snapshots(len(self._places))
        self.steps = {name: ParameterStep(name, p, self._places[name]) for name, p in parameters.items()}

    def take(self) -> ParameterRecorder:
        """The step, to be kept later; the recorder forgets it."""
        taken = copy.copy(self)
        for step in self.steps.values():
            step.required_grad = step.parameter.requires_grad
        self.steps, self._tables, self._whole = {}, [], {}
        return taken

    def forget(self) -> None:
        """Let go of all parameters and of the memory of the copies."""
        self.begin({})
        self._buffers.clear()
        self._snapshots = Snapshots(0)

    def put(self, signal: str, name: str, state: Summary) -> None:
        """Replace what was counted of a parameter on this rank by what all ranks have together."""
        step = self.steps.get(name)
        if step is None:
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
            if self._records("gradients", step.name):
                if gradient.layout is torch.sparse_coo and gradient.device.type == "cpu":  # elsewhere it would wait
                    gradient = gradient.detach().coalesce().values()  # the rows that there are; the others have none
                batch.steps.append(step)
                batch.tensors.append(gradient if scale is None else gradient / scale)
        self._count_gradients(self._countable(batch, "gradients"))

    def note_gradients(self, held: Collection[int]) -> None:
        """Remember that parameters of these identities have gradients: no data where a scaler left an optimizer out."""
        for step in self.steps.values():
            if id(step.parameter) in held and step.parameter.grad is not None:
                step.has_gradient = True

    def read_gradient(self, name: str, gradient: torch.Tensor) -> None:
        """Summarise one gradient; the latest one counts."""
        step = self.steps.get(name)
        if step is None:
            return
        step.has_gradient = True
        if self._records("gradients", name):
            self._count_gradients(self._countable(_Batch([step], [gradient]), "gradients"))

    def forget_gradients(self) -> None:
        """Forget the gradients of this step: they are read again."""
        self._whole.pop("gradients", None)
        for step in self.steps.values():
            step.gradient, step.has_gradient = None, False

    def _count_gradients(self, batch: _Batch) -> None:
        if not batch.tensors:
            return
        histograms = self._histograms_of("gradients", batch.steps)
        table, _ = self._snapshots.count(
            batch.tensors, [None] * len(batch.tensors), histograms, None, threads=self._statistics.threads
        )
        for row, step in enumerate(batch.steps):
            step.gradient = table[row]
        self._note_whole("gradients", batch.steps, table)

    def before_update(self, only: Collection[str] | None = None) -> None:
        """Hold on to the values of the parameters about to be updated: all, or those named."""
        if "updates" not in self._series:
            return
        batch = _Batch()
        for step in self.steps.values():
            named = only is None or step.name in only
            if named and step.parameter.requires_grad and self._records("updates", step.name):
                batch.steps.append(step)
                batch.tensors.append(step.parameter)
        if self.locate is not None or not self._all_ordinary(batch):
            batch = self._copy_unlike(batch)
        if not batch.tensors:
            return
        for step, tensor in zip(batch.steps, batch.tensors, strict=True):
            if step.name not in self._norms:
                self._norms[step.name] = step.initial_norm = self._statistics.norm(tensor)
        places = [step.place for step in batch.steps]
        self._snapshots.take(batch.tensors, places, threads=self._statistics.threads)
        for step in batch.steps:
            step.copied = True

    def _copy_unlike(self, batch: _Batch) -> _Batch:
        """Copy what is on devices there; returns the rest that can be counted."""
        here = _Batch()
        for step, tensor in zip(batch.steps, batch.tensors, strict=True):
            parameter = self._here("updates", step, tensor)
            if not is_countable(parameter):
                continue
            if self._statistics.uses_core(parameter):
                here.steps.append(step)
                here.tensors.append(parameter)
            else:
                self._copy_on_device(step, parameter)
        return here

    def _here(self, signal: str, step: ParameterStep, tensor: torch.Tensor) -> torch.Tensor:
        return real_parts(tensor if self.locate is None else self.locate(signal, step.name, tensor))

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
        if "parameters" not in self._series and "updates" not in self._series:
            return
        batch = _Batch()
        for step in self.steps.values():
            wanted = step.value is None and not step.begun if only is None else step.name in only
            if wanted and (self._records("parameters", step.name) or self._records("updates", step.name)):
                batch.steps.append(step)
                batch.tensors.append(step.parameter)
        batch = self._countable(batch, "parameters")
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
        self._note_whole("parameters", batch.steps, values)
        self._note_whole("updates", batch.steps, updates)

    def _note_whole(self, signal: str, steps: list[ParameterStep], table: Summaries) -> None:
        """Remember a table that may be just what the log wants of the step; where there are two, neither is."""
        self._whole[signal] = None if signal in self._whole else (steps, table)

    # --- which tensors the core counts --------------------------------------------------------------------------------

    def _countable(self, batch: _Batch, signal: str) -> _Batch:
        """What the core counts; what lies elsewhere is begun on its device, what nobody counts is noted."""
        if self.locate is None and self._all_ordinary(batch):
            return batch
        what = FIELDS[signal]
        here = _Batch()
        for step, tensor in zip(batch.steps, batch.tensors, strict=True):
            part = self._here(signal, step, tensor)
            if not is_countable(part):
                kind = type(part).__name__
                self._guard.leave_out(
                    f"{what} of {step.name}", f"a {kind}, {part.layout}, {part.dtype} tensor is not counted"
                )
            elif self._statistics.uses_core(part):
                here.steps.append(step)
                here.tensors.append(part)
            else:
                self._count_on_device(step, part, what)
        return here

    def _all_ordinary(self, batch: _Batch) -> bool:
        """Whether all are ordinary tensors in host memory, as nearly always on a CPU: one question instead of many."""
        return self._statistics.prefers_core and are_ordinary(batch.tensors)

    def _count_on_device(self, step: ParameterStep, tensor: torch.Tensor, what: str) -> None:
        self._begin_on_device(tensor, what, step)
        step.begun = step.begun or what == "value"
        if what == "value" and step.before is not None:
            with torch.no_grad():
                update = torch.sub(tensor, step.before, out=step.before)
            step.before = None
            self._begin_on_device(update, "update", step)

    def _begin_on_device(self, tensor: torch.Tensor, what: str, step: ParameterStep) -> None:
        def counted(summary: Summary, first: int | None) -> None:
            setattr(step, what, summary)
            step.first = {**(step.first or {}), what: first}

        self._pending.add(self._statistics.start(tensor), counted)
        if self._histograms:
            signal = _SIGNALS[what]
            self._tables.append((signal, step.name, self._statistics.histogram(tensor)))

    def _histograms_of(self, signal: str, steps: Sequence[ParameterStep]) -> list[Histogram] | None:
        histograms = self._step_histograms.get(signal)
        if not self._histograms or histograms is None:
            return None
        empty = self._statistics.empty_histogram
        return [histograms.target(step.name, empty) for step in steps]

    def _records(self, signal: str, name: str) -> bool:
        if signal not in self._series:
            return False
        choice = self._choices.get((signal, name))
        if choice is None:
            self._choices[(signal, name)] = choice = self._chosen(signal, name)
        return choice

    # --- the end of a step --------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Take in the histograms that were counted on devices."""
        tables, self._tables = self._tables, []
        for signal, name, table in tables:
            if isinstance(table, LogTable) and signal in self._series:
                self._step_histograms[signal].target(name, self._statistics.empty_histogram).merge(table.histogram())

    def rows(self) -> dict[str, SignalStep]:
        """What was counted, as plain data; after `views`, which finds the update ratios."""
        rows = {}
        for signal in self.signals:
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
            extras = {"update_ratio": self._ratios} if signal == "updates" else {}
            rows[signal] = SignalStep([step.name for step in steps], [step.module for step in steps], table, extras)
        return rows

    def gradients_nonfinite(self) -> bool:
        """Whether any gradient read in this step holds a NaN or an infinity, as far as the host knows."""
        return any(step.gradient is not None and step.gradient.nonfinite_count > 0 for step in self.steps.values())

    def views(self, rates: Mapping[int, float | None] | None, ran: Mapping[str, int]) -> list[ParameterView]:
        """What the rules see, in the order in which the modules ran; in that of definition if some were not seen to.

        `rates` are the learning rates by the identity of the parameter, `ran` the place of every module that ran.
        """
        views = []
        for step in self.steps.values():
            parameter = step.parameter
            views.append(
                ParameterView(
                    step.name,
                    step.module,
                    parameter.dim(),
                    _dtype_name(parameter.dtype),
                    parameter.requires_grad if step.required_grad is None else step.required_grad,
                    rates is not None and id(parameter) in rates,
                    None if rates is None else rates.get(id(parameter)),
                    step.has_gradient,
                    step.value,
                    step.gradient,
                    step.update,
                    step.initial_norm,
                )
            )
        self._ratios = {view.name: view.update_ratio for view in views if view.update is not None}
        if all(view.module in ran for view in views):
            views.sort(key=lambda view: ran[view.module])
        return views


@functools.cache
def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
