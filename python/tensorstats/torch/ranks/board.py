"""Says which watchers of the ranks belong together: by what they watch, never by how many were made; exchanges nothing.

Every rank posts its watchers where all can read them. At its first exchange a watcher is ready: the lowest rank that is
ready looks for a partner on every other rank, waits for those that are late, and writes down who meets. A watcher that
one rank alone has made, or closed, or made in another order, is in nobody's way.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

__all__ = ["Board", "Meeting", "Watched"]

# So many of the hashes of names are posted: enough to tell how many names two watchers share.
_SKETCH = 64
# Watchers with this share of their names in common watch the same model, though perhaps not in every layer.
_COMMON = 1 / 3

_MADE, _READY, _GONE = range(3)

# Looking for the others begins with short pauses and never makes longer ones, in seconds.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05


@dataclass(frozen=True, slots=True)
class Watched:
    """What a watcher watches, as far as it has to be told from others."""

    digest: int
    sketch: frozenset[int]

    @classmethod
    def of(cls, names: Iterable[str], details: Iterable[str] = ()) -> Watched:
        """Of these names; `details` (shapes, say) tell apart what has the same names."""
        hashes = sorted({zlib.crc32(name.encode()) for name in names})
        digest = zlib.crc32("\n".join(sorted(details)).encode(), zlib.crc32(json.dumps(hashes).encode()))
        return cls(digest, frozenset(hashes[:_SKETCH]))

    def shares_names_with(self, other: Watched) -> bool:
        """Whether both watch the same model, or nearly."""
        # Of the smallest hashes of both, those that both have are the share of common names, whatever their numbers.
        smallest = sorted(self.sketch | other.sketch)[:_SKETCH]
        return len(self.sketch & other.sketch & set(smallest)) >= _COMMON * len(smallest)


@dataclass(slots=True)
class _Post:
    """One watcher of one rank."""

    number: int
    watched: Watched
    ranks: list[int]  # that it wants to meet
    state: int = _MADE

    def plain(self) -> list[Any]:
        return [self.number, self.watched.digest, sorted(self.watched.sketch), self.ranks, self.state]

    @classmethod
    def read(cls, plain: Sequence[Any]) -> _Post:
        number, digest, sketch, ranks, state = plain
        return cls(number, Watched(digest, frozenset(sketch)), ranks, state)


@dataclass(frozen=True, slots=True)
class Meeting:
    """The watchers that meet: a name that no other meeting has, and their ranks in order."""

    name: str
    ranks: tuple[int, ...]
    missing: tuple[int, ...] = ()  # ranks without a watcher that belongs here
    elsewhere: tuple[int, ...] = ()  # of these, the ones that are busy with something else


class Board:
    """The posts of one rank, and those of the others to read."""

    def __init__(self, store: Any, rank: int, *, of: object = None) -> None:
        self.store = store
        self.rank = rank
        self.of = of  # what it was made for
        self._posts: list[_Post] = []
        self._made = 0

    def post(self, watched: Watched) -> int:
        """Announce a watcher; returns its number on this rank."""
        number, self._made = self._made, self._made + 1
        self._posts.append(_Post(number, watched, []))
        self._write()
        return number

    def withdraw(self, number: int) -> None:
        """Nobody shall wait for this watcher any more."""
        self._posts = [post for post in self._posts if post.number != number]
        self._write()

    def meet(self, number: int, ranks: Sequence[int], timeout: timedelta, absent: Collection[int] = ()) -> Meeting:
        """Wait for the watchers of these ranks that belong to this one; those that come in time meet.

        Nobody waits longer than twice the timeout, and for those known to be `absent` nobody waits.
        """
        mine = next(post for post in self._posts if post.number == number)
        mine.ranks, mine.state = sorted(ranks), _READY
        self._write()
        begun, pause = time.monotonic(), _SHORTEST_PAUSE
        while True:
            agreed = self._agreed(number)
            if agreed is None:
                waited = time.monotonic() - begun
                partners, elsewhere = self._look(mine)
                found = {*partners, *elsewhere, *absent}.issuperset(mine.ranks)
                leads = min(partners) == self.rank
                if (leads and (found or waited >= timeout.total_seconds())) or waited >= 2 * timeout.total_seconds():
                    partners = partners if leads else {self.rank: number}
                    self._call(mine, partners, list(elsewhere))
                    if len(partners) == 1:
                        self._refuse(elsewhere)
                    agreed = self._agreed(number)
            if agreed is not None:
                mine.state = _GONE
                self._write()
                return agreed
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _look(self, mine: _Post) -> tuple[dict[int, int], dict[int, list[int]]]:
        """The partner on every rank that has one ready, and what other ranks wait for instead of one."""
        partners: dict[int, int] = {self.rank: mine.number}
        elsewhere: dict[int, list[int]] = {}
        for rank in mine.ranks:
            if rank == self.rank:
                continue
            posts = [post for post in self._read(rank) if post.state != _GONE]
            ready = [post for post in posts if post.state == _READY]
            same = [post for post in posts if post.watched == mine.watched and post.ranks in ([], mine.ranks)]
            like = [post for post in ready if post.ranks == mine.ranks and self._may_take(post, mine)]
            chosen = next((post for post in ready if post in same), None)
            if chosen is None and not same:
                chosen = like[0] if like else None
                if chosen is None and (ready or self.store.check([_refusal_of(self.rank, mine.number, rank)])):
                    elsewhere[rank] = [post.number for post in ready]
            if chosen is not None:
                partners[rank] = chosen.number
        return partners, elsewhere

    def _may_take(self, post: _Post, mine: _Post) -> bool:
        """Whether a watcher of nearly the same may stand in: not one that belongs to another of this rank's."""
        others = [own for own in self._posts if own is not mine and own.state != _GONE]
        return mine.watched.shares_names_with(post.watched) and all(own.watched != post.watched for own in others)

    def _call(self, mine: _Post, partners: dict[int, int], elsewhere: Sequence[int]) -> None:
        ranks = sorted(partners)
        missing = [rank for rank in mine.ranks if rank not in partners]
        plain = json.dumps([f"{self.rank}.{mine.number}", ranks, missing, [r for r in elsewhere if r in missing]])
        for rank in ranks:
            self.store.compare_set(_meeting_of(rank, partners[rank]), "", plain)

    def _refuse(self, elsewhere: Mapping[int, Sequence[int]]) -> None:
        """Tell those that wait for something else not to wait for this rank, which waits no longer."""
        for rank, numbers in elsewhere.items():
            for number in numbers:
                self.store.set(_refusal_of(rank, number, self.rank), "")

    def _agreed(self, number: int) -> Meeting | None:
        key = _meeting_of(self.rank, number)
        if not self.store.check([key]):
            return None
        name, *ranks = json.loads(self.store.get(key))
        return Meeting(name, *map(tuple, ranks))

    def _write(self) -> None:
        self._posts = [post for post in self._posts if post.state != _GONE]
        self.store.set(f"posts/{self.rank}", json.dumps([post.plain() for post in self._posts]))

    def _read(self, rank: int) -> list[_Post]:
        key = f"posts/{rank}"
        return [_Post.read(plain) for plain in json.loads(self.store.get(key))] if self.store.check([key]) else []


def _meeting_of(rank: int, number: int) -> str:
    return f"meeting/{rank}/{number}"


def _refusal_of(rank: int, number: int, by: int) -> str:
    return f"refusal/{rank}/{number}/{by}"
