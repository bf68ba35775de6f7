"""What happens when something is wrong: the first offender of a step, and `on_finding`."""

from __future__ import annotations

import bdb
import subprocess
import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.rules import NonFinite, Offender, Rule  # noqa: E402


class Root(nn.Module):
    """Makes a NaN of a negative number, on the way there or on the way back."""

    def __init__(self, power: float = 0.5) -> None:
        super().__init__()
        self.power = power

    def forward(self, x: Any) -> Any:
        return x**self.power


class Zero(nn.Module):
    def forward(self, x: Any) -> Any:
        return x * 0


class Network(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 4)
        self.inner = inner
        self.last = nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.last(self.inner(self.first(x)))


class Keeps(Rule):
    """Keeps the first offender it is shown."""

    id = "keeps"
    reads_nonfinite = True
    offenders: list[Offender] = []  # noqa: RUF012  # shared on purpose: the judge copies rules

    def statistic(self, view: Any) -> Any:
        if view.offender is not None:
            self.offenders.append(view.offender)
        return ()


def first_offender(model: nn.Module, x: Any, **options: Any) -> Offender:
    Keeps.offenders.clear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, rules=[Keeps()], **options) as monitor:
        model(x).sum().backward()
        optimizer.step()
    assert monitor.errors == []
    return Keeps.offenders[0]


# --- the first offender -----------------------------------------------------------------------------------------------


def test_the_module_that_made_it_is_told_from_one_that_passed_it_on() -> None:
    found = first_offender(Network(Root()), torch.randn(5, 3))
    assert (found.where, found.module, found.signal, found.call) == ("inner", "inner", "output", 0)
    assert (found.produced, found.argument, found.backward) == (True, None, False)
    assert found.value == "nan"

    class Between(Network):
        def forward(self, x: Any) -> Any:
            return self.last(torch.sqrt(self.first(x)))

    found = first_offender(Between(nn.Identity()), torch.randn(5, 3))
    assert (found.where, found.module, found.produced, found.argument) == ("last", "last", False, "input")
    assert "Passed on" in found.origin


@pytest.mark.parametrize("backend", ["core", "torch"])
def test_the_element_and_the_call_are_named(backend: Any) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = Root()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Any) -> Any:
            return self.shared(self.shared(x * self.scale) - 1.5)

    x = torch.full((2, 3), 9.0)
    x[1, 2] = 1.0
    found = first_offender(Twice(), x, backend=backend)
    assert (found.where, found.call, found.index, found.value) == ("shared#1", 1, (1, 2), "nan")
    assert (found.nonfinite_count, found.count) == (1, 6)


@pytest.mark.parametrize("backend", ["core", "torch"])
def test_a_gradient_is_traced_to_the_output_where_it_appeared(backend: Any) -> None:
    # The output of sqrt(0) is finite, its slope is not: the gradient before it is the first bad one on the way back.
    model = Network(nn.Sequential(Zero(), Root()))
    signals = ["outputs", "gradients", "output_gradients"]
    found = first_offender(model, torch.randn(5, 3), signals=signals, backend=backend)
    assert (found.where, found.signal, found.backward) == ("inner.0", "output gradient", True)
    model = Network(nn.Sequential(Zero(), Root()))
    without = first_offender(model, torch.randn(5, 3), backend=backend)
    assert (without.where, without.signal, without.backward) == ("first.bias", "gradient", True)


def test_the_model_input_is_named_by_argument() -> None:
    x = torch.randn(5, 3)
    x[2, 1] = float("inf")
    found = first_offender(Network(nn.ReLU()), x)
    assert (found.where, found.signal, found.index, found.value) == ("input x", "input", (2, 1), "inf")
    assert found.module == "first"


def test_the_sentence_of_an_output_gradient_is_whole() -> None:
    model = Network(nn.Sequential(nn.ReLU(), Root()))
    with torch.no_grad():
        model.first.bias.fill_(-100.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, signals=["outputs", "output_gradients"], rules=[NonFinite()]) as monitor:
        model(torch.randn(5, 3)).sum().backward()
        optimizer.step()
    (finding,) = monitor.findings
    assert finding.where == "inner.0"
    assert "The gradient with respect to the output of inner.0: 20 of 20 values are not finite" in finding.why
    assert "derivative" in finding.advice


# --- on_finding -------------------------------------------------------------------------------------------------------


def test_raise_comes_out_of_the_optimizers_step_before_weights_change() -> None:
    model = Network(Root())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with ts.watch(model, optimizer, on_finding="raise") as monitor:
        model(torch.randn(5, 3)).sum().backward()  # autograd is not disturbed
        with pytest.raises(ts.torch.FindingError, match="non-finite at inner") as raised:
            optimizer.step()
        assert [finding.rule for finding in raised.value.findings] == ["non-finite"]
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        # The run may go on: the bad batch is left out.
        optimizer.zero_grad()
        model.first.weight.data.abs_()
        model.first.bias.data.abs_()
        model(torch.rand(5, 3)).sum().backward()
        optimizer.step()
    assert monitor.step == 2
    assert monitor.errors == []
    assert not torch.equal(before[0], model.first.weight)


