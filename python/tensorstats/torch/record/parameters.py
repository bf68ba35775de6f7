"""Records parameters, their gradients and their updates around the optimizers' steps; knows no module output.

All gradients are counted in one native call, all parameters and their updates in another. The copies that updates are
measured from live in the core. They are taken anew before every recorded step: what happens to a parameter between two
steps (weight clipping, loading a checkpoint) is no update, and not all of it leaves a trace that could be looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from tensorstats._core import Histogram, Snapshots, Summary, are_ordinary
from tensorstats.device.backend import Statistics, is_countable, real_parts
from tensorstats.run.histograms import HistogramSeries
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.record.collect import PendingList
from tensorstats.torch.record.counted_parameters import FIELDS, CountedParameters, ParameterStep
from tensorstats.torch.record.facts import RowWatch
from tensorstats.torch.record.recorder import Locate, Opening

__all__ = ["ParameterRecorder"]

_SIGNALS = {what: signal for signal, what in FIELDS.items()}


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
        self._given: Mapping[str, nn.Parameter] = {}
        self._rows = RowWatch()
        self.locate: Locate | None = None
        self.counted = self._new_step({})

    def _new_step(self, steps: dict[str, ParameterStep]) -> CountedParameters:
        histograms = {signal: series.step for signal, series in self._series.items()}
        return CountedParameters(steps, histograms, self._statistics.empty_histogram, self._records)

    def begin(self, opening: Opening, /) -> None:
        """A step begins, or begins anew with other parameters."""
        steps, parameters = self.counted.steps, opening.parameters
        if parameters is self._given and steps:
            for step in steps.values():
                step.begin()
        else:
            self._given = parameters
            for name in parameters:
                self._places.setdefault(name, len(self._places))
            if len(self._snapshots) < len(self._places):
                self._snapshots = Snapshots(len(self._places))
            steps = {name: ParameterStep(name, p, self._places[name]) for name, p in parameters.items()}
        self.counted = self._new_step(steps)

    def let_go(self) -> None:
        """The step that was counted is closed later."""
        for step in self.counted.steps.values():
            step.required_grad = step.parameter.requires_grad
        self.counted = self._new_step({})

    def forget(self) -> None:
        """Let go of all parameters and of the memory of the copies."""
        self.begin(Opening({}))
        self._buffers.clear()
        self._snapshots = Snapshots(0)

    # --- before the optimizer's step ----------------------------------------------------------------------------------

    def read_gradients(self, scale: float | None = None, only: Collection[str] | None = None) -> None:
        """Summarise what is in ``.grad`` now, divided by `scale` if a gradient scaler left that to the optimizer.

        `only` names the parameters of one of several optimizers.
        """
        batch = _Batch()
        for step in self.counted.steps.values():
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
        for step in self.counted.steps.values():
            if id(step.parameter) in held and step.parameter.grad is not None:
                step.has_gradient = True

    def read_gradient(self, name: str, gradient: torch.Tensor) -> None:
        """Summarise one gradient; the latest one counts."""
        step = self.counted.steps.get(name)
        if step is None:
            return
        step.has_gradient = True
        if self._records("gradients", name):
            self._count_gradients(self._countable(_Batch([step], [gradient]), "gradients"))

    def _count_gradients(self, batch: _Batch) -> None:
        if not batch.tensors:
            return
        histograms = self._targets("gradients", batch.steps)
        table, _ = self._snapshots.count(
            batch.tensors, [None] * len(batch.tensors), histograms, None, threads=self._statistics.threads
        )
        for row, step in enumerate(batch.steps):
            step.gradient = table[row]
        self.counted.note_whole("gradients", batch.steps, table)

    def before_update(self, only: Collection[str] | None = None) -> None:
        """Hold on to the values of the parameters about to be updated: all, or those named."""
        if "updates" not in self._series:
            return
        batch = _Batch()
        for step in self.counted.steps.values():
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
        for step in self.counted.steps.values():
            wanted = step.value is None and not step.begun if only is None else step.name in only
            if wanted and (self._records("parameters", step.name) or self._records("updates", step.name)):
                batch.steps.append(step)
                batch.tensors.append(step.parameter)
        if self.locate is None:
            self._rows.look(batch.steps)
        batch = self._countable(batch, "parameters")
        if batch.tensors:
            self._count_values(batch)

    def _count_values(self, batch: _Batch) -> None:
        places = [step.place if step.copied else None for step in batch.steps]
        values, updates = self._snapshots.count(
            batch.tensors,
            places,
            self._targets("parameters", batch.steps),
            self._targets("updates", batch.steps),
            threads=self._statistics.threads,
        )
        for row, step in enumerate(batch.steps):
            step.value = values[row]
            if step.copied:
                step.update = updates[row]
        self.counted.note_whole("parameters", batch.steps, values)
        self.counted.note_whole("updates", batch.steps, updates)

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
            self.counted.count_into(_SIGNALS[what], step.name, self._statistics.histogram(tensor))

    def _targets(self, signal: str, steps: list[ParameterStep]) -> list[Histogram] | None:
        return self.counted.targets(signal, steps) if self._histograms else None

    def _records(self, signal: str, name: str) -> bool:
        if signal not in self._series:
            return False
        choice = self._choices.get((signal, name))
        if choice is None:
            self._choices[(signal, name)] = choice = self._chosen(signal, name)
        return choice

    def gradients_nonfinite(self) -> bool:
        """Whether any gradient read in this step holds a NaN or an infinity, as far as the host knows."""
        gradients = (step.gradient for step in self.counted.steps.values())
        return any(gradient is not None and gradient.nonfinite_count > 0 for gradient in gradients)
