"""Recipes that people train by, right ones without a finding: critics, attacks, checkpoints that are restored."""

from __future__ import annotations

import contextlib
import copy
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def batch() -> tuple[Any, Any]:
    return torch.randn(32, 8), torch.randint(0, 4, (32,))


def test_a_critic_of_which_only_differences_count_needs_no_last_bias() -> None:
    torch.manual_seed(0)
    generator = nn.Linear(4, 8)
    critic = nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(), nn.Linear(16, 1))
    optimizers = [torch.optim.Adam(model.parameters(), 1e-4) for model in (generator, critic)]
    with ts.watch([generator, critic], optimizers) as monitor:
        for _ in range(12):
            for _ in range(5):  # several steps of the critic, then one in which it is frozen
                loss = critic(generator(torch.randn(32, 4)).detach()).mean() - critic(torch.randn(32, 8)).mean()
                optimizers[1].zero_grad()
                loss.backward()
                optimizers[1].step()
            critic.requires_grad_(False)
            optimizers[0].zero_grad()
            (-critic(generator(torch.randn(32, 4))).mean()).backward()
            optimizers[0].step()
            critic.requires_grad_(True)
    assert (monitor.findings, monitor.errors) == ([], [])
    assert monitor.latest("updates", "model1.2.bias").l2 == 0.0


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_an_attack_by_backward_before_gradients_are_reset_keeps_none(to_none: bool, backend: Any) -> None:
    model = classifier()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with ts.watch(model, optimizer, backend=backend) as monitor:
        for _ in range(12):
            x, y = batch()
            x.requires_grad_(True)
            nn.functional.cross_entropy(model(x), y).backward()  # adds onto what the last step used
            attacked = (x + 0.05 * x.grad.sign()).detach()
            optimizer.zero_grad(set_to_none=to_none)
            nn.functional.cross_entropy(model(attacked), y).backward()
            optimizer.step()
    assert (monitor.findings, monitor.errors, monitor.step, monitor.skipped) == ([], [], 12, 0)


def test_an_attack_whose_gradients_are_never_reset_is_found() -> None:
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(12):
            for _ in range(2):
                x, y = batch()
                nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert [(f.rule, f.status, f.step) for f in monitor.findings] == [("gradients-not-reset", "failure", 1)]


def test_a_checkpoint_that_is_restored_ends_a_nan_and_is_watched_again() -> None:
    model = classifier()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    with ts.watch(model, optimizer) as monitor:
        for step in range(60):
            x, y = batch()
            loss = nn.functional.cross_entropy(model(x), y) * (float("nan") if step == 10 else 1.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step == 12:
                model.load_state_dict(saved[0])
                optimizer.load_state_dict(saved[1])
            if step == 30:
                model[0].bias.data.fill_(-100.0)  # another fault, which nobody may keep silent about
    told = [(f.rule, f.where, f.status, f.step, f.last_step, f.over) for f in monitor.findings]
    assert told[0] == ("non-finite", "2.bias", "warning", 10, 12, True)
    assert told[1] == ("dead-units", "1", "warning", 31, 59, False)
    assert len(told) == 2


def test_a_model_all_of_whose_parts_are_scripted_is_watched_as_a_whole() -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(torch.jit.script(nn.Linear(8, 4)), torch.jit.trace(nn.ReLU(), torch.ones(1)))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with ts.watch(model, optimizer) as monitor:
            model(torch.randn(16, 8)).sum().backward()
            optimizer.step()
        with pytest.raises(TypeError, match="scripted or traced code as a whole, which takes no hooks: watch the"):
            ts.watch(torch.jit.script(nn.Linear(8, 4)))
    assert monitor.names("outputs") == ["(model)"]
    assert monitor.names("updates") == ["0.weight", "0.bias"]


def test_what_is_left_out_of_many_layers_is_one_warning_and_an_entry_each() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with ts.watch(model, optimizer, signals=["outputs", "inputs"]) as monitor:
            nested = torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(5, 8)], layout=torch.jagged)
            model(nested).values().square().mean().backward()
            optimizer.step()
    assert len([one for one in caught if one.category is ts.torch.WatchWarning]) == 1
    assert monitor.errors == [
        f"the {what} of {name}: a nested tensor is not counted"
        for name in ("0", "1", "2")
        for what in ("input", "output")
    ]
    assert max(map(len, monitor.report().splitlines())) <= 120


