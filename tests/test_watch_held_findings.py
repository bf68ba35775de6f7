"""Findings of steps that are read one step later: when they are told, raised and warned of, and where they point."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")


import tensorstats as ts  # noqa: E402
from held import batches, build, train  # noqa: E402


def with_bad_input(step: int, count: int = 5) -> list[torch.Tensor]:
    inputs = batches(count)
    inputs[step][4, 2] = math.inf
    return inputs


@pytest.mark.parametrize(("backend", "told_in"), [("core", [3]), ("torch", [4])])
def test_findings_name_their_step_and_are_told_when_it_is_closed(backend: Any, told_in: list[int]) -> None:
    told: list[Any] = []
    when: list[int] = []
    monitor = train(
        build(),
        with_bad_input(2),
        after=lambda monitor, _: when.append(monitor.step) if len(told) and not when else None,
        backend=backend,
        on_finding=told.append,
    )
    assert when == told_in
    assert told == monitor.findings
    (finding,) = told
    assert (finding.rule, finding.where, finding.step) == ("non-finite", "input", 2)


def test_reading_tells_nobody_and_loses_nothing() -> None:
    told: list[Any] = []

    def read(monitor: Any, step: int) -> None:
        if step == 2:
            assert [finding.step for finding in monitor.findings] == [2]
            assert told == []

    train(build(), with_bad_input(2), after=read, backend="torch", on_finding=told.append)
    assert [finding.step for finding in told] == [2]


def test_what_reading_found_is_told_at_the_next_end_recorded_or_not() -> None:
    told: list[Any] = []
    counts: list[int] = []

    def read(monitor: Any, step: int) -> None:
        counts.append(len(told))
        if step == 0:
            assert len(monitor.findings) == 1

    train(build(), with_bad_input(0, 3), after=read, backend="torch", every=10, on_finding=told.append)
    assert counts == [0, 1, 1]


def test_a_callable_may_read_the_monitor() -> None:
    reports: list[str] = []
    monitor: Any = None

    def told(_finding: Any) -> None:
        reports.append(monitor.report())

    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = ts.watch(model, optimizer, backend="torch", on_finding=told)
    for x in with_bad_input(1, 3):
        model(x).sum().backward()
        optimizer.step()
    monitor.close()
    assert len(reports) == 1
    assert "non-finite" in reports[0]
    assert monitor.errors == []


def test_raise_comes_out_of_the_next_step_before_it_changes_a_weight() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs = with_bad_input(1)
    with ts.watch(model, optimizer, backend="torch", on_finding="raise") as monitor:
        for x in inputs[:2]:
            model(x).sum().backward()
            optimizer.step()
        model(inputs[2]).sum().backward()
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(ts.torch.FindingError, match="since step 1") as raised:
            optimizer.step()
        assert str(before) == str(model.state_dict())
    assert [finding.where for finding in raised.value.findings] == ["input"]
    assert monitor.errors == []


def test_what_the_last_step_found_is_raised_by_close_unless_the_loop_has_raised() -> None:
    with pytest.raises(ts.torch.FindingError, match="non-finite at input"):
        train(build(), with_bad_input(1, 2), backend="torch", on_finding="raise")

    def fail(_monitor: Any, step: int) -> None:
        if step == 1:
            raise KeyError("the user's own")

    with pytest.raises(KeyError, match="the user's own"):
        train(build(), with_bad_input(1, 2), after=fail, backend="torch", on_finding="raise")


def test_warnings_come_one_step_later() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, backend="torch", on_finding="warn"):
        for step, x in enumerate(with_bad_input(0, 2)):
            model(x).sum().backward()
            if step == 0:
                optimizer.step()
            else:
                with pytest.warns(ts.torch.FindingWarning, match="since step 0"):
                    optimizer.step()


def test_the_debugger_opens_one_step_later(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    opened: list[int] = []
    ended: list[int] = []
    monkeypatch.setattr("sys.breakpointhook", lambda: opened.append(len(ended)))
    train(
        build(),
        with_bad_input(1, 4),
        after=lambda _, step: ended.append(step),
        backend="torch",
        on_finding="breakpoint",
    )
    assert opened == [2]
    assert "since step 1" in capsys.readouterr().out


def test_a_bad_gradient_is_placed_by_the_numbers_of_its_own_step() -> None:
    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(_context: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(_context: Any, gradient: torch.Tensor) -> torch.Tensor:
            gradient = gradient.clone()
            gradient[:, 5] = math.inf
            return gradient

    def found(backend: Any) -> Any:
        model = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        with ts.watch(model, optimizer, backend=backend) as monitor:
            for step, x in enumerate(batches(3)):
                optimizer.zero_grad()
                hidden = model[0](x)
                hidden = Bad.apply(hidden) if step == 1 else hidden
                model[3](model[2](model[1](hidden))).sum().backward()
                with torch.no_grad():
                    model[0].weight.grad.nan_to_num_(posinf=math.inf, neginf=math.inf)
                optimizer.step()
        (finding,) = monitor.findings
        return finding

    core, other = found("core"), found("torch")
    assert other == core
    assert "[5]" in other.why or "[5, 0]" in other.why
