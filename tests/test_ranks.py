"""The merge over ranks: exact, the same on every rank, and what cannot be merged costs its own name alone."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import tensorstats as ts  # noqa: E402
from tensorstats.torch.ranks.merge import Copies, Entry, Merged, joined_units, merge_ranks, pack, unpack  # noqa: E402


def summary(*values: float) -> ts.Summary:
    return ts.summary(torch.tensor(values))


def merged(*ranks: list[Entry]) -> dict[tuple[str, str, str], Merged]:
    """What all ranks have together."""
    return merge_ranks({rank: unpack(pack(0, entries)) for rank, entries in enumerate(ranks)}, len(ranks))


def held(state: Any, rank: int, copies: Copies = Copies.EQUAL, signal: str = "gradients", **about: Any) -> Entry:
    """An entry of a weight."""
    return Entry(signal, "w", state, copy=rank, copies=copies, **about)


# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_message_gives_back_what_was_packed() -> None:
    entries = [
        Entry("outputs", "block.0", summary(1.0, 2.0), about=("block", "Linear")),
        Entry("gradients", "wäight", None, copy=3, copies=Copies.EQUAL, among=2, identity="float32[3]", piece=4),
        Entry("outputs", "block.0", ts.histogram(torch.randn(100), ts.axis.LogLinear(4)), kind="histogram"),
        Entry("outputs", "sum", b"bytes", kind="summand"),
    ]
    message = unpack(pack(7, entries))
    assert message.step == 7
    for entry, data, want in zip(message.entries, message.states, entries, strict=True):
        for name in ("signal", "name", "kind", "copy", "copies", "among", "identity", "piece", "about"):
            assert getattr(entry, name) == getattr(want, name)
        packed = want.state if isinstance(want.state, bytes) else want.state and want.state.to_bytes()
        assert data == (packed or b"")


def test_shards_are_merged_and_counts_are_exact() -> None:
    whole = torch.randn(1000)
    result = merged(*([held(ts.summary(part), 0)] for part in whole.split(300)))["gradients", "w", "summary"]
    want = ts.summary(whole)
    assert not result.differs
    assert isinstance(result.state, ts.Summary)
    for name in ("count", "zero_count", "negative_count", "min", "max", "absmin", "absmax"):
        assert getattr(result.state, name) == getattr(want, name)
    assert result.state.l2 == pytest.approx(want.l2, rel=1e-13)
    assert [state.count for state in result.ranks if isinstance(state, ts.Summary)] == [300, 300, 300, 100]


def test_equal_copies_count_once_and_shards_of_two_copies_too() -> None:
    own = merged(*([held(summary(1.0, 2.0), rank)] for rank in range(3)))["gradients", "w", "summary"]
    assert count(own) == 2
    hybrid = merged(*([held(summary(float(rank % 2)), rank // 2 * 2)] for rank in range(4)))
    assert (count(hybrid["gradients", "w", "summary"]), hybrid["gradients", "w", "summary"].differs) == (2, False)


def count(result: Merged) -> int:
    assert isinstance(result.state, ts.Summary)
    return result.state.count


def test_copies_that_differ_are_a_fault_where_something_keeps_them_equal_and_all_count_where_not() -> None:
    fault = merged(*([held(summary(float(rank)), rank)] for rank in range(2)))["gradients", "w", "summary"]
    assert (count(fault), fault.differs) == (1, True)
    alike = merged(*([held(summary(float(rank)), rank, Copies.ALIKE)] for rank in range(2)))
    assert (count(alike["gradients", "w", "summary"]), alike["gradients", "w", "summary"].differs) == (2, False)


def test_copies_in_two_groups_are_compared_within_each() -> None:
    apart = merged(*([held(summary(float(rank // 2)), rank, among=rank // 2 * 2)] for rank in range(4)))
    assert (count(apart["gradients", "w", "summary"]), apart["gradients", "w", "summary"].differs) == (2, False)


def test_equal_numbers_prove_a_copy_only_where_values_vary() -> None:
    def of(rank: int, values: tuple[float, ...], gradient: tuple[float, ...]) -> list[Entry]:
        return [
            held(summary(*values), rank, Copies.ALIKE, "parameters"),
            held(summary(*gradient), rank, Copies.ALIKE, "gradients"),
        ]

    key = ("parameters", "w", "summary")
    assert count(merged(of(0, (1.0, 2.0), (3.0, 4.0)), of(1, (1.0, 2.0), (3.0, 4.0)))[key]) == 2
    # Two biases of zeros, each trained on its own: their gradients tell them apart.
    assert count(merged(of(0, (0.0, 0.0), (3.0, 4.0)), of(1, (0.0, 0.0), (5.0, 6.0)))[key]) == 4


def test_outputs_of_different_batches_all_count_even_when_equal() -> None:
    result = merged(*([Entry("outputs", "a", summary(1.0), copy=rank)] for rank in range(3)))
    assert count(result["outputs", "a", "summary"]) == 3


def test_a_rank_without_a_name_adds_nothing() -> None:
    result = merged(
        [Entry("outputs", "a", summary(1.0)), Entry("outputs", "b", None)],
        [Entry("outputs", "b", summary(2.0, 3.0))],
        [],
    )
    assert {name: count(value) for (_, name, _), value in result.items()} == {"a": 1, "b": 2}
    assert [state is None for state in result["outputs", "b", "summary"].ranks] == [True, False, True]
    assert result["outputs", "b", "summary"].holders == (0, 1)


def test_what_has_another_shape_on_a_rank_stays_apart_with_its_histogram_and_nothing_else_does() -> None:
    axis = ts.axis.LogLinear(4)

    def of(identity: str) -> list[Entry]:
        values = torch.randn(10)
        return [
            Entry("outputs", "a", ts.summary(values), identity=identity),
            Entry("outputs", "a", ts.histogram(values, axis), kind="histogram"),
            Entry("outputs", "b", ts.summary(values), identity="same"),
        ]

    result = merged(of("float32[4, 2]"), of("float32[5, 2]"))
    assert result["outputs", "a", "summary"].state is None
    assert result["outputs", "a", "histogram"].state is None
    assert result["outputs", "a", "summary"].identities == {0: "float32[4, 2]", 1: "float32[5, 2]"}
    assert count(result["outputs", "b", "summary"]) == 20


def test_units_and_bins_that_do_not_merge_stay_apart() -> None:
    units = [[Entry("outputs", "a", ts.unit_activity(torch.randn(3, size), 1), kind="units")] for size in (4, 5)]
    assert merged(*units)["outputs", "a", "units"].state is None
    bins = [
        [Entry("outputs", "a", ts.histogram(torch.randn(3), ts.axis.LogLinear(p)), kind="histogram")] for p in (4, 5)
    ]
    assert merged(*bins)["outputs", "a", "histogram"].state is None


def test_units_that_are_spread_over_ranks_are_those_of_the_whole() -> None:
    values = torch.randn(6, 5)
    whole = ts.unit_activity(values, 1)
    parts = [ts.unit_activity(part, 1) for part in values.split((3, 2), 1)]
    assert joined_units(parts) == whole
    entries = [[Entry("outputs", "a", part, "units", piece=place * 3)] for place, part in enumerate(parts)]
    assert merged(*reversed(entries))["outputs", "a", "units"].state == whole
    with pytest.raises(ValueError, match="units that saw the same updates"):
        joined_units([parts[0], ts.unit_activity(values, 1).update(values)])


def test_quantiles_are_those_of_the_merged_histogram() -> None:
    axis = ts.axis.LogLinear(7)
    parts = [torch.randn(500) * 10.0**rank for rank in range(4)]
    entries = [[Entry("outputs", "a", ts.histogram(part, axis), kind="histogram")] for part in parts]
    state = merged(*entries)["outputs", "a", "histogram"].state
    assert state == ts.histogram(torch.cat(parts), axis)
    sizes = torch.cat(parts).abs()
    low, high = (sizes.quantile(0.5, interpolation=which).item() for which in ("lower", "higher"))
    assert low * (1 - 2**-8) <= ts.histogram(sizes, axis).quantile(0.5) <= high * (1 + 2**-8)


def test_what_nobody_holds_a_part_of_is_empty() -> None:
    assert count(merged([held(None, 0)], [held(None, 0)])["gradients", "w", "summary"]) == 0
