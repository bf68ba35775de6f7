"""Steps that never end are judged too: skipped by a scaler, left by `continue` or an exception."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))


@pytest.mark.parametrize("handed_over", [True, False])
def test_a_run_that_a_scaler_skips_as_a_whole_is_judged(handed_over: bool) -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    scaler = torch.amp.GradScaler("cpu")
    with ts.watch(model, optimizer, scaler=scaler if handed_over else None) as monitor:
        for _ in range(40):
            x = torch.randn(16, 8) * 1e5  # overflows float16 in the first layer
            with torch.autocast("cpu", torch.float16):
                loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            monitor.log_loss(loss)
            scaler.step(optimizer)
            scaler.update()
    assert monitor.step == 40
    finding = monitor.findings[0]
    assert (finding.rule, finding.where, finding.status, finding.step) == ("non-finite", "0", "failure", 0)
    assert len(monitor.series("outputs", "0", "l2")[0]) == 40


def spoiled(model: nn.Module, number: int) -> Any:
    x = torch.randn(16, 8)
    if number == 5:
        x[0, 0] = float("nan")
    return model(x).square().mean()


@pytest.mark.parametrize("where", ["before backward", "after backward", "exception"])
def test_a_step_that_the_loop_leaves_is_judged(where: str) -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with ts.watch(model, optimizer) as monitor:
        for number in range(12):
            optimizer.zero_grad()
            loss = spoiled(model, number)
            try:
                if where == "exception" and not loss.isfinite():
                    raise FloatingPointError("the user's own guard")
            except FloatingPointError:
                continue
            if where == "before backward" and not loss.isfinite():
                continue
            loss.backward()
            if not loss.isfinite():
                continue
            optimizer.step()
    assert monitor.step == 12
    (finding,) = monitor.findings
    assert (finding.rule, finding.where, finding.step) == ("non-finite", "input", 5)


def test_an_error_out_of_the_loop_leaves_no_step_unjudged() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def loop(monitor: Any) -> None:
        for number in range(12):
            loss = spoiled(model, number)
            if not loss.isfinite():
                raise FloatingPointError
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with ts.watch(model, optimizer) as monitor, pytest.raises(FloatingPointError):
        loop(monitor)
    assert [(f.rule, f.step) for f in monitor.findings] == [("non-finite", 5)]


def test_accumulation_is_one_step() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(3):
            optimizer.zero_grad()
            for _ in range(4):
                model(torch.randn(16, 8)).square().mean().backward()
            optimizer.step()
    assert (monitor.step, monitor.findings) == (3, [])


@pytest.mark.parametrize("scale", [1.0, 2.0**24])
def test_gradients_of_outputs_are_unscaled_and_a_search_for_the_scale_is_silent(scale: float) -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    optimizer = torch.optim.Adam(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    signals = ["outputs", "gradients", "output_gradients"]
    with ts.watch(model, optimizer, signals=signals, scaler=scaler) as monitor:
        for _ in range(20):
            with torch.autocast("cpu", torch.float16):
                out = model(30 * torch.randn(16, 8))
            loss = nn.functional.cross_entropy(out.float(), torch.randint(0, 4, (16,)))
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert monitor.findings == []
    assert 0.05 < monitor.latest("output_gradients", "(model)").l2 < 1.0
