"""What every recorder can be asked: the contract between a signal's recorder and everybody else; records nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import nn

from tensorstats._core import Summary, UnitActivity
from tensorstats.run.step import SignalStep

__all__ = ["NORM_BEFORE", "Counted", "Locate", "Opening", "Recorder", "Told"]

# The part of a tensor that lies on this rank, by signal and name.
Locate: TypeAlias = Callable[[str, str, torch.Tensor], torch.Tensor]

# Told to other ranks like a signal, though it is none: the norm of a parameter before its first recorded update.
NORM_BEFORE = "initial"


@dataclass(frozen=True, slots=True)
class Opening:
    """A recorded step begins.

    Attributes
    ----------
    parameters : mapping
        The watched parameters by name.
    apart : bool
        What is counted stays apart from the totals until the step is closed.
    """

    parameters: Mapping[str, nn.Parameter]
    apart: bool = False


@dataclass(slots=True)
class Told:
    """What this rank tells the others of one tensor.

    Attributes
    ----------
    parameter : str or None
        The parameter that it is of, or is kept for; None for what modules take and return.
    units : UnitActivity or None
        Of this step alone.
    about : tuple of str
        What `put` needs on a rank that does not know the name. Of a tensor of a module, its module comes first; of what
        is kept for a parameter, the parameter.
    is_early : bool
        It was read before data parallelism makes copies of it equal.
    """

    signal: str
    name: str
    summary: Summary | None
    parameter: str | None = None
    units: UnitActivity | None = None
    about: tuple[str, ...] = ()
    is_early: bool = False


class Counted(Protocol):
    """What a recorder has counted in one step: an object of its own from the beginning of the step on.

    Attributes
    ----------
    signals : tuple of str
        The names of what it tells other ranks, and takes from them.
    """

    signals: tuple[str, ...]

    def settle(self) -> None:
        """Take in what has come from devices; everything is on the host now."""

    def told(self) -> Iterable[Told]:
        """What was counted, for other ranks."""

    def put(self, signal: str, name: str, kind: str, state: object, about: tuple[str, ...]) -> None:
        """Replace what was counted of a tensor on this rank by what all ranks have together.

        It is called in the order in which the ranks name tensors first. The `kind` is "summary" or "units"; a `state`
        of None says that each rank goes on with its own.
        """

    def drop(self, is_dropped: Callable[[tuple[str, str]], bool]) -> None:
        """Forget the tensors for whose signal and name this is true."""

    def rows(self) -> dict[str, SignalStep]:
        """What was counted, by signal, as plain data; signals without any are missing."""


class Recorder(Protocol):
    """Counts some signals, one step at a time.

    Hooks and steps hand it tensors, each recorder by methods of its own; everybody else knows it by these alone.

    Attributes
    ----------
    locate : callable or None
        Finds the part of a sharded tensor on this rank, while ranks are merged.
    """

    locate: Locate | None

    @property
    def signals(self) -> tuple[str, ...]:
        """The names of the signals that it counts."""

    @property
    def counted(self) -> Counted:
        """Of the step that is open."""

    def begin(self, opening: Opening, /) -> None:
        """A step begins, with a new `counted`."""

    def let_go(self) -> None:
        """The step that was counted is closed later: from now on, nothing changes in it."""
