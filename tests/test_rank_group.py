"""The connection between ranks: watchers meet by what they watch, and nobody waits for those that are gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402

from tensorstats.torch.ranks import group as rank_group  # noqa: E402
from tensorstats.torch.ranks.board import Board, Watched  # noqa: E402
from tensorstats.torch.ranks.group import RankError, RankGroup  # noqa: E402

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not hasattr(dist, "ProcessGroupGloo"), reason="torch was built without gloo"
)

MODEL = Watched.of(["0.weight", "0.bias", "2.weight"], ["0.weight (4, 4)"])
WIDER = Watched.of(["0.weight", "0.bias", "2.weight"], ["0.weight (8, 4)"])
OTHER = Watched.of(["critic.weight", "critic.bias"])


def on_ranks(size: int, body: Callable[[Board], Any]) -> list[Any]:
    """`body` on every rank, each in a thread of its own; what it returned or raised."""
    store = dist.HashStore()
    results: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = body(Board(dist.PrefixStore("test", store), rank))
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def watcher(board: Board, size: int, watched: Watched = MODEL, *, timeout: float = 20.0) -> RankGroup:
    return RankGroup(board, size, watched, timeout=timedelta(seconds=timeout))


def met(board: Board, size: int, watched: Watched = MODEL, *, timeout: float = 20.0) -> RankGroup:
    group = watcher(board, size, watched, timeout=timeout)
    group.meet(range(size))
    return group


# --- who meets --------------------------------------------------------------------------------------------------------


def test_watchers_meet_by_what_they_watch_in_whatever_order_they_were_made() -> None:
    def body(board: Board) -> list[list[bytes]]:
        made = {}
        for watched in (MODEL, OTHER) if board.rank else (OTHER, MODEL):
            made[watched] = watcher(board, 2, watched)
        said = []
        for watched in (MODEL, OTHER):
            made[watched].meet(range(2))
            said.append(made[watched].gather(b"model" if watched is MODEL else b"other"))
        return said

    assert on_ranks(2, body) == [[[b"model"] * 2, [b"other"] * 2]] * 2


def test_a_watcher_that_one_rank_alone_has_made_is_in_nobodys_way() -> None:
    def body(board: Board) -> tuple[int, ...]:
        for _ in range(board.rank):
            watcher(board, 3, OTHER)
            watcher(board, 3, MODEL).leave("closed")
        return met(board, 3).ranks

    assert on_ranks(3, body) == [(0, 1, 2)] * 3


def test_watchers_of_nearly_the_same_meet_where_there_is_no_better_partner() -> None:
    def body(board: Board) -> tuple[int, ...]:
        return met(board, 2, WIDER if board.rank else MODEL).ranks

    assert on_ranks(2, body) == [(0, 1)] * 2
    assert not MODEL.shares_names_with(OTHER)


def test_who_watches_something_else_is_told_so_and_nobody_waits() -> None:
    models = [Watched.of([f"stage{rank}.weight"]) for rank in range(4)]

    def body(board: Board) -> Any:
        return met(board, 4, models[board.rank], timeout=20)

    begun = time.monotonic()
    results = on_ranks(4, body)
    assert time.monotonic() - begun < 15
    assert "something else is watched on rank 1, 2, 3" in str(results[0])
    assert all(isinstance(result, RankError) for result in results)


def test_ranks_of_two_groups_meet_apart() -> None:
    def body(board: Board) -> list[bytes]:
        group = watcher(board, 4)
        group.meet([0, 1] if board.rank < 2 else [2, 3])
        return group.gather(str(board.rank).encode())

    assert on_ranks(4, body) == [[b"0", b"1"], [b"0", b"1"], [b"2", b"3"], [b"2", b"3"]]


def test_a_rank_without_a_watcher_is_named_and_the_others_go_on_without_it() -> None:
    def body(board: Board) -> Any:
        if board.rank == 1:
            return None
        group = watcher(board, 3, timeout=0.5)
        return group.meet(range(3)), group.gather(b"x")

    said = "no watcher on rank 1 within 0.5 s; call ts.watch on every rank"
    assert on_ranks(3, body) == [(said, [b"x"] * 2), None, (said, [b"x"] * 2)]


def test_alone_nobody_waits_for_ever() -> None:
    group = watcher(Board(dist.HashStore(), 1), 3, timeout=0.3)
    begun = time.monotonic()
    with pytest.raises(RankError, match=r"no watcher on rank 0, 2 within 0\.3 s; call ts\.watch on every rank"):
        group.meet(range(3))
    assert time.monotonic() - begun < 20


# --- the exchange -----------------------------------------------------------------------------------------------------


def test_all_ranks_get_the_same_messages_whatever_their_sizes() -> None:
    def body(board: Board) -> list[list[int]]:
        group = met(board, 3)
        return [list(map(len, group.gather(b"x" * length * board.rank))) for length in (3, 200_000, 10)]

    assert on_ranks(3, body) == [[[0, n, 2 * n] for n in (3, 200_000, 10)]] * 3


def test_a_rank_that_stops_recording_costs_one_timeout() -> None:
    def body(board: Board) -> Any:
        group = met(board, 2, timeout=1.0)
        group.gather(b"")
        if board.rank:
            group.gather(b"")
        return group

    results = on_ranks(2, body)
    assert isinstance(results[0], RankGroup)
    assert isinstance(results[1], RankError)
    assert "not every rank answered within 1" in str(results[1])


def test_a_rank_that_leaves_says_why_and_the_others_go_on() -> None:
    def body(board: Board) -> Any:
        group = met(board, 3)
        group.gather(b"")
        if board.rank == 1:
            group.leave("its watcher was closed")
            return None
        return group.gather(str(board.rank).encode()), group.ranks

    begun = time.monotonic()
    assert on_ranks(3, body) == [([b"0", b"2"], (0, 2)), None, ([b"0", b"2"], (0, 2))]
    assert time.monotonic() - begun < 15


def test_the_last_one_is_told_why_it_is_alone() -> None:
    def body(board: Board) -> Any:
        group = met(board, 2)
        group.gather(b"")
        if board.rank:
            group.leave("its watcher was closed")
            return None
        return group.gather(b"")

    left, _ = on_ranks(2, body)
    assert isinstance(left, RankError)
    assert str(left) == "rank 1 has left: its watcher was closed"


@pytest.mark.parametrize("before", [0, 1])
def test_a_farewell_reaches_who_leaves_at_the_same_time_and_waits_for_nobody_else(
    monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setattr(rank_group, "_FAREWELL", timedelta(seconds=0.5))

    def body(board: Board, leaving: Sequence[int]) -> Any:
        group = watcher(board, 2)
        if before:
            group.meet(range(2))
            group.gather(b"")
        return group.say_farewell(b"%d" % board.rank, range(2)) if board.rank in leaving else group

    assert on_ranks(2, lambda board: body(board, (0, 1))) == [{0: b"0", 1: b"1"}] * 2
    begun = time.monotonic()
    alone, _ = on_ranks(2, lambda board: body(board, (0,)))
    assert isinstance(alone, RankError)
    assert time.monotonic() - begun < 15


def test_there_is_no_group_without_other_ranks() -> None:
    assert RankGroup.of_world(MODEL) is None
    assert rank_group.TIMEOUT.total_seconds() == 60
