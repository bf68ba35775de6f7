"""What the watcher records: names, signals, series, totals, schedule and selection; and how it prints them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from watched import small_model, train, watched  # noqa: E402

# --- names and numbers ------------------------------------------------------------------------------------------------


def test_the_signals_are_named_like_modules_and_parameters() -> None:
    monitor = watched(small_model())
    assert monitor.names("outputs") == ["0", "1", "2"]
    parameters = ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert monitor.names("parameters") == parameters
    assert monitor.names("gradients") == parameters
    assert monitor.names("updates") == parameters
    assert monitor.step == 3


def test_outputs_gradients_weights_and_updates_are_the_true_ones() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(5, 4)
    with ts.watch(model, optimizer) as monitor:
        expected_output = model(x).detach().clone()
        model.zero_grad()
        model(x).square().sum().backward()
        gradient = model[0].weight.grad.clone()
        before = model[0].weight.detach().clone()
        optimizer.step()
        after = model[0].weight.detach().clone()
    twice = torch.cat([expected_output, expected_output])  # two forward passes belong to the step: they are merged
    assert monitor.latest("outputs", "2").count == twice.numel()
    assert monitor.latest("outputs", "2").max == pytest.approx(twice.max().item(), rel=1e-12)
    assert monitor.latest("outputs", "2").std() == pytest.approx(twice.double().std(correction=0).item(), rel=1e-9)
    assert monitor.latest("gradients", "0.weight").l2 == pytest.approx(gradient.double().norm().item(), rel=1e-12)
    assert monitor.latest("parameters", "0.weight") == ts.summary(after)
    assert monitor.latest("updates", "0.weight") == ts.summary(after - before)
    _, ratio = monitor.series("updates", "0.weight", "update_ratio")
    assert ratio[0] == pytest.approx(((after - before).double().norm() / after.double().norm()).item(), rel=1e-12)


def test_an_update_in_bfloat16_is_the_exact_difference() -> None:
    model = nn.Linear(16, 16, dtype=torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    before = model.weight.detach().clone()
    with ts.watch(model, optimizer) as monitor:
        model(torch.ones(2, 16, dtype=torch.bfloat16)).sum().backward()
        optimizer.step()
    exact = model.weight.detach().double() - before.double()
    assert monitor.latest("updates", "weight").l2 == pytest.approx(exact.norm().item(), rel=1e-12)
    assert monitor.latest("updates", "weight").zero_count == int((exact == 0).sum())


def test_series_are_steps_and_values_and_totals_merge_all_steps() -> None:
    monitor = watched(small_model(), steps=6, every=2)
    steps, values = monitor.series("outputs", "0", "count")
    assert steps.tolist() == [0, 2, 4]
    assert values.tolist() == [128.0, 128.0, 128.0]
    assert steps.dtype == np.int64
    assert values.dtype == np.float64
    assert monitor.total("outputs", "0").count == 3 * 128
    _, largest = monitor.series("outputs", "0", "max")
    assert monitor.total("outputs", "0").max == largest.max()


def test_unknown_names_signals_and_fields_say_what_there_is() -> None:
    monitor = watched(small_model())
    with pytest.raises(KeyError, match="no signal 'weights'; accepted are outputs, parameters, gradients, updates"):
        monitor.names("weights")
    with pytest.raises(KeyError, match="nothing recorded under '9' in outputs; recorded are 0, 1, 2"):
        monitor.latest("outputs", "9")
    with pytest.raises(KeyError, match=r"no field 'median'; accepted are count, .*, update_ratio"):
        monitor.series("outputs", "0", "median")


def test_a_long_series_is_thinned_evenly_and_its_total_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorstats.run.series.MAX_POINTS", 8)
    monkeypatch.setattr("tensorstats.run.series.MIN_POINTS", 8)
    monitor = watched(small_model(), steps=30)
    steps, _ = monitor.series("outputs", "0", "mean")
    assert 4 <= len(steps) <= 8
    assert len(set(np.diff(steps))) == 1
    assert monitor.total("outputs", "0").count == 30 * 128


# --- schedule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        ({"every": 3}, [0, 3, 6]),
        ({"start": 5}, [5, 6, 7]),
        ({"stop": 2}, [0, 1]),
        ({"every": 2, "start": 1, "stop": 6}, [1, 3, 5]),
    ],
)
def test_the_schedule_selects_steps(options: dict[str, int], recorded: list[int]) -> None:
    monitor = watched(small_model(), steps=8, **options)
    assert monitor.series("gradients", "0.weight", "count")[0].tolist() == recorded
    assert monitor.series("outputs", "0", "count")[0].tolist() == recorded
    assert monitor.step == 8


def test_modules_carry_no_hook_between_recorded_steps() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with ts.watch(model, optimizer, every=5):
        assert model[0]._forward_hooks
        train(model, optimizer, 2)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        train(model, optimizer, 3)
        assert model[0]._forward_hooks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be at least 1 step, got 0"),
        ({"start": -1}, "start must be a step from 0 on, got -1"),
        ({"start": 5, "stop": 5}, "stop must lie after start=5, got 5"),
        ({"signals": ["outputs", "weights"]}, "got weights"),
        ({"modules": "nothing like this"}, "chooses none of the 4 modules"),
        ({"backend": "cuda"}, "backend must be 'auto', 'core' or 'torch', got 'cuda'"),
    ],
)
def test_wrong_arguments_are_refused_with_what_was_given(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ts.watch(small_model(), **options)


def test_wrong_types_are_refused() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, .* got int"):
        ts.watch(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"optimizer must be a torch.optim.Optimizer, .* got int"):
        ts.watch(small_model(), [3])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="modules must be None, a module type"):
        ts.watch(small_model(), modules=7)  # type: ignore[arg-type]


# --- selection --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (nn.Linear, ["0", "2"]),
        ((nn.ReLU, nn.Linear), ["0", "1", "2"]),
        ("^1$", ["1"]),
        (lambda name, module: name == "2" and isinstance(module, nn.Linear), ["2"]),
    ],
)
def test_modules_are_chosen_by_type_pattern_or_function(choice: Any, names: list[str]) -> None:
    monitor = watched(small_model(), modules=choice)
    assert monitor.names("outputs") == names
    owners = {name.rpartition(".")[0] for name in monitor.names("parameters")}
    assert owners <= set(names)


def test_signals_are_chosen() -> None:
    monitor = watched(small_model(), signals=("gradients",))
    assert monitor.names("gradients")
    assert monitor.names("outputs") == monitor.names("parameters") == monitor.names("updates") == []


def test_a_model_that_is_one_module_has_a_name() -> None:
    monitor = watched(nn.Linear(4, 2))
    assert monitor.names("outputs") == ["(model)"]
    assert monitor.names("parameters") == ["weight", "bias"]
    assert "(model) Linear" in monitor.table()


# --- text -------------------------------------------------------------------------------------------------------------


def test_the_table_is_aligned_and_fits_a_terminal() -> None:
    text = watched(small_model()).table()
    lines = text.splitlines()
    assert lines[0].split() == [
        "layer",
        "tensor",
        "dtype",
        "shape",
        "min",
        "max",
        "mean",
        "std",
        "zeros",
        "NaN",
        "inf",
        "norm",
        "dead",
    ]
    assert max(len(line) for line in lines) <= 140
    assert sum("grad" in line for line in lines) == 4
    assert "1 ReLU" in text
    column = lines[0].index("min") + 3
    assert all(line[column] == " " for line in lines[2:])


def test_the_report_says_when_there_is_nothing_to_say() -> None:
    assert watched(small_model()).report().startswith("OK: no findings in 3 steps.\n")


def test_colours_only_on_a_terminal_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorstats.report import format_finding

    finding = ts.torch.Finding("dead-units", "failure", "1", 3, 1.0, 0.5, "why", "advice")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert format_finding(finding).startswith("\x1b[1;31mFAILURE\x1b[0m  dead-units at 1, since step 3")
    monkeypatch.setenv("NO_COLOR", "1")
    assert format_finding(finding) == str(finding)
