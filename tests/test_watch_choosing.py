"""What the watcher records and when: collections, schedules, modes, resumed runs, several models and optimizers."""

from __future__ import annotations

import re
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def train(model: nn.Module, optimizer: Any, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()


def watched(model: nn.Module, /, count: int = 3, **options: Any) -> ts.torch.Monitor:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, **options) as monitor:
        train(model, optimizer, count)
    assert monitor.errors == []
    return monitor


# --- collections ------------------------------------------------------------------------------------------------------


def test_collections_choose_what_is_recorded() -> None:
    monitor = watched(small_model(), collections=["biases", "activations"])
    assert monitor.names("parameters") == ["0.bias", "2.bias"]
    assert monitor.names("outputs") == ["0", "1", "2"]
    assert monitor.names("gradients") == []


def test_own_collections_are_patterns_or_functions() -> None:
    last = ts.torch.Collection("last", ("parameters", "gradients"), r"^2\.")
    first = ts.torch.Collection("first", "outputs", lambda name: name == "0")
    monitor = watched(small_model(), collections=[last, first])
    assert monitor.names("parameters") == ["2.weight", "2.bias"]
    assert monitor.names("gradients") == ["2.weight", "2.bias"]
    assert monitor.names("outputs") == ["0"]
    assert monitor.collection("last") == [
        ("parameters", "2.weight"),
        ("parameters", "2.bias"),
        ("gradients", "2.weight"),
        ("gradients", "2.bias"),
    ]
    assert monitor.collection("biases") == [("parameters", "2.bias")]


def test_collections_are_read_without_having_been_chosen() -> None:
    monitor = watched(small_model())
    assert monitor.collection("weights") == [("parameters", "0.weight"), ("parameters", "2.weight")]
    with pytest.raises(KeyError, match="no collection 'heads'; accepted are weights, biases"):
        monitor.collection("heads")


def test_wrong_collections_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of weights, biases, .* got 'weight'"):
        ts.watch(small_model(), collections=["weight"])
    with pytest.raises(TypeError, match="a name or a Collection, got int"):
        ts.watch(small_model(), collections=[3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"must be of outputs, .* got weights"):
        ts.torch.Collection("mine", ("weights",))


# --- schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        ({"steps": [1, 4]}, [1, 4]),
        ({"steps": [1, 4], "every": 3}, [0, 1, 3, 4]),
        ({"every": 2, "start": 3}, [3, 5]),
        ({"every": 2, "stop": 3, "steps": [5]}, [0, 2, 5]),
    ],
)
def test_explicit_steps_join_the_regular_ones(options: dict[str, Any], recorded: list[int]) -> None:
    monitor = watched(small_model(), count=6, **options)
    assert monitor.series("parameters", "0.weight", "mean")[0].tolist() == recorded


def test_the_schedule_changes_while_running() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, every=100) as monitor:
        train(model, optimizer, 3)
        monitor.schedule = ts.torch.Schedule(every=1)
        train(model, optimizer, 3)
        monitor.schedule = ts.torch.Schedule(steps=[8])
        train(model, optimizer, 4)
    # A change holds from the next step on: the one in progress has been decided.
    assert monitor.series("outputs", "0", "mean")[0].tolist() == [0, 4, 5, 6, 8]


def test_a_resumed_run_keeps_the_phase_of_the_schedule() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, every=4) as monitor:
        train(model, optimizer, 6)
        state = monitor.state_dict()
    with ts.watch(model, optimizer, every=4) as resumed:
        resumed.load_state_dict(state)
        train(model, optimizer, 6)
    with ts.watch(model, optimizer, every=4, start_step=6) as told:
        train(model, optimizer, 6)
    assert resumed.step == told.step == 12
    assert resumed.series("outputs", "0", "mean")[0].tolist() == [8]
    assert told.series("outputs", "0", "mean")[0].tolist() == [8]
    with pytest.raises(ValueError, match="version 1, got 7"):
        told.load_state_dict({"version": 7})
    with pytest.raises(ValueError, match="start_step must be a step from 0 on, got -1"):
        ts.watch(model, start_step=-1)


def test_calls_in_eval_mode_have_a_schedule_and_names_of_their_own() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = ts.torch.Schedule(every=2)
    with ts.watch(model, optimizer, eval_schedule=schedule, histograms=True) as monitor:
        train(model, optimizer, 1)
        model.eval()
        with torch.no_grad():
            for size in (1, 2, 3, 4):
                model(torch.randn(size, 4))
        model.train()
        train(model, optimizer, 1)
        monitor.eval_schedule = None
        model.eval()
        model(torch.randn(9, 4))
    steps, counts = monitor.series("outputs", "2", "count", mode="eval")
    assert (steps.tolist(), counts.tolist()) == ([0, 2], [3, 9])
    assert monitor.total("outputs", "2", mode="eval").count == 12
    assert monitor.histogram("outputs", "2", mode="eval").count == 12
    assert monitor.units("1", mode="eval").units == 8
    assert monitor.series("outputs", "2", "count")[1].tolist() == [15, 15]
    assert all(not module._forward_hooks for module in model.modules())


