"""Layers that several ranks share have the numbers of one process; groups of ranks are kept apart."""

from __future__ import annotations

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


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Facts]:
    """What both of two ranks found."""
    return answers("rank_parallel.py", 2, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> list[Facts]:
    """What all of four ranks found."""
    return answers("rank_parallel.py", 4, tmp_path_factory.mktemp("four"))


@pytest.mark.parametrize(
    "scenario",
    [
        "columns_and_rows",
        "columns_put_together",
        "distributed_outputs_and_uneven_columns",
        "sequence_parallel",
        "sequence_gathered_for_an_ordinary_layer",
    ],
)
def test_a_model_cut_in_two_has_the_numbers_of_one_process(two: list[Facts], scenario: str) -> None:
    facts = both(two, scenario)
    assert facts["errors"] == facts["differences"] == []
    assert facts["findings"][0] == facts["findings"][1]


@pytest.mark.parametrize("scenario", ["columns_and_rows_of_two_copies", "shards_of_two_copies"])
def test_copies_of_a_model_in_parts_count_its_weights_once(four: list[Facts], scenario: str) -> None:
    facts = both(four, scenario)
    assert facts["errors"] == facts["differences"] == []


def test_ranks_of_two_groups_train_two_models(four: list[Facts]) -> None:
    first, second = both(four[:2], "two_groups"), both(four[2:], "two_groups")
    assert first["errors"] == second["errors"] == first["findings"] == second["findings"] == []
    assert first["totals"]["outputs module.0"][0] == 2 * (4 + 5) * 7
    assert second["totals"]["outputs module.0"][0] == 2 * (6 + 7) * 7
    assert first["totals"]["parameters module.0.weight"][1:] != second["totals"]["parameters module.0.weight"][1:]


def test_only_copies_of_one_group_are_compared(four: list[Facts]) -> None:
    facts = both(four, "a_layer_of_each_group_and_one_of_all")
    assert facts["errors"] == facts["findings"] == []
    assert facts["totals"]["parameters 0.module.weight"][0] == 2 * 2 * 35
    assert facts["totals"]["parameters 2.module.weight"][0] == 2 * 21


def test_stages_of_one_name_are_kept_per_rank(four: list[Facts]) -> None:
    for rank, facts in enumerate(scenario["stages_of_one_name"] for scenario in four):
        assert facts["errors"] == []
        assert facts["totals"]["parameters 0.weight"][0] == 2 * 5 * (4 + rank)
        assert facts["steps"]["0"] == [0, 1]
        assert [finding[0] for finding in facts["findings"]] == ["other-model"]


def test_stages_of_other_names_are_no_partners_and_nobody_waits(four: list[Facts]) -> None:
    for rank, facts in enumerate(scenario["stages"] for scenario in four):
        others = ", ".join(str(other) for other in range(4) if other != rank)
        assert facts["errors"][0].startswith(f"the other ranks: something else is watched on rank {others};")
        assert facts["findings"] == []
        assert facts["totals"][f"parameters stage{rank}.weight"][0] == 2 * 25
        assert facts["seconds"] < 20
