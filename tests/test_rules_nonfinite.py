"""A value that is not finite is named where it first appears, with what made it."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from digit_runs import mlp, only, sgd, train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


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


@pytest.mark.parametrize(
    ("options", "where", "said"),
    [
        ({"signals": ["gradients"]}, "2.bias", "Outputs were not counted, so that the forward pass may have made it."),
        ({"signals": ["output_gradients"]}, "2", "Outputs were not counted, so that the forward pass may have made it"),
        ({"signals": ["updates"]}, "0.weight", "Gradients were not counted, so that they or the optimizer's step may"),
        ({"signals": ["parameters"], "loss": True}, "loss", "The loss was nan. What the modules returned in its step"),
        ({"every": 3, "loss": True}, "loss", "What the modules returned in its step was not counted."),
        ({"loss": False}, "input", "It was there before the first layer"),
    ],
)
def test_what_was_not_counted_is_never_called_finite(options: dict[str, Any], where: str, said: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    logs = options.pop("loss", False)
    with ts.watch(model, optimizer, **options) as monitor:
        for step in range(12):
            x = torch.randn(16, 8)
            if step == 5:
                x[3, 4] = math.nan
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            if logs:
                monitor.log_loss(loss)
            optimizer.step()
    finding = only(monitor)
    assert (finding.rule, finding.where, finding.step) == ("non-finite", where, 5)
    assert said in finding.why
    assert where == "input" or "finite:" not in finding.why
    assert where == "input" or finding.advice.startswith("Record more to see where it comes from")
    assert (monitor.step, monitor.skipped) == (12, 0)


def test_a_loop_that_never_calls_the_model_is_not_told_that_its_input_was_finite() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"body": nn.Linear(8, 16), "head": nn.Linear(16, 4)})
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for place, said in (("body", "no watched module ran before it"), ("head", "every watched module before it was")):
        with ts.watch(model, optimizer) as monitor:
            x, y = torch.randn(4, 8), torch.zeros(4, 16)
            (x if place == "body" else y)[2, 1] = math.nan
            model["head"](model["body"](x) + y).sum().backward()
        finding = only(monitor)
        assert finding.where == place
        assert said in finding.why
        assert "model's input" not in finding.why
        assert finding.advice.startswith("Look at what this module is given")


def test_a_parameter_that_was_never_finite_and_is_not_used_hides_nothing() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {"used": nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), "unused": nn.Linear(2, 2)}
    )
    model["unused"].weight.data[0, 0] = math.nan
    optimizer = torch.optim.SGD(model["used"].parameters(), 0.01)
    with ts.watch(model, optimizer) as monitor:
        for step in range(40):
            if step == 10:
                model["used"][0].bias.data.fill_(-100.0)
            loss = model["used"](torch.randn(64, 8)).square().mean() * (math.nan if step == 38 else 1.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found = {(f.rule, f.where): f for f in monitor.findings}
    assert set(found) == {("non-finite", "unused.weight"), ("non-finite", "used.2.bias"), ("dead-units", "used.1")}
    first = found["non-finite", "unused.weight"]
    assert first.step == 0
    assert "It was so before the optimizer's step, which does not change this parameter." in first.why
    assert "how it is initialised or loaded" in first.advice
    assert found["non-finite", "used.2.bias"].step == 38
