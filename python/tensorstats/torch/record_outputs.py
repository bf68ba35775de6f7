"""Records the outputs of modules during one step: names per call, summaries, unit activity, the first offender."""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from tensorstats._core import Histogram, Summary, UnitActivity
from tensorstats.rules import Offender, OutputView
from tensorstats.torch.device import PendingSummary, PendingUnits
from tensorstats.torch.device_histogram import LogTable
from tensorstats.torch.guard import Guard
from tensorstats.torch.modules import activation_kind, module_layout, saturation_bounds, unit_dimension
from tensorstats.torch.outputs import tensors_in
from tensorstats.torch.states import Statistics, first_nonfinite, is_countable, unravel

__all__ = ["OutputRecorder", "OutputStep"]

# A cell called once per time step would otherwise make a series per time step; later calls share the last index.
MAX_CALLS = 16

_NAN = float("nan")

# Where the module's own input cannot be looked at: on a device, whose tensors are gone by then, and in compiled code.
_UNSEEN_INPUT = (
    "Produced here, or by an operation right before it: the model's input and every watched module before it were "
    "finite."
)


@dataclass(slots=True)
class UnitTrack:
    """Unit activity of one output over all recorded steps, and what it was before the current one."""

    total: UnitActivity
    updates_before: int = 0
    values_before: int = 0
    saturated_before: int = 0

    def begin(self) -> None:
        """Remember where the step starts."""
        self.updates_before = self.total.updates
        if self.total.saturation is not None:
            self.values_before = int(np.sum(self.total.count))
            self.saturated_before = self._saturated()

    def _saturated(self) -> int:
        return int(np.sum(self.total.low_count)) + int(np.sum(self.total.high_count))

    def dead_fraction(self) -> float:
        """Share of units that were not active in this step."""
        last_active = np.asarray(self.total.last_active)
        if len(last_active) == 0 or self.total.updates == self.updates_before:
            return _NAN
        return int(np.count_nonzero(last_active <= self.updates_before)) / len(last_active)

    def saturated_fraction(self) -> float:
        """Share of this step's values beyond the bounds; NaN for activations without bounds."""
        if self.total.saturation is None:
            return _NAN
        values = int(np.sum(self.total.count)) - self.values_before
        return _NAN if values == 0 else (self._saturated() - self.saturated_before) / values


@dataclass(slots=True)
class OutputStep:
    """One output tensor within the current step; several micro-batches are merged."""

    name: str
    module: str
    module_type: str
    kind: str
    has_parameters: bool
    call: int
    summary: Summary = field(default_factory=Summary)
    units: UnitTrack | None = None
    histograms: list[Histogram | LogTable] = field(default_factory=list)


@dataclass(slots=True)
class _Pending:
    """Something begun on a device, and what to do with it once it is settled."""

    item: PendingSummary | PendingUnits
    target: Callable[[Any, int | None], object]


