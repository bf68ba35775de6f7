"""Merges the states of all ranks: one packed exchange per recorded step; knows no module, no tensor and no rule.

Every rank sends what it recorded, names included, in one buffer, so ranks that recorded different things simply have
different buffers: the result has every name that any rank has, and a rank without a name adds nothing to it. States
are merged in the order of ranks, which makes the result the same on all of them to the bit.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

import torch
import torch.distributed

from tensorstats._core import Histogram, Summary, UnitActivity

__all__ = ["TIMEOUT", "Entry", "Merged", "RankError", "RankGroup", "merge_ranks", "pack", "unpack"]

State: TypeAlias = Summary | Histogram | UnitActivity

# How long a rank waits for the others, once to meet and then at every recorded step. Longer than any pause between two
# ranks that end the same optimizer step, short enough that a rank without a watcher costs a pause and not the run.
TIMEOUT = timedelta(seconds=60)

_KINDS: dict[str, type[Any]] = {"summary": Summary, "histogram": Histogram, "units": UnitActivity}
_KIND_OF = {kind: name for name, kind in _KINDS.items()}

# Bytes of the whole message, the step, and the numbers of entries and of bytes of their description.
_HEAD = struct.Struct("<qqqq")

# A first guess at the size of a message; all ranks know the largest after the first exchange.
_CAPACITY = 1 << 16


class RankError(RuntimeError):
    """The ranks could not agree; the message says which one is missing or different."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One state that this rank has, or the news that it has none.

    `copy` is the number of the copy that this state is a part of: ranks that hold shards of one tensor have the same
    copy, ranks that hold a tensor each have their own. `replicated` says that the copies stand for one tensor and are
    to be counted once; otherwise, as for the outputs of different batches, all of them count.
    """

    signal: str
    name: str
    state: State | None
    kind: str = "summary"
    copy: int = 0
    replicated: bool = False
    about: tuple[str, ...] = ()  # for ranks that do not know the name: what the recorder needs to make up for it


@dataclass(slots=True)
class Merged:
    """One state over all ranks, and what each of them had."""

    entry: Entry  # that of the first rank that has the name
    state: State
    ranks: list[State | None] = field(default_factory=list)
    differs: bool = False  # copies of a replicated tensor that are not equal


def pack(step: int, entries: Sequence[Entry]) -> bytes:
    """Everything a rank has to say about a step, as one message."""
    description = json.dumps(
        [[e.signal, e.name, e.kind, e.copy, e.replicated, list(e.about)] for e in entries], separators=(",", ":")
    ).encode()
    states = [b"" if entry.state is None else entry.state.to_bytes() for entry in entries]
    lengths = struct.pack(f"<{len(states)}q", *map(len, states))
    total = _HEAD.size + len(lengths) + len(description) + sum(map(len, states))
    head = _HEAD.pack(total, step, len(entries), len(description))
    return b"".join([head, lengths, description, *states])


def unpack(message: bytes) -> tuple[int, list[tuple[Entry, bytes]]]:
    """The step of a message and its entries, each with the bytes of its state (none for a rank without one)."""
    _, step, count, described = _HEAD.unpack_from(message)
    lengths = struct.unpack_from(f"<{count}q", message, _HEAD.size)
    start = _HEAD.size + 8 * count
    description = json.loads(message[start : start + described])
    start += described
    found: list[tuple[Entry, bytes]] = []
    for (signal, name, kind, copy, replicated, about), length in zip(description, lengths, strict=True):
        entry = Entry(signal, name, None, kind, copy, replicated, tuple(about))
        found.append((entry, message[start : start + length]))
        start += length
    return step, found


def merge_ranks(messages: Sequence[bytes], *, copies_are_equal: bool = False) -> dict[tuple[str, str, str], Merged]:
    """The states of all ranks, by signal, name and kind, in the order in which the ranks first name them.

    Parameters
    ----------
    messages : sequence of bytes
        One per rank, in the order of ranks, each made by `pack`.
    copies_are_equal : bool
        Whether the copies of a replicated tensor are known to stand for one tensor (DistributedDataParallel). Then one
        that differs is a fault and the first copy is taken; otherwise different copies are different tensors of one
        name, and all of them count.

    Raises
    ------
    RankError
        If the messages are of different steps.
    """
    opened = [unpack(message) for message in messages]
    steps = [step for step, _ in opened]
    if len(set(steps)) > 1:
        listed = ", ".join(f"rank {rank}: {step}" for rank, step in enumerate(steps))
        raise RankError(f"ranks must record the same steps, got {listed}")
    parts: dict[tuple[str, str, str], list[tuple[int, Entry, bytes]]] = {}
    for rank, (_, found) in enumerate(opened):
        for entry, data in found:
            parts.setdefault((entry.signal, entry.name, entry.kind), []).append((rank, entry, data))
    return {key: _merge(held, len(messages), copies_are_equal) for key, held in parts.items()}


def _merge(held: Sequence[tuple[int, Entry, bytes]], size: int, copies_are_equal: bool) -> Merged:
    entry = held[0][1]
    load = _KINDS[entry.kind].from_bytes
    ranks: list[State | None] = [None] * size
    copies: dict[int, list[bytes]] = {}
    for rank, own, data in held:
        if data:
            ranks[rank] = load(data)
            copies.setdefault(own.copy, []).append(data)
    if not copies:
        # Every rank knows the tensor and none holds a part: it is empty.
        return Merged(entry, _empty(entry.kind), ranks)
    differs = False
    if entry.replicated and len(copies) > 1:
        whole = [_add(load, parts) for parts in copies.values()]
        first = whole[0].to_bytes()
        differs = any(copy.to_bytes() != first for copy in whole[1:])
        if copies_are_equal or not differs:
            return Merged(entry, whole[0], ranks, differs and copies_are_equal)
    return Merged(entry, _add(load, [data for parts in copies.values() for data in parts]), ranks)


def _add(load: Any, parts: Sequence[bytes]) -> State:
    total: State = load(parts[0])
    for data in parts[1:]:
        total.merge(load(data))
    return total


def _empty(kind: str) -> State:
    if kind == "summary":
        return Summary()
    raise RankError(f"no rank holds a part of a {kind} that all of them name")


def kind_of(state: State) -> str:
    """The name of a kind of state in messages."""
    return _KIND_OF[type(state)]


class RankGroup:
    """The connection between the watchers of all ranks.

    It has a connection of its own, over the CPU, so that it neither waits for nor disturbs the collectives of the
    training loop, whatever their backend. Constructing one only announces this rank.

    Parameters
    ----------
    store : torch.distributed.Store
        Shared by all ranks.
    rank, size : int
        Of this process, and how many there are.
    timeout : timedelta
        How long to wait for the other ranks, each time.
    """

    def __init__(
        self, store: torch.distributed.Store, rank: int, size: int, *, timeout: timedelta | None = None
    ) -> None:
        self.rank = rank
        self.size = size
        self._timeout = TIMEOUT if timeout is None else timeout
        self._store = store
        self._group: Any = None
        self._capacity = _CAPACITY
        store.set(f"watcher/{rank}", "here")

    @classmethod
    def of_world(cls, number: int) -> RankGroup | None:
        """The group of all ranks of this program for its watcher `number`; None where there is only one rank."""
        distributed = torch.distributed
        if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() < 2:
            return None
        store = distributed.PrefixStore(f"tensorstats/{number}", distributed.distributed_c10d._get_default_store())
        return cls(store, distributed.get_rank(), distributed.get_world_size())

    def gather(self, message: bytes) -> list[bytes]:
        """The messages of all ranks, in their order.

        Raises
        ------
        RankError
            If a rank does not answer in time.
        """
        if self._group is None:
            self._group = self._connect()
        try:
            return self._exchange(message)
        except RuntimeError as error:
            seconds = self._timeout.total_seconds()
            raise RankError(f"not every rank answered within {seconds:g} s: {_first_line(error)}") from error

    def _connect(self) -> Any:
        names = [f"watcher/{rank}" for rank in range(self.size)]
        try:
            self._store.wait(names, self._timeout)
        except RuntimeError as error:
            missing = [rank for rank, name in enumerate(names) if not self._store.check([name])]
            listed = ", ".join(map(str, missing))
            seconds = self._timeout.total_seconds()
            raise RankError(f"no watcher on rank {listed} within {seconds:g} s; call ts.watch on every rank") from error
        store = torch.distributed.PrefixStore("gloo", self._store)
        try:
            return torch.distributed.ProcessGroupGloo(store, self.rank, self.size, self._timeout)
        except (AttributeError, RuntimeError) as error:
            raise RankError(f"the ranks cannot be connected with gloo: {_first_line(error)}") from error

    def _exchange(self, message: bytes) -> list[bytes]:
        while True:
            mine = torch.zeros(self._capacity, dtype=torch.uint8)
            sent = torch.frombuffer(bytearray(message[: self._capacity]), dtype=torch.uint8)
            mine[: len(sent)] = sent
            theirs = [torch.empty_like(mine) for _ in range(self.size)]
            self._group.allgather([theirs], [mine]).wait()
            received = [buffer.numpy().tobytes() for buffer in theirs]
            sizes = [_HEAD.unpack_from(buffer)[0] for buffer in received]
            if max(sizes) <= self._capacity:
                return [buffer[:size] for buffer, size in zip(received, sizes, strict=True)]
            # All ranks see the same sizes, so all of them come back with the same larger buffer.
            self._capacity = 1 << (max(sizes) - 1).bit_length()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