def test_a_long_error_of_the_watcher_is_wrapped_in_the_report() -> None:
    model, other = classifier(), classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with ts.watch(model, optimizer) as monitor:
            other(torch.randn(8, 8)).sum().backward()
            for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
                mine.grad = theirs.grad
            optimizer.step()
    assert len(monitor.errors[0]) > 120
    assert max(map(len, monitor.report().splitlines())) <= 120
    assert monitor.errors[0] in " ".join(monitor.report().split())


def test_a_loop_that_ends_between_the_steps_of_two_optimizers_has_skipped_none() -> None:
    torch.manual_seed(0)
    actor, critic = nn.Linear(4, 2), nn.Linear(6, 1)
    first, second = torch.optim.Adam(actor.parameters(), 1e-3), torch.optim.Adam(critic.parameters(), 1e-3)
    with ts.watch({"actor": actor, "critic": critic}, [first, second]) as monitor:
        for step in range(20):
            x, action = torch.randn(16, 4), torch.randn(16, 2)
            second.zero_grad()
            (critic(torch.cat([x, action], 1)) - x.sum(1, keepdim=True)).square().mean().backward()
            second.step()
            if step % 2 == 0:  # the actor is trained half as often, through the critic
                first.zero_grad()
                (-critic(torch.cat([x, actor(x).tanh()], 1)).mean()).backward()
                first.step()
    assert (monitor.findings, monitor.errors, monitor.step, monitor.skipped) == ([], [], 20, 0)
    assert len(monitor.series("updates", "critic.weight", "l2")[0]) == 20


def test_lazy_modules_that_an_optimizer_holds_already_are_watched_once_they_have_values() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    signals = ["outputs", "parameters", "gradients", "updates", "raw_gradients", "optimizer_state"]
    with ts.watch(model, optimizer, signals=signals) as monitor:
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(5, 4)).sum().backward()
            optimizer.step()
    assert (monitor.errors, monitor.step, monitor.names("outputs")) == ([], 3, ["0", "1", "2"])
    assert "0.weight" in monitor.names("updates")


def test_a_module_named_as_a_further_call_of_another_would_be_keeps_its_name() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.add_module("a#1", nn.Linear(4, 4))

        def forward(self, x: Any) -> Any:
            return self._modules["a#1"](self.a(self.a(x)))

    torch.manual_seed(0)
    model = Twice()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ts.watch(model, optimizer, signals=["outputs", "output_gradients"]) as monitor:
        model(torch.randn(8, 4)).sum().backward()
        optimizer.step()
    for signal in ("outputs", "output_gradients"):
        assert sorted(monitor.names(signal)) == ["a", "a##1", "a#1"]
        assert all(monitor.latest(signal, name).count == 32 for name in monitor.names(signal))


