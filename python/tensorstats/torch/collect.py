"""Counts the tensors of one signal during one step: summaries, histograms, units; knows no hook and keeps no tensor."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from tensorstats._core import Summary, UnitActivity, summaries_from
from tensorstats.torch.device import PendingSummary, PendingUnits
from tensorstats.torch.device_histogram import LogTable
from tensorstats.torch.guard import Guard
from tensorstats.torch.log import SignalLog
from tensorstats.torch.modules import activation_kind, is_activation, module_layout, saturation_bounds, unit_dimension
from tensorstats.torch.offender import argument_names
from tensorstats.torch.states import Statistics, is_countable

__all__ = ["Collector", "PendingList", "Place", "Seen", "TensorStep", "UnitTrack", "Units"]

_NAN = float("nan")

Units: TypeAlias = Literal["activations", "all", "none"]


class Place:
    """A watched module and what is always true of it."""

    __slots__ = (
        "argument_names",
        "calls",
        "has_parameters",
        "is_activation",
        "kind",
        "layout",
        "module_type",
        "name",
        "signals",
    )

    def __init__(self, name: str, module: nn.Module, signals: frozenset[str] = frozenset()) -> None:
        self.name = name
        self.signals = signals  # of which its tensors are recorded
        self.argument_names = argument_names(module)
        self.is_activation = is_activation(module)
        self.module_type = type(module).__name__
        self.kind = activation_kind(module)
        self.layout = module_layout(module)
        self.has_parameters = next(module.parameters(recurse=True), None) is not None
        self.calls = 0  # in this forward pass


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
        last_active = self.total.last_active
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
class TensorStep:
    """One tensor of one call of one module within the current step; several micro-batches are merged."""

    name: str
    place: Place
    call: int
    summary: Summary | None = None
    units: UnitTrack | None = None
    _shared: bool = False  # whether the summary is somebody else's too

    def add(self, summary: Summary) -> None:
        """Take in the summary of one more tensor of the step; it is not changed."""
        if self.summary is None:
            self.summary, self._shared = summary, True
            return
        if self._shared:
            self.summary, self._shared = self.summary.copy(), False
        self.summary.merge(summary)

    def dead_fraction(self) -> float:
        """Share of units that were not active in this step; NaN without units or finite values."""
        without = self.units is None or self.summary is None or self.summary.finite_count == 0
        return _NAN if without or self.units is None else self.units.dead_fraction()

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


class Seen:
    """The tensors counted last, held weakly, with their states.

    What one module returns the next one is given, and some return it unchanged: it needs no second look.
    """

    # A step may count tensors without end; what is given on is given on soon.
    _MOST = 32

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[torch.Tensor], int, tuple[Any, Any]]] = {}

    def find(self, tensor: torch.Tensor) -> tuple[Any, Any] | None:
        """The states of a tensor that has not changed since it was counted."""
        entry = self._entries.get(id(tensor))
        if entry is None or entry[0]() is not tensor or tensor._version != entry[1]:
            return None
        return entry[2]

    def keep(self, tensor: torch.Tensor, parts: tuple[Any, Any]) -> None:
        """Remember the states of a tensor; one of inference mode has no version by which a change would show."""
        if tensor.is_inference():
            return
        entries = self._entries
        if len(entries) >= self._MOST:
            del entries[next(iter(entries))]
        entries[id(tensor)] = (weakref.ref(tensor), tensor._version, parts)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()


@dataclass(slots=True)
class Collector:
    """The tensors of one signal and one mode. `units` says of which modules unit activity is kept."""

    statistics: Statistics
    guard: Guard
    log: SignalLog
    pending: PendingList
    histograms: bool
    units: Units
    what: str = "output"  # for messages
    seen: Seen = field(default_factory=Seen)  # shared by the signals of a mode
    # While ranks are merged: the part of a sharded tensor on this rank, and that units are kept apart per step.
    locate: Callable[[str, torch.Tensor], torch.Tensor] | None = None
    in_parts: bool = False
    steps: dict[str, TensorStep] = field(default_factory=dict)
    _tracks: dict[str, UnitTrack | None] = field(default_factory=dict)
    _tables: list[tuple[str, LogTable]] = field(default_factory=list)
    _apart: bool = False  # whether units of this step are not in their totals yet

    def begin(self) -> None:
        """Forget the last step."""
        self.steps = {}
        self._tables = []
        self.seen.clear()
        self._apart = False

    def take(self) -> Collector:
        """The step, to be kept later; the collector begins anew."""
        taken = copy.copy(self)
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
        found: Callable[[TensorStep, Summary, int | None], object] | None = None,
    ) -> Summary | None:
        """Count one tensor under its name; None when it cannot be counted, or is still on its way from a device.

        `found` is called later, with the position of the first non-finite value, for what comes from a device.
        """
        if self.locate is not None:
            tensor = self.locate(path, tensor)
        parts = self.seen.find(tensor)
        if parts is None:
            if not is_countable(tensor):
                self.guard.note(f"{self.what} of {place.name}", f"a {_describe(tensor)} tensor is not counted")
                return None
            parts = self.statistics.parts(tensor, histogram=self.histograms)
            self.seen.keep(tensor, parts)
        step = self.steps.get(path)
        if step is None:
            self.steps[path] = step = TensorStep(path, place, call)
            if self.units == "all" or (self.units == "activations" and place.is_activation):
                step.units = self._unit_track(path, module, tensor, layout)
        summary, histogram = parts
        if histogram is not None:
            self._add_histogram(path, histogram)
        if step.units is not None:
            self._count_units(path, step, tensor)
        if isinstance(summary, PendingSummary):
            self.pending.add(summary, self._merger(step, found))
            return None
        assert isinstance(summary, Summary)
        step.add(summary)
        return summary

    def _add_histogram(self, path: str, histogram: Any) -> None:
        if isinstance(histogram, LogTable):
            self._tables.append((path, histogram))  # reading it would wait for the device
        else:
            self.log.histogram(path, self.statistics.empty_histogram).merge(histogram)

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
        self.log.units.pop(path, None)

    def _count_units(self, path: str, step: TensorStep, tensor: torch.Tensor) -> None:
        assert step.units is not None
        try:
            total = step.units.total if step.units.part is None else step.units.part
            pending = self.statistics.add_units(total, tensor)
        except (ValueError, IndexError):
            self._forget_units(path)
            step.units = None
            return
        if pending is not None:
            self.pending.add(pending, lambda state, _: self._merge_units(path, step, state))

    def _merge_units(self, path: str, step: TensorStep, state: UnitActivity) -> None:
        """Add what has come from a device to the step's units."""
        if step.units is None or step.units.part is None:
            return
        try:
            step.units.part.merge(state)
        except ValueError:
            self._forget_units(path)
            step.units = None

    def settle_units(self) -> None:
        """Add the units of the step to the totals, where they were kept apart from them."""
        for path, step in self.steps.items() if self._apart else ():
            if step.units is not None and step.units.part is not None:
                step.units = self.take_units(path, step.units.part)

    def settle_tables(self) -> None:
        """Take in the histograms that were counted on devices."""
        tables, self._tables = self._tables, []
        for path, table in tables:
            self.log.histogram(path, self.statistics.empty_histogram).merge(table.histogram())

    def keep(self, step_number: int) -> None:
        """Append the step to the log; everything is on the host now."""
        steps = [step for step in self.steps.values() if step.summary is not None]
        if not steps:
            return
        extras: dict[str, dict[str, float]] = {}
        counted = [step for step in steps if step.units is not None]
        if counted:
            extras["dead_fraction"] = {step.name: step.dead_fraction() for step in counted}
            extras["saturated_fraction"] = {step.name: step.saturated_fraction() for step in counted}
            for step in counted:
                if step.units is not None:
                    self.log.units[step.name] = step.units.total
        rows = [step.summary for step in steps if step.summary is not None]
        names = [step.name for step in steps]
        self.log.add(step_number, names, [step.place.name for step in steps], summaries_from(rows), extras)


def _describe(tensor: torch.Tensor) -> str:
    """Layout, dtype and device of a tensor that cannot be counted."""
    kind = type(tensor).__name__ if type(tensor) is not torch.Tensor else str(tensor.layout).removeprefix("torch.")
    return f"{kind}, {str(tensor.dtype).removeprefix('torch.')} on {tensor.device.type}"
