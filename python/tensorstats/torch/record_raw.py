"""Records gradients as the last backward pass left them, before clipping or anything else; changes none of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

from tensorstats._core import Summary, summaries_from
from tensorstats.torch.collect import PendingList
from tensorstats.torch.device_histogram import LogTable
from tensorstats.torch.log import SignalLog
from tensorstats.torch.modules import ROOT_NAME
from tensorstats.torch.states import Statistics, is_countable

__all__ = ["RawGradientRecorder"]


class RawGradientRecorder:
    """Reads ``.grad`` right after a backward pass has added to it; of several passes in a step the last one counts.

    Parameters
    ----------
    scaler
        A ``torch.amp.GradScaler``: gradients are divided by its scale. None for no scaling.
    """

    def __init__(
        self, statistics: Statistics, log: SignalLog, pending: PendingList, scaler: Any, *, histograms: bool
    ) -> None:
        self._statistics = statistics
        self._log = log
        self._pending = pending
        self._scaler = scaler
        self._histograms = histograms
        self._rows: dict[str, tuple[Summary, Any]] = {}
        self.locate: Callable[[str, str, torch.Tensor], torch.Tensor] | None = None  # see ParameterRecorder

    def begin(self) -> None:
        """Forget the last step."""
        self._rows = {}

    def take(self) -> RawGradientRecorder:
        """The step, to be kept later; the recorder forgets it."""
        taken = copy.copy(self)
        self.begin()
        return taken

    def read(self, name: str, gradient: torch.Tensor) -> None:
        """Summarise one gradient."""
        if self.locate is not None:
            gradient = self.locate("raw_gradients", name, gradient)
        if not is_countable(gradient):
            return
        if self._scaler is not None and self._scaler.is_enabled():
            # Where the scale lies on a device, asking for its value would wait there.
            scale = getattr(self._scaler, "_scale", None)
            gradient = gradient / (self._scaler.get_scale() if scale is None else scale)
        if not self._statistics.uses_core(gradient):
            rows = self._rows
            table = self._statistics.histogram(gradient) if self._histograms else None
            self._pending.add(self._statistics.start(gradient), lambda state, _: rows.update({name: (state, table)}))
            return
        self._rows[name] = self._statistics.parts(gradient, histogram=self._histograms)  # type: ignore[assignment]

    def settle_tables(self) -> None:
        """Take in the histograms; those of devices have arrived."""
        for name, (summary, histogram) in self._rows.items():
            if histogram is not None:
                counted = histogram.histogram() if isinstance(histogram, LogTable) else histogram
                self._log.histogram(name, self._statistics.empty_histogram).merge(counted)
                self._rows[name] = (summary, None)

    def keep(self, step: int) -> None:
        """Append the step to the log; everything is on the host now."""
        rows, self._rows = self._rows, {}
        if not rows:
            return
        modules = [name.rpartition(".")[0] or ROOT_NAME for name in rows]
        self._log.add(step, list(rows), modules, summaries_from([summary for summary, _ in rows.values()]), {})
