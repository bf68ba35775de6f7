"""What ranks hold is asked for, never assumed: copies that are kept equal count once, all else is each rank's own."""

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
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Facts]:
    """What both ranks of `rank_copies` found."""
    return answers("rank_copies.py", 2, tmp_path_factory.mktemp("copies"))


def counts(facts: Facts, signal: str) -> dict[str, int]:
    """By name, how many values of a signal were counted in all steps."""
    return {key.split(" ", 1)[1]: total[0] for key, total in facts["totals"].items() if key.startswith(signal + " ")}


def test_another_width_on_one_rank_costs_no_step_and_is_a_finding(ranks: list[Facts]) -> None:
    for rank, facts in enumerate(scenario["other_width_on_one_rank"] for scenario in ranks):
        width = 6 + 2 * rank
        assert facts["errors"] == []
        assert counts(facts, "parameters") == {
            "0.weight": 10 * width,
            "0.bias": 2 * width,
            "2.weight": 6 * width,
            "2.bias": 12,
        }
        assert counts(facts, "outputs") == {
            "0": 2 * (4 + rank) * width,
            "1": 2 * (4 + rank) * width,
            "2": 2 * (4 + rank) * 3,
        }
        assert facts["latest"] == [(4 + rank) * width, 2 * (4 + rank) * width, width]
        assert facts["ranks"] == [5 * 6, 5 * 8]
        assert facts["steps"]["0"] == [0, 1]
        (finding,) = facts["findings"]
        assert finding[0] == "other-model"
        assert (
            "0 is Linear float32[6, 5] float32[6] on rank 0 and Linear float32[8, 5] float32[8] on rank 1" in finding[3]
        )


def test_another_dtype_of_one_layer_leaves_the_others_merged(ranks: list[Facts]) -> None:
    facts = [scenario["other_dtype_of_one_layer"] for scenario in ranks]
    for rank, of_rank in enumerate(facts):
        assert of_rank["errors"] == []
        assert counts(of_rank, "outputs")["0"] == 2 * (4 + 5) * 7
        assert counts(of_rank, "outputs")["3"] == 2 * (4 + rank) * 3
        assert [finding[0] for finding in of_rank["findings"]] == ["other-model"]


def test_parameters_that_data_parallelism_ignores_may_differ(ranks: list[Facts]) -> None:
    facts = both(ranks, "ignored_by_data_parallel")
    assert facts["errors"] == facts["findings"] == []
    assert counts(facts, "parameters") == {
        "module.0.weight": 3 * 35,
        "module.0.bias": 3 * 7,
        "module.2.weight": 3 * 2 * 21,
        "module.2.bias": 3 * 2 * 3,
    }


def test_experts_of_each_rank_may_differ_and_all_count(ranks: list[Facts]) -> None:
    facts = both(ranks, "local_experts")
    assert facts["errors"] == facts["findings"] == []
    assert counts(facts, "gradients") == {
        "body.module.weight": 3 * 35,
        "body.module.bias": 3 * 7,
        "expert.weight": 3 * 2 * 21,
        "expert.bias": 3 * 2 * 3,
    }


@pytest.mark.parametrize("scenario", ["local_sgd", "post_local_sgd"])
def test_weights_that_are_averaged_now_and_then_may_differ_between(ranks: list[Facts], scenario: str) -> None:
    facts = both(ranks, scenario)
    assert facts["errors"] == facts["findings"] == []
    assert counts(facts, "gradients")["module.0.weight"] > 0


def test_an_optimizer_in_parts_is_whole_and_its_weights_are_no_strangers(ranks: list[Facts]) -> None:
    facts = both(ranks, "optimizer_in_parts")
    assert facts["errors"] == facts["findings"] == []
    sizes = {"module.0.weight": 35, "module.0.bias": 7, "module.2.weight": 21, "module.2.bias": 3}
    assert counts(facts, "updates") == {name: 8 * size for name, size in sizes.items()}
    assert counts(facts, "optimizer_state") == {
        f"{name}.{key}": 8 * size for name, size in sizes.items() for key in ("exp_avg", "exp_avg_sq")
    }


def test_equal_halves_of_a_sharded_weight_are_two_halves(ranks: list[Facts]) -> None:
    facts = both(ranks, "equal_halves")
    assert facts["errors"] == facts["findings"] == []
    names = {name.removeprefix("_fsdp_wrapped_module."): count for name, count in counts(facts, "parameters").items()}
    assert names == {"0.weight": 2 * 20, "1.weight": 2 * 4, "1.bias": 2 * 4}


def test_a_network_that_is_copied_to_now_and_then_is_not_frozen(ranks: list[Facts]) -> None:
    facts = both(ranks, "copied_target")
    assert facts["errors"] == facts["findings"] == []


def test_evaluation_is_recorded_behind_the_wrapper_too_and_said_to_be_of_one_rank(ranks: list[Facts]) -> None:
    for rank, facts in enumerate(scenario["evaluation"] for scenario in ranks):
        assert facts["errors"] == ["evaluation: its numbers are of this rank alone, unlike those of training"]
        rows = 4 + rank
        assert facts["calls"] == [[[0, 1, 2, 3], [rows * width] * 4] for width in (7, 7, 3)]


def test_evaluation_on_one_rank_waits_for_nobody(ranks: list[Facts]) -> None:
    first, second = (scenario["evaluation_on_one_rank"] for scenario in ranks)
    assert first["names"] == ["module.0", "module.1", "module.2"]
    assert second["names"] == []
    assert first["totals"] == second["totals"]
    assert second["errors"] == []
