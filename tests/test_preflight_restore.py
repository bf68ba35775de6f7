"""`ts.preflight` leaves everything as it was, bit for bit, also when the model, the loss or a check raises."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.preflight import Check, PreflightError  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


class Counting(nn.Module):
    """Keeps state of its own: a counter, a list, a plain tensor, a buffer that it replaces; raises when told to."""

    def __init__(self, raise_at: int) -> None:
        super().__init__()
        self.calls, self.raise_at = 0, raise_at
        self.log: list[int] = []
        self.plain = torch.zeros(3)
        self.register_buffer("kept", torch.zeros(2), persistent=False)

    def forward(self, x: Any) -> Any:
        self.calls += 1
        self.log.append(self.calls)
        self.plain += 1
        self.kept = self.kept + 1
        if self.calls == self.raise_at:
            raise RuntimeError("told to")
        np.random.rand()  # noqa: NPY002
        random.random()
        return x + 0 * torch.rand(1)


def everything(model: Any, optimizer: Any, batch: Any) -> dict[str, Any]:
    """All that must not change, as bytes or values, and the identity of every object that others may hold."""

    def bits(tensor: Any) -> Any:
        return None if tensor is None else (id(tensor), tensor.detach().numpy().tobytes(), tensor.requires_grad)

    state = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                value = bits(value)
            elif isinstance(value, dict):
                value = [(k, bits(v) if isinstance(v, torch.Tensor) else id(v)) for k, v in value.items()]
            elif isinstance(value, list):
                value = (id(value), list(value))
            state[f"{name}.{key}"] = value
    for name, parameter in model.named_parameters():
        state[f"gradient of {name}"] = bits(parameter.grad)
    if optimizer is not None:
        state["groups"] = [
            {k: [id(p) for p in v] if k == "params" else v for k, v in group.items()}
            for group in optimizer.param_groups
        ]
        state["state"] = {
            (id(p), key): bits(value) if isinstance(value, torch.Tensor) else value
            for p, values in optimizer.state.items()
            for key, value in values.items()
        }
        state["optimizer"] = {k: id(v) for k, v in vars(optimizer).items()}
    state["batch"] = [bits(tensor) for tensor in batch]
    state["torch"] = torch.get_rng_state().numpy().tobytes()
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    state["numpy"] = (kind, keys.tobytes(), rest)
    state["python"] = random.getstate()
    state["modes"] = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    return state


OPTIMIZERS = {
    "none": lambda p: None,
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 1e-2, amsgrad=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 1e-2),
    "lbfgs": lambda p: torch.optim.LBFGS(p, 0.1, max_iter=3),
}

PROGRAMS = st.fixed_dictionaries(
    {
        "norm": st.booleans(),
        "dropout": st.booleans(),
        "frozen": st.booleans(),
        "steps": st.integers(0, 2),
        "gradients": st.sampled_from(["none", "kept", "zero"]),
        "training": st.lists(st.booleans(), min_size=3, max_size=3),
        "optimizer": st.sampled_from(sorted(OPTIMIZERS)),
        "scheduler": st.booleans(),
        "hook": st.booleans(),
        "raise_at": st.sampled_from([0, 0, 1, 2, 3, 7, 20, 60]),
        "loss_raises": st.booleans(),
        "grad": st.booleans(),
    }
)


def build(program: dict[str, Any]) -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    layers: list[Any] = [nn.Linear(6, 8), nn.ReLU(), Counting(0)]
    if program["norm"]:
        layers.append(nn.BatchNorm1d(8))
    if program["dropout"]:
        layers.append(nn.Dropout(0.3))
    model = nn.Sequential(*layers, nn.Linear(8, 3))
    batch = torch.randn(24, 6), torch.arange(24) % 3
    optimizer = OPTIMIZERS[program["optimizer"]](model.parameters())
    if optimizer is not None and program["scheduler"]:
        torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    def closure() -> Any:
        if optimizer is not None:
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        return loss

    for _ in range(program["steps"]):
        closure()
        if optimizer is not None:
            optimizer.step(closure)
    if program["gradients"] != "kept":
        for parameter in model.parameters():
            parameter.grad = None if program["gradients"] == "none" else torch.zeros_like(parameter)
    if program["frozen"]:
        model[0].weight.requires_grad_(False)
    for module, training in zip(model, program["training"], strict=False):
        module.train(training)
    if program["hook"]:
        model[0].register_forward_hook(lambda *_: None)
        model[0].weight.register_hook(lambda gradient: gradient) if not program["frozen"] else None
    model[2].calls, model[2].raise_at = 0, program["raise_at"]
    return model, batch, optimizer


@settings(max_examples=40)
@given(program=PROGRAMS)
def test_everything_is_as_it_was(program: dict[str, Any]):
    model, batch, optimizer = build(program)
    calls = []

    def loss_fn(predictions: Any, targets: Any) -> Any:
        calls.append(1)
        if program["loss_raises"] and len(calls) == 5:
            raise ValueError("told to")
        return nn.functional.cross_entropy(predictions, targets)

    before = everything(model, optimizer, batch)
    with torch.set_grad_enabled(program["grad"]):
        modes = everything(model, optimizer, batch)["modes"]
        try:
            ts.preflight(model, batch, loss_fn, optimizer)
        except PreflightError:
            assert program["raise_at"] == 1
        after = everything(model, optimizer, batch)
    assert after.pop("modes") == modes
    before.pop("modes")
    assert after == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_goes_through_and_leaves_everything_as_it_was(error: type[BaseException]):
    program = {
        **dict.fromkeys(("norm", "dropout", "scheduler", "hook"), True),
        "frozen": False,
        "steps": 1,
        "gradients": "kept",
        "training": [True, False, True],
        "optimizer": "adam",
        "raise_at": 0,
    }
    model, batch, optimizer = build(program)
    calls = []

    def loss_fn(predictions: Any, targets: Any) -> Any:
        calls.append(1)
        if len(calls) == 40:
            raise error
        return nn.functional.cross_entropy(predictions, targets)

    before = everything(model, optimizer, batch)
    with pytest.raises(error):
        ts.preflight(model, batch, loss_fn, optimizer)
    assert everything(model, optimizer, batch) == before


def test_a_training_goes_on_as_if_nothing_had_been_checked():
    program = {
        **dict.fromkeys(("norm", "dropout"), True),
        **dict.fromkeys(("frozen", "scheduler", "hook"), False),
        "steps": 2,
        "gradients": "kept",
        "training": [True, True, True],
        "optimizer": "adam",
        "raise_at": 0,
    }
    ends = []
    for checked in (False, True):
        model, (x, y), optimizer = build(program)
        if checked:
            assert ts.preflight(model, (x, y), nn.CrossEntropyLoss(), optimizer).checks
        for _ in range(5):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*ends)


def test_a_graph_that_is_held_can_still_be_walked():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    x, y = torch.randn(16, 4), torch.arange(16) % 2
    loss = nn.functional.cross_entropy(model(x), y)
    ts.preflight(model, (x, y), nn.CrossEntropyLoss())
    loss.backward()
    assert model[0].weight.grad is not None


def test_modules_that_the_loss_holds_are_put_back_too():
    teacher = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    model = nn.Linear(4, 3)
    x = torch.randn(32, 4)

    def step(model: nn.Module, batch: Any) -> Any:
        return nn.functional.mse_loss(model(batch), teacher(batch).detach())

    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    ts.preflight(model, x, step)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_inputs_that_the_model_writes_into_stay():
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.net(x.div_(2))

    x, y = torch.randn(16, 4), torch.arange(16) % 2
    kept = x.clone()
    ts.preflight(InPlace(), (x, y), nn.CrossEntropyLoss())
    assert torch.equal(x, kept)


def test_an_exception_in_one_check_is_its_skip():
    class Broken(Check):
        id, asks = "broken", "does it raise?"

        def measure(self, subject: Any) -> Any:
            subject.model.weight.data.fill_(7)
            raise ZeroDivisionError("as told")

    model = nn.Linear(4, 2)
    weight = model.weight.detach().clone()
    report = ts.preflight(model, (torch.randn(8, 4), torch.arange(8) % 2), nn.CrossEntropyLoss(), checks=[Broken()])
    assert [(check.state, check.note) for check in report.checks] == [("SKIP", "ZeroDivisionError: as told")]
    assert torch.equal(model.weight, weight)
