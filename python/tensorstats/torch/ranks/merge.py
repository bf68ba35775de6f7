"""Merges the states of all ranks: one packed message per rank and recorded step; knows no module, no tensor, no rule.

Every rank sends what it recorded, names included, in one buffer, so ranks that recorded different things simply have
different buffers: the result has every name that any rank has, and a rank without a name adds nothing to it. States
are merged in the order of ranks, which makes the result the same on all of them to the bit. What cannot be merged, or
is of another shape on another rank, stays apart: it costs its own name and nothing else.
"""

from __future__ import annotations

import functools
import json
import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

from tensorstats._core import Histogram, Summary, UnitActivity

__all__ = ["Copies", "Entry", "Merged", "Message", "joined_units", "merge_ranks", "pack", "unpack"]

State: TypeAlias = Summary | Histogram | UnitActivity
Key: TypeAlias = tuple[str, str, str]

_KINDS: dict[str, type[Any]] = {"summary": Summary, "histogram": Histogram, "units": UnitActivity}

# The step, and the numbers of entries and of bytes of their description.
_HEAD = struct.Struct("<qqq")

# Read of a parameter after data parallelism has done its work: if its copies are one tensor, all of these agree.
_OF_COPIES = ("parameters", "gradients", "updates")

_OF_MODULES = ("inputs", "outputs", "output_gradients")


class Copies(IntEnum):
    """What is known of the copies of a tensor."""

    OWN = 0  # each is a tensor of its own, as the outputs of different batches are: all of them count
    ALIKE = 1  # nobody keeps them equal; where they prove to be copies of one tensor, one counts
    EQUAL = 2  # something keeps them equal: one counts, and one that differs is a fault


@dataclass(frozen=True, slots=True)
class Entry:
    """One state that this rank has, or the news that it has none.

    `copy` is the number of the copy that this state is a part of: ranks that hold shards of one tensor have the same
    copy, ranks that hold a tensor each have their own. `copies` says what these are to each other, `among` names the
    ranks for which it holds. `identity` tells what is not the same thing in spite of its name, by its shape for one.
    """

    signal: str
    name: str
    state: State | bytes | None
    kind: str = "summary"
    copy: int = 0
    copies: Copies = Copies.OWN
    among: int = 0
    identity: str = ""
    piece: int = 0  # units of a tensor whose units are spread over ranks: the place of these among them
    about: tuple[str, ...] = ()  # for ranks that do not know the name: what the recorder needs to make up for it


@dataclass(slots=True)
class Merged:
    """One state over all ranks, and what each of them had."""

    entry: Entry  # that of the first rank that has the name
    state: State | None  # None for what stays apart: every rank goes on with its own
    ranks: list[State | None] = field(default_factory=list)
    differs: bool = False  # copies that something keeps equal and that are not
    own: bool = False  # copies that are different tensors, though they might have been one
    holders: tuple[int, ...] = ()  # the ranks that have the name, be it without a state
    identities: dict[int, str] = field(default_factory=dict)  # of every rank that has the name, where they are unlike
    news: list[tuple[int, Entry, bytes]] = field(default_factory=list)  # by rank, of what is no state


@dataclass(frozen=True, slots=True)
class Message:
    """What a rank says of a step: entries without their states, and the bytes of these (none for no state)."""

    step: int
    entries: tuple[Entry, ...]
    states: tuple[bytes, ...]


def pack(step: int, entries: Sequence[Entry]) -> bytes:
    """Everything a rank has to say about a step, as one message."""
    description = _describe(
        tuple([(e.signal, e.name, e.kind, e.copy, e.copies, e.among, e.identity, e.piece, e.about) for e in entries])
    )
    states = [_bytes_of(entry.state) for entry in entries]
    lengths = struct.pack(f"<{len(states)}q", *map(len, states))
    return b"".join([_HEAD.pack(step, len(entries), len(description)), lengths, description, *states])


def unpack(message: bytes) -> Message:
    """What a message says."""
    step, count, described = _HEAD.unpack_from(message)
    lengths = struct.unpack_from(f"<{count}q", message, _HEAD.size)
    start = _HEAD.size + 8 * count
    entries = _parse(message[start : start + described])
    start += described
    states = []
    for length in lengths:
        states.append(message[start : start + length])
        start += length
    return Message(step, entries, tuple(states))


# A loop does the same in every step, and so descriptions are the same: they are written and read once.


@functools.lru_cache(maxsize=8)
def _describe(entries: tuple[tuple[Any, ...], ...]) -> bytes:
    return json.dumps(entries, separators=(",", ":")).encode()


@functools.lru_cache(maxsize=64)
def _parse(description: bytes) -> tuple[Entry, ...]:
    return tuple(
        Entry(signal, name, None, kind, copy, Copies(copies), among, identity, piece, tuple(about))
        for signal, name, kind, copy, copies, among, identity, piece, about in json.loads(description)
    )


def _bytes_of(state: State | bytes | None) -> bytes:
    if state is None:
        return b""
    return state if isinstance(state, bytes) else state.to_bytes()


# --- the merge --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Held:
    """What one rank holds under a name."""

    rank: int
    entry: Entry
    data: bytes


