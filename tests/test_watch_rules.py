"""The findings: every planted bug is named at the right place, and healthy runs are left in peace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.rules import Finding, Judge, Measurement, Rule, StepView, default_rules, limits  # noqa: E402
from tensorstats.rules.base import group_by_module  # noqa: E402
from tensorstats.rules.judge import LossTrend  # noqa: E402

datasets = pytest.importorskip("sklearn.datasets")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Layers this small only lose time to torch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    data = datasets.load_digits()
    x = torch.tensor(data.data, dtype=torch.float32)
    return (x - x.mean()) / x.std(), torch.tensor(data.target)


def mlp(
    activation: Any = nn.ReLU, *, depth: int = 3, width: int = 32, norm: bool = False, dropout: float = 0.0
) -> nn.Sequential:
    layers: list[nn.Module] = []
    size = 64
    for _ in range(depth - 1):
        layers.append(nn.Linear(size, width))
        if norm:
            layers.append(nn.BatchNorm1d(width))
        layers.append(activation())
        if dropout:
            layers.append(nn.Dropout(dropout))
        size = width
    return nn.Sequential(*layers, nn.Linear(size, 10))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def adam(parameters: Any) -> Any:
    return torch.optim.Adam(parameters, lr=3e-3)


def train(
    model: nn.Module,
    optimizer: Any,
    digits: tuple[Any, Any],
    *,
    steps: int = 40,
    zero_grad: bool = True,
    before_step: Any = None,
    spoil: Any = None,
    log_loss: bool = True,
    seed: int = 0,
    **options: Any,
) -> ts.torch.Monitor:
    x, y = digits
    generator = torch.Generator().manual_seed(seed)
    with ts.watch(model, optimizer, **options) as monitor:
        for step in range(steps):
            chosen = torch.randint(0, len(x), (64,), generator=generator)
            batch = x[chosen].clone()
            if spoil is not None:
                spoil(step, batch)
            if zero_grad:
                optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch), y[chosen])
            if log_loss:
                monitor.log_loss(loss)
            loss.backward()
            if before_step is not None:
                before_step(step)
            optimizer.step()
    assert monitor.errors == []
    return monitor


def told(monitor: ts.torch.Monitor) -> set[tuple[str, str]]:
    return {(finding.rule, finding.where) for finding in monitor.findings}


def only(monitor: ts.torch.Monitor) -> Finding:
    assert len(monitor.findings) == 1, [str(finding) for finding in monitor.findings]
    return monitor.findings[0]


# --- healthy runs -----------------------------------------------------------------------------------------------------

HEALTHY = {
    "relu": mlp,
    "tanh": lambda: mlp(nn.Tanh),
    "sigmoid": lambda: mlp(nn.Sigmoid),
    "deep": lambda: mlp(depth=6),
    "dropout": lambda: mlp(dropout=0.5, width=64),
    "batch norm": lambda: mlp(norm=True),
    "cnn": cnn,
    "linear": lambda: nn.Sequential(nn.Linear(64, 10)),
}
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.03),
    "sgd+momentum": sgd,
    "adam": adam,
    "adam, fast": lambda p: torch.optim.Adam(p, lr=1e-2),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_has_no_finding(name: str, optimizer: str, digits: tuple[Any, Any]) -> None:
    for seed in range(2):
        torch.manual_seed(seed)
        model = HEALTHY[name]()
        monitor = train(model, OPTIMIZERS[optimizer](model.parameters()), digits, steps=60, seed=seed)
        assert monitor.findings == [], str(monitor.findings[0])


def test_a_run_that_has_converged_has_no_finding(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    few = (digits[0][:64], digits[1][:64])
    monitor = train(model, sgd(model.parameters()), few, steps=400, every=4)
    assert monitor.series("gradients", "0.weight", "l2")[1][-1] < 0.05
    assert monitor.findings == []


def test_a_sigmoid_output_that_is_sure_of_itself_has_no_finding() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    x = torch.randn(256, 2) + 4 * torch.sign(torch.randn(256, 1))
    y = (x.sum(1, keepdim=True) > 0).float()
    with ts.watch(model, optimizer) as monitor:
        for _ in range(150):
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy(model(x), y)
            monitor.log_loss(loss)
            loss.backward()
            optimizer.step()
    assert monitor.series("outputs", "3", "saturated_fraction")[1][-1] > limits.SATURATED_LAYER_FRACTION
    assert monitor.findings == []


def test_a_warm_up_from_zero_and_a_decay_to_zero_have_no_finding(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    optimizer = sgd(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step / 20, max(0.0, (80 - step) / 60)))
    x, y = digits
    with ts.watch(model, optimizer) as monitor:
        for step in range(90):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[step * 16 : step * 16 + 64]), y[step * 16 : step * 16 + 64]).backward()
            optimizer.step()
            schedule.step()
    assert monitor.errors == []
    assert monitor.findings == []


def test_a_backbone_frozen_on_purpose_has_no_finding(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    model[:2].requires_grad_(False)
    monitor = train(model, adam(parameter for parameter in model.parameters() if parameter.requires_grad), digits)
    assert monitor.findings == []


def test_two_optimizers_that_share_the_model_have_no_finding(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    first, second = sgd(model[:2].parameters()), sgd(model[2:].parameters())
    x, y = digits
    with ts.watch(model, first) as monitor:
        for _ in range(20):
            first.zero_grad()
            second.zero_grad()
            nn.functional.cross_entropy(model(x[:64]), y[:64]).backward()
            first.step()
            second.step()
    assert monitor.findings == []


def test_accumulation_on_purpose_has_no_finding(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    optimizer = sgd(model.parameters())
    x, y = digits
    with ts.watch(model, optimizer) as monitor:
        for _ in range(12):
            for part in range(4):
                (nn.functional.cross_entropy(model(x[part * 16 :][:16]), y[part * 16 :][:16]) / 4).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    assert monitor.findings == []


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("when", ["before forward", "before backward", "after step"])
def test_gradients_may_be_reset_anywhere_in_the_step(when: str, to_none: bool) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(8):
            if when == "before forward":
                optimizer.zero_grad(set_to_none=to_none)
            loss = (model(torch.randn(8, 4)) - 1).square().mean()
            if when == "before backward":
                optimizer.zero_grad(set_to_none=to_none)
            loss.backward()
            optimizer.step()
            if when == "after step":
                optimizer.zero_grad(set_to_none=to_none)
    assert monitor.findings == []


# --- planted bugs -----------------------------------------------------------------------------------------------------


def test_dead_units_are_named_by_layer(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp(depth=4)
    model[2].bias.data.fill_(-50.0)
    monitor = train(model, sgd(model.parameters()), digits)
    finding = next(finding for finding in monitor.findings if finding.rule == "dead-units")
    assert (finding.where, finding.step, finding.value, finding.limit) == ("3", 0, 1.0, 0.7)
    assert "32 of 32 units of '3' (ReLU)" in finding.why
    assert told(monitor) == {("dead-units", "3")}
    assert finding.consequences == ("unchanged at 0, 2, 4.weight, since step 0",)
    assert "all-zero" not in {finding.rule for finding in monitor.findings}


def test_most_of_a_layer_dead_is_a_warning_while_the_run_learns(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp(width=64)
    model[0].bias.data[:50] = -50.0
    finding = only(train(model, sgd(model.parameters()), digits, steps=80))
    assert (finding.rule, finding.where, finding.status) == ("dead-units", "1", "warning")
    assert finding.value == 50 / 64


def test_a_symptom_in_a_run_that_does_not_learn_is_a_failure(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp(width=64)
    model[0].bias.data[:50] = -50.0
    monitor = train(model, torch.optim.SGD(model.parameters(), lr=1e-4), digits, steps=60)
    assert {finding.status for finding in monitor.findings} == {"failure"}
    assert ("dead-units", "1") in told(monitor)


def test_units_that_are_silent_in_single_batches_only_are_not_dead() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    model[0].weight.data.copy_(torch.eye(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with ts.watch(model, optimizer) as monitor:
        for step in range(40):
            optimizer.zero_grad()
            x = torch.full((100, 2), -1.0)
            x[:, (step // 5) % 2] = 1.0  # each unit fires in every second group of five batches
            model(x).sum().backward()
            optimizer.step()
    assert set(monitor.series("outputs", "1", "dead_fraction")[1]) == {0.5}
    assert "dead-units" not in {finding.rule for finding in monitor.findings}


def test_a_layer_that_is_silent_as_a_whole_is_told_after_ten_steps_of_any_size() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    model[0].bias.data.fill_(-100.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with ts.watch(model, optimizer, rules=[ts.rules.DeadUnits()]) as monitor:
        for step in range(1, 21):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            assert bool(monitor.findings) == (step >= limits.DEAD_WINDOW_STEPS)


def test_small_batches_lengthen_the_window() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    model[0].bias.data[:] = torch.tensor([-100.0, -100.0, -100.0, 100.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with ts.watch(model, optimizer, rules=[ts.rules.DeadUnits()]) as monitor:
        for step in range(1, 101):
            model(torch.randn(10, 2)).sum().backward()
            optimizer.step()
            assert bool(monitor.findings) == (step >= 50)  # 500 values per unit


@pytest.mark.parametrize(("activation", "scale"), [(nn.Tanh, 60.0), (nn.Sigmoid, 90.0)])
def test_saturated_layers_are_named(activation: Any, scale: float, digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp(activation)
    model[2].weight.data.mul_(scale)
    model[2].bias.data.mul_(scale)
    monitor = train(model, torch.optim.SGD(model.parameters(), lr=1e-3), digits)
    assert ("saturated", "3") in told(monitor)
    assert ("saturated", "1") not in told(monitor)


def test_an_output_of_zeros_is_named_once(digits: tuple[Any, Any]) -> None:
    class Zero(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 0

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), Zero(), nn.Dropout(0.1), nn.Linear(16, 10))
    monitor = train(model, sgd(model.parameters()), digits, steps=10)
    assert [finding.where for finding in monitor.findings if finding.rule == "all-zero"] == ["1"]


def test_vanishing_gradients_are_named_at_the_first_layer(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp(nn.Sigmoid, depth=9)
    monitor = train(model, torch.optim.SGD(model.parameters(), lr=0.01), digits)
    finding = next(finding for finding in monitor.findings if finding.rule == "vanishing-gradient")
    assert (finding.where, finding.step) == ("0", 0)
    assert finding.value < finding.limit == limits.VANISHING_RATIO
    assert "'0' (Linear)" in finding.why
    assert "'16' (Linear)" in finding.why


def test_exploding_gradients_are_named(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp(depth=6)
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight.data.mul_(8)
    monitor = train(model, torch.optim.SGD(model.parameters(), lr=1e-9), digits, steps=6)
    finding = only(monitor)
    assert (finding.rule, finding.step, finding.limit) == ("exploding-gradient", 0, limits.EXPLODING_NORM)
    norms = {
        name: monitor.series("gradients", name, "l2")[1][0] for name in monitor.names("gradients") if "weight" in name
    }
    assert finding.where + ".weight" == max(norms, key=lambda name: norms[name])


@pytest.mark.parametrize("rate", [5.0, 50.0, 500.0])
def test_a_learning_rate_that_blows_up_is_told(rate: float, digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    monitor = train(model, torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9), digits)
    assert {"exploding-gradient", "update-ratio"} & {finding.rule for finding in monitor.findings}
    assert monitor.findings[0].step <= 10


def test_the_model_input_is_named_with_the_index(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()

    def spoil(step: int, batch: Any) -> None:
        if step == 7:
            batch[3, 5] = math.nan

    finding = only(train(model, sgd(model.parameters()), digits, spoil=spoil))
    assert (finding.rule, finding.status, finding.where, finding.step, finding.value) == (
        "non-finite",
        "failure",
        "input",
        7,
        1,
    )
    assert "1 of 4096 values are not finite, the first at index [3, 5] (nan)" in finding.why
    assert "ts.check" in finding.advice


def test_nested_model_inputs_are_named_by_argument() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, image: Any, *, extra: Any) -> Any:
            return self.layer(image + extra["mask"][0])

    model = Two()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        model(torch.ones(2, 3), extra={"mask": [torch.tensor([0.0, math.inf, 0.0])]}).sum().backward()
        optimizer.step()
    assert only(monitor).where == "input extra['mask'][0]"


class Makes(nn.Module):
    """Turns one value into something not finite in the forward or in the backward pass."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first = nn.Linear(64, 16)
        self.odd = Odd(how)
        self.last = nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        y = self.first(x)
        if self.how == "between":
            y = y.clone()
            y[0, 0] = math.inf
        return self.last(self.odd(y))


