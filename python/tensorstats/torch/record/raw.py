"""Records gradients as the last backward pass left them, before clipping or anything else; changes none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from tensorstats._core import Histogram, Summary, TensorSlot, summaries_of_slots
from tensorstats.device.backend import Statistics, is_countable, real_parts
from tensorstats.device.histogram import LogTable
from tensorstats.run.histograms import HistogramSeries, StepHistograms
from tensorstats.run.step import SignalStep
from tensorstats.torch.attach.modules import ROOT_NAME
from tensorstats.torch.attach.scaling import Scaling
from tensorstats.torch.record.collect import PendingList
from tensorstats.torch.record.recorder import Counted, Locate, Opening, Told

__all__ = ["RawGradientRecorder"]

_SIGNAL = "raw_gradients"


class CountedRawGradients(Counted):
    """The gradients of one step by the names of their parameters."""

    signals = (_SIGNAL,)

    def __init__(self, histograms: StepHistograms, empty: Histogram) -> None:
        self._histograms = histograms
        self._empty = empty
        self.slots: dict[str, TensorSlot] = {}
        self.tables: dict[str, LogTable | Histogram] = {}

    def settle(self) -> None:
        """Take in the histograms; those of devices have arrived."""
        tables, self.tables = self.tables, {}
        for name, table in tables.items():
            counted = table.histogram() if isinstance(table, LogTable) else table
            self._histograms.target(name, self._empty).merge(counted)

    def told(self) -> Iterable[Told]:
        """What was counted, for other ranks."""
        return (Told(_SIGNAL, name, slot.summary, parameter=name, is_early=True) for name, slot in self.slots.items())

    def put(self, _signal: str, name: str, _kind: str, state: object, _about: tuple[str, ...]) -> None:
        """Replace what was counted on this rank by what all ranks have together."""
        if isinstance(state, Summary):
            self.slots.setdefault(name, TensorSlot()).summary = state

    def drop(self, is_dropped: Callable[[tuple[str, str]], bool]) -> None:
        """Forget the tensors for whose signal and name this is true."""
        for name in [name for name in self.slots if is_dropped((_SIGNAL, name))]:
            del self.slots[name]
            self.tables.pop(name, None)

    def rows(self) -> dict[str, SignalStep]:
        """What was counted, as plain data."""
        slots = {name: slot for name, slot in self.slots.items() if slot.counted}
        if not slots:
            return {}
        modules = [name.rpartition(".")[0] or ROOT_NAME for name in slots]
        return {_SIGNAL: SignalStep(list(slots), modules, summaries_of_slots(list(slots.values())))}


class RawGradientRecorder:
    """Reads ``.grad`` right after a backward pass has added to it; of several passes in a step the last one counts.

    Parameters
    ----------
    scaling
        The scale that gradients hold, by which they are divided.
    """

    signals = (_SIGNAL,)

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
        self.locate: Locate | None = None
        self.begin()

    def begin(self, _opening: Opening | None = None, /) -> None:
        """A step begins."""
        self.counted = CountedRawGradients(self._series.step, self._statistics.empty_histogram)

    def let_go(self) -> None:
        """The step that was counted is closed later."""
        self._slots = {}
        self.begin()

    def read(self, name: str, gradient: torch.Tensor) -> None:
        """Summarise one gradient."""
        if self.locate is not None:
            gradient = self.locate(_SIGNAL, name, gradient)
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
            self.counted.slots[name] = slot
            if histogram is not None:
                self.counted.tables[name] = histogram
        elif is_countable(gradient):
            self._read_unlike(name, slot, gradient)

    def _read_unlike(self, name: str, slot: TensorSlot, gradient: torch.Tensor) -> None:
        """Summarise what is not an ordinary tensor in host memory."""
        summary, table = self._statistics.parts(gradient, histogram=self._histograms)
        counted = self.counted
        if table is not None:
            counted.tables[name] = table
        if isinstance(summary, Summary):
            slot.summary = summary
            counted.slots[name] = slot
            return

        def arrived(state: Summary, _first: int | None) -> None:
            # Of several backward passes the last one counts, and arrives last.
            slot.summary = state
            counted.slots[name] = slot

        self._pending.add(summary, arrived)
