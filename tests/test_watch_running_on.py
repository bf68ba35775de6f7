"""A model that runs on while no watched optimizer steps: a step that was forgotten, an optimizer that was dropped."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def made() -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    return model, torch.optim.SGD(model.parameters(), 0.01)


def loss_of(model: nn.Module) -> Any:
    return model(torch.randn(16, 8)).square().mean()


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ts.torch.WatchWarning)
        yield


@pytest.mark.parametrize("iterations", [10, 60])
def test_a_step_that_is_forgotten_is_a_failure(iterations: int) -> None:
    model, optimizer = made()
    with ts.watch(model, optimizer) as monitor:
        for _ in range(iterations):
            optimizer.zero_grad()
            loss = loss_of(model)
            monitor.log_loss(loss)
            loss.backward()
    assert (monitor.step, monitor.skipped) == (iterations, iterations)
    assert [(f.rule, f.status, f.step, f.value) for f in monitor.findings] == [("skipped-steps", "failure", 0, 1.0)]
    assert f"{iterations} of {iterations} steps were skipped." in monitor.findings[0].why
    assert "is optimizer.step() called" in monitor.findings[0].advice
    assert len(monitor.errors) == (iterations > 20)


@pytest.mark.parametrize("every", [1, 7])
def test_a_loop_that_goes_on_without_its_optimizer_is_told(every: int) -> None:
    model, optimizer = made()
    with ts.watch(model, optimizer, every=every) as monitor:
        for number in range(60):
            model.zero_grad()
            loss_of(model).backward()
            if number < 10:
                optimizer.step()
            else:
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter -= 0.01 * parameter.grad
    assert monitor.findings == []
    assert len(monitor.errors) == 1
    assert monitor.errors[0].startswith(
        "the optimizer: SGD, which was given to ts.watch, has not stepped for 21 passes"
    )


def test_passes_whose_loss_is_left_before_backward_are_told_at_the_end() -> None:
    model, optimizer = made()
    with ts.watch(model, optimizer) as monitor:
        for _ in range(30):
            loss = loss_of(model) * float("nan")
            if not loss.isfinite():
                continue
    assert len(monitor.errors) == 1
    assert "has not stepped for 30 passes" in monitor.errors[0]


def test_long_accumulation_is_no_running_on() -> None:
    model, optimizer = made()
    with ts.watch(model, optimizer) as monitor:
        for _ in range(3):
            optimizer.zero_grad()
            for _ in range(64):
                (loss_of(model) / 64).backward()
            optimizer.step()
    assert (monitor.errors, monitor.findings, monitor.step, monitor.skipped) == ([], [], 3, 0)


@pytest.mark.parametrize("attacks", [2, 12])
@pytest.mark.parametrize("warm_up", [0, 10])
def test_attacks_that_begin_later_in_a_run_are_no_steps_of_their_own(warm_up: int, attacks: int) -> None:
    model, optimizer = made()
    with ts.watch(model, optimizer) as monitor:
        for number in range(60):
            optimizer.zero_grad()
            if number >= warm_up:
                x = torch.randn(16, 8)
                for _ in range(attacks):
                    x.requires_grad_(True)
                    model(x).square().mean().backward()
                    x = (x + 0.01 * x.grad.sign()).detach()
                    optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
    assert (monitor.errors, monitor.findings, monitor.step, monitor.skipped) == ([], [], 60, 0)
