"""What every recorder can be asked: the contract by which a new signal is one file; records nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

from tensorstats._core import Summary
from tensorstats.run.step import SignalStep

__all__ = ["Recorder"]


class Recorder(Protocol):
    """Counts some signals, one step at a time.

    Hooks and steps hand it tensors, each recorder by methods of its own; everybody else knows it by these alone.
    """

    @property
    def signals(self) -> tuple[str, ...]:
        """The names of the signals that it counts."""

    def take(self) -> Self:
        """The step that was counted, to be closed later; the recorder forgets it."""

    def settle(self) -> None:
        """Take in what has come from devices; everything is on the host now."""

    def put(self, signal: str, name: str, state: Summary) -> None:
        """Replace what was counted of a tensor on this rank by what all ranks have together."""

    def drop(self, is_dropped: Callable[[tuple[str, str]], bool]) -> None:
        """Forget the tensors for whose signal and name this is true."""

    def rows(self) -> dict[str, SignalStep]:
        """What was counted, by signal, as plain data; signals without any are missing."""