def test_raise_keeps_a_non_finite_gradient_out_of_the_weights() -> None:
    model = Network(nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.last.weight.detach().clone()
    with ts.watch(model, optimizer, on_finding="raise"):
        model(torch.randn(5, 3)).sum().backward()
        model.last.weight.grad[0, 0] = float("nan")
        with pytest.raises(ts.torch.FindingError, match=r"non-finite at last\.weight"):
            optimizer.step()
    assert torch.equal(before, model.last.weight)


def test_raise_without_an_optimizer_comes_out_of_the_next_call() -> None:
    model = Network(Root())
    with ts.watch(model, on_finding="raise") as monitor:
        model(torch.randn(5, 3))
        with pytest.raises(ts.torch.FindingError, match="non-finite at inner"):
            model(torch.randn(5, 3))
        assert monitor.step == 1


def test_other_findings_are_raised_after_the_step() -> None:
    model = Network(nn.ReLU())
    optimizer = torch.optim.SGD(model.last.parameters(), lr=0.1)

    def run() -> None:
        for _ in range(10):
            optimizer.zero_grad()
            model(torch.randn(5, 3)).square().sum().backward()
            optimizer.step()

    before = model.last.weight.detach().clone()
    with ts.watch(model, optimizer, on_finding="raise") as monitor:
        with pytest.raises(ts.torch.FindingError, match="frozen"):
            run()
        assert monitor.findings[0].rule == "frozen"
    assert not torch.equal(before, model.last.weight)


def test_warn_warns_once_per_finding() -> None:
    model = Network(Root())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with ts.watch(model, optimizer, on_finding="warn", rules=[NonFinite()]) as monitor:
        model(torch.randn(5, 3)).sum().backward()
        with pytest.warns(ts.torch.FindingWarning, match="non-finite at inner"):
            optimizer.step()
    assert len(monitor.findings) == 1
    assert monitor.errors == []


def test_breakpoint_opens_at_the_module_with_everything_in_reach(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    seen: list[dict[str, Any]] = []

    def debugger() -> None:
        frame = sys._getframe(1)
        found = dict(frame.f_locals)
        functions = []
        while frame.f_back is not None:
            frame = frame.f_back
            functions.append(frame.f_code.co_qualname)
        seen.append({**found, "stack": functions})

    monkeypatch.setattr(sys, "breakpointhook", debugger)
    model = Network(Root())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    x = torch.randn(5, 3)
    hidden = model.first(x)
    with ts.watch(model, optimizer, on_finding="breakpoint", rules=[NonFinite()]) as monitor:
        for _ in range(2):
            model(x).sum().backward()
            optimizer.step()
    (found,) = seen  # once in a run
    assert found["module"] is model.inner
    assert found["module_name"] == "inner"
    assert torch.isnan(found["tensor"]).any()
    assert torch.equal(found["inputs"][0][0], hidden)
    assert found["summary"].nan_count == int(torch.isnan(found["tensor"]).sum())
    assert "Network.forward" in found["stack"]
    assert "inner (Root), call 0" in capsys.readouterr().out
    assert monitor.errors == []


def test_breakpoint_opens_at_the_end_of_the_step_for_other_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: seen.append(sys._getframe(1).f_locals["finding"]))
    model = Network(nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, on_finding="breakpoint", rules=[NonFinite()]):
        model(torch.randn(5, 3)).sum().backward()
        model.last.weight.grad[0, 0] = float("nan")
        optimizer.step()
    assert [finding.where for finding in seen] == ["last.weight"]


def test_quitting_the_debugger_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def quit_debugger() -> None:
        raise bdb.BdbQuit

    monkeypatch.setattr(sys, "breakpointhook", quit_debugger)
    model = Network(Root())
    with ts.watch(model, on_finding="breakpoint"), pytest.raises(bdb.BdbQuit):
        model(torch.randn(5, 3))


def test_an_unknown_on_finding_is_refused() -> None:
    with pytest.raises(ValueError, match="a callable, 'raise', 'warn', 'breakpoint' or None, got 'stop'"):
        ts.watch(Network(nn.ReLU()), on_finding="stop")  # type: ignore[arg-type]


@pytest.mark.parametrize("closed", ["<&-", "</dev/null"])
def test_without_input_no_debugger_is_opened_and_training_goes_on(closed: str) -> None:
    program = (
        "import torch, tensorstats as ts, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "model = torch.nn.Linear(2, 1); optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "with ts.watch(model, optimizer, on_finding='breakpoint') as monitor:\n"
        "    for _ in range(3):\n"
        "        model(torch.full((1, 2), float('nan'))).sum().backward()\n"
        "        optimizer.step()\n"
        "print(monitor.step, len(monitor.findings), monitor.errors)\n"
    )
    command = f'exec "$1" -c "$2" {closed}'
    done = subprocess.run(["bash", "-c", command, "-", sys.executable, program], capture_output=True, text=True)
    said = "on_finding='breakpoint': no debugger is opened, since there is no input to read from"
    assert done.stdout == f"3 1 {[said]}\n", done.stderr