class Adapted(nn.Module):
    """A frozen layer with one adapter or another beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(8, 8).requires_grad_(False)
        self.adapters = nn.ModuleDict({"first": nn.Linear(8, 8)})
        self.active = "first"

    def forward(self, x: Any) -> Any:
        return self.base(x) + self.adapters[self.active](x)

    def take(self, name: str) -> Any:
        for other in self.adapters.values():
            other.requires_grad_(False)
        self.adapters[name] = nn.Linear(8, 8)
        self.active = name
        return torch.optim.Adam(self.adapters[name].parameters(), 1e-3)


def test_the_optimizer_of_a_second_adapter_takes_the_place_of_the_first() -> None:
    torch.manual_seed(0)
    model = Adapted()
    optimizer: Any = torch.optim.Adam(model.adapters["first"].parameters(), 1e-3)
    with ts.watch(model, optimizer) as monitor:
        for step in range(30):
            if step == 10:
                optimizer = model.take("second")
            optimizer.zero_grad()
            model(torch.randn(16, 8)).square().mean().backward()
            optimizer.step()
    assert (monitor.findings, monitor.errors, monitor.step, monitor.skipped) == ([], [], 30, 0)
    for signal in ("outputs", "gradients", "updates"):
        name = "adapters.second" if signal == "outputs" else "adapters.second.weight"
        steps, _ = monitor.series(signal, name, "l2")
        assert list(steps)[-20:] == list(range(10, 30)), signal


def test_an_optimizer_that_another_stood_in_for_comes_back() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"generator": nn.Linear(4, 8), "critic": nn.Linear(8, 1)})
    first, second = (torch.optim.Adam(model[name].parameters(), 1e-3) for name in ("critic", "generator"))
    with ts.watch(model, first) as monitor:  # the other one was forgotten
        for _ in range(10):
            first.zero_grad()
            fake = model["generator"](torch.randn(16, 4)).detach()
            (model["critic"](fake) - model["critic"](torch.randn(16, 8)).square()).mean().backward()
            first.step()
            model["critic"].requires_grad_(False)
            second.zero_grad()
            (-model["critic"](model["generator"](torch.randn(16, 4)))).mean().backward()
            second.step()
            model["critic"].requires_grad_(True)
    assert (monitor.findings, monitor.errors, monitor.step, monitor.skipped) == ([], [], 20, 0)


class Clipping(torch.optim.SGD):
    """An optimizer that adds something to the step of its base class, and fails once."""

    fails_at = -1
    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        if self.steps == self.fails_at:
            raise RuntimeError("no luck today")
        for group in self.param_groups:
            nn.utils.clip_grad_norm_(group["params"], 1.0)
        return super().step(closure)


@pytest.mark.parametrize("fails_at", [-1, 7])
def test_a_step_that_calls_that_of_its_base_class_is_one_step(fails_at: int) -> None:
    model = classifier()
    torch.optim.SGD(model.parameters(), 0.1)  # from here on, torch tells of the base class's steps too
    optimizer = Clipping(model.parameters(), 0.1)
    optimizer.fails_at = fails_at
    with ts.watch(model, optimizer) as monitor:
        for _ in range(20):
            x, y = batch()
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            with contextlib.suppress(RuntimeError):
                optimizer.step()
    done = 20 if fails_at < 0 else 19
    assert (monitor.findings, monitor.errors, monitor.step - monitor.skipped) == ([], [], done)
    for signal, name in (("outputs", "0"), ("gradients", "0.weight"), ("updates", "0.weight")):
        steps, values = monitor.series(signal, name, "l2")
        assert len(steps) >= done
        assert min(values) > 0


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_of_two_optimizers_the_one_that_a_scaler_leaves_out_is_not_told_to_have_no_gradient(backend: Any) -> None:
    torch.manual_seed(0)
    good, bad = nn.Linear(8, 1), nn.Linear(8, 1)
    optimizers = [torch.optim.SGD(model.parameters(), 1e-3) for model in (good, bad)]
    scaler = torch.amp.GradScaler("cpu")
    with ts.watch({"good": good, "bad": bad}, optimizers, backend=backend) as monitor:
        for _ in range(30):
            for model, optimizer, scale in ((good, optimizers[0], 1.0), (bad, optimizers[1], 1e6)):
                with torch.autocast("cpu", torch.float16):
                    loss = model(torch.randn(16, 8) * scale).float().square().mean()
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                scaler.step(optimizer)
            scaler.update()
    assert {f.rule for f in monitor.findings} == {"non-finite"}
    assert monitor.errors == []


@pytest.mark.parametrize("eval_schedule", [None, ts.torch.Schedule()])
def test_a_first_call_in_inference_mode_takes_nothing_from_the_steps_after_it(eval_schedule: Any) -> None:
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ts.watch(model, optimizer, backend="torch", histograms=True, eval_schedule=eval_schedule) as monitor:
        for _ in range(4):
            with torch.inference_mode():
                model.train(eval_schedule is None)
                model(batch()[0])
            model.train()
            x, y = batch()
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert (monitor.errors, monitor.step) == ([], 4)
    assert len(monitor.series("outputs", "0", "l2")[0]) == 4
    assert len(monitor.histograms("outputs", "0")[1]) == 4
    assert len(monitor.names("outputs", mode="eval")) == (0 if eval_schedule is None else 3)
