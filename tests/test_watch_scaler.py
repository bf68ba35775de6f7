"""Gradient scalers: what they skip is judged and counted, their search for a scale is silent, handed over or not."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))


class Run:
    """A mixed-precision loop; `spoil` makes a loss of the loss."""

    def __init__(self, *, scale: float = 2.0**16, fused: bool = False, inputs: float = 1.0, **options: Any) -> None:
        self.model = small_model()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01, fused=fused)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        self.inputs = inputs
        self.monitor = ts.watch(self.model, self.optimizer, **options)

    def step(self, number: int, spoil: Any = lambda loss, _: loss, micro_batches: int = 1) -> None:
        self.optimizer.zero_grad()
        for _ in range(micro_batches):
            x = torch.randn(16, 8) * self.inputs
            with torch.autocast("cpu", torch.float16):
                loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
            self.scaler.scale(spoil(loss, number)).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()


def told(monitor: Any) -> list[tuple[str, str, str, int]]:
    return [(f.rule, f.where, f.status, f.step) for f in monitor.findings]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("every", [1, 7])
def test_a_scaler_that_skips_every_step_is_counted_beside_its_cause(
    fused: bool, micro_batches: int, every: int
) -> None:
    run = Run(fused=fused, inputs=1e5, every=every)
    with run.monitor as monitor:
        for number in range(80):
            run.step(number, micro_batches=micro_batches)
    # The steps between recorded ones are counted once the scale is down to 1: before that the scaler may be searching.
    assert monitor.step == monitor.skipped
    assert monitor.step == 80 if every == 1 else monitor.step >= 60
    assert told(monitor) == [("non-finite", "0", "failure", 0)]
    assert monitor.findings[0].consequences[-1] == "skipped-steps at optimizer, since step 0"
    assert monitor.errors == []


@pytest.mark.parametrize("scale", [2.0**16, 2.0**24])
def test_a_search_for_the_scale_and_a_skip_now_and_then_are_silent(scale: float) -> None:
    run = Run(scale=scale)
    run.scaler.set_growth_interval(20)
    with run.monitor as monitor:
        for number in range(300):
            run.step(number)
    assert monitor.series("outputs", "0", "count")[1].max() > 16 * 32  # what was skipped went on into the next step
    assert told(monitor) == []
    assert monitor.skipped == 0
    assert monitor.total("gradients", "0.weight").nonfinite_count == 0


def test_a_run_that_is_all_search_is_silent() -> None:
    run = Run(scale=2.0**24)
    with run.monitor as monitor:
        for number in range(5):
            run.step(number)
    assert told(monitor) == []


def test_gradients_that_are_bad_at_any_scale_are_a_finding() -> None:
    run = Run()
    with run.monitor as monitor:
        for number in range(60):
            run.step(number, lambda loss, _: loss * float("nan"))
    assert run.scaler.get_scale() < 1
    assert told(monitor)[0][:3] == ("non-finite", "2.bias", "failure")
    assert any("skipped-steps" in line for line in monitor.findings[0].consequences)
    assert "steps were skipped" not in monitor.findings[0].why
    assert monitor.skipped > 40


def test_a_share_of_skipped_steps_is_told_in_words() -> None:
    class Silent(ts.rules.NonFinite):
        def statistic(self, view: Any) -> Any:
            return ()

    run = Run(scale=1.0, rules=[*ts.rules.default_rules()[1:], Silent()])
    with run.monitor as monitor:
        for number in range(200):
            run.step(number, lambda loss, number: loss * (float("inf") if number % 4 == 3 else 1.0))
    (finding,) = monitor.findings
    assert (finding.rule, finding.where, finding.status, finding.step) == ("skipped-steps", "optimizer", "warning", 3)
    assert "steps were skipped" in finding.why
    assert "by the gradient scaler" in finding.why
    assert (monitor.step, monitor.skipped) == (200, 50)


@pytest.mark.parametrize("handed_over", [True, False])
def test_gradients_are_unscaled_whether_or_not_the_scaler_is_handed_over(handed_over: bool) -> None:
    def last(scaled: bool) -> dict[str, float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, enabled=scaled)
        signals = ["output_gradients", "raw_gradients"]
        with ts.watch(model, optimizer, signals=signals, scaler=scaler if handed_over else None) as monitor:
            for _ in range(3):
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.float16):
                    out = model(torch.randn(16, 8))
                scaler.scale(out.float().square().mean() * 1e-4).backward()
                scaler.step(optimizer)
                scaler.update()
        return {
            f"{signal}/{name}": monitor.latest(signal, name).l2 for signal in signals for name in monitor.names(signal)
        }

    plain, scaled = last(scaled=False), last(scaled=True)
    assert len(plain) == 6
    for name, value in plain.items():
        assert scaled[name] == pytest.approx(value, rel=0.02), name


def test_of_two_optimizers_one_that_is_skipped_does_not_hold_up_the_other() -> None:
    model = small_model()
    first = torch.optim.SGD(model[0].parameters(), 0.01)
    second = torch.optim.SGD(model[2].parameters(), 0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    with ts.watch(model, [first, second]) as monitor:
        for number in range(6):
            for optimizer in (first, second):
                optimizer.zero_grad()
            scaler.scale(model(torch.randn(16, 8)).square().mean()).backward()
            if number == 2:
                model[0].weight.grad[0, 0] = float("inf")
            if number == 4:
                model[0].weight.grad[0, 0] = model[2].weight.grad[0, 0] = float("nan")
            for optimizer in (first, second):
                scaler.step(optimizer)
            scaler.update()
    assert (monitor.step, monitor.skipped, monitor.errors) == (6, 1, [])
    assert monitor.series("updates", "2.weight", "count")[0].tolist() == [0, 1, 2, 3, 5]


_PUT_BACK = """
import torch, tensorstats as ts
scaler = torch.amp.GradScaler
before = (scaler.scale, scaler.step)
model = torch.nn.Linear(2, 2)
monitors = [ts.watch(model, torch.optim.SGD(model.parameters(), 0.1)) for _ in range(2)]
assert scaler.step is not before[1] and scaler.step.__doc__ == before[1].__doc__
monitors[0].close()
assert scaler.step is not before[1]
monitors[1].close()
assert (scaler.scale, scaler.step) == before
"""


def test_the_methods_of_scalers_are_put_back() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", _PUT_BACK], check=True)  # where nobody else watches


def test_a_scaler_of_another_run_is_none_of_the_watchers_business() -> None:
    run, other = Run(scale=1.0), Run(scale=1.0, inputs=1e5)
    with run.monitor as monitor:
        for number in range(10):
            other.step(number)
            run.step(number)
    other.monitor.close()
    assert (monitor.step, monitor.skipped, told(monitor)) == (10, 0, [])


def test_raise_comes_out_of_the_scalers_step() -> None:
    run = Run(inputs=1e5, on_finding="raise")
    with run.monitor, pytest.raises(ts.torch.FindingError, match="non-finite at 0, since step 0"):
        run.step(0)
