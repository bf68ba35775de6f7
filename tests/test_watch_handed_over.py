"""What people hand over: wrapped and rebuilt optimizers, replaced and wrapped layers, borrowed weights, odd tensors."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.rules import DeadUnits, default_rules  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def step(model: nn.Module, optimizer: Any, x: Any = None) -> None:
    optimizer.zero_grad()
    model(torch.randn(16, 8) if x is None else x).square().mean().backward()
    optimizer.step()


# --- optimizers -------------------------------------------------------------------------------------------------------


class Wrapped(torch.optim.Optimizer):
    """As Accelerate's and Opacus' are: a subclass that is no optimizer of its own."""

    def __init__(self, inner: Any, name: str = "optimizer") -> None:
        self.__dict__[name] = self.inner = inner

    def step(self, closure: Any = None) -> Any:
        return self.inner.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none)

    @property
    def param_groups(self) -> Any:  # type: ignore[override]
        return self.inner.param_groups


@pytest.mark.parametrize("name", ["optimizer", "original_optimizer", "base_optimizer", "_optimizer"])
def test_a_wrapped_optimizer_is_watched_through_its_wrapper(name: str) -> None:
    model = nn.Linear(8, 4)
    optimizer = Wrapped(Wrapped(torch.optim.SGD(model.parameters(), lr=0.1), name), name)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(3):
            step(model, optimizer)
    assert (monitor.step, monitor.errors) == (3, [])
    assert len(monitor.series("updates", "weight", "l2")[0]) == 3


def test_accelerates_optimizer_is_watched() -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = nn.Linear(8, 4)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    with ts.watch(model, optimizer) as monitor:
        for _ in range(3):
            optimizer.zero_grad()
            accelerator.backward(model(torch.randn(16, 8)).square().mean())
            optimizer.step()
    assert (monitor.step, monitor.errors, monitor.findings) == (3, [], [])


def test_what_is_no_optimizer_is_refused_by_name() -> None:
    class Hollow(torch.optim.Optimizer):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match=r"optimizer must be a torch.optim.Optimizer, .* got Hollow"):
        ts.watch(nn.Linear(4, 2), Hollow())


def test_a_rebuilt_optimizer_is_followed() -> None:
    model = nn.Linear(8, 4)
    optimizer: Any = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(10):
            step(model, optimizer)
        old, optimizer = optimizer, torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(20):
            step(model, optimizer)
    assert (monitor.step, monitor.errors) == (30, [])
    assert len(monitor.series("updates", "weight", "update_ratio")[0]) == 30
    for left in (old, optimizer):
        assert not left._optimizer_step_pre_hooks
        assert not left._optimizer_step_post_hooks


def test_an_optimizer_of_other_parameters_is_none_of_the_watchers_business() -> None:
    model, other = nn.Linear(8, 4), nn.Linear(8, 4)
    optimizer, foreign = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, other))
    with ts.watch(model, optimizer) as monitor:
        for _ in range(5):
            step(other, foreign)
            step(model, optimizer)
    assert monitor.step == 5


def test_optimizers_that_take_turns_are_counted_once_each() -> None:
    model = nn.Linear(8, 4)
    turns = [torch.optim.SGD(model.parameters(), lr=0.1), torch.optim.Adam(model.parameters())]
    with ts.watch(model, turns[0]) as monitor:
        for number in range(12):
            step(model, turns[number % 2])
    assert (monitor.step, monitor.errors) == (12, [])
    assert len(monitor.series("updates", "weight", "l2")[0]) == 12
    assert not any(optimizer._optimizer_step_pre_hooks for optimizer in turns)


def test_the_base_optimizer_of_sharpness_aware_minimisation_counts_once() -> None:
    class SAM(torch.optim.Optimizer):
        def __init__(self, parameters: Any, **options: Any) -> None:
            super().__init__(parameters, options)
            self.base_optimizer = torch.optim.SGD(self.param_groups, **options)
            self.param_groups = self.base_optimizer.param_groups

        @torch.no_grad()
        def first_step(self) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["e"] = 0.05 * p.grad / p.grad.norm()
                    p.add_(self.state[p]["e"])

        @torch.no_grad()
        def second_step(self) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(self.state[p]["e"])
            self.base_optimizer.step()

    model = nn.Linear(8, 4)
    optimizer = SAM(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(4):
            x = torch.randn(16, 8)
            model(x).square().mean().backward()
            optimizer.first_step()
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.second_step()
            optimizer.zero_grad()
    assert (monitor.step, monitor.errors) == (4, [])


# --- modules ----------------------------------------------------------------------------------------------------------


def test_a_replaced_module_is_followed() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        for number in range(30):
            if number == 10:
                model[2] = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4))
                optimizer.param_groups[0]["params"] = list(model.parameters())
            step(model, optimizer)
    assert len(monitor.series("outputs", "0", "l2")[0]) == 30
    assert len(monitor.series("outputs", "2", "l2")[0]) == 10
    assert len(monitor.series("outputs", "2.1", "l2")[0]) == 20
    assert len(monitor.series("gradients", "2.2.weight", "l2")[0]) == 20
    assert monitor.errors == []
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("wrap", ["weight_norm", "spectral_norm", "orthogonal"])
def test_a_parametrized_layer_is_a_layer(wrap: str) -> None:
    parametrized = getattr(nn.utils.parametrizations, wrap)
    model = nn.Sequential(parametrized(nn.Linear(8, 16)), nn.ReLU(), parametrized(nn.Linear(16, 16)), nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        for number in range(3):
            if number == 2:
                model[2].bias.data.fill_(float("nan"))
            step(model, optimizer)
    assert monitor.names("outputs") == ["0", "1", "2", "3"]
    assert monitor.findings[0].where == "2"
    assert "its own bias already holds one" in monitor.findings[0].why


def test_a_scripted_part_is_left_out_and_the_rest_is_watched() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = torch.jit.script(nn.Linear(8, 4))
    model = nn.Sequential(nn.Linear(8, 8), part)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(ts.torch.WatchWarning, match="the outputs of 1: scripted and traced code takes no hooks"):
        monitor = ts.watch(model, optimizer)
    with monitor:
        step(model, optimizer)
    assert len(monitor.errors) == 1
    assert monitor.names("outputs") == ["0"]
    assert set(monitor.names("gradients")) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_weights_that_are_lent_to_the_model_are_not_its_own() -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    teacher = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    with ts.watch(model, optimizer) as monitor:
        for _ in range(3):
            x = torch.randn(16, 8)
            with torch.no_grad():
                target = torch.func.functional_call(model, teacher, (x,))
            optimizer.zero_grad()
            (model(x) - target).square().mean().backward()
            optimizer.step()
    assert monitor.latest("parameters", "weight").l2 == pytest.approx(model.weight.norm().item(), rel=1e-6)
    assert monitor.names("gradients") == monitor.names("updates") == ["weight", "bias"]
    assert monitor.errors == []


# --- training, however it is done -------------------------------------------------------------------------------------


def test_training_in_eval_mode_is_told_and_judged() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1)).eval()
    nn.init.constant_(model[0].bias, -10.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ts.torch.WatchWarning)
        with ts.watch(model, optimizer) as monitor:
            for _ in range(50):
                step(model, optimizer)
    assert [(f.rule, f.where) for f in monitor.findings] == [("dead-units", "1")]
    (note,) = monitor.errors
    assert "trained in eval mode" in note


def test_evaluation_before_the_training_is_neither_told_nor_counted() -> None:
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ts.watch(model, optimizer) as monitor:
        model.eval()
        model(torch.full((16, 8), 100.0))
        model.train()
        step(model, optimizer)
    assert monitor.errors == []
    assert monitor.total("outputs", "(model)").count == 64


def test_evaluation_between_steps_is_no_training() -> None:
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(3):
            model.train()
            step(model, optimizer)
            model.eval()
            model(torch.full((16, 8), 100.0))
    assert monitor.total("outputs", "(model)").count == 3 * 64
    assert monitor.errors == []


def test_gradients_of_a_copy_are_not_called_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = sys.modules.get("torch._dynamo.utils")
    if compiler is not None:  # another test may have compiled something
        monkeypatch.setitem(compiler.counters["frames"], "ok", 0)
    shared, local = nn.Linear(8, 4), nn.Linear(8, 4)
    optimizer = torch.optim.SGD(shared.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ts.torch.WatchWarning)
        with ts.watch(shared, optimizer) as monitor:
            for _ in range(3):
                local.load_state_dict(shared.state_dict())
                local.zero_grad()
                local(torch.randn(16, 8)).square().mean().backward()
                for mine, theirs in zip(shared.parameters(), local.parameters(), strict=True):
                    mine.grad = theirs.grad
                optimizer.step()
    (note,) = monitor.errors
    assert "a copy of the model" in note
    assert "compiled" not in note


@pytest.mark.parametrize("how", ["data.zero_", "autograd.grad", "zero_", "none", "copy"])
def test_every_way_of_resetting_gradients_is_one(how: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parameters = list(model.parameters())
    with ts.watch(model, optimizer) as monitor:
        for _ in range(6):
            loss = nn.functional.cross_entropy(model(torch.randn(16, 8)), torch.randint(0, 4, (16,)))
            if how == "autograd.grad":
                for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                    p.grad = gradient
            else:
                for p in parameters:
                    if p.grad is not None and how == "data.zero_":
                        p.grad.data.zero_()
                    elif p.grad is not None and how == "zero_":
                        p.grad.zero_()
                    elif p.grad is not None and how == "copy":
                        p.grad.copy_(torch.zeros_like(p))
                    elif how == "none":
                        p.grad = None
                loss.backward()
            optimizer.step()
    assert monitor.findings == []


# --- tensors and arguments --------------------------------------------------------------------------------------------


def test_sparse_gradients_are_counted() -> None:
    model = nn.Embedding(50, 8, sparse=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        for number in range(3):
            optimizer.zero_grad()
            model(torch.tensor([1, 1, 4])).square().mean().backward()
            if number == 2:
                model.weight.grad = model.weight.grad * float("nan")
            optimizer.step()
    assert monitor.errors == []
    assert monitor.latest("gradients", "weight").nan_count == 16  # two rows; the one asked for twice is summed
    assert (monitor.findings[0].rule, monitor.findings[0].where) == ("non-finite", "weight")


def test_a_nested_tensor_has_one_plain_note() -> None:
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with ts.watch(model, optimizer) as monitor:
            nested = torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(5, 8)])
            torch.nested.to_padded_tensor(model(nested), 0.0).square().mean().backward()
            optimizer.step()
    assert monitor.errors == ["the output of (model): a nested tensor is not counted"]


def test_rules_may_come_from_a_generator() -> None:
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ts.watch(model, optimizer, rules=(rule for rule in default_rules())) as monitor:
        step(model, optimizer, torch.full((16, 8), float("nan")))
    assert [finding.rule for finding in monitor.findings] == ["non-finite"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": ["dead-units"]}, "rules must be Rule objects, such as DeadUnits.., got 'dead-units'"),
        ({"rules": [DeadUnits]}, "did you mean DeadUnits"),
        ({"rules": DeadUnits()}, "rules must be several Rule objects"),
        ({"every": 2.5}, "every must be a whole number of steps, got 2.5"),
        ({"start_step": True}, "start_step must be a whole number of steps, got True"),
        ({"eval_schedule": 3}, "eval_schedule must be a Schedule or None, got 3"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_attached(options: dict[str, Any], message: str) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(TypeError, match=message):
        ts.watch(model, optimizer, **options)
    assert not model._forward_hooks
    assert not optimizer._optimizer_step_pre_hooks