def merge_ranks(messages: Mapping[int, Message], size: int) -> dict[Key, Merged]:
    """The states of all ranks, by signal, name and kind, in the order in which the ranks first name them.

    Parameters
    ----------
    messages : mapping of int to Message
        By rank, in the order of ranks.
    size : int
        How many ranks there are, with those that say nothing.
    """
    held: dict[Key, list[_Held]] = {}
    for rank, message in messages.items():
        for entry, data in zip(message.entries, message.states, strict=True):
            held.setdefault((entry.signal, entry.name, entry.kind), []).append(_Held(rank, entry, data))
    proof = _Proof(held)
    merged = {key: _merge(key, parts, size, proof) for key, parts in held.items()}
    # What stays apart does so whole: its histogram goes with its summary.
    apart = {key[:2] for key, result in merged.items() if result.state is None and key[2] in _KINDS}
    for key, result in merged.items():
        if key[:2] in apart:
            result.state = None
            result.identities = {part.rank: part.entry.identity for part in held[key]}
    return merged


def _merge(key: Key, parts: Sequence[_Held], size: int, proof: _Proof) -> Merged:
    entry = parts[0].entry
    result = Merged(entry, None, [None] * size, holders=tuple(part.rank for part in parts))
    if entry.kind not in _KINDS:
        result.news = [(part.rank, part.entry, part.data) for part in parts]
        return result
    load = _KINDS[entry.kind].from_bytes
    for part in parts:
        if part.data:
            result.ranks[part.rank] = load(part.data)
    if len({part.entry.identity for part in parts}) > 1:
        return result
    pieces: dict[int, list[_Held]] = defaultdict(list)
    for part in parts:
        if part.data:
            pieces[part.entry.piece].append(part)
    try:
        if not pieces:
            # Every rank knows the tensor and none holds a part: it is empty.
            result.state = _KINDS[entry.kind]()
            return result
        states = [_add(load, _counted(key, held, proof, result)) for _, held in sorted(pieces.items())]
        result.state = states[0] if len(states) == 1 else joined_units(states)
    except (TypeError, ValueError):
        # Other numbers of units, or histograms over other bins.
        result.state = None
    return result


def _counted(key: Key, parts: Sequence[_Held], proof: _Proof, result: Merged) -> list[bytes]:
    """The parts that count; notes in the result what their copies are to each other."""
    first = parts[0].entry
    if first.copies is Copies.OWN:
        return [part.data for part in parts]
    copies: dict[tuple[int, int], list[bytes]] = {}
    for part in parts:
        copies.setdefault((part.entry.among, part.entry.copy), []).append(part.data)
    counted: list[bytes] = []
    for among in dict.fromkeys(among for among, _ in copies):
        these = [held for (of, _), held in copies.items() if of == among]
        unlike = any(other != these[0] for other in these[1:])
        if len(these) > 1 and first.copies is Copies.EQUAL:
            result.differs = result.differs or unlike
            these = these[:1]
        elif len(these) > 1 and not unlike and proof.is_copy(key[0], first.about[0] if first.about else key[1]):
            these = these[:1]
        elif len(these) > 1:
            result.own = True
        counted += [data for held in these for data in held]
    return counted


class _Proof:
    """Which tensors that nobody is known to keep equal are copies of one all the same.

    Equal numbers prove nothing where all values of a tensor are one: two halves of a weight of ones look alike, and so
    do two biases of zeros that belong to different models. A parameter, its gradient and its update are looked at
    together; where they say nothing, those of the other parameters decide.
    """

    def __init__(self, held: Mapping[Key, Sequence[_Held]]) -> None:
        self._held = held
        self._copies: dict[str, bool | None] | None = None
        self._usual = True

    def is_copy(self, signal: str, owner: str) -> bool:
        """Whether equal tensors of this parameter, or kept for it, are copies."""
        if signal in _OF_MODULES:
            return True  # they were said to be, and are
        if self._copies is None:
            names = {name: None for signal, name, _ in self._held if signal in _OF_COPIES}
            self._copies = {name: self._of(name) for name in names}
            known = self._copies.values()
            self._usual = True in known or False not in known
        copy = self._copies.get(owner)
        return self._usual if copy is None else copy

    def _of(self, name: str) -> bool | None:
        proven = None
        for signal in _OF_COPIES:
            parts = [part for part in self._held.get((signal, name, "summary"), ()) if part.data]
            if len({part.entry.copy for part in parts}) < 2:
                continue
            whole: dict[int, list[bytes]] = {}
            for part in parts:
                whole.setdefault(part.entry.copy, []).append(part.data)
            first, *others = whole.values()
            if any(other != first for other in others):
                return False
            if any(not _is_constant(Summary.from_bytes(data)) for data in first):
                proven = True
        return proven


def _is_constant(summary: Summary) -> bool:
    return summary.count < 2 or summary.min == summary.max


def _add(load: Any, parts: Sequence[bytes]) -> State:
    total: State = load(parts[0])
    for data in parts[1:]:
        total.merge(load(data))
    return total


def joined_units(states: Sequence[State]) -> UnitActivity:
    """The units of several states side by side, as if one tensor had had all of them.

    Raises
    ------
    ValueError
        If the states are not of units that saw the same updates.
    """
    plain = [state.to_dict() for state in states if isinstance(state, UnitActivity)]
    whole = dict(plain[0])
    for name, value in whole.items():
        if name != "saturation" and isinstance(value, list):
            whole[name] = [item for one in plain for item in one[name]]
        elif any(one[name] != value for one in plain):
            raise ValueError(f"states must be of units that saw the same {name}, got {[one[name] for one in plain]}")
    return UnitActivity.from_dict(whole)
