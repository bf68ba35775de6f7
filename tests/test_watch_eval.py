"""Calls in eval mode: recorded whatever is watched and compiled, without a recompilation; training in eval mode."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.torch import Schedule  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Linear(8, 2))


# Dynamo's own, of the input of a compiled part.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("compiled", ["nothing", "model", "part"])
@pytest.mark.parametrize("every", [1, 5])
def test_scheduled_calls_of_compiled_models_are_all_recorded_without_recompiling(
    compiled: str, fullgraph: bool, every: int
) -> None:
    dynamo = pytest.importorskip("torch._dynamo")
    dynamo.reset()
    dynamo.utils.counters.clear()
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ts.watch(model, optimizer, every=every, eval_schedule=Schedule(every=2)) as monitor:
        called: Any = model
        if compiled == "model":
            called = torch.compile(model, backend="aot_eager", fullgraph=fullgraph)
        elif compiled == "part":
            model[2].compile(backend="aot_eager", fullgraph=fullgraph)
        for _ in range(12):
            called.train()
            optimizer.zero_grad()
            called(torch.randn(4, 4)).sum().backward()
            optimizer.step()
            called.eval()
            with torch.no_grad():
                called(torch.randn(4, 4))
    assert monitor.errors == []
    assert monitor.names("outputs", mode="eval") == ["0", "1", "2.0", "2.1", "3"]
    for name in monitor.names("outputs"):
        assert monitor.series("outputs", name, "count", mode="eval")[0].tolist() == [0, 2, 4, 6, 8, 10]
        assert monitor.series("outputs", name, "count")[0].tolist() == list(range(0, 12, every))
    assert dynamo.utils.counters["stats"]["unique_graphs"] == (0 if compiled == "nothing" else 2)
    assert monitor.state_dict()["eval_calls"] == 12


def test_reading_takes_in_the_last_compiled_call() -> None:
    model = build()
    with ts.watch(model, torch.optim.SGD(model.parameters(), 0.1), eval_schedule=Schedule()) as monitor:
        compiled = torch.compile(model.eval(), backend="aot_eager")
        for number in range(3):
            compiled(torch.randn(4, 4))
            assert monitor.series("outputs", "0", "count", mode="eval")[0].tolist() == list(range(number + 1))


@pytest.mark.parametrize(
    ("root", "x"), [(nn.LSTM(4, 3), torch.randn(5, 2, 4)), (nn.Linear(4, 2), torch.randn(2, 4))], ids=["lstm", "linear"]
)
def test_a_root_that_is_watched_itself_has_the_names_of_training(root: nn.Module, x: Any) -> None:
    optimizer = torch.optim.SGD(root.parameters(), 0.1)
    with ts.watch(root, optimizer, every=2, eval_schedule=Schedule()) as monitor:
        for _ in range(3):
            root.train()
            output = root(x)
            (output if isinstance(output, torch.Tensor) else output[0]).sum().backward()
            optimizer.step()
            root.eval()
            root(x)
    assert monitor.errors == []
    assert monitor.names("outputs", mode="eval") == monitor.names("outputs")
    assert len(monitor.series("outputs", monitor.names("outputs")[0], "l2", mode="eval")[0]) == 3


def test_an_error_in_a_recorded_call_leaves_no_hook() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ts.watch(model, optimizer, start=10, eval_schedule=Schedule()) as monitor:
        model.eval()
        with pytest.raises(RuntimeError, match="mat1"):
            model(torch.randn(4, 5))
        assert not any(module._forward_hooks for module in model.modules())
        model(torch.randn(4, 4))
    assert monitor.series("outputs", "3", "count", mode="eval")[1].tolist() == [8]
    assert monitor.errors == []


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.cell = nn.GRU(4, 4)

    def forward(self, x: Any) -> Any:
        h, state = self.cell(self.first(x))
        return h.chunk(2, -1), torch.var_mean(h), h.unbind(0), state


def test_outputs_that_the_loss_does_not_use_have_no_gradient() -> None:
    model = Parts()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    signals = ["outputs", "output_gradients"]
    with ts.watch(model, optimizer, modules=lambda _name, _module: True, signals=signals) as monitor:
        chunks, moments, rows, _ = model(torch.randn(3, 2, 4))
        (chunks[0].sum() + moments[1].sum() + rows[0].sum()).backward()
        optimizer.step()
    assert monitor.errors == []
    assert set(monitor.names("output_gradients")) == {
        "(model)[0][0]",
        "(model)[1][1]",
        "(model)[2][0]",
        "cell[0]",
        "first",
    }


# --- training in eval mode --------------------------------------------------------------------------------------------


def step(model: nn.Module, optimizer: Any) -> None:
    optimizer.zero_grad()
    model(torch.randn(16, 4)).square().mean().backward()
    optimizer.step()


def test_a_check_before_training_is_no_training_in_eval_mode() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ts.watch(model, optimizer, histograms=True) as monitor:
        model.eval()
        for _ in range(2):
            model(torch.full((64, 4), 1000.0))  # gradients are on, and nobody needs them
        model.train()
        for _ in range(3):
            step(model, optimizer)
    assert (monitor.step, monitor.skipped, monitor.errors) == (3, 0, [])
    assert monitor.series("outputs", "0", "count")[1].tolist() == [16 * 8] * 3
    assert monitor.histogram("outputs", "0").count == monitor.total("outputs", "0").count == 3 * 16 * 8
    assert monitor.units("1").updates == 3


@pytest.mark.parametrize("scheduled", [False, True])
def test_training_in_eval_mode_after_an_evaluation_is_recorded_from_the_first_step(scheduled: bool) -> None:
    model = build().eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = Schedule() if scheduled else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ts.torch.WatchWarning)
        with ts.watch(model, optimizer, eval_schedule=schedule) as monitor:
            for _ in range(4):
                with torch.no_grad():
                    model(torch.randn(16, 4))
                step(model, optimizer)
    assert monitor.series("outputs", "0", "count")[1].tolist() == [16 * 8] * 4
    (note,) = monitor.errors
    assert "eval mode" in note
    if scheduled:
        assert len(monitor.series("outputs", "0", "count", mode="eval")[0]) == 8


def test_a_model_that_goes_into_eval_mode_while_it_is_trained_is_recorded_on() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ts.torch.WatchWarning)
        with ts.watch(model, optimizer) as monitor:
            for number in range(10):
                if number == 4:
                    model.eval()  # after an evaluation, and nobody calls train() again
                step(model, optimizer)
    steps = monitor.series("outputs", "0", "count")[0].tolist()
    assert steps[:4] == [0, 1, 2, 3]
    assert steps[-4:] == [6, 7, 8, 9]
    (note,) = monitor.errors
    assert "eval mode" in note
