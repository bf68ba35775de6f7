"""Two ranks over gloo: the watcher shows global numbers, names the odd rank and never waits without an end."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import tensorstats as ts  # noqa: E402
from rank_processes import Facts, answers, both  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
        reason="torch was built without gloo",
    ),
]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Facts, Facts]:
    """What both ranks of `rank_program` found; one start of two processes serves every test here."""
    first, second = answers("rank_program.py", 2, tmp_path_factory.mktemp("ranks"))
    return first, second


def test_data_parallel_outputs_are_those_of_all_batches(ranks: tuple[Facts, Facts]) -> None:
    facts = both(ranks, "data_parallel")
    assert facts["errors"] == []
    count, low, high, norm = facts["totals"]["outputs 0"]
    want = facts["outputs"]
    assert [count, low, high] == want[:3]
    assert count == 2 * (4 + 5) * 7
    assert norm == pytest.approx(want[3], rel=1e-12)
    assert facts["ranks"] == [4 * 7, 5 * 7]
    assert facts["units"] == [4, 2 * (4 + 5)]


def test_data_parallel_quantiles_are_those_of_the_merged_histogram(ranks: tuple[Facts, Facts]) -> None:
    facts = both(ranks, "data_parallel")
    assert facts["histogram"] is True
    got, want = facts["median"]
    assert got == pytest.approx(want, rel=2**-5, abs=1e-2)


def test_data_parallel_parameters_and_gradients_count_once(ranks: tuple[Facts, Facts]) -> None:
    facts = both(ranks, "data_parallel")
    assert facts["gradient"] is True
    for signal in ("parameters", "gradients", "updates"):
        assert facts["totals"][f"{signal} 0.weight"][0] == 2 * 35
    assert facts["totals"]["optimizer_state 0.weight.momentum_buffer"][0] == 2 * 35
    assert facts["findings"] == []


def test_a_rank_whose_weights_differ_is_named(ranks: tuple[Facts, Facts]) -> None:
    (finding,) = both(ranks, "out_of_sync")["findings"]
    assert finding[:3] == ["replicas-differ", "module.2.weight", 0]
    assert "on rank 1 differ" in finding[3]


def test_a_rank_with_other_data_is_named(ranks: tuple[Facts, Facts]) -> None:
    findings = both(ranks, "odd_rank")["findings"]
    (finding,) = [finding for finding in findings if finding[0] == "odd-rank"]
    assert finding[1:3] == ["module.0", 0]
    assert "on rank 1 has a root mean square" in finding[3]


def test_a_nan_on_one_rank_is_found_on_all_and_its_rank_named(ranks: tuple[Facts, Facts]) -> None:
    finding = both(ranks, "bad_value_on_one_rank")["findings"][0]
    assert finding[:3] == ["non-finite", "input inputs", 1]
    assert "[3, 2] (nan)" in finding[3]
    assert "Seen on rank 1." in finding[3]


def test_a_module_that_runs_on_one_rank_only_is_seen_on_both(ranks: tuple[Facts, Facts]) -> None:
    facts = both(ranks, "module_on_one_rank")
    assert facts["errors"] == []
    assert facts["totals"]["outputs first"][0] == 2 * (4 + 5) * 3
    assert facts["totals"]["outputs extra"][0] == 2 * 5 * 3
    assert facts["totals"]["gradients extra.weight"][0] == 2 * 9


def test_what_nobody_counts_has_no_name_and_raw_gradients_are_each_ranks_own(ranks: tuple[Facts, Facts]) -> None:
    for facts in ranks:
        of_rank = facts["uncountable_output"]
        assert of_rank["names"] == ["module.0"]
        assert ["sparse_coo" in error for error in of_rank["errors"]] == [True]
        assert of_rank["findings"] == []  # raw gradients differ, rightly


@pytest.mark.parametrize("scenario", ["sharded", "sharded_on_devices"])
def test_sharded_parameters_and_gradients_are_whole(ranks: tuple[Facts, Facts], scenario: str) -> None:
    facts = both(ranks, scenario)
    assert facts["errors"] == []
    assert len(facts["whole"]) == 8
    for key, (got, want) in facts["whole"].items():
        assert got[:5] == want[:5], key
        assert got[5] == pytest.approx(want[5], rel=1e-12), key
    assert facts["ratio"][0] == pytest.approx(facts["ratio"][1], rel=1e-12)
    assert facts["shards"] == [2 * 7, 1 * 7]
    assert facts["hist"] == 2 * 35
    assert facts["findings"] == []
    assert facts["totals"]["optimizer_state 0.weight.momentum_buffer"][0] == 2 * 35


def test_shards_are_never_shown_as_if_they_were_whole(ranks: tuple[Facts, Facts]) -> None:
    for facts in ranks:
        local = facts["sharded_but_local"]
        assert not [key for key in local["totals"] if not key.startswith("outputs")]
        assert any("DTensor" in error and "not counted" in error for error in local["errors"])


def test_replicated_values_count_once_and_partial_ones_not_at_all(ranks: tuple[Facts, Facts]) -> None:
    facts = both(ranks, "placements")
    assert facts["Replicate"] == [[12], []]
    assert facts["Shard"] == [[12], []]
    counts, errors = facts["Partial"]
    assert counts == []
    assert "its values are not added up yet" in errors[0]


def test_ranks_with_different_schedules_do_not_hang_and_say_so(ranks: tuple[Facts, Facts]) -> None:
    first, second = (facts["another_schedule_on_one_rank"] for facts in ranks)
    assert first["steps"]["module.0"] == [0, 1, 2]
    assert second["steps"]["module.0"] == [0]
    assert "not every rank answered within 3" in first["errors"][0]
    assert "from here on, numbers are of this rank alone" in first["errors"][0]
    assert second["errors"] == []


# --- steps that are read one step later, which all ranks must do at the same point ------------------------------------


def test_ranks_on_devices_record_what_they_record_on_the_host(ranks: tuple[Facts, Facts]) -> None:
    facts = both(ranks, "data_parallel_on_devices")
    core, device = facts["core"], facts["device"]
    assert device["errors"] == core["errors"] == []
    assert device["findings"] == core["findings"]
    assert device["steps"] == core["steps"]
    assert device["steps"]["module.0"] == [0, 1, 2, 3]
    assert device["totals"].keys() == core["totals"].keys()
    for key, want in core["totals"].items():
        assert device["totals"][key][:3] == want[:3], key
        assert device["totals"][key][3] == pytest.approx(want[3], rel=1e-9), key
    assert facts["fractions"][0] == facts["fractions"][1]
    assert facts["units"][0] == facts["units"][1]
    assert facts["histograms"] is True


def test_one_rank_that_reads_neither_waits_nor_gets_ahead(ranks: tuple[Facts, Facts]) -> None:
    first, second = (facts["read_on_one_rank_of_devices"] for facts in ranks)
    assert first["errors"] == second["errors"] == []
    assert first["totals"] == second["totals"]
    assert first["steps"]["module.0"] == [0, 1, 2, 3]
    # All ranks agree to read later when they exchange the first step, which is read at once.
    assert first["seen"] == [[0], [0], [0, 1], [0, 1, 2]]


def test_an_error_on_one_rank_waits_for_nobody(ranks: tuple[Facts, Facts]) -> None:
    first, second = (facts["error_on_one_rank_of_devices"] for facts in ranks)
    assert first["errors"][0].startswith("the other ranks: the loop ended with an error on this rank; from here on")
    assert first["steps"]["0"] == [0, 1]
    assert first["totals"]["outputs 0"][0] == (4 + 5) * 7 + 4 * 7
    assert "rank 0 has left: the loop ended with an error on this rank" in second["errors"][0]
    assert second["steps"]["0"] == [0, 1, 2]


def test_shards_of_a_step_read_later_are_never_shown_as_if_they_were_whole(ranks: tuple[Facts, Facts]) -> None:
    first, _ = (facts["shards_after_the_other_rank_has_left"] for facts in ranks)
    assert "not every rank answered within 3" in first["errors"][0]
    assert first["steps"]["0"] == [0, 1, 2, 3]
    assert first["weights"] == {signal: [[0], [35]] for signal in ("parameters", "gradients", "updates")}
    assert first["hist"] == [35, (4 + 5) * 7 + 3 * 4 * 7]


def test_a_watcher_on_one_rank_only_goes_on_alone(ranks: tuple[Facts, Facts]) -> None:
    facts = ranks[0]["watched_on_one_rank"]
    assert "no watcher on rank 1 within 3 s; call ts.watch on every rank" in facts["errors"][0]
    assert facts["totals"]["outputs module.0"][0] == 2 * 4 * 7


def test_merging_needs_other_ranks() -> None:
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"ranks='merge' needs torch\.distributed to be initialised"):
        ts.watch(model, ranks="merge")
    with pytest.raises(ValueError, match="ranks must be 'merge', 'local' or None, got 'all'"):
        ts.watch(model, ranks="all")  # type: ignore[arg-type]
    with ts.watch(model) as monitor:
        model(torch.ones(3, 2)).sum().backward()
    assert [summary.count for summary in monitor.ranks("outputs", "(model)")] == [6]
