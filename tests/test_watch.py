"""What the watcher records: names, signals, schedule, nesting, units, series and totals."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def train(model: nn.Module, optimizer: Any, steps: int, *, batch: int = 16, inputs: Any = None) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(batch, 4, generator=generator) if inputs is None else inputs
        optimizer.zero_grad()
        output = model(x)
        (output if isinstance(output, torch.Tensor) else output[0]).square().mean().backward()
        optimizer.step()


def watched(model: nn.Module, steps: int = 3, **options: Any) -> ts.torch.Monitor:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with ts.watch(model, optimizer, **options) as monitor:
        train(model, optimizer, steps)
    assert monitor.errors == []
    return monitor


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
    monkeypatch.setattr("tensorstats.torch.log.MAX_POINTS", 8)
    monkeypatch.setattr("tensorstats.torch.log.MIN_POINTS", 8)
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
    with pytest.raises(TypeError, match=r"optimizer must be a torch.optim.Optimizer, .* or None, got int"):
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


# --- nesting ----------------------------------------------------------------------------------------------------------

Pair = collections.namedtuple("Pair", "left right")


@dataclasses.dataclass
class Answer:
    logits: Any
    hidden: Any = None
    extra: Any = None


class Returns(nn.Module):
    """A leaf that returns whatever `make` makes of its input."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Any) -> Any:
        return self.make(x * self.scale)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda x: (x, [x, None]), ["m[0]", "m[1][0]"]),
        (lambda x: {"logits": x, "n": 3}, ["m['logits']"]),
        (lambda x: Pair(x, x), ["m.left", "m.right"]),
        (lambda x: Answer(x, hidden=(x, x)), ["m.logits", "m.hidden[0]", "m.hidden[1]"]),
        (lambda x: "text", []),
    ],
)
def test_nested_outputs_are_found(make: Any, names: list[str]) -> None:
    model = nn.ModuleDict({"m": Returns(make)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        model["m"](torch.ones(2, 3))
        model["m"].scale.grad = torch.ones(1)
        optimizer.step()
    assert monitor.names("outputs") == names
    assert monitor.errors == []


def test_an_output_that_contains_itself_ends() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert list(ts.torch.outputs.tensors_in(loop)) == []


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.act = nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.act(self.layer(self.act(self.layer(x))))


def test_every_call_of_a_shared_module_has_its_own_index() -> None:
    monitor = watched(Shared())
    assert monitor.names("outputs") == ["layer", "act", "layer#1", "act#1"]


def test_calls_are_counted_anew_in_every_forward_pass_so_that_micro_batches_merge() -> None:
    model = Shared()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with ts.watch(model, optimizer) as monitor:
        optimizer.zero_grad()
        for _ in range(3):
            model(torch.randn(2, 4)).mean().backward()
        optimizer.step()
    assert monitor.names("outputs") == ["layer", "act", "layer#1", "act#1"]
    assert monitor.latest("outputs", "layer").count == 3 * 8


def test_a_cell_called_for_every_time_step_needs_a_bounded_number_of_names() -> None:
    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            for _ in range(50):
                x = torch.tanh(self.cell(x))
            return x

    monitor = watched(Unrolled(), steps=1)
    assert len(monitor.names("outputs")) == 16
    assert monitor.latest("outputs", "cell#15").count == 35 * 64


def test_lstm_and_attention_are_watched_whole() -> None:
    class Sequences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 8, batch_first=True)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Any) -> Any:
            y, _ = self.lstm(x[:, None, :])
            return self.attention(y, y, y)[0]

    monitor = watched(Sequences())
    names = ["lstm[0]", "lstm[1][0]", "lstm[1][1]", "attention[0]", "attention[1]"]
    assert monitor.names("outputs") == names
    assert monitor.units("lstm[0]").units == 8


# --- units ------------------------------------------------------------------------------------------------------------


def test_units_are_channels_of_images_and_features_of_rows() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)),
        nn.Conv2d(1, 5, 1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20, 3),
        nn.Tanh(),
    )
    monitor = watched(model)
    assert [monitor.units(name).units for name in ("1", "2", "3", "4", "5", "6")] == [5, 5, 5, 20, 3, 3]


def test_the_units_of_an_activation_after_a_linear_layer_on_sequences_are_features() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Linear(4, 6)
            self.act = nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.act(self.up(x[:, None, :].expand(-1, 9, -1)))

    assert watched(Tokens()).units("act").units == 6


def test_dead_and_saturated_fractions_are_those_of_the_step() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.Tanh())
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([-100.0, 100.0, 100.0, 100.0]))
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([50.0, 0.0]))
    monitor = watched(model, steps=2)
    assert monitor.series("outputs", "1", "dead_fraction")[1].tolist() == [0.25, 0.25]
    assert monitor.series("outputs", "3", "saturated_fraction")[1].tolist() == [0.5, 0.5]
    assert np.isnan(monitor.series("outputs", "1", "saturated_fraction")[1]).all()
    assert monitor.units("1").dead_units().tolist() == [0]
    assert monitor.units("1").updates == 2


def test_outputs_whose_unit_count_changes_are_summarised_without_units() -> None:
    class Ragged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = Returns(lambda x: x)

        def forward(self, x: Any) -> Any:
            return self.scale(x)

    model = Ragged()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        for width in (3, 5, 4):
            optimizer.zero_grad()
            model(torch.ones(2, width)).sum().backward()
            optimizer.step()
    assert monitor.errors == []
    assert monitor.total("outputs", "scale").count == 24
    with pytest.raises(KeyError, match="their number changes"):
        monitor.units("scale")


