"""The connection between the watchers of several ranks: who takes part, and how long anybody waits; merges nothing.

It has a connection of its own, over the CPU, so that it neither waits for nor disturbs the collectives of the training
loop, whatever their backend. What goes wrong with it costs a wait that is short beside their timeout.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed

from tensorstats.torch.ranks.board import Board, Watched

__all__ = ["TIMEOUT", "RankError", "RankGroup"]

# How long a rank waits for the others, once to meet and then at every recorded step. Longer than any pause between two
# ranks that end the same optimizer step, short enough that a rank without a watcher costs a pause and not the run.
TIMEOUT = timedelta(seconds=60)

# While a rank waits here, another may wait for it in a collective of the training loop, which ends with an error after
# the timeout of its group. A watcher waits at most twice in a row, and a loop may have two of them.
_SHARE = 4

# How long a rank that leaves in the middle of a step waits for the others to leave too.
_FAREWELL = timedelta(seconds=2)

# The size of a message stands in front of it.
_SIZE = struct.Struct("<q")

# A first guess at the size of a message; all ranks know the largest after the first exchange.
_CAPACITY = 1 << 16


class RankError(RuntimeError):
    """The ranks could not agree; the message says which one is missing or different."""


class RankGroup:
    """The watchers that exchange what they counted. Constructing one only announces this rank's.

    Parameters
    ----------
    board : Board
        Where the ranks find each other.
    size : int
        How many ranks the program has.
    watched : Watched
        What the watcher watches.
    timeout : timedelta
        How long to wait for the other ranks, each time.

    Attributes
    ----------
    ranks : tuple of int
        The ranks that take part, in order; this one alone until they have met.
    reason : str
        Why some take part no longer.
    """

    def __init__(self, board: Board, size: int, watched: Watched, *, timeout: timedelta | None = None) -> None:
        self.rank = board.rank
        self.size = size
        self.ranks: tuple[int, ...] = (board.rank,)
        self.reason = ""
        self._board = board
        self._number = board.post(watched)
        self._timeout = timeout
        self._name = ""
        self._connection: Any = None
        self._capacity = _CAPACITY

    @classmethod
    def of_world(cls, watched: Watched) -> RankGroup | None:
        """A group in this program; None where there is only one rank."""
        distributed = torch.distributed
        if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() < 2:
            return None
        return cls(_board_of_world(), distributed.get_world_size(), watched)

    @property
    def connected(self) -> bool:
        """Whether the ranks have met."""
        return self._connection is not None

    def meet(self, ranks: Sequence[int], *, farewell: bool = False) -> str:
        """Find the watchers of these ranks. Returns what is to be said of ranks that are missing, or nothing.

        A `farewell` waits hardly at all: this rank leaves, and asks who leaves with it.

        Raises
        ------
        RankError
            If no other rank has a watcher of the same, or they cannot be connected.
        """
        timeout = self._timeout = self._timeout or _bounded_timeout()
        timeout = min(timeout, _FAREWELL) if farewell else timeout
        meeting = self._board.meet(self._number, ranks, timeout)
        missing = _words(meeting, timeout)
        if len(meeting.ranks) < 2:
            raise RankError(missing)
        self._name, self.ranks = meeting.name, meeting.ranks
        self._connect()
        return missing

    def gather(self, message: bytes) -> list[bytes]:
        """The messages of all ranks that take part, in the order of `ranks`.

        Where ranks have left, died or do not answer in time, the others go on without them; `reason` says why.

        Raises
        ------
        RankError
            If only this one is left.
        """
        begun = time.monotonic()
        try:
            return self._exchange(message)
        except RuntimeError:
            self._regroup(time.monotonic() - begun)
        try:
            return self._exchange(message)
        except RuntimeError as error:
            raise RankError(f"the exchange failed twice: {_first_line(error)}") from error

    def _regroup(self, waited: float) -> None:
        """Go on with the ranks that are still there; says in `reason` why the others are not."""
        self._connection = None  # which the others notice at once
        before, name, left = self.ranks, self._name, self._left()
        others = [rank for rank in before if rank != self.rank and rank not in left]
        if others:
            number = self._board.post(Watched.of([f"meeting {name}"]))
            timeout = min(self._timeout or TIMEOUT, _FAREWELL)
            meeting = self._board.meet(number, before, timeout, absent=tuple(left))
            self._name, self.ranks = meeting.name, meeting.ranks
        else:
            self.ranks = (self.rank,)
        self.reason = self._words_on([rank for rank in before if rank not in self.ranks], left, waited)
        if len(self.ranks) < 2:
            self._name = name
            raise RankError(self.reason)
        with contextlib.suppress(RuntimeError):  # for those that come too late
            self._board.store.set(f"left/{name}/{self.rank}", f"it went on without others: {self.reason}")
        self._connect()

    def _words_on(self, gone: Sequence[int], left: Mapping[int, str], waited: float) -> str:
        """What is to be said of ranks that take part no longer."""
        said = [f"rank {rank} has left: {left[rank]}" for rank in gone if rank in left]
        silent = ", ".join(str(rank) for rank in gone if rank not in left)
        if silent and self._timeout is not None and waited >= 0.9 * self._timeout.total_seconds():
            said.append(f"not every rank answered within {waited:.2g} s: rank {silent} did not")
        elif silent:
            said.append(f"rank {silent} is gone: its connection ended after {waited:.2g} s, without a word")
        return "; ".join(said)

    def say_farewell(self, message: bytes, ranks: Sequence[int]) -> dict[int, bytes]:
        """A last message, and those of the ranks that leave at the same time or end a step; nothing is waited for long.

        Raises
        ------
        RankError
            If there are none.
        """
        if not self.connected:
            self.meet(ranks, farewell=True)
        try:
            return dict(zip(self.ranks, self._exchange(message, min(self._timeout or TIMEOUT, _FAREWELL)), strict=True))
        except RuntimeError as error:
            raise RankError(_first_line(error)) from error

    def leave(self, reason: str) -> None:
        """Take part no longer; the others learn of it at their next exchange, and wait for nothing."""
        with contextlib.suppress(Exception):  # the store may be gone: the program ends
            if self._name:
                self._board.store.set(self._leaving(self.rank), reason)
            else:
                self._board.withdraw(self._number)
        # Without it the connections close, which the others notice at once.
        self._connection = None

    def _leaving(self, rank: int) -> str:
        return f"left/{self._name}/{rank}"

    def _left(self) -> dict[int, str]:
        """Why each rank that has left did so."""
        store, found = self._board.store, {}
        with contextlib.suppress(RuntimeError):
            for rank in self.ranks:
                if rank != self.rank and store.check([self._leaving(rank)]):
                    found[rank] = store.get(self._leaving(rank)).decode()
        return found

    def _connect(self) -> None:
        timeout = self._timeout or _bounded_timeout()
        store = torch.distributed.PrefixStore(f"gloo/{self._name}", self._board.store)
        try:
            place = self.ranks.index(self.rank)
            self._connection = torch.distributed.ProcessGroupGloo(store, place, len(self.ranks), timeout)
        except (AttributeError, RuntimeError) as error:
            raise RankError(f"the ranks cannot be connected with gloo: {_first_line(error)}") from error

    def _exchange(self, message: bytes, timeout: timedelta | None = None) -> list[bytes]:
        options = torch.distributed.distributed_c10d.AllgatherOptions()
        if timeout is not None:
            options.timeout = timeout
        whole = _SIZE.pack(_SIZE.size + len(message)) + message
        while True:
            mine = torch.zeros(self._capacity, dtype=torch.uint8)
            sent = torch.frombuffer(bytearray(whole[: self._capacity]), dtype=torch.uint8)
            mine[: len(sent)] = sent
            theirs = [torch.empty_like(mine) for _ in self.ranks]
            work = self._connection.allgather([theirs], [mine], options)
            # torch 2.6 keeps to the timeout of the connection instead of the operation's: it is asked once more.
            if timeout is None:
                work.wait()
            else:
                work.wait(timeout)
            received = [buffer.numpy().tobytes() for buffer in theirs]
            sizes = [_SIZE.unpack_from(buffer)[0] for buffer in received]
            if max(sizes) <= self._capacity:
                return [buffer[_SIZE.size : size] for buffer, size in zip(received, sizes, strict=True)]
            # All ranks see the same sizes, so all of them come back with the same larger buffer.
            self._capacity = 1 << (max(sizes) - 1).bit_length()


_BOARDS: list[Board] = []  # that of the process, as long as torch.distributed keeps its store


def _board_of_world() -> Board:
    """The board of this process: one for each time that torch.distributed is initialised."""
    distributed = torch.distributed
    default = distributed.distributed_c10d._get_default_store()
    if not _BOARDS or _BOARDS[0].of is not default:
        store = distributed.PrefixStore("tensorstats", default)
        _BOARDS[:] = [Board(store, distributed.get_rank(), of=default)]
    return _BOARDS[0]


def _bounded_timeout() -> timedelta:
    """How long to wait where the groups of the training loop have timeouts of their own."""
    shortest = TIMEOUT
    with contextlib.suppress(Exception):  # there is no public way to ask, and none is needed where asking fails
        for group in torch.distributed.distributed_c10d._world.pg_map:
            for device in group._device_types:
                given = getattr(getattr(group._get_backend(device), "options", None), "_timeout", None)
                if isinstance(given, timedelta) and given > timedelta(0):
                    shortest = min(shortest, given / _SHARE)
    return shortest


def _words(meeting: Any, timeout: timedelta) -> str:
    """What is to be said of the ranks that do not take part."""
    said = []
    absent = [rank for rank in meeting.missing if rank not in meeting.elsewhere]
    if absent:
        listed = ", ".join(map(str, absent))
        said.append(f"no watcher on rank {listed} within {timeout.total_seconds():g} s; call ts.watch on every rank")
    if meeting.elsewhere:
        listed = ", ".join(map(str, meeting.elsewhere))
        said.append(f"something else is watched on rank {listed}")
    return "; ".join(said)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
