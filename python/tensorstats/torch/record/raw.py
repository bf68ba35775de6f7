"""Records gradients as the last backward pass left them, before clipping or anything else; changes none of them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from tensorstats._core import Histogram, Summary, TensorSlot, summaries_of_slots
from tensorstats.device.backend import Statistics, is_countable, real_parts
from tensorstats.device.histogram import LogTable
from tensorstats.run.histograms import HistogramSeries
from tensorstats.run.step import SignalStep
from tensorstats.torch.attach.modules import ROOT_NAME
from tensorstats.torch.attach.scaling import Scaling
from tensorstats.torch.record.collect import PendingList

__all__ = ["RawGradientRecorder"]


class RawGradientRecorder:
    """Reads ``.grad`` right after a backward pass has added to it; of several passes in a step the last one counts.

    Parameters
    ----------
    scaling
        The scale that gradients hold, by which they are divided.
    """

    signals = ("raw_gradients",)

    def __init__(
        self,
        statistics: Statistics,
        series: HistogramSeries,
        pending: PendingList,
        scaling: Scaling,
        *,
        histograms: bool,
    ) -> None:
        self._statistics = statistics
        self._series = series
        self._pending = pending
        self._scaling = scaling
        self._histograms = histograms
        self._slots: dict[str, TensorSlot] = {}  # of all steps so far
        self._tables: dict[str, LogTable | Histogram] = {}
        self._step_histograms = series.step  # of this step
        self.counted: dict[str, TensorSlot] = {}  # of this step
        self.locate: Callable[[str, str, torch.Tensor], torch.Tensor] | None = None  # see ParameterRecorder

    def begin(self) -> None:
        """Forget the last step."""
        self.counted = {}
        self._tables = {}
        self._step_histograms = self._series.step

    def take(self) -> RawGradientRecorder:
        """The step, to be kept later; the recorder forgets it."""
        taken = copy.copy(self)
        self._slots = {}
        self.begin()
        return taken

    def read(self, name: str, gradient: torch.Tensor) -> None:
        """Summarise one gradient."""
        if self.locate is not None:
            gradient = self.locate("raw_gradients", name, gradient)
        if self._scaling.scaler is not None:
            if not is_countable(gradient):
                return
            gradient = self._scaling.unscaled(gradient)
        slot = self._slots.get(name)
        if slot is None:
            self._slots[name] = slot = TensorSlot()
        histogram = self._statistics.empty_histogram.copy() if self._histograms else None
        slot.begin(histogram)
        statistics = self._statistics
        counted = slot.count(gradient, None, statistics.threads) if statistics.prefers_core else None
        if counted is None:
            gradient = real_parts(gradient)
        if counted is not None:
            self.counted[name] = slot
            if histogram is not None:
                self._tables[name] = histogram
        elif is_countable(gradient):
            self._read_unlike(name, slot, gradient)

    def _read_unlike(self, name: str, slot: TensorSlot, gradient: torch.Tensor) -> None:
        """Summarise what is not an ordinary tensor in host memory."""
        summary, table = self._statistics.parts(gradient, histogram=self._histograms)
        if table is not None:
            self._tables[name] = table
        if isinstance(summary, Summary):
            slot.summary = summary
            self.counted[name] = slot
            return
        counted = self.counted

        def arrived(state: Summary, _first: int | None) -> None:
            # Of several backward passes the last one counts, and arrives last.
            slot.summary = state
            counted[name] = slot

        self._pending.add(summary, arrived)

    def settle(self) -> None:
        """Take in the histograms; those of devices have arrived."""
        tables, self._tables = self._tables, {}
        for name, table in tables.items():
            counted = table.histogram() if isinstance(table, LogTable) else table
            self._step_histograms.target(name, self._statistics.empty_histogram).merge(counted)

    def put(self, _signal: str, name: str, state: Summary) -> None:
        """Replace what was counted on this rank by what all ranks have together."""
        self.counted.setdefault(name, TensorSlot()).summary = state

    def drop(self, is_dropped: Callable[[tuple[str, str]], bool]) -> None:
        """Forget the tensors for whose signal and name this is true."""
        for name in [name for name in self.counted if is_dropped(("raw_gradients", name))]:
            del self.counted[name]

    def rows(self) -> dict[str, SignalStep]:
        """What was counted; the recorder forgets it."""
        counted = {name: slot for name, slot in self.counted.items() if slot.counted}
        self.counted = {}
        if not counted:
            return {}
        modules = [name.rpartition(".")[0] or ROOT_NAME for name in counted]
        return {"raw_gradients": SignalStep(list(counted), modules, summaries_of_slots(list(counted.values())))}
