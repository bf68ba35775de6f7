"""What the watcher sees of compiled models: the same as of eager ones, without a graph break or a recompilation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch._dynamo.testing import CompileCounterWithBackend  # noqa: E402

import tensorstats as ts  # noqa: E402

# Dynamo reads .grad of intermediate tensors and hides this warning by itself, unless warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

EXACT = ("count", "nan_count", "zero_count", "negative_count", "positive_count", "min", "max", "absmin", "absmax")


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    """Compiled code of one test must not serve the next."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def one_step(called: Any, optimizer: Any) -> None:
    called(torch.ones(2, 6)).sum().backward()
    optimizer.step()


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Linear(8, 3))


def train(
    model: nn.Module, call: Callable[..., Any] | None = None, *, steps: int = 3, **options: Any
) -> ts.torch.Monitor:
    """A watched run; `call` is what the loop calls instead of the model, made after the watcher was attached."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(1)
    with ts.watch(model, optimizer, **options) as monitor:
        called = model if call is None else call(model)
        for _ in range(steps):
            optimizer.zero_grad()
            called(torch.randn(16, 6, generator=generator)).square().mean().backward()
            optimizer.step()
    assert monitor.errors == []
    return monitor


def assert_same_numbers(left: ts.torch.Monitor, right: ts.torch.Monitor, *, bits: bool) -> None:
    """Names, steps and counts are equal; values too where the compiled code computes the very same ones."""
    for signal in ("outputs", "parameters", "gradients", "updates"):
        assert left.names(signal) == right.names(signal), signal
        for name in left.names(signal):
            for field in (*EXACT, "mean", "l2"):
                (steps, want), (other_steps, got) = left.series(signal, name, field), right.series(signal, name, field)
                assert steps.tolist() == other_steps.tolist()
                if bits or field.endswith("count"):
                    assert want.tolist() == got.tolist(), (signal, name, field)
                else:
                    assert got == pytest.approx(want, rel=1e-4, abs=1e-6), (signal, name, field)


# --- the same numbers -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_whole_model_compiled_by_inductor_records_what_eager_records() -> None:
    eager = train(build())
    compiled = train(build(), lambda model: torch.compile(model, fullgraph=True))
    assert_same_numbers(eager, compiled, bits=False)
    assert compiled.units("1").updates == 3
    assert compiled.names("outputs") == ["0", "1", "2.0", "2.1", "3"]


def test_model_compile_in_place_records_what_eager_records_to_the_bit() -> None:
    def compiled(model: nn.Module) -> nn.Module:
        model.compile(backend="aot_eager", fullgraph=True)
        return model

    assert_same_numbers(train(build()), train(build(), compiled), bits=True)


def test_a_compiled_training_function_records_what_eager_records_to_the_bit() -> None:
    def compiled(model: nn.Module) -> Callable[..., Any]:
        return torch.compile(lambda x: model(x), backend="aot_eager", fullgraph=True)

    assert_same_numbers(train(build()), train(build(), compiled), bits=True)


def test_gradients_with_respect_to_outputs_are_seen_inside_compiled_code() -> None:
    def totals(compile_it: bool) -> Any:
        torch.manual_seed(0)
        model = Nested()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with ts.watch(model, optimizer, signals=["outputs", "output_gradients"]) as monitor:
            called = torch.compile(model, backend="aot_eager", fullgraph=True) if compile_it else model
            for _ in range(2):
                called(torch.arange(12.0).reshape(2, 6)).logits["a"].square().sum().backward()
                optimizer.step()
        assert monitor.errors == []
        names = monitor.names("output_gradients")
        return {name: monitor.total("output_gradients", name).to_dict() for name in names}

    eager = totals(compile_it=False)
    assert set(eager) == {"layer", "layer#1"}
    assert totals(compile_it=True) == eager


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_compiled_submodule_and_its_eager_neighbours_are_both_seen(wrapped: bool) -> None:
    def compiled(model: nn.Module) -> nn.Module:
        if wrapped:
            model[2] = torch.compile(model[2], backend="aot_eager", fullgraph=True)
        else:
            model[2].compile(backend="aot_eager", fullgraph=True)
        return model

    assert_same_numbers(train(build()), train(build(), compiled), bits=True)


def test_a_model_wrapped_before_it_is_watched_but_not_yet_run_is_seen() -> None:
    model = torch.compile(build(), backend="aot_eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        model(torch.ones(2, 6)).sum().backward()
        optimizer.step()
    assert monitor.names("outputs") == ["0", "1", "2.0", "2.1", "3"]
    assert monitor.names("parameters")[0] == "0.weight"
    assert monitor.errors == []


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Result:
    logits: Any
    aux: Any = None


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Any, *, scale: Any = None) -> Any:
        y = self.layer(self.layer(x if scale is None else x * scale))
        return Result(logits={"a": y, "b": [y + 1, y.argmax(-1)]}, aux=Pair(y - 1, None))


def test_nested_outputs_and_calls_of_a_shared_module_keep_their_names() -> None:
    def outputs(compile_it: bool) -> Any:
        torch.manual_seed(0)
        model = Nested()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with ts.watch(model, optimizer, modules=lambda name, module: True) as monitor:
            called = torch.compile(model, backend="aot_eager", fullgraph=True) if compile_it else model
            for _ in range(2):
                result = called(torch.arange(12.0).reshape(2, 6), scale=torch.tensor(0.5))
                result.logits["a"].sum().backward()
                optimizer.step()
        assert monitor.errors == []
        return {name: monitor.total("outputs", name).to_dict() for name in monitor.names("outputs")}

    eager = outputs(compile_it=False)
    assert {"layer", "layer#1", "(model).logits['a']", "(model).logits['b'][1]", "(model).aux.left"} <= set(eager)
    assert outputs(compile_it=True) == eager


# --- graphs -----------------------------------------------------------------------------------------------------------


def test_schedules_switch_between_idle_and_recording_without_a_recompilation() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    monitor = train(build(), lambda model: torch.compile(model, backend=counter, fullgraph=True), steps=8, every=3)
    assert counter.frame_count == 1
    assert monitor.series("outputs", "0", "count")[0].tolist() == [0, 3, 6]


def test_hooks_appear_when_compilation_begins_in_a_step_that_is_not_recorded() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    eager = train(build(), steps=6, start=4)
    compiled = train(build(), lambda model: torch.compile(model, backend=counter, fullgraph=True), steps=6, start=4)
    assert counter.frame_count == 1
    assert_same_numbers(eager, compiled, bits=True)
    assert compiled.series("outputs", "3", "count")[0].tolist() == [4, 5]


def test_without_an_optimizer_a_call_of_the_compiled_model_is_a_step() -> None:
    counter = CompileCounterWithBackend("aot_eager")

    def totals(compile_it: bool) -> Any:
        model = build()
        with ts.watch(model) as monitor:
            called = torch.compile(model, backend=counter, fullgraph=True) if compile_it else model
            for _ in range(3):
                called(torch.ones(4, 6)).sum().backward()
        assert (monitor.step, monitor.errors) == (3, [])
        return {
            (signal, name): monitor.total(signal, name).to_dict()
            for signal in ("outputs", "gradients")
            for name in monitor.names(signal)
        }

    assert totals(compile_it=True) == totals(compile_it=False)
    assert counter.frame_count <= 2  # the call of the model and, with the root's own hook, that hook


def test_eval_mode_is_not_counted_in_compiled_code_either() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        called = torch.compile(model, backend="aot_eager")
        called(torch.ones(4, 6)).sum().backward()
        model.eval()
        with torch.no_grad():
            called(torch.ones(100, 6))
        model.train()
        optimizer.step()
    assert monitor.latest("outputs", "0").count == 4 * 8
    assert monitor.errors == []


def test_outside_judges_find_no_graph_break_no_recompilation_and_no_other_result() -> None:
    judges = pytest.importorskip("pytest_torch")
    model = build()
    x = torch.randn(4, 6)
    with ts.watch(model, torch.optim.SGD(model.parameters(), lr=0.1)) as monitor:
        judges.assert_no_graph_breaks(model, x)
        judges.assert_no_recompiles(model, x, torch.randn(4, 6))
        judges.assert_compile_parity(model, x, backend="aot_eager")
    assert monitor.errors == []


def test_an_exported_program_holds_no_op_of_ours() -> None:
    model = build()
    with ts.watch(model, torch.optim.SGD(model.parameters(), lr=0.1)):
        program = torch.export.export(model, (torch.ones(2, 6),))
    assert "tensorstats" not in str(program.graph)


# --- too late ---------------------------------------------------------------------------------------------------------


def test_a_model_compiled_and_run_before_it_is_watched_says_what_to_do() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    called = torch.compile(model, backend="aot_eager")
    called(torch.ones(2, 6)).sum().backward()
    with ts.watch(model, optimizer) as monitor:
        with pytest.warns(ts.torch.WatchWarning, match=r"Call ts\.watch\(model, \.\.\.\) first"):
            one_step(called, optimizer)
        assert "it was compiled before it was watched" in monitor.errors[0]
        assert monitor.names("outputs") == []
        assert monitor.names("gradients")  # read by the optimizer's step, which is not compiled
        torch.compiler.reset()
        called(torch.ones(2, 6)).sum().backward()
        optimizer.step()
    assert monitor.names("outputs") == ["0", "1", "2.0", "2.1", "3"]


def test_a_region_compiled_and_run_before_it_is_watched_is_named() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[2].compile(backend="aot_eager")
    model(torch.ones(2, 6)).sum().backward()
    monitor = ts.watch(model, optimizer)
    with pytest.warns(ts.torch.WatchWarning, match="no module in 2 was seen to run"):
        one_step(model, optimizer)
    monitor.close()
    assert monitor.names("outputs") == ["0", "1", "3"]


# --- optimizers and checkpoints ---------------------------------------------------------------------------------------


def test_a_compiled_optimizer_step_is_watched() -> None:
    def totals(compile_it: bool) -> Any:
        model = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        monitor = ts.watch(model, optimizer)
        step = torch.compile(optimizer.step, backend="aot_eager") if compile_it else optimizer.step
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(4, 6)).square().sum().backward()
            step()
        monitor.close()
        assert (monitor.step, monitor.errors) == (3, [])
        return {
            (signal, name): monitor.series(signal, name, "l2")[1].tolist()
            for signal in ("parameters", "gradients", "updates")
            for name in monitor.names(signal)
        }

    eager, compiled = totals(compile_it=False), totals(compile_it=True)
    assert eager.keys() == compiled.keys()
    for key, values in eager.items():
        assert compiled[key] == pytest.approx(values, rel=1e-5), key


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_checkpoint_inside_compiled_code_is_counted_once(backend: str) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Linear(6, 6), nn.Sigmoid())

        def forward(self, x: Any) -> Any:
            return torch.utils.checkpoint.checkpoint(self.block, x, use_reentrant=False)

    model = Checkpointed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        called = torch.compile(model, backend=backend, fullgraph=True)
        called(torch.randn(4, 6)).sum().backward()
        optimizer.step()
    assert [monitor.latest("outputs", name).count for name in monitor.names("outputs")] == [24, 24]
    assert monitor.units("block.1").updates == 1
    assert monitor.errors == []


def test_a_non_finite_value_inside_compiled_code_is_traced_to_the_model_input_or_to_the_module() -> None:
    for poison_input in (True, False):
        model = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with ts.watch(model, optimizer) as monitor:
            called = torch.compile(model, backend="aot_eager", fullgraph=True)
            x = torch.ones(4, 6)
            if poison_input:
                x[2, 3] = float("nan")
            else:
                with torch.no_grad():
                    model[2][0].bias[5] = float("inf")
            called(x).sum().backward()
            optimizer.step()
        (finding,) = monitor.findings
        assert finding.rule == "non-finite"
        assert finding.where == ("input" if poison_input else "2.0")
        assert ("[2, 3] (nan)" if poison_input else "[0, 5] (inf)") in finding.why


def test_results_and_weights_of_compiled_training_do_not_change() -> None:
    def weights(watched: bool) -> list[bytes]:
        torch._dynamo.reset()
        model = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        monitor = ts.watch(model, optimizer) if watched else None
        called = torch.compile(model, backend="aot_eager", fullgraph=True)
        for step in range(3):
            optimizer.zero_grad()
            called(torch.full((4, 6), float(step))).square().mean().backward()
            optimizer.step()
        if monitor is not None:
            monitor.close()
        return [parameter.detach().numpy().tobytes() for parameter in model.parameters()]

    assert weights(watched=True) == weights(watched=False)


def test_a_deep_copy_of_a_watched_model_compiles_without_the_watcher() -> None:
    model = build()
    with ts.watch(model, torch.optim.SGD(model.parameters(), lr=0.1)) as monitor:
        twin = copy.deepcopy(model)
        torch.compile(twin, backend="aot_eager", fullgraph=True)(torch.ones(2, 6)).sum().backward()
    assert monitor.names("outputs") == []
    assert monitor.errors == []
