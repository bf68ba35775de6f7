"""Where the watcher counts a tensor: the core for CPU memory, torch operations otherwise; knows no module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch

from tensorstats import _core
from tensorstats._core import Histogram, Summary, UnitActivity
from tensorstats._openmp import share_torch_threads
from tensorstats.axis import LogLinear
from tensorstats.device.arena import Arena
from tensorstats.device.histogram import LogTable
from tensorstats.device.kernels import FLOATS, INTEGERS, repeated_mask
from tensorstats.device.numbers import Numbers
from tensorstats.device.results import (
    PendingSummary,
    PendingUnits,
    resolve,
    start_summary,
    start_units,
)

__all__ = ["Backend", "Statistics", "check_backend", "first_nonfinite", "is_countable", "real_parts", "unravel"]

Backend: TypeAlias = Literal["auto", "core", "torch"]

_ORDINARY_CLASSES = frozenset((torch.Tensor, torch.nn.Parameter, torch.nn.Buffer))
_REAL_DTYPES = frozenset(FLOATS) | frozenset(INTEGERS)


def _threads() -> int:
    """How many threads count beside torch's operations.

    As many as torch takes where the core works on torch's own; else one: torch's threads wait busily for their next
    work, and a second thread of ours would only wait for them.
    """
    return min(torch.get_num_threads(), _core.thread_count()[0]) if _core.uses_openmp() else 1


def is_countable(x: torch.Tensor) -> bool:
    """Whether `x` is an ordinary tensor of real numbers: dense, not quantised, not complex, with values of its own."""
    # Asked of every tensor of every step: attributes that cost least come first, and none makes an object.
    return type(x) in _ORDINARY_CLASSES and x.dtype in _REAL_DTYPES and x.layout is torch.strided and not x.is_meta


def real_parts(x: torch.Tensor) -> torch.Tensor:
    """A complex tensor as its real and imaginary parts, in one more dimension of two; any other tensor as it is."""
    return torch.view_as_real(x.detach().resolve_conj()) if x.is_complex() and type(x) in _ORDINARY_CLASSES else x


def check_backend(backend: object) -> None:
    """Refuse what is no backend.

    Raises
    ------
    ValueError
    """
    if backend not in ("auto", "core", "torch"):
        raise ValueError(f"backend must be 'auto', 'core' or 'torch', got {backend!r}")


class Statistics:
    """Computes states by the path that fits the tensor.

    Parameters
    ----------
    backend : {"auto", "core", "torch"}
        ``"auto"`` uses the core for tensors in CPU memory and torch operations for all others; ``"core"`` and
        ``"torch"`` force one path.
    """

    def __init__(self, backend: Backend = "auto") -> None:
        check_backend(backend)
        self.backend = backend
        self.prefers_core = backend != "torch"
        self._axis = LogLinear()
        self._arenas: dict[torch.device, Arena] = {}
        self._tables: list[LogTable] = []
        self.empty_histogram = Histogram(self._axis)
        share_torch_threads()
        self.threads = 1
        self.begin()

    def begin(self) -> None:
        """A step begins: how many threads torch takes may have changed."""
        self.threads = _threads()

    def uses_core(self, x: torch.Tensor) -> bool:
        """Whether `x` is counted by the core."""
        return self.prefers_core and (x.is_cpu or self.backend == "core")

    def reads_later(self, x: torch.Tensor) -> bool:
        """Whether `x`, or any tensor before it, is not counted at once but read from a device after its step."""
        return bool(self._arenas) or not self.uses_core(x)

    def start(self, x: torch.Tensor, where: torch.Tensor | None = None) -> PendingSummary:
        """The beginning of a summary on a device, of what a mask that broadcasts to `x` chooses."""
        mask = None if where is None else repeated_mask(where, x)
        return start_summary(x, where=mask, arena=self._arena(x.device))

    def _arena(self, device: torch.device) -> Arena:
        if device not in self._arenas:
            self._arenas[device] = Arena(device)
        return self._arenas[device]

    def norm(self, x: torch.Tensor) -> float:
        """The norm of a tensor in CPU memory."""
        return _core.summary(x, 2, self.threads).l2

    def parts(
        self, x: torch.Tensor, *, histogram: bool, where: torch.Tensor | None = None
    ) -> tuple[Summary | PendingSummary, Histogram | LogTable | None]:
        """Summary and, where asked for, LogLinear histogram of `x`, or their beginnings on its device."""
        if self.uses_core(x) and histogram and where is None:
            return _core.summary_and_histogram(x, self._axis, 2, self.threads)  # the memory is read once
        counts = self.histogram(x, where) if histogram else None
        if self.uses_core(x):
            return _core.summary_where(x, 2, self.threads, where), counts
        return self.start(x, where), counts

    def add_units(self, total: UnitActivity, x: torch.Tensor, where: torch.Tensor | None = None) -> PendingUnits | None:
        """Count the units of `x` into `total`, now or (when something is returned) in `settle`."""
        if self.uses_core(x):
            total.update(x, where=where, threads=self.threads)
            return None
        mask = None if where is None else repeated_mask(where, x)
        return start_units(x, total.dim, total.saturation, mask, arena=self._arena(x.device))

    def histogram(self, x: torch.Tensor, where: torch.Tensor | None = None) -> Histogram | LogTable:
        """The LogLinear histogram of `x`, or a table on its device that `finished` completes."""
        if self.uses_core(x):
            return Histogram(self._axis).update(x, where=where, threads=self.threads)
        table = LogTable(self._axis, x)
        table.update(x, None if where is None else repeated_mask(where, x))
        self._tables.append(table)
        return table

    def numbers(self, tensors: Sequence[torch.Tensor]) -> Numbers:
        """Put small tensors where the next copy takes them along."""
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
        return resolve(pending)


def first_nonfinite(x: torch.Tensor, where: torch.Tensor | None = None) -> tuple[int, tuple[int, ...], str] | None:
    """Count, index of the first and its name (``"nan"``, ``"inf"``, ``"-inf"``) of non-finite values; None without any.

    With a mask that broadcasts to `x`, of the values that it chooses. Only called once something is wrong, so it may
    take time and memory.
    """
    x = real_parts(x)
    if not x.is_floating_point() or not is_countable(x) or x.numel() == 0:
        return None
    with torch.no_grad():
        values = x.detach()
        if values.element_size() == 1:
            values = values.to(torch.float32)
        bad = ~torch.isfinite(values)
        if where is not None:
            bad &= where
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
