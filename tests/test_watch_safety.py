"""What the watcher must never do: change a result, raise into training, keep memory, break copies, count twice."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import subprocess
import sys
import textwrap
import warnings
import weakref
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import tensorstats as ts  # noqa: E402


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(16, 3))


def train(model: nn.Module, *, steps: int = 6, watch: dict[str, Any] | None = None) -> list[bytes]:
    """Train with a fixed seed; every loss and every weight as bytes."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    monitor = None if watch is None else ts.watch(model, optimizer, **watch)
    torch.manual_seed(7)
    trace = []
    for _ in range(steps):
        loss = model(torch.randn(8, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trace.append(loss.detach().numpy().tobytes())
    trace += [parameter.detach().numpy().tobytes() for parameter in model.parameters()]
    trace.append(torch.get_rng_state().numpy().tobytes())
    if monitor is not None:
        assert monitor.errors == []
        monitor.close()
    return trace


def run(model: nn.Module, optimizer: Any, x: Any = None, *, steps: int = 1) -> None:
    """Plain training steps."""
    for _ in range(steps):
        model(torch.randn(8, 4) if x is None else x).sum().backward()
        optimizer.step()


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"every": 2}, {"backend": "torch"}, {"histograms": True}])
def test_results_weights_and_random_numbers_are_bit_identical(options: dict[str, Any]) -> None:
    assert train(build(), watch=options) == train(build())


def test_an_in_place_relu_is_read_right_after_it_ran() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(32, 4)
    with ts.watch(model, optimizer) as monitor:
        before = nn.functional.linear(x, model[0].weight, model[0].bias).detach()
        model(x).sum().backward()
        optimizer.step()
    assert monitor.latest("outputs", "0").min == pytest.approx(before.min().item())
    assert monitor.latest("outputs", "1").min == 0
    assert monitor.latest("outputs", "1").zero_count == int((before <= 0).sum())


def test_calls_in_eval_mode_are_not_mixed_in() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        model(torch.randn(8, 4)).sum().backward()
        model.eval()
        with torch.no_grad():
            model(torch.full((100, 4), 1e6))
        model.train()
        optimizer.step()
    assert monitor.latest("outputs", "0").count == 8 * 16
    assert monitor.latest("outputs", "0").absmax < 1e3


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputation_by_activation_checkpointing_is_not_counted(reentrant: bool) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

        def forward(self, x: Any) -> Any:
            return checkpoint(self.block, self.first(x), use_reentrant=reentrant)

    model = Checkpointed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        model(torch.randn(8, 4)).sum().backward()
        optimizer.step()
    assert monitor.names("outputs") == ["first", "block.0", "block.1"]
    assert monitor.latest("outputs", "block.0").count == 32
    assert monitor.units("block.1").updates == 1


# --- errors -----------------------------------------------------------------------------------------------------------


def test_an_error_inside_a_hook_is_kept_told_once_and_never_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any, **_keywords: Any) -> None:
        raise RuntimeError("no luck today")

    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        monkeypatch.setattr("tensorstats.torch.record.outputs.OutputRecorder.record", broken)
        monkeypatch.setattr("tensorstats.torch.record.parameters.ParameterRecorder.read_gradients", broken)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(3):
                optimizer.zero_grad()
                model(torch.randn(8, 4)).sum().backward()
                optimizer.step()
    assert monitor.step == 3
    assert monitor.errors[0] == "the output of 0: RuntimeError: no luck today"
    assert "the optimizer's step: RuntimeError: no luck today" in monitor.errors
    assert len(monitor.errors) == len(told) == 6
    assert all(issubclass(warning.category, ts.torch.WatchWarning) for warning in told)
    assert "The watcher could not do everything" in monitor.report()


def test_warnings_as_errors_stay_inside_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any) -> None:
        raise RuntimeError("no luck today")

    monkeypatch.setattr("tensorstats.torch.record.outputs.OutputRecorder.record", broken)
    model = nn.Linear(4, 2)
    with ts.watch(model) as monitor:
        model(torch.randn(2, 4))  # pytest turns warnings into errors
    assert monitor.errors == ["the output of (model): RuntimeError: no luck today"]


def test_an_error_while_a_step_ends_does_not_stop_the_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ts.rules.Rule):
        id = "broken"

        def statistic(self, view: Any) -> Any:
            raise RuntimeError("rule is broken")

    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = ts.watch(model, optimizer, rules=[Broken()])
    with pytest.warns(ts.torch.WatchWarning, match="rule is broken"):
        run(model, optimizer, steps=3)
    monitor.close()
    assert monitor.step == 3
    assert monitor.total("outputs", "0").count == 3 * 8 * 16


def test_an_error_in_on_finding_is_kept() -> None:
    def callback(_finding: Any) -> None:
        raise ValueError("callback is broken")

    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.full((2, 4), float("nan"))
    monitor = ts.watch(model, optimizer, on_finding=callback)
    with pytest.warns(ts.torch.WatchWarning, match="callback"):
        run(model, optimizer, x)
    assert monitor.errors == ["on_finding: ValueError: callback is broken"]
    assert [finding.rule for finding in monitor.findings] == ["non-finite"]


