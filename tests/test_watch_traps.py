"""The mechanics of hooks that break other tools, one test for each: named after what goes wrong there."""

from __future__ import annotations

import collections
import copy
import gc
import io
import pathlib
import pickle
import sys
import weakref
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.run.choosing import SIGNALS  # noqa: E402

ALL = list(SIGNALS)


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 3))


def step(model: nn.Module, optimizer: Any, x: Any) -> None:
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def sgd(model: nn.Module) -> Any:
    return torch.optim.SGD(model.parameters(), lr=0.1)


# --- hooks and autograd -----------------------------------------------------------------------------------------------


class Chunks(nn.Module):
    """Returns views that are then changed in place, which a full backward hook of a module forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 8)

    def forward(self, x: Any) -> Any:
        left, right = self.layer(x).chunk(2, dim=-1)
        return left, right


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.chunks = Chunks()
        self.flat = nn.Flatten()

    def forward(self, x: Any) -> Any:
        left, right = self.chunks(x)
        flat = self.flat(left.clone())
        flat += 1
        return flat * right.clone().mul_(2)


def test_in_place_operations_on_watched_outputs_and_views_still_work() -> None:
    plain, seen = InPlace(), InPlace()
    seen.load_state_dict(plain.state_dict())
    x = torch.randn(6, 4)
    plain(x).sum().backward()
    with ts.watch(seen, sgd(seen), signals=ALL, modules="") as monitor:
        seen(x).sum().backward()
    assert torch.equal(plain.chunks.layer.weight.grad, seen.chunks.layer.weight.grad)
    assert monitor.errors == []


def test_an_in_place_relu_and_its_input_have_their_own_values_and_gradients() -> None:
    model = small_model()
    x = torch.randn(6, 4)
    hidden = torch.nn.functional.linear(x, model[0].weight, model[0].bias)
    active = hidden.relu()
    output = model[2](active)
    expected = torch.autograd.grad(output.square().mean(), [hidden, active])
    optimizer = sgd(model)
    with ts.watch(model, optimizer, signals=["outputs", "output_gradients"]) as monitor:
        step(model, optimizer, x)
    assert monitor.latest("outputs", "0") == ts.summary(hidden)
    assert monitor.latest("outputs", "1") == ts.summary(active)
    assert monitor.latest("output_gradients", "0") == ts.summary(expected[0])
    assert monitor.latest("output_gradients", "1") == ts.summary(expected[1])


class Identity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.seen: list[int] = []

    def forward(self, x: Any) -> Any:
        self.seen.append(id(x))
        return self.inner(x)


def test_inputs_and_outputs_keep_their_identity() -> None:
    model = nn.Sequential(Identity(), Identity())
    returned: list[int] = []
    kept: list[Any] = []
    model[0].register_forward_hook(lambda _m, _a, output: (kept.append(output), returned.append(id(output)))[0])
    with ts.watch(model, sgd(model), signals=ALL, modules=Identity):
        x = torch.randn(3, 4)
        model(x)
    assert model[0].seen == [id(x)]
    assert model[1].seen == returned


def test_gradients_are_accumulated_in_the_same_order() -> None:
    class Fans(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(6))

        def forward(self, x: Any) -> Any:
            x = self.layers[0](x)
            return sum(layer(x) for layer in self.layers)

    torch.manual_seed(0)
    plain = Fans()
    seen = copy.deepcopy(plain)
    x = torch.randn(7, 16)
    plain(x).square().sum().backward()
    with ts.watch(seen, sgd(seen), signals=ALL):
        seen(x).square().sum().backward()
    for a, b in zip(plain.parameters(), seen.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


class Returns(nn.Module):
    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.wrap = wrap

    def forward(self, x: Any) -> Any:
        return self.wrap(self.layer(x))


Named = collections.namedtuple("Named", "logits")


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (lambda y: {"logits": y}, "(model)['logits']"),
        (lambda y: [y], "(model)[0]"),
        (lambda y: Named(y), "(model).logits"),
        (lambda y: collections.OrderedDict(a=(y, None, "text")), "(model)['a'][0]"),
    ],
)
def test_gradients_of_outputs_in_dicts_and_lists_are_seen(wrap: Any, name: str) -> None:
    model = Returns(wrap)
    optimizer = sgd(model)
    with ts.watch(model, optimizer, modules=Returns, signals=["outputs", "output_gradients"]) as monitor:
        model.layer(torch.zeros(1, 4))
        output = model(torch.randn(5, 4))
        while not isinstance(output, torch.Tensor):
            output = next(iter(output.values())) if isinstance(output, dict) else output[0]
        output.sum().backward()
        optimizer.step()
    assert monitor.names("output_gradients") == [name]
    assert monitor.latest("output_gradients", name).sum == 15.0


def test_keyword_arguments_reach_the_hooks() -> None:
    class Keyed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, *, tokens: Any) -> Any:
            return self.layer(input=tokens)

    model = Keyed()
    optimizer = sgd(model)
    with ts.watch(model, optimizer, signals=["inputs"]) as monitor:
        model(tokens=torch.randn(5, 4)).sum().backward()
        optimizer.step()
    assert monitor.names("inputs") == ["layer.input"]


def test_a_module_called_through_forward_is_not_seen_and_does_not_confuse_call_numbers() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            return self.layer(self.layer.forward(self.layer(x)))

    model = Skips()
    optimizer = sgd(model)
    with ts.watch(model, optimizer) as monitor:
        step(model, optimizer, torch.randn(5, 4))
    assert monitor.names("outputs") == ["layer", "layer#1"]


def test_a_module_called_several_times_keeps_its_stashes_apart() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            for scale in (1.0, 2.0, 4.0):
                x = self.cell(x * 0 + scale)
            return x

    model = Loop()
    with torch.no_grad():
        model.cell.weight.copy_(torch.eye(4))
        model.cell.bias.zero_()
    optimizer = sgd(model)
    with ts.watch(model, optimizer, signals=["inputs", "outputs", "output_gradients"]) as monitor:
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    assert [monitor.latest("inputs", f"cell{call}.input").max for call in ("", "#1", "#2")] == [1.0, 2.0, 4.0]
    assert [monitor.latest("outputs", f"cell{call}").max for call in ("", "#1", "#2")] == [1.0, 2.0, 4.0]
    assert monitor.latest("output_gradients", "cell#2").sum == 8.0
    assert monitor.latest("output_gradients", "cell").sum == 0.0


def test_a_shared_parameter_is_read_once_with_the_sum_of_its_gradients() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(6, 4)
            self.head = nn.Linear(4, 6, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x: Any) -> Any:
            return self.head(self.embed(x))

    model = Tied()
    optimizer = sgd(model)
    signals = ["gradients", "raw_gradients", "updates"]
    with ts.watch(model, optimizer, signals=signals, histograms=True) as monitor:
        step(model, optimizer, torch.arange(6))
    for signal in signals:
        assert monitor.names(signal) == ["embed.weight"]
        assert monitor.histogram(signal, "embed.weight").count == 24
    assert monitor.latest("gradients", "embed.weight") == ts.summary(model.embed.weight.grad)
    assert monitor.latest("raw_gradients", "embed.weight") == ts.summary(model.embed.weight.grad)


# --- the loop around --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputation_does_not_count_twice_in_any_signal(reentrant: bool) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            from torch.utils.checkpoint import checkpoint

            return self.second(checkpoint(self.first, x, use_reentrant=reentrant))

    model = Checkpointed()
    optimizer = sgd(model)
    with ts.watch(model, optimizer, signals=ALL) as monitor:
        model(torch.randn(5, 4, requires_grad=True)).sum().backward()
        optimizer.step()
    for signal in ("inputs", "outputs"):
        assert [monitor.latest(signal, name).count for name in monitor.names(signal)] == [20, 20]
    assert monitor.latest("output_gradients", "second").count == 20
    assert monitor.errors == []


def test_gradients_under_loss_scaling_are_unscaled() -> None:
    model = small_model()
    optimizer = sgd(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    with ts.watch(model, optimizer) as monitor:
        x = torch.randn(5, 4)
        scaler.scale(model(x).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert monitor.latest("gradients", "2.weight") == ts.summary(model[2].weight.grad)
    assert monitor.latest("gradients", "2.weight").l2 < 100


def test_a_step_skipped_by_the_scaler_is_no_step_and_its_bad_gradients_are_no_data() -> None:
    model = small_model()
    optimizer = sgd(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    with ts.watch(model, optimizer) as monitor:
        for bad in (True, False):
            optimizer.zero_grad()
            loss = model(torch.randn(5, 4)).square().mean()
            scaler.scale(loss * float("inf") if bad else loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert monitor.step == 1
    assert monitor.total("gradients", "0.weight").nonfinite_count == 0


def test_a_missing_gradient_is_missing_and_not_zero() -> None:
    model = nn.ModuleDict({"used": nn.Linear(4, 2), "unused": nn.Linear(4, 2)})
    optimizer = sgd(model)
    with ts.watch(model, optimizer) as monitor:
        for number in range(3):
            optimizer.zero_grad()
            model["used"](torch.randn(5, 4)).sum().backward()
            if number == 1:
                model["unused"](torch.randn(5, 4)).sum().backward()
            optimizer.step()
    assert "unused.weight" in monitor.names("gradients")
    steps, norms = monitor.series("gradients", "unused.weight", "l2")
    assert steps.tolist() == [1]
    assert norms[0] > 0
    assert monitor.total("gradients", "unused.weight").count == 8


def test_empty_nan_and_huge_values_make_no_error() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Any) -> Any:
            return x[:0] * self.scale, x * 3e38 * self.scale, (x * self.scale) / 0, torch.empty(0, 3)

    model = Odd()
    optimizer = sgd(model)
    with ts.watch(model, optimizer, signals=ALL, histograms=True, units="all") as monitor:
        model(torch.randn(5, 4))[1].mul(0).nansum().backward()
        optimizer.step()
    assert monitor.errors == []
    assert monitor.latest("outputs", "(model)[0]").count == 0
    assert monitor.latest("outputs", "(model)[2]").nonfinite_count == 20


def test_closures_that_run_the_model_several_times_are_one_step() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    x, y = torch.randn(20, 4), torch.randn(20, 1)
    calls: list[int] = []

    def closure() -> Any:
        calls.append(1)
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        return loss

    with ts.watch(model, optimizer, signals=["outputs", "gradients", "updates", "raw_gradients"]) as monitor:
        before = model.weight.detach().clone()
        optimizer.step(closure)
    assert monitor.step == 1
    assert monitor.latest("outputs", "(model)").count == 20 * len(calls)
    assert monitor.latest("updates", "weight") == ts.summary(model.weight.detach() - before)
    assert monitor.latest("gradients", "weight").count == 4


def test_an_exception_in_the_loop_leaves_the_watch_usable() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            y = self.layer(x)
            if len(x) == 1:
                raise RuntimeError("bad batch")
            return y

    model = Fails()
    optimizer = sgd(model)
    with ts.watch(model, optimizer, signals=ALL) as monitor:
        for size in (5, 1, 5):
            try:
                step(model, optimizer, torch.randn(size, 4))
            except RuntimeError:
                continue
    assert (monitor.step, monitor.skipped) == (3, 1)
    assert monitor.series("outputs", "layer", "count")[1].tolist() == [20, 4, 20]
    assert monitor.series("updates", "layer.weight", "count")[0].tolist() == [0, 2]
    assert not model.layer._forward_hooks


def test_frozen_parameters_are_read_and_have_no_gradient() -> None:
    model = small_model()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    with ts.watch(model, optimizer, signals=ALL) as monitor:
        step(model, optimizer, torch.randn(5, 4))
    assert monitor.names("parameters") == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert monitor.names("gradients") == ["2.weight", "2.bias"]
    assert monitor.names("updates") == ["2.weight", "2.bias"]
    assert monitor.errors == []


# --- memory and copies ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_memory_is_flat_over_ten_thousand_steps() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    optimizer = sgd(model)
    x = torch.randn(2, 2)
    blocks, resident = [], []
    with ts.watch(model, optimizer, histograms=True) as monitor:
        for _ in range(2):
            for _ in range(5000):
                step(model, optimizer, x)
            gc.collect()
            blocks.append(sys.getallocatedblocks())
            resident.append(resident_bytes())
    assert monitor.step == 10_000
    steps, _ = monitor.series("outputs", "0", "mean")
    assert 400 < len(steps) <= 1000
    # After 5,000 and 10,000 steps the series have just been thinned to the same length.
    assert abs(blocks[1] - blocks[0]) < 1000
    # The tables are native memory, which the interpreter's own count does not see.
    assert resident[1] - resident[0] < 16 << 20


def resident_bytes() -> int:
    """Resident memory, native included; 0 where the system has no /proc."""
    statm = pathlib.Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


@pytest.mark.parametrize("signals", [["outputs", "inputs"], ["output_gradients"]])
def test_no_activation_outlives_its_graph(signals: list[str]) -> None:
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
    optimizer = sgd(model)
    mask = torch.ones(8, dtype=torch.bool)
    with ts.watch(model, optimizer, signals=signals, histograms=True, mask=mask):
        loss = model(torch.randn(8, 4)).sum()
        loss.backward()
        del loss
        assert [reference() for reference in alive] == [None, None]
        model(torch.randn(8, 4))  # never goes backward
        gc.collect()
        assert [reference() for reference in alive] == [None] * 4


def test_a_watched_model_is_copied_and_pickled_without_the_watch() -> None:
    model = small_model()
    optimizer = torch.optim.AdamW(model.parameters())
    eval_schedule = ts.torch.Schedule()
    with ts.watch(model, optimizer, signals=ALL, eval_schedule=eval_schedule) as monitor:
        step(model, optimizer, torch.randn(5, 4))
        twin = copy.deepcopy(model)
        again = pickle.loads(pickle.dumps(model))
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        for other in (twin, again):
            other(torch.randn(50, 4)).sum().backward()
        step(model, optimizer, torch.randn(5, 4))
    assert monitor.latest("outputs", "0").count == 40
    assert monitor.latest("raw_gradients", "0.weight").count == 32
    assert monitor.errors == []


def test_the_random_numbers_of_the_run_are_untouched() -> None:
    def run(signals: list[str] | None) -> Any:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
        optimizer = torch.optim.AdamW(model.parameters())
        monitor = None
        if signals is not None:
            mask = torch.ones(5, dtype=torch.bool)
            monitor = ts.watch(model, optimizer, signals=signals, histograms=True, units="all", mask=mask)
        for _ in range(4):
            step(model, optimizer, torch.randn(5, 4))
        if monitor is not None:
            monitor.close()
            assert monitor.errors == []
        return torch.cat([parameter.flatten() for parameter in model.parameters()]), torch.rand(3)

    for plain, seen in zip(run(None), run(ALL), strict=True):
        assert torch.equal(plain, seen)


def test_a_model_wrapped_for_data_parallel_replication_is_watched_through_its_original() -> None:
    model = small_model()
    wrapped = nn.DataParallel(model)
    optimizer = sgd(model)
    with ts.watch(model, optimizer) as monitor:
        step(wrapped, optimizer, torch.randn(5, 4))
    assert monitor.names("outputs") == ["0", "1", "2"]
