"""Counts the tensors of one signal during one step: summaries, histograms, units; knows no hook and keeps no tensor."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tensorstats._core import Histogram, Summary, TensorSlot, UnitActivity, summaries_of_slots
from tensorstats.device.backend import Statistics, is_countable, real_parts
from tensorstats.device.histogram import LogTable
from tensorstats.device.results import PendingSummary, PendingUnits
from tensorstats.run.histograms import HistogramSeries, StepHistograms
from tensorstats.run.step import SignalStep
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.modules import activation_kind, argument_names, is_activation, module_layout
from tensorstats.torch.record.recent import Recent
from tensorstats.torch.record.units import Units, UnitTrack, UnitTracks

__all__ = ["CollectedSignal", "Collector", "PendingList", "Place", "TensorStep"]

_NAN = float("nan")


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


class CollectedSignal:
    """The tensors of one signal in one step, until they are plain data."""

    __slots__ = ("_empty", "_histograms", "_tables", "_tracks", "apart", "tensors")

    def __init__(self, histograms: StepHistograms, empty: Histogram, tracks: UnitTracks) -> None:
        self._histograms = histograms
        self._empty = empty
        self._tracks = tracks
        self._tables: list[tuple[str, LogTable]] = []
        self.tensors: dict[str, TensorStep] = {}
        self.apart = False  # whether units of this step are not in their totals yet

    def target(self, path: str) -> Histogram:
        """The histogram that a tensor goes into."""
        return self._histograms.target(path, self._empty)

    def count_into(self, path: str, histogram: Histogram | LogTable) -> None:
        """Add a histogram of a tensor; reading one on a device would wait for it."""
        if isinstance(histogram, LogTable):
            self._tables.append((path, histogram))
        else:
            self.target(path).merge(histogram)

    def count_units(self, step: TensorStep, state: UnitActivity) -> None:
        """Add what has come from a device to a tensor's units."""
        if step.units is None or step.units.part is None:
            return
        try:
            step.units.part.merge(state)
        except ValueError:
            self._tracks.forget(step.name)
            step.units = None

    def settle(self) -> None:
        """Take in the histograms that were counted on devices."""
        tables, self._tables = self._tables, []
        for path, table in tables:
            self.target(path).merge(table.histogram())

    def settle_units(self) -> None:
        """Add the units of the step to the totals, where they were kept apart from them."""
        for path, step in self.tensors.items() if self.apart else ():
            if step.units is not None and step.units.part is not None:
                step.units = self._tracks.take(path, step.units.part)

    def put(self, path: str, kind: str, state: object) -> None:
        """Replace what was counted of a tensor on this rank by what all ranks have together, if they have."""
        step = self.tensors[path]
        if kind == "summary":
            self.tensors[path] = self.tensors.pop(path)  # names are in the order of all ranks
        if isinstance(state, Summary):
            step.summary = state
        elif isinstance(state, UnitActivity):
            step.units = self._tracks.take(path, state)
        elif kind == "units" and step.units is not None and step.units.part is not None:
            step.units = self._tracks.take(path, step.units.part)

    def drop(self, paths: Collection[str]) -> None:
        """Forget these tensors."""
        self.tensors = {path: step for path, step in self.tensors.items() if path not in paths}
        self._tables = [(path, table) for path, table in self._tables if path not in paths]

    def rows(self) -> SignalStep | None:
        """What was counted, as plain data; everything is on the host now."""
        steps = [step for step in self.tensors.values() if step.counted]
        if not steps:
            return None
        extras: dict[str, dict[str, float]] = {}
        units: dict[str, UnitActivity | None] = dict.fromkeys(self._tracks.forgotten)
        with_units = [(step, step.units) for step in steps if step.units is not None]
        if with_units:
            extras["dead_fraction"] = {step.name: step.dead_fraction() for step, _ in with_units}
            extras["saturated_fraction"] = {step.name: step.saturated_fraction() for step, _ in with_units}
            units.update((step.name, track.total) for step, track in with_units)
        names = [step.name for step in steps]
        return SignalStep(names, [step.place.name for step in steps], summaries_of_slots(steps), extras, units)


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
    counted: CollectedSignal = field(init=False)  # of this step
    _slots: dict[str, TensorStep] = field(default_factory=dict)  # of all steps so far
    _tracks: UnitTracks = field(default_factory=UnitTracks)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A step begins."""
        self.counted = CollectedSignal(self.series.step, self.statistics.empty_histogram, self._tracks)
        self.recent.clear()

    def let_go(self) -> None:
        """The step that was counted is closed later."""
        self._slots = {}
        self.begin()

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
        step = self.counted.tensors.get(path)
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
        counted = self.counted
        step.begin(counted.target(path) if self.histograms else None)
        step.masked = False
        if self.units == "all" or (self.units == "activations" and place.is_activation):
            # Where numbers come later, the step before may not be in the total yet.
            apart = self.in_parts or self.statistics.reads_later(tensor)
            step.units = self._tracks.begin(path, module, tensor, layout, apart=apart)
            counted.apart = counted.apart or apart
        counted.tensors[path] = step
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
        if histogram is not None:
            self.counted.count_into(step.name, histogram)
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

    def _count_units(self, step: TensorStep, tensor: torch.Tensor, where: torch.Tensor | None) -> None:
        track = step.units
        assert track is not None
        try:
            pending = self.statistics.add_units(track.total if track.part is None else track.part, tensor, where)
        except (ValueError, IndexError):
            self._tracks.forget(step.name)
            step.units = None
            return
        if pending is not None:
            counted = self.counted
            self.pending.add(pending, lambda state, _: counted.count_units(step, state))


def _describe(tensor: torch.Tensor) -> str:
    """Layout, dtype and device of a tensor that cannot be counted."""
    if tensor.is_nested:
        return "a nested tensor"
    kind = type(tensor).__name__ if type(tensor) is not torch.Tensor else str(tensor.layout).removeprefix("torch.")
    return f"a {kind}, {str(tensor.dtype).removeprefix('torch.')} on {tensor.device.type} tensor"
