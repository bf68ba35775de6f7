"""Counts the tensors of one signal during one step: summaries, histograms, units; knows no hook and keeps no tensor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from tensorstats._core import Summary, TensorSlot, UnitActivity, summaries_of_slots
from tensorstats.device.backend import Statistics, is_countable, real_parts
from tensorstats.device.histogram import LogTable
from tensorstats.device.results import PendingSummary, PendingUnits
from tensorstats.run.histograms import HistogramSeries, StepHistograms
from tensorstats.run.step import SignalStep
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.modules import (
    activation_kind,
    argument_names,
    is_activation,
    module_layout,
    saturation_bounds,
    unit_dimension,
)
from tensorstats.torch.record.recent import Recent

__all__ = ["Collector", "PendingList", "Place", "TensorStep", "UnitTrack", "Units", "units_kept"]

_NAN = float("nan")

Units: TypeAlias = Literal["activations", "all", "none"]


def units_kept(signal: str, units: Units) -> Units:
    """Of which tensors of a signal the activity of units is kept, where `units` was asked for.

    An activation is judged by what it returns; what goes into it is asked for by "all", gradients have no units.
    """
    return units if signal == "outputs" or (signal == "inputs" and units == "all") else "none"


class Place:
    """A watched module and what is always true of it."""

    __slots__ = (
        "argument_names",
        "calls",
        "has_parameters",
        "is_activation",
        "kind",
        "layout",
        "mark",
        "module_type",
        "name",
        "ran_without_graph",
        "records_gradients",
        "records_inputs",
        "records_outputs",
    )

    def __init__(self, name: str, module: nn.Module, signals: frozenset[str] = frozenset()) -> None:
        self.name = name
        self.records_inputs = "inputs" in signals
        self.records_outputs = "outputs" in signals
        self.records_gradients = "output_gradients" in signals
        self.argument_names = argument_names(module)
        self.is_activation = is_activation(module)
        self.module_type = type(module).__name__
        self.kind = activation_kind(module)
        self.layout = module_layout(module)
        self.has_parameters = next(module.parameters(recurse=True), None) is not None
        self.mark = "#"  # between its name and the number of a further call
        self.calls = 0  # in this forward pass
        self.ran_without_graph = False  # when it returned last, nothing could flow back


@dataclass(slots=True)
class UnitTrack:
    """Unit activity of one tensor over all recorded steps, and what it was before the current one."""

    total: UnitActivity
    updates_before: int = 0
    values_before: int = 0
    saturated_before: int = 0
    part: UnitActivity | None = None  # this step's, apart from the total until the step is closed

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
        updates = self.total.updates - self.updates_before
        if self.total.units == 0 or updates == 0:
            return _NAN
        return len(self.total.inactive_units(updates)) / self.total.units

    def saturated_fraction(self) -> float:
        """Share of this step's values beyond the bounds; NaN for activations without bounds."""
        if self.total.saturation is None:
            return _NAN
        values = int(np.sum(self.total.count)) - self.values_before
        return _NAN if values == 0 else (self._saturated() - self.saturated_before) / values


class TensorStep(TensorSlot):
    """One tensor of one call of one module within the current step; several micro-batches are merged.

    An object serves many steps, one after the other: `begin` starts the next.
    """

    __slots__ = ("call", "masked", "name", "place", "units")

    def __init__(self, name: str, place: Place, call: int) -> None:
        self.name = name
        self.place = place
        self.call = call
        self.masked = False  # whether any of its values were left out in this step
        self.units: UnitTrack | None = None  # of this step, as long as its values have units

    def dead_fraction(self) -> float:
        """Share of units that were not active in this step; NaN without units or finite values."""
        return _NAN if self.units is None or self.finite_count == 0 else self.units.dead_fraction()

    def saturated_fraction(self) -> float:
        """Share of values beyond the bounds of the activation in this step; NaN where there are none."""
        return _NAN if self.units is None else self.units.saturated_fraction()


