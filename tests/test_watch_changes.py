"""Runs that change while they are watched: parameters replaced or frozen, masks made anew, readers in other threads."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats._core import SeenTensors, TensorSlot  # noqa: E402
from tensorstats.rules import Rule  # noqa: E402
from watched import small_model, train  # noqa: E402

BACKENDS = ["auto", "torch"]


def sgd(model: nn.Module, rate: float = 0.05) -> Any:
    return torch.optim.SGD(model.parameters(), lr=rate)


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_optimizer", [True, False])
def test_a_parameter_that_is_thawed_has_its_gradients_from_that_step_on(with_optimizer: bool) -> None:
    model = small_model()
    model[0].requires_grad_(False)
    optimizer = sgd(model)
    watched_optimizer = optimizer if with_optimizer else None
    with ts.watch(model, watched_optimizer, signals=["raw_gradients", "gradients"]) as monitor:
        for step in range(5):
            if step == 2:
                model[0].requires_grad_(True)
            train(model, optimizer, 1)
    assert monitor.errors == []
    for signal in ("raw_gradients", "gradients"):
        assert monitor.series(signal, "0.weight", "count")[0].tolist() == [2, 3, 4], signal
        assert monitor.series(signal, "2.weight", "count")[0].tolist() == [0, 1, 2, 3, 4], signal


@pytest.mark.parametrize("with_optimizer", [True, False])
@pytest.mark.parametrize("first", [0, 2])
def test_a_replaced_parameter_is_followed_in_the_same_step(with_optimizer: bool, first: int) -> None:
    model = small_model()
    optimizer = sgd(model, 1e-5)
    signals = ["parameters", "gradients", "raw_gradients", "updates"]
    with ts.watch(model, optimizer if with_optimizer else None, signals=signals) as monitor:
        for step in range(4):
            if step == first:
                model[2].weight = nn.Parameter(torch.full((3, 8), 7.0))
                optimizer.param_groups[0]["params"] = list(model.parameters())
            train(model, optimizer, 1)
            if step == first:
                changed = ts.summary(model[2].weight)
                gradient = ts.summary(model[2].weight.grad)
    assert monitor.errors == []
    assert monitor.series("parameters", "2.weight", "sum")[1][first] == changed.sum
    for signal in ("gradients", "raw_gradients"):
        assert monitor.series(signal, "2.weight", "l2")[0].tolist() == [0, 1, 2, 3]
        assert monitor.series(signal, "2.weight", "l2")[1][first] == gradient.l2
    assert (monitor.series("updates", "2.weight", "absmax")[1] < 1).all()


def test_a_gradient_that_comes_after_its_step_counts_nowhere() -> None:
    model = small_model()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)  # the graph stays valid
    with ts.watch(model, optimizer, signals=["output_gradients"], steps=[0]) as monitor:
        late = model(torch.randn(4, 4)).square().mean()
        late.backward(retain_graph=True)
        optimizer.step()
        before = monitor.total("output_gradients", "2").count
        late.backward()
        train(model, optimizer, 2)
    assert monitor.errors == []
    assert monitor.total("output_gradients", "2").count == before == 12


# --- masks ------------------------------------------------------------------------------------------------------------


def test_a_tensor_elsewhere_is_left_to_its_device_with_its_mask() -> None:
    x = torch.ones(4, 2, device="meta")
    assert TensorSlot().count(x, None, 1, torch.ones(4, 1, dtype=torch.bool, device="meta")) is None
    assert TensorSlot().count(x, SeenTensors(), 1) is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mask_that_was_computed_keeps_nothing_alive(backend: Any) -> None:
    model = small_model()
    optimizer = sgd(model)
    alive: list[Any] = []

    def loud(_name: str, x: Any) -> Any:
        mask = x.square().sum(-1)  # hangs on the graph of the step
        alive.extend([weakref.ref(mask), weakref.ref(x)])
        return mask

    with ts.watch(model, optimizer, every=1000, mask=loud, backend=backend) as monitor:
        train(model, optimizer, 2)
        gc.collect()
        assert [reference for reference in alive if reference() is not None] == []
    assert monitor.errors == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_padding_in_the_models_input_is_no_finding(backend: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    x = torch.randn(2, 3, 4)
    x[0, 2] = float("nan")
    mask = torch.tensor([[True, True, False], [True, True, True]])
    with ts.watch(model, sgd(model, 0.0), mask=mask, signals=["outputs", "inputs"], backend=backend) as monitor:
        model(x)[mask].sum().backward()
        monitor._loop.watched.targets.optimizers[""].step()
    assert monitor.errors == []
    assert monitor.findings == []
    assert monitor.latest("inputs", "0.input").nan_count == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_units_that_a_mask_leaves_out_are_not_dead(backend: Any) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU())
    nn.init.constant_(model[0].weight, 1.0)
    mask = torch.tensor([[False, False, False, True]] * 8)
    with ts.watch(model, sgd(model, 1e-3), mask=mask, backend=backend) as monitor:
        for _ in range(15):
            monitor._loop.watched.targets.optimizers[""].zero_grad()
            model(torch.rand(8, 1, 8, 8)).mean().backward()
            monitor._loop.watched.targets.optimizers[""].step()
    assert np.asarray(monitor.units("1").count).tolist()[:3] == [0, 0, 0]
    assert [finding.rule for finding in monitor.findings if finding.rule == "dead-units"] == []


# --- while others read, and when judging fails ------------------------------------------------------------------------


def test_a_thread_that_reads_costs_no_histogram_of_a_held_step() -> None:
    model = small_model()
    optimizer = sgd(model)
    done = threading.Event()
    with ts.watch(model, optimizer, backend="torch", histograms=True, signals=["outputs"]) as monitor:

        def read() -> None:
            while not done.wait(0.0005):
                assert monitor.findings == []

        reader = threading.Thread(target=read)
        reader.start()
        train(model, optimizer, 60)
        done.set()
        reader.join()
    assert monitor.errors == []
    assert monitor.histogram("outputs", "1").count == 60 * 16 * 8
    steps, series = monitor.histograms("outputs", "1")
    assert steps.tolist() == list(range(60))
    assert {histogram.count for histogram in series} == {16 * 8}


class Broken(Rule):
    """A rule that raises."""

    id = "broken"

    def statistic(self, _view: Any) -> Any:
        raise ValueError("mine")


def test_a_rule_that_raises_costs_no_numbers() -> None:
    model = small_model()
    optimizer = sgd(model)
    with (
        pytest.warns(ts.torch.WatchWarning, match="mine"),
        ts.watch(model, optimizer, rules=[Broken()], histograms=True) as monitor,
    ):
        train(model, optimizer, 3)
    assert monitor.histogram("outputs", "0").count == monitor.total("outputs", "0").count == 3 * 16 * 8
    assert monitor.histograms("outputs", "0")[0].tolist() == [0, 1, 2]
