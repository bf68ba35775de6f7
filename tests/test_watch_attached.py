"""How a watcher is attached and let go: all or nothing, once per model, checked before training, gone when dropped."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def made() -> tuple[nn.Module, Any]:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def step(model: nn.Module, optimizer: Any, x: Any = None) -> None:
    optimizer.zero_grad()
    model(torch.randn(4, 8) if x is None else x).square().mean().backward()
    optimizer.step()


def hooks(model: nn.Module, optimizer: Any) -> int:
    of_modules = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    of_parameters = sum(
        len(p._backward_hooks or ()) + len(p._post_accumulate_grad_hooks or ()) for p in model.parameters()
    )
    return of_modules + of_parameters + len(optimizer._optimizer_step_pre_hooks)


# --- refused before anything is attached ------------------------------------------------------------------------------

WRONG = {
    "signals": (3, ["outputs", 3], "output"),
    "collections": (3, "weight", [3]),
    "units": (None, [1], "some"),
    "histograms": ("yes", 1),
    "mask": (3, "mask"),
    "scaler": (3, object()),
    "on_finding": (3, "stop"),
    "backend": (3, "gpu"),
    "ranks": (3, "all"),
    "modules": (3, "(", int),
    "steps": (3, ["a"], [1.5]),
    "every": (2.5, "2", True, 0),
    "start": (-1, 1.5),
    "start_step": (-1, 0.5),
    "eval_schedule": (3, "all"),
    "rules": (3, ["dead-units"], [ts.Summary]),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_an_argument_of_the_wrong_kind_is_named_and_leaves_no_hook(name: str, value: Any) -> None:
    model, optimizer = made()
    with pytest.raises((TypeError, ValueError), match=name.removesuffix("s")):
        ts.watch(model, optimizer, **{name: value})
    assert hooks(model, optimizer) == 0


def test_attaching_is_all_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer = made()

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no hooks here")

    monkeypatch.setattr(model[2], "register_forward_hook", refuse)
    with pytest.raises(RuntimeError, match="no hooks here"):
        ts.watch(model, optimizer, eval_schedule=ts.torch.Schedule())
    assert hooks(model, optimizer) == 0
    step(model, optimizer)


def test_without_torch_the_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import tensorstats as ts\n"
        "try: ts.watch\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "ts.watch needs torch: pip install 'tensorstats[torch]'\n"


# --- callbacks --------------------------------------------------------------------------------------------------------


def callbacks() -> list[Any]:
    lightning = pytest.importorskip("tensorstats.integrations.lightning", exc_type=ImportError)
    transformers = pytest.importorskip("tensorstats.integrations.transformers", exc_type=ImportError)
    return [lightning.WatchCallback, transformers.WatchCallback]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"evry": 2}, r"'evry' is no option of ts\.watch.*did you mean every="),
        ({"every": 2.5}, "every must be a whole number"),
        ({"rules": ["dead-units"]}, "rules must be Rule objects"),
        ({"signals": "output"}, "signals must be of"),
        ({"on_finding": "stop"}, "on_finding must be"),
    ],
)
def test_a_callback_checks_its_options_when_it_is_made(options: dict[str, Any], said: str) -> None:
    for callback in callbacks():
        with pytest.raises((TypeError, ValueError), match=said):
            callback(**options)


def test_lightning_sends_update_ratios_and_refuses_what_no_monitor_has() -> None:
    callback, _ = callbacks()
    assert callback(scalars={"updates": "update_ratio", "outputs": "dead_fraction"}).scalars
    with pytest.raises(ValueError, match="scalars must be of"):
        callback(scalars={"weights": "l2"})
    with pytest.raises(ValueError, match="got 'update_ratio'"):
        callback(scalars={"outputs": "update_ratio"})


def test_the_latest_number_is_that_of_the_series() -> None:
    model, optimizer = made()
    with ts.watch(model, optimizer) as monitor:
        for _ in range(3):
            step(model, optimizer)
    for signal, field in (("updates", "update_ratio"), ("outputs", "dead_fraction"), ("gradients", "zero_fraction")):
        for name in monitor.names(signal):
            want = monitor.series(signal, name, field)[1][-1]
            assert np.array_equal(monitor.latest_number(signal, name, field), want, equal_nan=True)


# --- watched twice, and dropped ---------------------------------------------------------------------------------------


def test_a_second_watch_of_the_same_kind_replaces_the_first_and_says_so() -> None:
    model, optimizer = made()
    first = ts.watch(model, optimizer)
    step(model, optimizer)
    with pytest.warns(ts.torch.WatchWarning, match="already watched in the same way"):
        second = ts.watch(model, optimizer)
    attached = hooks(model, optimizer)
    step(model, optimizer)
    second.close()
    assert (first.step, second.step, len(first.names("outputs"))) == (1, 1, 3)
    assert attached > hooks(model, optimizer) == 0


def test_a_second_watch_of_another_kind_stands_beside_the_first() -> None:
    model, optimizer = made()
    with ts.watch(model, optimizer) as first, ts.watch(model, optimizer, every=2) as second:
        step(model, optimizer)
    assert (first.step, second.step) == (1, 1)


@pytest.mark.parametrize("options", [{}, {"signals": ["outputs", "raw_gradients"]}, {"eval_schedule": None}])
@pytest.mark.parametrize("with_optimizer", [True, False])
def test_a_monitor_that_is_dropped_detaches_itself(options: dict[str, Any], with_optimizer: bool) -> None:
    model, optimizer = made()
    if "eval_schedule" in options:
        options = {"eval_schedule": ts.torch.Schedule()}
    monitor = ts.watch(model, optimizer if with_optimizer else None, **options)
    for _ in range(2):
        step(model, optimizer)
    del monitor
    gc.collect()
    assert hooks(model, optimizer) == 0
    step(model, optimizer)


def test_a_dropped_monitor_that_tells_somebody_goes_on() -> None:
    model, optimizer = made()
    told: list[Any] = []
    ts.watch(model, optimizer, on_finding=told.append)
    gc.collect()
    step(model, optimizer, torch.full((4, 8), torch.nan))
    assert [finding.rule for finding in told] == ["non-finite"]


# --- scripted, transformed, complex -----------------------------------------------------------------------------------


def test_scripting_a_watched_model_says_what_to_do() -> None:
    model, optimizer = made()
    with ts.watch(model, optimizer), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AttributeError, match="script it first"):
            torch.jit.script(model)


def test_calls_inside_transforms_are_left_out_and_said() -> None:
    model, optimizer = made()
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(given: Any, x: Any) -> Any:
        return torch.func.functional_call(model, given, (x,)).square().mean()

    with ts.watch(model, optimizer) as monitor:
        with pytest.warns(ts.torch.WatchWarning, match="inside vmap, grad"):
            torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, torch.randn(5, 8))
        step(model, optimizer)
    assert len(monitor.errors) == 1
    assert [monitor.latest("outputs", name).count for name in monitor.names("outputs")] == [32, 32, 8]
    assert monitor.names("gradients") == list(parameters)


def test_complex_tensors_are_counted_by_their_real_and_imaginary_parts() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3, dtype=torch.complex64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    signals = ["inputs", "outputs", "output_gradients", "parameters", "gradients", "raw_gradients", "updates"]
    with ts.watch(model, optimizer, signals=signals) as monitor:
        for number in range(2):
            optimizer.zero_grad()
            x = torch.randn(5, 4, dtype=torch.complex64)
            y = model(x)
            (y.abs().sum() * (torch.nan if number else 1.0)).backward()
            before = model.weight.detach().clone()
            gradient = model.weight.grad.clone()
            optimizer.step()
            if number == 0:
                update = model.weight.detach() - before
                shown = {
                    signal: monitor.latest(signal, "weight") for signal in signals if "weight" in monitor.names(signal)
                }
                for signal, tensor in (("gradients", gradient), ("raw_gradients", gradient), ("updates", update)):
                    want = ts.summary(torch.view_as_real(tensor))
                    shown = monitor.latest(signal, "weight")
                    assert shown.count == 24
                    assert shown.l2 == pytest.approx(want.l2, rel=1e-6)
    assert monitor.errors == []
    assert monitor.latest("outputs", "(model)").count == 30
    assert monitor.latest("output_gradients", "(model)").nan_count > 0
    assert [(f.rule, f.step) for f in monitor.findings] == [("non-finite", 1)]


# --- several optimizers -----------------------------------------------------------------------------------------------


def test_a_rebuilt_optimizer_of_several_is_followed() -> None:
    model, _ = made()
    first, second = (torch.optim.SGD(model[place].parameters(), lr=0.1) for place in (0, 2))
    with ts.watch(model, {"first": first, "second": second}) as monitor:
        for number in range(6):
            if number == 3:
                second = torch.optim.Adam(model[2].parameters())
            model.zero_grad()
            model(torch.randn(4, 8)).square().mean().backward()
            first.step()
            second.step()
    assert (monitor.step, monitor.errors) == (6, [])
    assert all(len(monitor.series("updates", name, "l2")[0]) == 6 for name in monitor.names("updates"))


def test_an_optimizer_that_was_added_is_said() -> None:
    model, _ = made()
    first, second = (torch.optim.SGD(model[place].parameters(), lr=0.1) for place in (0, 2))
    with ts.watch(model, first) as monitor:
        for number in range(3):
            model.zero_grad()
            model(torch.randn(4, 8)).square().mean().backward()
            if number == 0:
                with pytest.warns(ts.torch.WatchWarning, match="another optimizer.*steps 2 of"):
                    second.step()
            else:
                second.step()
            first.step()
    assert (monitor.step, len(monitor.errors)) == (3, 1)
    assert len(monitor.series("parameters", "2.weight", "l2")[0]) == 3
    assert monitor.names("updates") == ["0.weight", "0.bias"]


class Keeper:
    """A wrapper that is no optimizer, and keeps one under a name of its own, as schedule-free wrappers do."""

    def __init__(self, **kept: Any) -> None:
        self.__dict__.update(kept)

    def step(self) -> None:
        for optimizer in vars(self).values():
            optimizer.step()


def test_the_only_optimizer_that_a_wrapper_keeps_is_watched_whatever_its_name() -> None:
    model, _ = made()
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper: Any = Keeper(base=inner)
    with ts.watch(model, wrapper) as monitor:
        for _ in range(3):
            model.zero_grad()
            model(torch.randn(4, 8)).square().mean().backward()
            wrapper.step()
    assert (monitor.step, monitor.errors) == (3, [])
    several: Any = Keeper(one=inner, two=torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(TypeError, match=r"a wrapper that holds one of them, in .optimizer or alone, got Keeper"):
        ts.watch(model, several)