def test_integer_outputs_are_summarised() -> None:
    model = nn.ModuleDict({"m": Returns(lambda x: (x, x.argmax(1)))})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        model["m"](torch.eye(3))[0].sum().backward()
        optimizer.step()
    assert monitor.latest("outputs", "m[1]").max == 2
    assert isinstance(monitor.latest("outputs", "m[1]").max, int)


@pytest.mark.parametrize("backend", ["core", "torch"])
def test_histograms_are_those_of_everything_recorded(backend: Any) -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    axis = ts.axis.LogLinear()
    outputs, weights = ts.Histogram(axis), ts.Histogram(axis)
    with ts.watch(model, optimizer, histograms=True, every=2, backend=backend) as monitor:
        for step in range(4):
            x = torch.randn(16, 4)
            optimizer.zero_grad()
            model(x).square().mean().backward()
            if step % 2 == 0:
                outputs.update(nn.functional.linear(x, model[0].weight, model[0].bias).detach())
            optimizer.step()
            if step % 2 == 0:
                weights.update(model[0].weight.detach())
    assert monitor.errors == []
    assert monitor.histogram("outputs", "0") == outputs
    assert monitor.histogram("parameters", "0.weight") == weights
    assert monitor.histogram("gradients", "2.bias").count == 2 * 3
    assert monitor.histogram("updates", "2.bias").count == 2 * 3


def test_without_histograms_asking_for_one_says_how() -> None:
    with pytest.raises(KeyError, match="watch with histograms=True"):
        watched(small_model()).histogram("outputs", "0")


# --- optimizers and loops ---------------------------------------------------------------------------------------------


def test_without_an_optimizer_a_step_is_a_call_in_training_mode() -> None:
    model = small_model()
    with ts.watch(model, every=2) as monitor:
        for step in range(4):
            model.zero_grad()
            model(torch.full((2, 4), float(step))).sum().backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad
            model.eval()
            model(torch.zeros(7, 4))
            model.train()
    assert monitor.errors == []
    assert monitor.step == 4
    assert monitor.series("outputs", "0", "count")[0].tolist() == [0, 2]
    assert monitor.latest("outputs", "0").count == 16
    assert monitor.latest("gradients", "0.weight").l2 > 0
    assert monitor.latest("updates", "0.weight").l2 == pytest.approx(0.1 * monitor.latest("gradients", "0.weight").l2)


def test_gradients_are_read_after_accumulation_and_after_clipping() -> None:
    model = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(3):
            model(torch.ones(1, 4)).sum().backward()
        assert monitor.names("gradients") == []
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    assert monitor.latest("gradients", "weight").l2 == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_are_read_unscaled_and_a_skipped_step_is_no_step(fused: bool) -> None:
    model = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with ts.watch(model, optimizer) as monitor:
        for factor in (1.0, float("inf"), 1.0):
            optimizer.zero_grad()
            loss = model(torch.ones(1, 4)).sum()
            scaler.scale(loss * factor).backward()
            scaler.step(optimizer)
            scaler.update()
    assert monitor.errors == []
    norms = monitor.series("gradients", "weight", "l2")[1]
    assert norms[0] == pytest.approx(2.0)
    assert norms[-1] == pytest.approx(2.0)
    assert monitor.findings == []


def test_lbfgs_closures_are_followed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    x = torch.randn(8, 4)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True) - 1).square().mean()
        loss.backward()
        return loss

    with ts.watch(model, optimizer) as monitor:
        for _ in range(3):
            optimizer.step(closure)
    assert monitor.errors == []
    assert monitor.findings == []
    assert len(monitor.series("gradients", "0.weight", "l2")[0]) == 3
    assert monitor.series("updates", "0.weight", "l2")[1][0] > 0


def test_several_groups_frozen_and_shared_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    model[1].weight = model[0].weight
    model[2].bias.requires_grad_(False)
    groups = [{"params": [model[0].weight]}, {"params": [model[0].bias, model[1].bias, model[2].weight], "lr": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        train(model, optimizer, 6)
    assert monitor.errors == []
    assert monitor.findings == []
    assert monitor.names("parameters") == ["0.weight", "0.bias", "1.bias", "2.weight", "2.bias"]
    assert "2.bias" not in monitor.names("gradients")
    assert "2.bias" not in monitor.names("updates")


def test_lazy_modules_are_watched_once_they_have_values() -> None:
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))
    with ts.watch(model) as monitor:
        for _ in range(3):
            model.zero_grad()
            model(torch.randn(5, 4)).sum().backward()
    assert monitor.errors == []
    assert monitor.names("outputs") == ["0", "1", "2"]
    assert "0.weight" in monitor.names("parameters")


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
    assert watched(small_model()).report().endswith("No findings in 3 steps.")


def test_colours_only_on_a_terminal_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorstats.report import format_finding

    finding = ts.torch.Finding("dead-units", "failure", "1", 3, 1.0, 0.5, "why", "advice")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert format_finding(finding).startswith("\x1b[1;31mFAILURE\x1b[0m  dead-units at 1, since step 3")
    monkeypatch.setenv("NO_COLOR", "1")
    assert format_finding(finding) == str(finding)
