"""What each signal of the watcher holds: inputs, output gradients, raw gradients, optimizer state, losses, rates."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def step(model: nn.Module, optimizer: Any, x: Any) -> None:
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


# --- what goes into modules and what flows back -----------------------------------------------------------------------


def test_inputs_are_named_by_argument() -> None:
    model = small_model()
    x = torch.randn(5, 4)
    with ts.watch(model, torch.optim.SGD(model.parameters(), lr=0.1), signals=["inputs"]) as monitor:
        step(model, monitor._loop.watched.targets.optimizers[""], x)
    assert monitor.names("inputs") == ["0.input", "1.input", "2.input"]
    assert monitor.latest("inputs", "0.input") == ts.summary(x)
    assert monitor.names("outputs") == []


@dataclasses.dataclass
class Pair:
    first: Any
    second: Any


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, pair: Pair, *, extra: dict[str, Any]) -> Any:
        return {"sum": self.layer(pair.first) + pair.second, "extra": [extra["a"] * 2]}


def test_nested_inputs_and_keyword_arguments_are_found() -> None:
    model = Nested()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(2, 4)
    with ts.watch(model, optimizer, modules=Nested, signals=["inputs", "outputs"]) as monitor:
        model(Pair(x, x + 1), extra={"a": x - 1})["sum"].sum().backward()
        optimizer.step()
    assert monitor.names("inputs") == ["(model).pair.first", "(model).pair.second", "(model).extra['a']"]
    assert monitor.latest("inputs", "(model).pair.second") == ts.summary(x + 1)
    assert monitor.names("outputs") == ["(model)['sum']", "(model)['extra'][0]"]


def test_output_gradients_are_those_that_autograd_computes() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(5, 4)
    hidden = model[0](x)
    active = model[1](hidden)
    output = model[2](active)
    expected = torch.autograd.grad(output.square().mean(), [hidden, active, output])
    with ts.watch(model, optimizer, signals=["output_gradients"], histograms=True) as monitor:
        step(model, optimizer, x)
    for name, gradient in zip("012", expected, strict=True):
        assert monitor.latest("output_gradients", name) == ts.summary(gradient)
        assert monitor.histogram("output_gradients", name).count == gradient.numel()


def test_output_gradients_of_accumulated_batches_merge_and_stop_with_the_step() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, signals=["output_gradients"]) as monitor:
        late = model(torch.randn(5, 4))
        for _ in range(3):
            model(torch.randn(5, 4)).sum().backward()
        optimizer.step()
        torch.autograd.grad(late.sum(), late)  # its forward pass belongs to the step before
        model(torch.randn(7, 4)).sum().backward()
        optimizer.step()
    _, counts = monitor.series("output_gradients", "2", "count")
    assert counts.tolist() == [3 * 5 * 3, 7 * 3]


def test_output_gradients_need_no_gradient_and_see_no_module_hook() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, signals=["output_gradients", "outputs"]) as monitor:
        with torch.no_grad():
            model(torch.randn(5, 4))
        assert all(not module._backward_hooks for module in model.modules())
        step(model, optimizer, torch.randn(5, 4))
    assert monitor.latest("outputs", "2").count == 2 * 5 * 3
    assert monitor.latest("output_gradients", "2").count == 5 * 3
    assert monitor.errors == []


# --- around the optimizer ---------------------------------------------------------------------------------------------


def test_raw_gradients_are_before_clipping_and_gradients_after() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, signals=["gradients", "raw_gradients"], histograms=True) as monitor:
        optimizer.zero_grad()
        model(10 * torch.randn(5, 4)).square().mean().backward()
        before = {name: ts.summary(parameter.grad) for name, parameter in model.named_parameters()}
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert monitor.latest("raw_gradients", name) == before[name]
        assert monitor.latest("gradients", name) == ts.summary(parameter.grad)
    assert monitor.latest("gradients", "0.weight").l2 < monitor.latest("raw_gradients", "0.weight").l2
    assert monitor.histogram("raw_gradients", "0.weight").count == 32


def test_raw_gradients_are_unscaled_by_the_scaler() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with ts.watch(model, optimizer, signals=["gradients", "raw_gradients"], scaler=scaler) as monitor:
        scaler.scale(model(torch.randn(5, 4)).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
    for name in monitor.names("gradients"):
        # A power of two divides without rounding.
        assert monitor.latest("raw_gradients", name) == monitor.latest("gradients", name)


def test_raw_gradients_are_the_accumulated_ones() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, signals=["gradients", "raw_gradients"]) as monitor:
        for _ in range(3):
            model(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()
    for name in monitor.names("gradients"):
        assert monitor.latest("raw_gradients", name) == monitor.latest("gradients", name)


def test_optimizer_state_is_that_of_the_optimizer() -> None:
    model = small_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    with ts.watch(model, optimizer, signals=["optimizer_state"], histograms=True) as monitor:
        for _ in range(3):
            step(model, optimizer, torch.randn(5, 4))
    assert monitor.names("optimizer_state")[:2] == ["0.weight.exp_avg", "0.weight.exp_avg_sq"]
    assert len(monitor.names("optimizer_state")) == 8
    state = optimizer.state[model[2].weight]
    assert monitor.latest("optimizer_state", "2.weight.exp_avg") == ts.summary(state["exp_avg"])
    assert monitor.total("optimizer_state", "2.weight.exp_avg_sq").count == 3 * 24
    assert monitor.histogram("optimizer_state", "2.weight.exp_avg_sq").count == 3 * 24


def test_momentum_buffers_are_optimizer_state() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    with ts.watch(model, optimizer, signals=["optimizer_state"]) as monitor:
        step(model, optimizer, torch.randn(5, 4))
    assert monitor.names("optimizer_state")[0] == "0.weight.momentum_buffer"


def test_losses_and_learning_rates_are_series() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[2].parameters()}], lr=0.1
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    with ts.watch(model, optimizer, every=2) as monitor:
        for number in range(5):
            monitor.log_loss(1.0 / (number + 1))
            monitor.log_loss(torch.tensor(2.0), "auxiliary")
            step(model, optimizer, torch.randn(5, 4))
            schedule.step()
    assert monitor.names("losses") == ["loss", "auxiliary"]
    steps, losses = monitor.series("losses", "loss")
    assert steps.tolist() == [0, 1, 2, 3, 4]
    assert losses.tolist() == [1 / 1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    steps, rates = monitor.series("learning_rates", "0")
    assert steps.tolist() == [0, 2, 4]
    assert rates.tolist() == [0.5, 0.125, 0.03125]
    assert monitor.names("learning_rates") == ["0", "1"]
    with pytest.raises(KeyError, match="losses have no field 'mean'; accepted is value"):
        monitor.series("losses", "loss", "mean")


# --- updates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_updates_are_new_minus_old_at_every_step(dtype: Any, backend: Any) -> None:
    torch.manual_seed(0)
    model = nn.Linear(33, 17).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    with ts.watch(model, optimizer, backend=backend, histograms=True) as monitor:
        for _ in range(4):
            before = model.weight.detach().to(wide).clone()
            step(model, optimizer, torch.randn(8, 33, dtype=dtype))
            update = model.weight.detach().to(wide) - before
            found = monitor.latest("updates", "weight")
            assert (found.zero_count, found.min, found.max) == (
                int((update == 0).sum()),
                update.min().item(),
                update.max().item(),
            )
            assert found.l2 == pytest.approx(update.double().norm().item(), rel=1e-6)
            if backend == "auto":
                assert found == ts.summary(update)
        assert monitor.histogram("updates", "weight").count == 4 * 33 * 17


def test_changes_between_two_steps_are_no_update() -> None:
    model = nn.Linear(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with ts.watch(model, optimizer) as monitor:
        for change in (
            lambda: model.weight.data.mul_(2),
            lambda: torch.nn.init.normal_(model.weight),
            lambda: setattr(model.weight, "data", torch.ones(8, 8)),
            lambda: model.load_state_dict({name: 3 * value for name, value in model.state_dict().items()}),
        ):
            step(model, optimizer, torch.randn(4, 8))
            assert monitor.latest("updates", "weight").zero_count == 64
            change()
        step(model, optimizer, torch.randn(4, 8))
    assert monitor.latest("updates", "weight").zero_count == 64


def test_updates_of_parameters_that_are_transposed_views_are_exact() -> None:
    model = nn.Linear(6, 9)
    model.weight = nn.Parameter(torch.randn(6, 9).t())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(3):
            before = model.weight.detach().clone()
            step(model, optimizer, torch.randn(8, 6))
    assert monitor.latest("updates", "weight") == ts.summary(model.weight.detach() - before)


def test_a_parameter_that_is_replaced_is_followed() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        step(model, optimizer, torch.randn(3, 4))
        model[0].weight = nn.Parameter(torch.zeros(4, 4))
        optimizer.param_groups[0]["params"] = list(model.parameters())
        step(model, optimizer, torch.randn(3, 4))
        step(model, optimizer, torch.randn(3, 4))
    assert monitor.latest("parameters", "0.weight") == ts.summary(model[0].weight)


# --- masks ------------------------------------------------------------------------------------------------------------


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.embed(x))


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_masked_positions_are_not_counted(backend: Any, dtype: Any) -> None:
    model = Tokens()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tokens = torch.randint(0, 10, (4, 7))
    mask = torch.arange(7)[None, :] < torch.tensor([7, 3, 1, 0])[:, None]
    signals = ["outputs", "output_gradients", "inputs"]
    kept = {"embed": model.embed(tokens).detach()[mask], "head": model(tokens).detach()[mask]}
    options: dict[str, Any] = {"signals": signals, "histograms": True, "units": "all", "backend": backend}
    with ts.watch(model, optimizer, mask=mask.to(dtype), **options) as monitor:
        step(model, optimizer, tokens)
    assert monitor.errors == []
    axis = ts.axis.LogLinear(6)
    for signal, name, values in [
        ("outputs", "embed", kept["embed"]),
        ("inputs", "head.input", kept["embed"]),
        ("outputs", "head", kept["head"]),
    ]:
        expected, found = ts.summary(values), monitor.latest(signal, name)
        assert (found.count, found.min, found.max) == (expected.count, expected.min, expected.max)
        assert found.l2 == pytest.approx(expected.l2, rel=1e-6 if backend == "torch" else 1e-13)
        assert monitor.histogram(signal, name) == ts.histogram(values, axis)
    assert monitor.latest("output_gradients", "head").count == 11 * 3
    units = monitor.units("head")
    assert units.units == 3
    assert np.asarray(units.count).tolist() == [11, 11, 11]
    assert np.asarray(units.max).tolist() == kept["head"].double().amax(0).tolist()


def test_units_stay_the_same_ones_when_a_mask_comes_and_goes() -> None:
    model = Tokens()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    tokens = torch.randint(0, 10, (2, 5))
    with ts.watch(model, optimizer, units="all") as monitor:
        for mask in (torch.ones(2, 5) > 0, None, torch.arange(5).repeat(2, 1) < 2):
            monitor.mask = mask
            step(model, optimizer, tokens)
    assert np.asarray(monitor.units("head").count).tolist() == [10 + 10 + 4] * 3


def test_a_mask_that_is_changed_in_place_counts_as_it_is_now() -> None:
    model = nn.Sequential(nn.Identity(), nn.Identity(), nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for dtype in (torch.bool, torch.uint8):
        mask = torch.tensor([1, 1, 1, 0]).to(dtype)

        def shorten(_module: Any, _inputs: Any, mask: Any = mask) -> None:
            mask[1:].zero_()

        handle = model[1].register_forward_pre_hook(shorten)
        with ts.watch(model, optimizer, mask=mask) as monitor:
            step(model, optimizer, torch.randn(4, 2))
        handle.remove()
        counts = [monitor.latest("outputs", name).count for name in ("0", "1", "2")]
        assert counts == [6, 2, 2], dtype


def test_a_bad_value_in_the_padding_is_no_finding_and_one_beside_it_is_found() -> None:
    x = torch.zeros(2, 3, 4)
    x[0, 2] = float("nan")  # padding, and before the value that is found
    mask = torch.tensor([[True, True, False], [True, True, True]])
    for bad in (False, True):
        model = nn.Sequential(nn.Identity(), nn.Identity())
        x[1, 1, 3] = float("inf") if bad else 0.0
        model.add_module("2", nn.Linear(4, 4))
        with ts.watch(model, mask=mask, signals=["outputs"], modules=nn.Identity) as monitor:
            model(x)
        outputs = monitor.latest("outputs", "0")
        assert (outputs.count, outputs.nan_count, outputs.posinf_count) == (20, 0, int(bad))
        assert [finding.where for finding in monitor.findings] == (["input"] if bad else [])
        assert not bad or "1 of 24 values are not finite, the first at index [1, 1, 3] (inf)" in monitor.findings[0].why


def test_a_mask_may_change_from_step_to_step_and_be_a_function() -> None:
    model = Tokens()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def only_the_head(name: str, x: Any) -> Any:
        return torch.arange(len(x)) == 0 if name == "head" else None

    with ts.watch(model, optimizer, signals=["outputs"], mask=only_the_head) as monitor:
        for mask in (only_the_head, None, torch.zeros(2, 5, dtype=torch.bool)):
            monitor.mask = mask
            step(model, optimizer, torch.randint(0, 10, (2, 5)))
    assert monitor.series("outputs", "head", "count")[1].tolist() == [15, 30, 0]
    assert monitor.series("outputs", "embed", "count")[1].tolist() == [60, 60, 0]
    assert np.isnan(monitor.series("outputs", "embed", "mean")[1][2])
    assert monitor.errors == []
