"""How a step that was left is told from what loops do on purpose: accumulation, further passes, other optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))


def loss_of(model: nn.Module) -> Any:
    return model(torch.randn(16, 8)).square().mean()


# --- left -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", ["first", "between", "first, to zero", "between, to zero"])
@pytest.mark.parametrize("bad", ["gradient", "nothing"])
def test_a_step_left_after_backward_is_one_wherever_gradients_are_reset(reset: str, bad: str) -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    to_none = not reset.endswith("zero")
    with ts.watch(model, optimizer) as monitor:
        for number in range(20):
            if reset.startswith("first"):
                optimizer.zero_grad(set_to_none=to_none)
            loss = loss_of(model)
            if reset.startswith("between"):
                optimizer.zero_grad(set_to_none=to_none)
            left = number in (5, 6, 12)
            (loss * (float("nan") if left and bad == "gradient" else 1.0)).backward()
            if left:
                continue
            optimizer.step()
    assert (monitor.step, monitor.skipped, monitor.errors) == (20, 3, [])
    assert len(monitor.series("updates", "0.weight", "l2")[0]) == 17
    if bad == "gradient":
        assert [(f.rule, f.where, f.step) for f in monitor.findings] == [("non-finite", "2.bias", 5)]
    else:
        assert monitor.findings == []


def test_an_error_in_the_forward_pass_that_the_loop_catches_ends_the_step() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 1)

        def forward(self, x: Any) -> Any:
            y = self.layer(x)
            if len(x) > 16:
                raise MemoryError("too large a batch")
            return y

    model = Picky()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with ts.watch(model, optimizer) as monitor:
        for number in range(12):
            optimizer.zero_grad()
            try:
                model(torch.randn(32 if number in (0, 4, 5, 11) else 16, 8)).square().mean().backward()
            except MemoryError:
                continue
            optimizer.step()
    assert (monitor.step, monitor.skipped) == (12, 4)
    assert monitor.series("outputs", "layer", "count")[1].tolist() == [
        32 if number in (0, 4, 5, 11) else 16 for number in range(12)
    ]


def test_a_loss_that_is_not_finite_is_judged_without_any_recorded_step() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with ts.watch(model, optimizer, every=1000, start=500) as monitor:
        for number in range(20):
            monitor.log_loss(math.nan if number == 7 else 1.0)
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
    assert [(f.rule, f.where, f.step) for f in monitor.findings] == [("non-finite", "loss", 7)]


def test_a_step_left_between_recorded_ones_is_counted() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with ts.watch(model, optimizer, every=10) as monitor:
        for number in range(60):
            optimizer.zero_grad()
            loss_of(model).backward()
            if number % 3 and number > 4:
                continue
            optimizer.step()
    assert monitor.step == 60
    assert monitor.errors == []
    assert monitor.skipped == sum(1 for number in range(60) if number % 3 and number > 4)


def test_a_run_that_is_left_at_every_step_says_so() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with ts.watch(model, optimizer) as monitor:
        for number in range(200):
            optimizer.zero_grad()
            loss_of(model).backward()
            if number >= 60:
                continue
            optimizer.step()
    (finding,) = monitor.findings
    assert (finding.rule, finding.status, finding.step) == ("skipped-steps", "failure", 60)
    assert "of 1" in finding.why
    assert "steps were skipped" in finding.why
    assert monitor.skipped == 140


# --- not left ---------------------------------------------------------------------------------------------------------


def contrastive(model: nn.Module, optimizer: Any) -> None:
    optimizer.zero_grad()
    (model(torch.randn(16, 8)) * model(torch.randn(16, 8))).mean().backward()
    optimizer.step()


def validated_in_between(model: nn.Module, optimizer: Any) -> None:
    optimizer.zero_grad()
    loss_of(model).backward()
    with torch.no_grad():
        model(torch.randn(16, 8))
    optimizer.step()


def sharpness_aware(model: nn.Module, optimizer: Any) -> None:
    optimizer.zero_grad()
    loss_of(model).backward()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(p.grad, alpha=0.01)
    optimizer.zero_grad()
    loss_of(model).backward()
    optimizer.step()


def one_backward_per_task(model: nn.Module, optimizer: Any) -> None:
    gradients = []
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for p, *of_tasks in zip(model.parameters(), *gradients, strict=True):
        p.grad = sum(of_tasks)
    optimizer.step()


def several_tasks_of_one_pass(model: nn.Module, optimizer: Any) -> None:
    out = model(torch.randn(16, 8))
    for factor in (1.0, 2.0):
        optimizer.zero_grad()
        (out * factor).mean().backward(retain_graph=True)
    optimizer.step()


def accumulated(model: nn.Module, optimizer: Any) -> None:
    optimizer.zero_grad(set_to_none=False)
    for _ in range(4):
        loss_of(model).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


@pytest.mark.parametrize(
    "step",
    [
        contrastive,
        validated_in_between,
        sharpness_aware,
        one_backward_per_task,
        several_tasks_of_one_pass,
        accumulated,
    ],
)
@pytest.mark.parametrize("every", [1, 3])
def test_what_loops_do_on_purpose_is_one_step(step: Callable[[nn.Module, Any], None], every: int) -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.001)
    with ts.watch(model, optimizer, every=every, signals=["outputs", "gradients", "raw_gradients"]) as monitor:
        for _ in range(9):
            step(model, optimizer)
    assert (monitor.step, monitor.skipped, monitor.errors) == (9, 0, [])
    assert monitor.findings == []


@pytest.mark.parametrize("every_third", [False, True])
def test_a_discriminator_that_the_generator_runs_through_is_not_left(every_third: bool) -> None:
    torch.manual_seed(0)
    generator, judge = nn.Linear(4, 8), small_model()
    generates = torch.optim.SGD(generator.parameters(), 0.001)
    judges = torch.optim.SGD(judge.parameters(), 0.001)
    with ts.watch(judge, judges) as monitor:
        for number in range(12):
            judges.zero_grad()
            loss_of(judge).backward()
            judge(generator(torch.randn(16, 4)).detach()).square().mean().backward()
            judges.step()
            if not every_third or number % 3 == 2:
                generates.zero_grad()
                judge(generator(torch.randn(16, 4))).square().mean().backward()
                generates.step()
    assert (monitor.step, monitor.skipped) == (12, 0)


def test_closures_and_trees_that_call_themselves_are_one_step() -> None:
    class Tree(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(8, 8)

        def forward(self, x: Any, depth: int = 3) -> Any:
            return self.cell(x) if depth == 0 else self.cell(self(x, depth - 1))

    model = Tree()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = model(torch.ones(4, 8)).square().mean()
        loss.backward()
        return loss

    with ts.watch(model, optimizer) as monitor:
        for _ in range(4):
            optimizer.step(closure)
    assert (monitor.step, monitor.skipped, monitor.errors) == (4, 0, [])
