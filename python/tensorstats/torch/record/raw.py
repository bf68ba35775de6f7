"""Records gradients as the last backward pass left them, before clipping or anything else; changes none of them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from tensorstats._core import Histogram, Summary, TensorSlot, summaries_of_slots
from tensorstats.device.backend import Statistics, is_countable, real_parts
from tensorstats.device.histogram import LogTable
from tensorstats.run.series import SignalLog
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

    def __init__(
        self, statistics: Statistics, log: SignalLog, pending: PendingList, scaling: Scaling, *, histograms: bool
    ) -> None:
        self._statistics = statistics
        self._log = log
        self._pending = pending
        self._scaling = scaling
        self._histograms = histograms
        self._slots: dict[str, TensorSlot] = {}  # of all steps so far
        self._tables: dict[str, LogTable | Histogram] = {}
        self._step_histograms = log.histograms.step  # of this step
        self.rows: dict[str, TensorSlot] = {}  # of this step
        self.locate: Callable[[str, str, torch.Tensor], torch.Tensor] | None = None  # see ParameterRecorder

    def begin(self) -> None:
        """Forget the last step."""
        self.rows = {}
        self._tables = {}
        self._step_histograms = self._log.histograms.step

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
            self.rows[name] = slot
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
            self.rows[name] = slot
            return
        rows = self.rows

        def arrived(state: Summary, _first: int | None) -> None:
            # Of several backward passes the last one counts, and arrives last.
            slot.summary = state
            rows[name] = slot

        self._pending.add(summary, arrived)

    def settle_tables(self) -> None:
        """Take in the histograms; those of devices have arrived."""
        tables, self._tables = self._tables, {}
        for name, table in tables.items():
            counted = table.histogram() if isinstance(table, LogTable) else table
            self._step_histograms.target(name, self._statistics.empty_histogram).merge(counted)

    def keep(self, step: int) -> None:
        """Append the step to the log; everything is on the host now."""
        rows = {name: slot for name, slot in self.rows.items() if slot.counted}
        self.rows = {}
        if rows:
            modules = [name.rpartition(".")[0] or ROOT_NAME for name in rows]
            self._log.add(step, list(rows), modules, summaries_of_slots(list(rows.values())), {})