class PendingList:
    """What has begun on devices in this step, and what to do with it once it is on the host."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._entries: list[tuple[PendingSummary | PendingUnits, Callable[[Any, int | None], object]]] = []

    def add(self, item: PendingSummary | PendingUnits, target: Callable[[Any, int | None], object]) -> None:
        """Remember one thing; `target` receives its state and the position of the first non-finite value."""
        self._entries.append((item, target))

    def launch(self) -> None:
        """Start the copies to the host, one per device; nobody waits for them here."""
        if self._entries:
            self._statistics.launch()

    def settle(self) -> None:
        """Bring over everything, in one copy per device."""
        entries, self._entries = self._entries, []
        if not entries:
            return
        settled = self._statistics.settle([item for item, _ in entries])
        for (_, target), (state, first) in zip(entries, settled, strict=True):
            target(state, first)

    def __len__(self) -> int:
        """How many things have begun."""
        return len(self._entries)

    def take(self) -> PendingList:
        """Everything so far, to be settled later; what is added here from now on is apart from it."""
        taken = PendingList(self._statistics)
        taken._entries, self._entries = self._entries, []
        return taken

    def clear(self) -> None:
        """Forget everything."""
        self._entries = []


@dataclass(slots=True)
class Collector:
    """The tensors of one signal and one mode. `units` says of which modules unit activity is kept."""

    statistics: Statistics
    guard: Guard
    series: HistogramSeries
    pending: PendingList
    histograms: bool
    units: Units
    what: str = "output"  # for messages
    recent: Recent = field(default_factory=Recent)  # shared by the signals of a mode
    # While ranks are merged: the part of a sharded tensor on this rank, and that units are kept apart per step.
    locate: Callable[[str, torch.Tensor], torch.Tensor] | None = None
    in_parts: bool = False
    steps: dict[str, TensorStep] = field(default_factory=dict)
    step_histograms: StepHistograms = field(init=False)  # of this step
    _slots: dict[str, TensorStep] = field(default_factory=dict)  # of all steps so far
    _tracks: dict[str, UnitTrack | None] = field(default_factory=dict)
    _tables: list[tuple[str, LogTable]] = field(default_factory=list)
    _without_units: list[str] = field(default_factory=list)  # tensors that had units before this step
    _apart: bool = False  # whether units of this step are not in their totals yet

    def __post_init__(self) -> None:
        self.step_histograms = self.series.step

    def begin(self) -> None:
        """Forget the last step."""
        self.steps = {}
        self.step_histograms = self.series.step
        self._tables = []
        self.recent.clear()
        self._apart = False

    def take(self) -> Collector:
        """The step, to be kept later; the collector begins anew."""
        taken = copy.copy(self)
        self._slots = {}
        self.begin()
        return taken

    def count(
        self,
        path: str,
        place: Place,
        module: nn.Module,
        call: int,
        tensor: torch.Tensor,
        layout: str | None,
        where: torch.Tensor | None = None,
        found: Callable[[TensorStep, Summary, int | None], object] | None = None,
    ) -> bool:
        """Count one tensor under its name. Says whether it is known now that not all of its values are finite.

        `where` is a mask that broadcasts to the tensor: only elements for which it is true count. `found` is called
        later, with the position of the first non-finite value, for what comes from a device.
        """
        if self.locate is not None:
            part = self.locate(path, tensor)
            if part is not tensor and where is not None:
                self.guard.note(f"the mask of {path}", "it is not applied to a sharded tensor, all of which is counted")
                where = None
            tensor = part
        step = self.steps.get(path)
        if step is None:
            step = self._begin(path, place, module, call, tensor, layout)
        if where is not None:
            step.masked = True
        statistics = self.statistics
        finite = None
        if statistics.prefers_core:
            finite = step.count(tensor, self.recent.on_host, statistics.threads, where)
        if finite is None:
            finite = self._count_unlike(step, tensor, where, found)
            if finite is None:
                return False
        if step.units is not None:
            self._count_units(step, tensor, where)
        return not finite

    def _begin(
        self, path: str, place: Place, module: nn.Module, call: int, tensor: torch.Tensor, layout: str | None
    ) -> TensorStep:
        """The place of a tensor that comes for the first time in this step."""
        step = self._slots.get(path)
        if step is None:
            self._slots[path] = step = TensorStep(path, place, call)
        step.begin(self.step_histograms.target(path, self.statistics.empty_histogram) if self.histograms else None)
        step.masked = False
        if self.units == "all" or (self.units == "activations" and place.is_activation):
            step.units = self._unit_track(path, module, tensor, layout)
        self.steps[path] = step
        return step

    def _count_unlike(
        self,
        step: TensorStep,
        tensor: torch.Tensor,
        where: torch.Tensor | None,
        found: Callable[[TensorStep, Summary, int | None], object] | None,
    ) -> bool | None:
        """Count what is not an ordinary tensor in host memory; None where nothing can be counted."""
        recent = self.recent.on_devices
        parts = recent.find(tensor, where)
        if parts is None:
            if tensor.is_complex():
                step.units = None
                where = None if where is None else where.unsqueeze(-1)
                tensor = real_parts(tensor)
            if not is_countable(tensor):
                self.guard.leave_out(f"the {self.what} of {step.place.name}", f"{_describe(tensor)} is not counted")
                step.units = None
                return None
            parts = self.statistics.parts(tensor, histogram=self.histograms, where=where)
            recent.keep(tensor, where, parts)
        summary, histogram = parts
        if isinstance(histogram, LogTable):
            self._tables.append((step.name, histogram))  # reading it would wait for the device
        elif histogram is not None:
            self.step_histograms.target(step.name, self.statistics.empty_histogram).merge(histogram)
        if isinstance(summary, PendingSummary):
            self.pending.add(summary, self._merger(step, found))
            return True
        assert isinstance(summary, Summary)
        step.add(summary)
        return summary.nonfinite_count == 0

    def _merger(
        self, step: TensorStep, found: Callable[[TensorStep, Summary, int | None], object] | None
    ) -> Callable[[Any, int | None], None]:
        def merge(summary: Summary, first: int | None) -> None:
            step.add(summary)
            if found is not None and summary.nonfinite_count:
                found(step, summary, first)

        return merge

    def _unit_track(self, path: str, module: nn.Module, tensor: torch.Tensor, layout: str | None) -> UnitTrack | None:
        """The accumulated units of a tensor; None for tensors without units."""
        if path not in self._tracks:
            dim = unit_dimension(module, tensor, layout) if tensor.is_floating_point() else None
            bounds = saturation_bounds(activation_kind(module))
            self._tracks[path] = None if dim is None else UnitTrack(UnitActivity(dim, saturation=bounds))
        track = self._tracks[path]
        if track is None:
            return None
        if self.in_parts or self.statistics.reads_later(tensor):
            # The step before may not be in the total yet.
            self._apart = True
            total = track.total
            return UnitTrack(total, part=UnitActivity(total.dim, saturation=total.saturation))
        track.begin()
        return track

    def take_units(self, path: str, state: UnitActivity) -> UnitTrack | None:
        """Add the units of one step, of this rank or of all, to those of the steps before."""
        known = self._tracks.setdefault(path, UnitTrack(UnitActivity(state.dim, saturation=state.saturation)))
        if known is None:
            return None
        track = UnitTrack(known.total)
        track.begin()
        try:
            track.total.merge(state)
        except ValueError:
            self._forget_units(path)
            return None
        return track

    def _forget_units(self, path: str) -> None:
        """The number of units changes from call to call (a sequence length, say): they are no units."""
        self._tracks[path] = None
        self._without_units.append(path)

    def _count_units(self, step: TensorStep, tensor: torch.Tensor, where: torch.Tensor | None) -> None:
        track = step.units
        assert track is not None
        try:
            pending = self.statistics.add_units(track.total if track.part is None else track.part, tensor, where)
        except (ValueError, IndexError):
            self._forget_units(step.name)
            step.units = None
            return
        if pending is not None:
            self.pending.add(pending, lambda state, _: self._merge_units(step, state))

    def _merge_units(self, step: TensorStep, state: UnitActivity) -> None:
        """Add what has come from a device to the step's units."""
        if step.units is None or step.units.part is None:
            return
        try:
            step.units.part.merge(state)
        except ValueError:
            self._forget_units(step.name)
            step.units = None

    def settle_units(self) -> None:
        """Add the units of the step to the totals, where they were kept apart from them."""
        for path, step in self.steps.items() if self._apart else ():
            if step.units is not None and step.units.part is not None:
                step.units = self.take_units(path, step.units.part)

    def settle(self) -> None:
        """Take in the histograms that were counted on devices."""
        tables, self._tables = self._tables, []
        for path, table in tables:
            self.step_histograms.target(path, self.statistics.empty_histogram).merge(table.histogram())

    def drop(self, is_dropped: Callable[[str], bool]) -> None:
        """Forget the tensors for whose name this is true."""
        self.steps = {path: step for path, step in self.steps.items() if not is_dropped(path)}
        self._tables = [(path, table) for path, table in self._tables if not is_dropped(path)]

    def rows(self) -> SignalStep | None:
        """What was counted, as plain data; everything is on the host now."""
        steps = [step for step in self.steps.values() if step.counted]
        if not steps:
            return None
        extras: dict[str, dict[str, float]] = {}
        units: dict[str, UnitActivity | None] = dict.fromkeys(self._without_units)
        with_units = [(step, step.units) for step in steps if step.units is not None]
        if with_units:
            extras["dead_fraction"] = {step.name: step.dead_fraction() for step, _ in with_units}
            extras["saturated_fraction"] = {step.name: step.saturated_fraction() for step, _ in with_units}
            units.update((step.name, track.total) for step, track in with_units)
        names = [step.name for step in steps]
        return SignalStep(names, [step.place.name for step in steps], summaries_of_slots(steps), extras, units)


def _describe(tensor: torch.Tensor) -> str:
    """Layout, dtype and device of a tensor that cannot be counted."""
    if tensor.is_nested:
        return "a nested tensor"
    kind = type(tensor).__name__ if type(tensor) is not torch.Tensor else str(tensor.layout).removeprefix("torch.")
    return f"a {kind}, {str(tensor.dtype).removeprefix('torch.')} on {tensor.device.type} tensor"