def test_an_error_in_an_eval_call_leaves_no_hook_behind() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            y = self.layer(x)
            if len(x) == 2:
                raise ValueError("no")
            return y

    model = Fails().eval()
    with ts.watch(model, eval_schedule=ts.torch.Schedule()) as monitor:
        model(torch.randn(1, 4))
        with pytest.raises(ValueError, match="no"):
            model(torch.randn(2, 4))
        assert not model.layer._forward_hooks
        model(torch.randn(3, 4))
    assert monitor.series("outputs", "layer", "count", mode="eval")[1].tolist() == [4, 8, 12]


# --- several models and optimizers ------------------------------------------------------------------------------------


class Noise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 4)

    def forward(self, z: Any) -> Any:
        return self.layer(z)


def adversarial(monitor_of: Any, *, critic_steps: int = 1, rounds: int = 3) -> ts.torch.Monitor:
    torch.manual_seed(0)
    generator, critic = Noise(), nn.Sequential(nn.Linear(4, 1))
    of_generator = torch.optim.SGD(generator.parameters(), lr=0.1)
    of_critic = torch.optim.SGD(critic.parameters(), lr=0.1)
    monitor: ts.torch.Monitor = monitor_of(generator, critic, of_generator, of_critic)
    with monitor:
        for _ in range(rounds):
            for _ in range(critic_steps):
                of_critic.zero_grad()
                critic(generator(torch.randn(3, 2)).detach()).mean().backward()
                of_critic.step()
            of_generator.zero_grad()
            (-critic(generator(torch.randn(3, 2)))).mean().backward()
            of_generator.step()
    return monitor


def test_two_models_and_two_optimizers_share_one_clock() -> None:
    monitor = adversarial(lambda g, c, og, oc: ts.watch({"generator": g, "critic": c}, {"generator": og, "critic": oc}))
    assert monitor.step == 3
    assert monitor.errors == []
    assert monitor.names("outputs") == ["generator.layer", "critic.0"]
    assert monitor.names("updates") == [
        "generator.layer.weight",
        "generator.layer.bias",
        "critic.0.weight",
        "critic.0.bias",
    ]
    # Each model is called twice in every step: once for each optimizer.
    assert monitor.series("outputs", "generator.layer", "count")[1].tolist() == [24, 24, 24]
    assert monitor.names("learning_rates") == ["generator.0", "critic.0"]
    assert all(monitor.latest("updates", name).l2 > 0 for name in monitor.names("updates"))
    assert not [finding for finding in monitor.findings if finding.rule in ("frozen", "no-gradient")]


def test_lists_of_models_get_numbers() -> None:
    monitor = adversarial(lambda g, c, og, oc: ts.watch([g, c], [og, oc]))
    assert monitor.names("outputs") == ["model0.layer", "model1.0"]
    assert "model0: Noise, model1: Sequential" in repr(monitor)


def test_an_optimizer_that_steps_more_often_ends_steps_of_its_own() -> None:
    monitor = adversarial(lambda g, c, og, oc: ts.watch([g, c], [og, oc]), critic_steps=3, rounds=2)
    # critic, critic, critic + generator; twice.
    assert monitor.step == 6
    assert monitor.series("updates", "model0.layer.weight", "l2")[0].tolist() == [2, 5]
    assert monitor.series("updates", "model1.0.weight", "l2")[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_one_model_with_two_optimizers() -> None:
    model = small_model()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.AdamW(model[2].parameters(), lr=0.01)
    with ts.watch(model, [first, second]) as monitor:
        for _ in range(3):
            first.zero_grad()
            second.zero_grad()
            model(torch.randn(5, 4)).square().mean().backward()
            first.step()
            second.step()
    assert monitor.step == 3
    assert monitor.names("updates") == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert all(monitor.latest("updates", name).l2 > 0 for name in monitor.names("updates"))
    assert monitor.findings == []


def test_wrong_models_and_optimizers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one model"):
        ts.watch([])
    with pytest.raises(TypeError, match="got int under 'a'"):
        ts.watch({"a": 3})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"without dots, got 'a\.b'"):
        ts.watch({"a.b": small_model()})


@pytest.mark.parametrize(
    ("give", "error", "message"),
    [
        (lambda m, o: ts.watch({1: m}, o), TypeError, "the name of a model must be a string, got 1"),
        (lambda m, o: ts.watch(m, [o, o]), ValueError, "each optimizer is given once, got the same one under '0' and"),
        (lambda m, _: ts.watch(m, []), ValueError, "optimizer must be None where there is none"),
        (lambda m, o: ts.watch(m, o, start=None), TypeError, "start must be a whole number of steps, got None"),
        (lambda m, o: ts.watch(m, o, start_step=None), TypeError, "start_step must be a whole number of steps, got"),
        (lambda m, o: setattr(ts.watch(m, o), "schedule", 5), TypeError, "schedule must be a Schedule, such as"),
        (lambda m, o: setattr(ts.watch(m, o), "eval_schedule", 5), TypeError, "eval_schedule must be a Schedule or"),
        (lambda m, o: setattr(ts.watch(m, o), "mask", 5), TypeError, "mask must be a tensor, a callable"),
    ],
)
def test_what_is_handed_over_by_mistake_is_refused_by_name(give: Any, error: type[Exception], message: str) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(error, match=re.escape(message)):
        give(model, optimizer)