class OutputRecorder:
    """Collects outputs from forward hooks for one step at a time; keeps no activation."""

    def __init__(self, model: nn.Module, statistics: Statistics, guard: Guard, *, histograms: bool = False) -> None:
        self._model = weakref.ref(model)
        self._statistics = statistics
        self._histograms = histograms
        self._guard = guard
        self._units: dict[str, UnitTrack | None] = {}
        self._layouts: dict[str, str | None] = {}
        self._inputs: list[tuple[int | str, str, weakref.ref[torch.Tensor]]] = []
        self._calls: dict[str, int] = {}
        self._layout: str | None = None
        self.begin()

    def begin(self) -> None:
        """Forget the last step."""
        self.outputs: dict[str, OutputStep] = {}
        self.offender: Offender | None = None
        self.ran = False  # whether any watched module was called
        self._pending: list[_Pending] = []
        self._calls.clear()
        self._inputs.clear()

    def forward_begins(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """The model is called: calls are counted anew, its inputs remembered weakly in case something goes wrong."""
        given: dict[int | str, Any] = dict(enumerate(arguments))
        given.update(keywords)
        self.forward_begins_with(given)

    def forward_begins_with(self, given: Mapping[int | str, Any]) -> None:
        """The same with arguments by position or keyword."""
        self._calls.clear()
        self._inputs.clear()
        self._layout = None
        for key, value in given.items():
            for path, tensor in tensors_in(value):
                self._inputs.append((key, path, weakref.ref(tensor)))
                if tensor.is_floating_point() and is_countable(tensor) and not self._statistics.uses_core(tensor):
                    # It will be gone when the step is settled, so its numbers are taken now.
                    summary = self._statistics.summary(tensor)
                    if isinstance(summary, PendingSummary):
                        self._pending.append(_Pending(summary, self._input_checker(key, path, tuple(tensor.shape))))

    def record(
        self, name: str, module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: object
    ) -> None:
        """One call of one module has returned."""
        self.ran = True
        call = min(self._calls.get(name, 0), MAX_CALLS - 1)
        self._calls[name] = call + 1
        self._layout = module_layout(module) or self._layout
        for place, tensor in tensors_in(output):
            if not is_countable(tensor):
                self._guard.note(f"output of {name}", f"a {_describe(tensor)} tensor is not counted")
                continue
            path = (f"{name}#{call}" if call else name) + place
            self._count(path, name, module, call, tensor, (arguments, keywords))

    def record_tensor(self, name: str, module: nn.Module, place: str, tensor: torch.Tensor) -> None:
        """One tensor of a module's output, reported by compiled code, which does not show what went into the module."""
        self.ran = True
        key = f"{name} {place}"
        call = min(self._calls.get(key, 0), MAX_CALLS - 1)
        self._calls[key] = call + 1
        self._layout = module_layout(module) or self._layout
        if not is_countable(tensor):
            self._guard.note(f"output of {name}", f"a {_describe(tensor)} tensor is not counted")
            return
        self._count((f"{name}#{call}" if call else name) + place, name, module, call, tensor, None)

    def _count(
        self, path: str, name: str, module: nn.Module, call: int, tensor: torch.Tensor, inputs: tuple[Any, Any] | None
    ) -> None:
        step = self.outputs.get(path)
        if step is None:
            kind = activation_kind(module)
            has_parameters = next(module.parameters(recurse=True), None) is not None
            step = OutputStep(path, name, type(module).__name__, kind, has_parameters, call)
            step.units = self._unit_track(path, module, tensor)
            self.outputs[path] = step
        summary = self._statistics.summary(tensor)
        if isinstance(summary, PendingSummary):
            self._pending.append(_Pending(summary, self._output_merger(step, tuple(tensor.shape))))
        else:
            step.summary.merge(summary)
            if self.offender is None and summary.nonfinite_count:
                self._name_offender(step, module, tensor, inputs)
        if step.units is not None:
            self._count_units(path, step, tensor)
        if self._histograms:
            step.histograms.append(self._statistics.histogram(tensor))

    def _unit_track(self, path: str, module: nn.Module, tensor: torch.Tensor) -> UnitTrack | None:
        """The accumulated units of an output; None for tensors without units."""
        if path not in self._units:
            dim = unit_dimension(module, tensor, self._layout) if tensor.is_floating_point() else None
            bounds = saturation_bounds(activation_kind(module))
            self._units[path] = None if dim is None else UnitTrack(UnitActivity(dim, saturation=bounds))
        track = self._units[path]
        if track is not None:
            track.begin()
        return track

    def _count_units(self, path: str, step: OutputStep, tensor: torch.Tensor) -> None:
        assert step.units is not None
        try:
            pending = self._statistics.add_units(step.units.total, tensor)
        except ValueError:
            # The number of units changes from call to call (a sequence length, say): they are no units.
            self._units[path] = step.units = None
            return
        if pending is not None:
            total = step.units.total
            self._pending.append(_Pending(pending, lambda state, _: total.merge(state)))

    def dead_fraction(self, step: OutputStep) -> float:
        """Share of units of an output that were not active in this step; NaN without units or finite values."""
        return _NAN if step.units is None or step.summary.finite_count == 0 else step.units.dead_fraction()

    def saturated_fraction(self, step: OutputStep) -> float:
        """Share of values of an output beyond the bounds of its activation in this step; NaN where there are none."""
        return _NAN if step.units is None else step.units.saturated_fraction()

    def settle(self) -> None:
        """Bring over what is still on devices, in one copy, and find the offender among it."""
        pending, self._pending = self._pending, []
        settled = self._statistics.settle([entry.item for entry in pending])
        for entry, (state, first) in zip(pending, settled, strict=True):
            entry.target(state, first)

    def _name_offender(
        self, step: OutputStep, module: nn.Module, tensor: torch.Tensor, inputs: tuple[Any, Any] | None
    ) -> None:
        """Trace the first non-finite output of the step to the model's or the module's input, its weights or itself."""
        found = first_nonfinite(tensor)
        if found is None:
            return
        for key, path, reference in self._inputs:
            source = reference()
            found_in_input = None if source is None else first_nonfinite(source)
            if source is not None and found_in_input is not None:
                count, index, value = found_in_input
                origin = (
                    f"It was there before the first layer; {step.module} ({step.module_type}) is the first to show it."
                )
                where = self._input_name(key) + path
                self.offender = Offender(where, "input", count, source.numel(), index, value, origin)
                return
        count, index, value = found
        origin = _UNSEEN_INPUT if inputs is None else _origin(module, inputs)
        self.offender = Offender(step.name, "output", count, tensor.numel(), index, value, origin, call=step.call)

    def _input_checker(self, key: int | str, path: str, shape: tuple[int, ...]) -> Callable[[Any, int | None], None]:
        def check(summary: Summary, first: int | None) -> None:
            if self.offender is None and summary.nonfinite_count:
                origin = "It was there before the first layer."
                self.offender = _offender_from(summary, first, shape, self._input_name(key) + path, "input", origin)

        return check

    def _output_merger(self, step: OutputStep, shape: tuple[int, ...]) -> Callable[[Any, int | None], None]:
        def merge(summary: Summary, first: int | None) -> None:
            step.summary.merge(summary)
            if self.offender is None and summary.nonfinite_count:
                offender = _offender_from(summary, first, shape, step.name, "output", _UNSEEN_INPUT)
                self.offender = replace(offender, call=step.call)

        return merge

    def _input_name(self, key: int | str) -> str:
        """An argument of the model's call under the name that its forward gives it."""
        model = self._model()
        if isinstance(key, int):
            names: list[str] = []
            if model is not None:
                with contextlib.suppress(TypeError, ValueError):
                    names = list(inspect.signature(model.forward).parameters)
            key = names[key] if key < len(names) else f"argument {key}"
        return "input" if key == "input" else f"input {key}"

    def modules_in_order(self) -> dict[str, int]:
        """The place of every module that ran in this step."""
        order: dict[str, int] = {}
        for step in self.outputs.values():
            order.setdefault(step.module, len(order))
        return order

    def views(self) -> list[OutputView]:
        """What the rules see of the step."""
        steps = list(self.outputs.values())
        last_with_parameters = max((place for place, step in enumerate(steps) if step.has_parameters), default=-1)
        return [
            OutputView(
                name=step.name,
                module=step.module,
                module_type=step.module_type,
                kind=step.kind,
                summary=step.summary,
                units=None if step.units is None else step.units.total,
                updates_before=0 if step.units is None else step.units.updates_before,
                saturated_fraction=self.saturated_fraction(step),
                is_last=place > last_with_parameters,
            )
            for place, step in enumerate(steps)
        ]


def _offender_from(
    summary: Summary, first: int | None, shape: tuple[int, ...], where: str, signal: str, origin: str
) -> Offender:
    """An offender whose tensor is gone: only its numbers are left."""
    value = "nan" if summary.nan_count else ("inf" if summary.posinf_count else "-inf")
    index = None if first is None else unravel(first, shape)
    return Offender(where, signal, summary.nonfinite_count, summary.count, index, value, origin)


def _origin(module: nn.Module, inputs: tuple[Any, Any]) -> str:
    """Whether a module made its non-finite output or passed it on."""
    for _, tensor in tensors_in(list(inputs)):
        if first_nonfinite(tensor) is not None:
            return (
                "Passed on: the input of this module already held one, while the model's input and every watched "
                "module before it were finite; the operation between them made it."
            )
    for name, parameter in module.named_parameters():
        if first_nonfinite(parameter) is not None:
            return f"Produced here: the module's input is finite, but its own {name} already holds one."
    return "Produced here: the module's input and its own parameters are finite."


def _describe(tensor: torch.Tensor) -> str:
    """Layout, dtype and device of a tensor that cannot be counted."""
    kind = type(tensor).__name__ if type(tensor) is not torch.Tensor else str(tensor.layout).removeprefix("torch.")
    return f"{kind}, {str(tensor.dtype).removeprefix('torch.')} on {tensor.device.type}"
