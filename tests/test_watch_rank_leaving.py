"""Ranks that die, leave, come late or skip a step cost the others a short wait at most, and no number that they had."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from rank_processes import Facts, answers, both  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
        reason="torch was built without gloo",
    ),
]


def counted(facts: Facts) -> int:
    count = facts["totals"]["outputs 0"][0]
    assert isinstance(count, int)
    return count


def test_a_rank_that_dies_is_said_to_be_gone_and_the_others_go_on_together(tmp_path: Path) -> None:
    ranks = answers("rank_leaving.py", 3, tmp_path, "dies", "60", "60")
    for facts in (ranks[0]["dies"], ranks[2]["dies"]):
        (said,) = facts["errors"]
        assert said.startswith("the other ranks: rank 1 is gone: its connection ended after")
        assert said.endswith("from step 2 on, numbers are of ranks 0, 2")
        assert facts["steps"]["0"] == [0, 1, 2, 3]
        assert counted(facts) == 7 * (2 * (4 + 5 + 6) + 2 * (4 + 6))
        assert facts["loop"] < 15


def test_uneven_data_under_a_short_timeout_end_as_they_would_unwatched(tmp_path: Path) -> None:
    ranks = answers("rank_leaving.py", 2, tmp_path, "joins", "60", "8")
    first, second = (facts["joins"] for facts in ranks)
    assert first["errors"] == []
    assert second["steps"]["module.0"] == [0, 1, 2, 3, 4, 5]
    assert "not every rank answered within 2 s: rank 0 did not" in second["errors"][0]
    assert second["seconds"] < 15


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Facts]:
    """What both of two ranks found."""
    names = "raises,skips_one_step,all_skip_one_step,all_skip_every_step,comes_late"
    return answers("rank_leaving.py", 2, tmp_path_factory.mktemp("leaving"), names, "1", "60")


def test_a_rank_that_comes_late_is_waited_for_once(ranks: list[Facts]) -> None:
    first, second = (facts["comes_late"] for facts in ranks)
    assert "not every rank answered within 1 s: rank 1 did not" in first["errors"][0]
    assert "rank 0 has left: not every rank answered" in second["errors"][0]
    assert first["steps"]["0"] == second["steps"]["0"] == [0, 1, 2, 3]
    assert counted(first) == 7 * (2 * (4 + 5) + 2 * 4)


def test_a_rank_whose_loop_raises_says_so_and_costs_no_wait(ranks: list[Facts]) -> None:
    facts = ranks[0]["raises"]
    assert "rank 1 has left: its loop ended with an error" in facts["errors"][0]
    assert counted(facts) == 7 * (2 * (4 + 5) + 2 * 4)


def test_a_step_that_one_rank_leaves_out_is_judged_on_both(ranks: list[Facts]) -> None:
    for facts in (rank["skips_one_step"] for rank in ranks):
        assert [finding[:3] for finding in facts["findings"]] == [["non-finite", "input", 2]]
        assert "Seen on rank 1." in facts["findings"][0][3]
    # One step less on rank 1: it closes first, and the other one learns of it without waiting.
    assert ranks[1]["skips_one_step"]["errors"] == []
    assert "rank 1 has left: its watcher was closed" in ranks[0]["skips_one_step"]["errors"][0]


def test_a_step_that_all_ranks_leave_out_is_judged_and_loses_nothing(ranks: list[Facts]) -> None:
    facts = both(ranks, "all_skip_one_step")
    assert facts["errors"] == []
    assert [finding[:3] for finding in facts["findings"]] == [["non-finite", "input inputs", 2]]
    assert facts["steps"]["module.0"] == [0, 1, 2, 3]
    assert facts["totals"]["outputs module.0"][0] == 7 * 5 * (4 + 5)


def test_a_run_that_skips_every_step_is_judged_on_the_rank_that_saw_nothing_too(ranks: list[Facts]) -> None:
    for rank, facts in enumerate(scenario["all_skip_every_step"] for scenario in ranks):
        assert facts["errors"] == []
        assert facts["findings"][0][:3] == ["non-finite", "input inputs", 0]
        assert "Seen on rank 1." in facts["findings"][0][3]
        assert facts["totals"]["outputs module.0"][0] == 7 * 5 * (4 + rank)