class Odd(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Any) -> Any:
        if self.how == "here":
            return torch.log(x.relu())
        if self.how == "backward":
            return (x * 0).sqrt() + x
        return x * 1


@pytest.mark.parametrize(
    ("how", "where", "words"),
    [
        ("here", "odd", "Produced here: the module's input and its own parameters are finite."),
        ("between", "odd", "Passed on: the input of this module already held one"),
        ("backward", "first.", "Produced in the backward pass"),
        ("weight", "last", "its own weight already holds one"),
    ],
)
def test_the_first_offender_and_where_it_comes_from(how: str, where: str, words: str, digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = Makes(how)
    if how == "weight":
        model.last.weight.data[2, 3] = math.nan
    finding = only(train(model, torch.optim.SGD(model.parameters(), lr=1e-3), digits, steps=5))
    assert finding.rule == "non-finite"
    assert finding.where.startswith(where)
    assert finding.step == 0
    assert words in finding.why


def test_the_call_of_a_shared_module_is_named() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.log = Odd("here")

        def forward(self, x: Any) -> Any:
            return self.log(-self.log(x.abs() + 1).exp() - 1)

    model = Twice()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        model(torch.ones(2, 3))
        optimizer.step()
    finding = only(monitor)
    assert finding.where == "log#1"
    assert "in call 1" in finding.why


def test_an_update_that_is_not_finite_is_named(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def break_rate(step: int) -> None:
        if step == 4:
            optimizer.param_groups[0]["lr"] = math.inf

    finding = only(train(model, optimizer, digits, before_step=break_rate))
    assert (finding.rule, finding.step) == ("non-finite", 4)
    assert "Produced by the optimizer's step" in finding.why


def test_a_loss_that_is_not_finite_while_all_else_is(digits: tuple[Any, Any]) -> None:
    model = mlp()
    optimizer = sgd(model.parameters())
    with ts.watch(model, optimizer) as monitor:
        model(digits[0][:8]).sum().backward()
        monitor.log_loss(float("nan"))
        optimizer.step()
    assert only(monitor).where == "loss"


def test_parameters_in_no_optimizer_are_named_by_module(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    finding = only(train(model, sgd(model[2:].parameters()), digits))
    assert (finding.rule, finding.where, finding.step, finding.status) == ("frozen", "0", 0, "failure")
    assert finding.why.startswith("0.weight, 0.bias: requires_grad is True")


def test_frozen_parameters_in_the_optimizer_are_a_warning(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(mlp(), nn.Linear(10, 10))
    model[0].requires_grad_(False)
    finding = only(train(model, sgd(model.parameters()), digits))
    assert (finding.rule, finding.where, finding.status) == ("frozen", "0", "warning")
    assert "0.0.weight, 0.0.bias, 0.2.weight, 0.2.bias and 2 more" in finding.why


def test_parameters_cut_from_the_loss_are_named(digits: tuple[Any, Any]) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, 16), nn.ReLU())
            self.unused = nn.Linear(4, 4)
            self.head = nn.Linear(16, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.encoder(x).detach())

    torch.manual_seed(0)
    model = Cut()
    monitor = train(model, adam(model.parameters()), digits)
    assert told(monitor) == {("no-gradient", "encoder"), ("no-gradient", "unused")}
    assert {finding.status for finding in monitor.findings} == {"failure"}


def test_updates_lost_to_rounding_are_named() -> None:
    torch.manual_seed(0)
    model = nn.Linear(16, 4, dtype=torch.bfloat16)
    model.weight.data.add_(10.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(8):
            optimizer.zero_grad()
            model(torch.randn(8, 16, dtype=torch.bfloat16)).square().mean().backward()
            optimizer.step()
    finding = next(finding for finding in monitor.findings if finding.rule == "unchanged")
    assert finding.where == "weight"
    assert "yet every update is (bfloat16)" in finding.why


def test_a_learning_rate_of_zero_is_a_warning(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    groups = [{"params": list(model[0].parameters()), "lr": 0.0}, {"params": list(model[2:].parameters())}]
    finding = only(train(model, sgd(groups), digits))
    assert (finding.rule, finding.where, finding.status) == ("unchanged", "0", "warning")
    assert "the learning rate of its group is 0" in finding.why


@pytest.mark.parametrize("optimizer", ["sgd+momentum", "adam"])
@pytest.mark.parametrize("every", [1, 4])
def test_missing_zero_grad_is_named(optimizer: str, every: int, digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    monitor = train(model, OPTIMIZERS[optimizer](model.parameters()), digits, zero_grad=False, every=every)
    finding = next(finding for finding in monitor.findings if finding.rule == "gradients-not-reset")
    assert (finding.where, finding.status) == ("optimizer", "failure")
    assert finding.step == (1 if every == 1 else 4)
    assert monitor.findings[0] == finding


@pytest.mark.parametrize(("rate", "side"), [(1e-8, "hardly moves"), (30.0, "overshoot")])
def test_updates_out_of_band_are_named(rate: float, side: str, digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 10))
    monitor = train(model, torch.optim.Adam(model.parameters(), lr=rate), digits, rules=[ts.rules.UpdateRatio()])
    finding = only(monitor)
    assert (finding.rule, finding.where) == ("update-ratio", "0")
    assert side in finding.why


# --- the machinery ----------------------------------------------------------------------------------------------------


def test_findings_are_told_once_with_the_first_step_and_handed_to_the_callback(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    heard: list[Finding] = []
    monitor = train(model, sgd(model[2:].parameters()), digits, every=3, start=6, on_finding=heard.append)
    assert heard == monitor.findings
    assert heard[0].step == 6


def test_the_text_of_a_finding_names_everything() -> None:
    finding = Finding(
        "dead-units", "warning", "features.3", 12, 0.75, 0.5, "Most units never fired.", "Lower the rate."
    )
    assert str(finding) == (
        "WARNING  dead-units at features.3, since step 12\n"
        "  measured  0.75 (limit 0.5)\n"
        "  why       Most units never fired.\n"
        "  try       Lower the rate."
    )


class Largest(Rule):
    """A rule of a user: the largest output."""

    id = "largest"
    default_limit = 3.0
    default_patience = 2
    why = "Too large."
    advice = "Make it smaller."

    def statistic(self, view: StepView) -> Any:
        for output in view.outputs:
            yield Measurement(output.name, output.summary.max)


def test_a_user_writes_a_rule_and_changes_a_limit() -> None:
    model = nn.Sequential(nn.Identity(), nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rule = Largest(limit=2.5)
    assert repr(rule) == "Largest(limit=2.5, patience=2)"
    with ts.watch(model, optimizer, rules=[rule]) as monitor:
        for value in (1.0, 3.0, 1.0, 3.0, 4.0, 5.0):
            model(torch.full((1, 1), value)).sum().backward()
            optimizer.step()
    finding = next(finding for finding in monitor.findings if finding.where == "0")
    assert (finding.step, finding.value, finding.limit, finding.why, finding.advice) == (
        3,
        4.0,
        2.5,
        "Too large.",
        "Make it smaller.",
    )


def test_rules_are_copied_so_that_two_monitors_do_not_share_what_they_saw(digits: tuple[Any, Any]) -> None:
    rules = default_rules()
    for _ in range(2):
        torch.manual_seed(0)
        model = mlp()
        assert train(model, sgd(model.parameters()), digits, steps=8, rules=rules).findings == []
    assert Judge(rules).rules[0] is not rules[0]


def test_patience_must_be_positive() -> None:
    with pytest.raises(ValueError, match="patience must be at least 1 recorded step, got 0"):
        ts.rules.DeadUnits(patience=0)


def test_every_rule_explains_itself() -> None:
    for rule in default_rules():
        assert rule.id
        assert rule.why.endswith(".")
        assert rule.advice or rule.id == "non-finite"
    assert len({rule.id for rule in default_rules()}) == len(default_rules())


@pytest.mark.parametrize(
    ("losses", "learning"),
    [
        ([1.0] * 20, None),
        ([1.0] * 60, False),
        (list(np.linspace(1, 0.5, 60)), True),
        (list(np.linspace(-1, -2, 60)), True),
        ([1.0, math.nan], False),
    ],
)
def test_the_trend_of_the_loss(losses: list[float], learning: bool | None) -> None:
    trend = LossTrend()
    for step, loss in enumerate(losses):
        trend.log(step, loss)
    assert trend.learning is learning


def test_parameters_are_grouped_under_the_highest_module_that_holds_only_them() -> None:
    names = ["a.0.weight", "a.0.bias", "a.1.weight", "b.weight", "b.bias", "c"]
    assert group_by_module(["a.0.weight", "a.0.bias"], names) == {"a.0": ["a.0.weight", "a.0.bias"]}
    assert group_by_module(["a.0.weight", "c"], names) == {"a.0.weight": ["a.0.weight"], "c": ["c"]}
    assert set(group_by_module(names[:4], names)) == {"a", "b.weight"}