def test_the_errors_of_the_users_loop_pass_through_and_leave_no_hook() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = ts.watch(model, optimizer)

    def loop() -> None:
        with monitor:
            run(model, optimizer)
            model(torch.randn(8, 5))

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        loop()
    assert hooks_of(model, optimizer) == 0
    assert (monitor.step, monitor.skipped) == (2, 1)
    assert monitor.errors == []


def test_tensors_that_cannot_be_counted_are_noted_not_raised() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Any) -> Any:
            return x.to_sparse(), (x * self.scale).to("meta")

    model = Odd()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = ts.watch(model, optimizer)
    with pytest.warns(ts.torch.WatchWarning, match="sparse_coo"):
        model(torch.ones(2, 2))
    optimizer.step()
    assert monitor.names("outputs") == []
    assert len(monitor.errors) == 1


# --- memory and hooks -------------------------------------------------------------------------------------------------


def hooks_of(model: nn.Module, optimizer: Any) -> int:
    """How many hooks of any kind are attached."""
    modules = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())
    steps = len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)
    parameters = sum(
        len(p._backward_hooks or ()) + len(p._post_accumulate_grad_hooks or ()) for p in model.parameters()
    )
    return modules + steps + parameters


@pytest.mark.parametrize("with_optimizer", [True, False])
def test_close_detaches_everything_and_may_be_called_twice(with_optimizer: bool) -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = ts.watch(model, optimizer if with_optimizer else None)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).sum().backward()
        optimizer.step()
    assert hooks_of(model, optimizer) > 0
    monitor.close()
    monitor.close()
    assert hooks_of(model, optimizer) == 0
    recorded = monitor.total("outputs", "0").count
    model(torch.randn(8, 4)).sum().backward()
    optimizer.step()
    assert monitor.total("outputs", "0").count == recorded
    assert "closed" in repr(monitor)


@pytest.mark.parametrize("backend", ["core", "torch"])
def test_no_activation_is_kept_alive(backend: Any) -> None:
    alive: list[weakref.ref[Any]] = []

    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            y = self.layer(x)
            alive.extend([weakref.ref(y), weakref.ref(x)])
            return y.relu()

    model = Remembers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, backend=backend):
        for _ in range(2):
            optimizer.zero_grad(set_to_none=True)
            loss = model(torch.randn(8, 4)).sum()
            loss.backward()
            del loss
            assert [reference() for reference in alive] == [None] * len(alive)
            optimizer.step()


def test_the_model_is_freed_once_monitor_and_model_are_dropped() -> None:
    model = build()
    monitor = ts.watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
    reference = weakref.ref(model)
    monitor.close()
    del model, monitor
    gc.collect()
    assert reference() is None


# --- copies -----------------------------------------------------------------------------------------------------------


def test_a_deep_copy_of_a_watched_model_is_not_watched() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        model(torch.randn(8, 4)).sum().backward()
        twin = copy.deepcopy(model)
        twin(torch.randn(50, 4)).sum().backward()
        optimizer.step()
        copy.deepcopy(optimizer)
    assert monitor.latest("outputs", "0").count == 8 * 16
    assert monitor.errors == []


@pytest.mark.slow
@pytest.mark.parametrize("with_optimizer", [True, False])
def test_a_watched_model_is_saved_and_loads_without_this_package(with_optimizer: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer if with_optimizer else None):
        for _ in range(2):
            model(torch.randn(8, 4)).sum().backward()
            optimizer.step()
        buffer = io.BytesIO()
        torch.save(model, buffer)
        pickle.loads(pickle.dumps(model))(torch.randn(2, 4))
    program = """
        import io, sys
        sys.modules["tensorstats"] = None
        import torch
        model = torch.load(io.BytesIO(sys.stdin.buffer.read()), weights_only=False)
        print(tuple(model(torch.ones(3, 4)).shape))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], input=buffer.getvalue(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().strip() == "(3, 2)"


# --- other machinery --------------------------------------------------------------------------------------------------


def test_tracing_a_watched_model_records_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    with ts.watch(model, torch.optim.SGD(model.parameters(), lr=0.1)) as monitor, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, torch.ones(1, 4))
    assert traced(torch.ones(1, 4)).shape == (1, 2)
    assert monitor.errors == []
    assert monitor.names("outputs") == []


def test_autocast_does_not_change_the_statistics() -> None:
    model = nn.Linear(64, 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(32, 64)
    with ts.watch(model, optimizer, backend="torch") as monitor, torch.autocast("cpu", torch.bfloat16):
        y = model(x)
        y.sum().backward()
        optimizer.step()
    assert y.dtype is torch.bfloat16
    assert monitor.latest("outputs", "(model)").dtype == "bfloat16"
    assert monitor.latest("outputs", "(model)").sum == pytest.approx(y.detach().double().sum().item(), rel=1e-9)
