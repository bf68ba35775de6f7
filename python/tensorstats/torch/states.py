"""One door to the statistics of a tensor: the core for CPU memory, torch operations otherwise; knows no module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch

from tensorstats import _core
from tensorstats._core import Histogram, Summary, UnitActivity
from tensorstats.axis import LogLinear
from tensorstats.torch.device import (
    PendingSummary,
    PendingUnits,
    RawUnits,
    resolve,
    start_summary,
    start_units,
    summary_of,
    units_of,
)
from tensorstats.torch.device_arena import Arena
from tensorstats.torch.device_histogram import LogTable
from tensorstats.torch.device_numbers import Numbers

__all__ = ["THREADS", "Backend", "Statistics", "first_nonfinite", "is_countable", "unravel"]

# Inside a training loop torch's own threads wait busily for their next work: a second thread of ours would only wait
# for them.
THREADS = 1

Backend: TypeAlias = Literal["auto", "core", "torch"]


def is_countable(x: torch.Tensor) -> bool:
    """Whether `x` is an ordinary tensor of real numbers: dense, not quantised, not complex, with values of its own."""
    return (
        x.layout is torch.strided
        and not x.is_quantized
        and not x.is_complex()
        and x.device.type != "meta"
        and type(x) in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
    )


class Statistics:
    """Computes states by the path that fits the tensor.

    Parameters
    ----------
    backend : {"auto", "core", "torch"}
        ``"auto"`` uses the core for tensors in CPU memory and torch operations for all others; ``"core"`` and
        ``"torch"`` force one path.
    """

    def __init__(self, backend: Backend = "auto") -> None:
        if backend not in ("auto", "core", "torch"):
            raise ValueError(f"backend must be 'auto', 'core' or 'torch', got {backend!r}")
        self.backend = backend
        self._axis = LogLinear()
        self._arenas: dict[torch.device, Arena] = {}
        self._tables: list[LogTable] = []
        self.empty_histogram = Histogram(self._axis)

    def uses_core(self, x: torch.Tensor) -> bool:
        """Whether `x` is counted by the core."""
        return self.backend == "core" or (self.backend == "auto" and x.device.type == "cpu")

    def reads_later(self, x: torch.Tensor) -> bool:
        """Whether `x`, or any tensor before it, is not counted at once but read from a device after its step."""
        return bool(self._arenas) or not self.uses_core(x)

    def summary(self, x: torch.Tensor) -> Summary | PendingSummary:
        """The summary of `x`, or the beginning of one that `settle` completes."""
        if self.uses_core(x):
            return _core.summary(x, 2, THREADS)
        return self.start(x)

    def start(self, x: torch.Tensor) -> PendingSummary:
        """The beginning of a summary on a device."""
        return start_summary(x, arena=self._arena(x.device))

    def _arena(self, device: torch.device) -> Arena:
        if device not in self._arenas:
            self._arenas[device] = Arena(device)
        return self._arenas[device]

    def norm(self, x: torch.Tensor) -> float:
        """The norm of a tensor in CPU memory."""
        return _core.summary(x, 2, THREADS).l2

    def parts(
        self, x: torch.Tensor, *, histogram: bool
    ) -> tuple[Summary | PendingSummary, Histogram | LogTable | None]:
        """Summary and, where asked for, LogLinear histogram of `x`, or their beginnings on its device."""
        if self.uses_core(x):
            if histogram:
                return _core.summary_and_histogram(x, self._axis, 2, THREADS)
            return _core.summary(x, 2, THREADS), None
        return self.start(x), self.histogram(x) if histogram else None

    def add_units(self, total: UnitActivity, x: torch.Tensor) -> PendingUnits | None:
        """Count the units of `x` into `total`, now or (when something is returned) in `settle`."""
        if self.uses_core(x):
            total.update(x, threads=THREADS)
            return None
        return start_units(x, total.dim, total.saturation, arena=self._arena(x.device))

    def histogram(self, x: torch.Tensor) -> Histogram | LogTable:
        """The LogLinear histogram of `x`, or a table on its device that `finished` completes."""
        if self.uses_core(x):
            return Histogram(self._axis).update(x, threads=THREADS)
        table = LogTable(self._axis, x)
        table.update(x)
        self._tables.append(table)
        return table

    def numbers(self, tensors: Sequence[torch.Tensor]) -> Numbers:
        """Put tensors of one element where the next copy takes them along."""
        return Numbers(tensors, self._arena)

    def launch(self) -> None:
        """Start one copy per device of everything begun so far; `settle` reads it, now or much later."""
        tables, self._tables = self._tables, []
        for table in tables:
            table.send(self._arena(table.device))
        for arena in self._arenas.values():
            arena.launch()

    def settle(
        self, pending: Sequence[PendingSummary | PendingUnits]
    ) -> list[tuple[Summary | UnitActivity, int | None]]:
        """Complete what was begun on devices, after their copy was launched.

        Returns the states in the order given, each with the row-major position of its first non-finite value where
        known.
        """
        if any(item.batch is not None and not item.batch.launched for item in pending):
            self.launch()
        settled: list[tuple[Summary | UnitActivity, int | None]] = []
        for raw in resolve(pending):
            settled.append(
                (units_of(raw), None) if isinstance(raw, RawUnits) else (summary_of(raw), raw.first_nonfinite)
            )
        return settled


def first_nonfinite(x: torch.Tensor) -> tuple[int, tuple[int, ...], str] | None:
    """Count, index of the first and its name (``"nan"``, ``"inf"``, ``"-inf"``) of non-finite values; None without any.

    Only called once something is wrong, so it may take time and memory.
    """
    if not x.is_floating_point() or not is_countable(x) or x.numel() == 0:
        return None
    with torch.no_grad():
        values = x.detach()
        if values.element_size() == 1:
            values = values.to(torch.float32)
        bad = ~torch.isfinite(values)
        count = int(bad.sum())
        if count == 0:
            return None
        place = int(bad.reshape(-1).to(torch.uint8).argmax())
        value = float(values.reshape(-1)[place])
    return count, unravel(place, tuple(x.shape)), str(value)


def unravel(place: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of the element at a row-major position."""
    index: list[int] = []
    for size in reversed(shape):
        place, rest = divmod(place, size)
        index.append(rest)
    return tuple(reversed(index))
