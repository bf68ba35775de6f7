"""Records gradients as the last backward pass left them, before clipping or anything else; changes none of them."""

from __future__ import annotations

from typing import Any

import torch

from tensorstats._core import Summary, summaries_from
from tensorstats.torch.collect import PendingList
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

    def begin(self) -> None:
        """Forget the last step."""
        self._rows = {}

    def read(self, name: str, gradient: torch.Tensor) -> None:
        """Summarise one gradient."""
        if not is_countable(gradient):
            return
        if self._scaler is not None and self._scaler.is_enabled():
            gradient = gradient / self._scaler.get_scale()
        if not self._statistics.uses_core(gradient):
            rows = self._rows
            self._pending.add(self._statistics.start(gradient), lambda state, _: rows.update({name: (state, None)}))
            return
        self._rows[name] = self._statistics.parts(gradient, histogram=self._histograms)  # type: ignore[assignment]

    def keep(self, step: int) -> None:
        """Append the step to the log; everything is on the host now."""
        rows, self._rows = self._rows, {}
        if not rows:
            return
        for name, (_, histogram) in rows.items():
            if histogram is not None:
                self._log.histogram(name, self._statistics.empty_histogram).merge(histogram)
        modules = [name.rpartition(".")[0] or ROOT_NAME for name in rows]
        self._log.add(step, list(rows), modules, summaries_from([summary for summary, _ in rows.values()]), {})
