"""Recognises tensors that were counted a moment ago; counts none and keeps none alive.

What it saves is in benches/README.md, "Recognised tensors": 2 to 3 % of a step with every signal, nothing with the
default ones. What it misses, a change through ``.data`` between two modules, is in docs/watch.md.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch

from tensorstats._core import SeenTensors

__all__ = ["Recent"]


class Seen:
    """The tensors begun last on devices, held weakly, with what was begun; for host memory see `SeenTensors`."""

    # A step may count tensors without end; what is given on is given on soon.
    _MOST = 32

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[torch.Tensor], int, torch.Tensor | None, tuple[Any, Any]]] = {}

    def find(self, tensor: torch.Tensor, where: torch.Tensor | None) -> tuple[Any, Any] | None:
        """The states of a tensor that was counted with the same mask and has not changed since."""
        entry = self._entries.get(id(tensor))
        if entry is None or entry[0]() is not tensor or tensor._version != entry[1] or entry[2] is not where:
            return None
        return entry[3]

    def keep(self, tensor: torch.Tensor, where: torch.Tensor | None, parts: tuple[Any, Any]) -> None:
        """Remember the states of a tensor; one of inference mode has no version by which a change would show."""
        if tensor.is_inference():
            return
        entries = self._entries
        if len(entries) >= self._MOST:
            del entries[next(iter(entries))]
        entries[id(tensor)] = (weakref.ref(tensor), tensor._version, where, parts)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()


class Recent:
    """The tensors counted last: what one module returns the next one is given, and it needs no second look."""

    __slots__ = ("on_devices", "on_host")

    def __init__(self) -> None:
        self.on_host = SeenTensors()
        self.on_devices = Seen()

    def clear(self) -> None:
        """Forget all."""
        self.on_host.clear()
        self.on_devices.clear()
