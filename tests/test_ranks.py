"""The merge over ranks: exact, the same on every rank, and never a wait without an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.torch import ranks  # noqa: E402
from tensorstats.torch.ranks import Entry, RankError, RankGroup, merge_ranks, pack, unpack  # noqa: E402

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not hasattr(dist, "ProcessGroupGloo"), reason="torch was built without gloo"
)


def summary(*values: float) -> ts.Summary:
    return ts.summary(torch.tensor(values))


def together(size: int, body: Callable[[RankGroup], Any], *, timeout: float = 20.0) -> list[Any]:
    """`body` on every rank, each in a thread of its own; what it returned or raised."""
    store = dist.HashStore()
    results: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            group = RankGroup(dist.PrefixStore("test", store), rank, size, timeout=timedelta(seconds=timeout))
            results[rank] = body(group)
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_message_gives_back_what_was_packed() -> None:
    entries = [
        Entry("outputs", "block.0", summary(1.0, 2.0), about=("block", "Linear")),
        Entry("gradients", "wäight", None, copy=3, replicated=True),
        Entry("outputs", "block.0", ts.histogram(torch.randn(100), ts.axis.LogLinear(4)), kind="histogram"),
    ]
    step, found = unpack(pack(7, entries))
    assert step == 7
    for (entry, data), want in zip(found, entries, strict=True):
        assert (entry.signal, entry.name, entry.kind, entry.copy, entry.replicated, entry.about) == (
            want.signal,
            want.name,
            want.kind,
            want.copy,
            want.replicated,
            want.about,
        )
        assert data == (b"" if want.state is None else want.state.to_bytes())


def test_shards_are_merged_and_counts_are_exact() -> None:
    whole = torch.randn(1000)
    messages = [
        pack(0, [Entry("parameters", "w", ts.summary(part), copy=0, replicated=True)]) for part in whole.split(300)
    ]
    merged = merge_ranks(messages)["parameters", "w", "summary"]
    want = ts.summary(whole)
    assert not merged.differs
    for name in ("count", "zero_count", "negative_count", "min", "max", "absmin", "absmax"):
        assert getattr(merged.state, name) == getattr(want, name)
    assert merged.state.l2 == pytest.approx(want.l2, rel=1e-13)
    assert [state.count for state in merged.ranks] == [300, 300, 300, 100]


def test_equal_copies_count_once_and_shards_of_two_copies_too() -> None:
    own = [pack(0, [Entry("gradients", "w", summary(1.0, 2.0), copy=rank, replicated=True)]) for rank in range(3)]
    assert merge_ranks(own)["gradients", "w", "summary"].state.count == 2
    hybrid = [
        pack(0, [Entry("gradients", "w", summary(float(rank % 2)), copy=rank // 2 * 2, replicated=True)])
        for rank in range(4)
    ]
    merged = merge_ranks(hybrid)["gradients", "w", "summary"]
    assert (merged.state.count, merged.state.max, merged.differs) == (2, 1.0, False)


def test_copies_that_differ_are_a_fault_where_they_must_be_equal_and_all_count_where_not() -> None:
    messages = [
        pack(0, [Entry("gradients", "w", summary(float(rank)), copy=rank, replicated=True)]) for rank in range(2)
    ]
    fault = merge_ranks(messages, copies_are_equal=True)["gradients", "w", "summary"]
    assert (fault.state.count, fault.state.max, fault.differs) == (1, 0.0, True)
    union = merge_ranks(messages)["gradients", "w", "summary"]
    assert (union.state.count, union.state.max, union.differs) == (2, 1.0, False)


def test_outputs_of_different_batches_all_count_even_when_equal() -> None:
    messages = [pack(0, [Entry("outputs", "a", summary(1.0), copy=rank)]) for rank in range(3)]
    assert merge_ranks(messages)["outputs", "a", "summary"].state.count == 3


def test_a_rank_without_a_name_adds_nothing() -> None:
    messages = [
        pack(0, [Entry("outputs", "a", summary(1.0)), Entry("outputs", "b", None)]),
        pack(0, [Entry("outputs", "b", summary(2.0, 3.0))]),
        pack(0, []),
    ]
    merged = merge_ranks(messages)
    assert {name: value.state.count for (_, name, _), value in merged.items()} == {"a": 1, "b": 2}
    assert [state is None for state in merged["outputs", "b", "summary"].ranks] == [True, False, True]


def test_quantiles_are_those_of_the_merged_histogram() -> None:
    axis = ts.axis.LogLinear(7)
    parts = [torch.randn(500) * 10.0**rank for rank in range(4)]
    messages = [pack(0, [Entry("outputs", "a", ts.histogram(part, axis), kind="histogram")]) for part in parts]
    merged = merge_ranks(messages)["outputs", "a", "histogram"].state
    assert merged == ts.histogram(torch.cat(parts), axis)
    exact = torch.cat(parts).double().abs().quantile(0.5).item()
    assert abs(ts.histogram(torch.cat(parts).abs(), axis).quantile(0.5)) == pytest.approx(exact, rel=2**-7)


def test_messages_of_different_steps_are_refused() -> None:
    with pytest.raises(RankError, match="same steps, got rank 0: 3, rank 1: 4"):
        merge_ranks([pack(3, []), pack(4, [])])


# --- the exchange -----------------------------------------------------------------------------------------------------


def test_all_ranks_get_the_same_messages_whatever_their_sizes() -> None:
    def body(group: RankGroup) -> list[bytes]:
        seen = []
        for step, length in enumerate((3, 200_000, 10)):
            entries = [Entry("outputs", "x" * length, summary(float(group.rank)))] * group.rank
            seen += group.gather(pack(step, entries))
        return seen

    first, second, third = together(3, body)
    assert first == second == third
    assert [len(unpack(message)[1]) for message in first] == [0, 1, 2] * 3


def test_a_rank_without_a_watcher_is_named_and_nobody_waits_for_ever() -> None:
    store = dist.HashStore()
    group = RankGroup(dist.PrefixStore("test", store), 1, 3, timeout=timedelta(seconds=0.3))
    begun = time.monotonic()
    with pytest.raises(RankError, match=r"no watcher on rank 0, 2 within 0\.3 s; call ts\.watch on every rank"):
        group.gather(pack(0, []))
    assert time.monotonic() - begun < 20


def test_a_rank_that_stops_recording_costs_one_timeout() -> None:
    def body(group: RankGroup) -> int:
        group.gather(pack(0, []))
        if group.rank == 0:
            return -1
        group.gather(pack(1, []))
        return 0

    results = together(2, body, timeout=1.0)
    assert results[0] == -1
    assert isinstance(results[1], RankError)
    assert "not every rank answered within 1 s" in str(results[1])


def test_there_is_no_group_without_other_ranks() -> None:
    assert RankGroup.of_world(0) is None
    assert ranks.TIMEOUT.total_seconds() == 60
