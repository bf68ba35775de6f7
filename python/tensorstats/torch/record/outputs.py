"""Records what goes into modules, comes out of them and flows back, during one step; keeps no activation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from tensorstats._core import Summary
from tensorstats.device.backend import Statistics, is_countable
from tensorstats.device.results import PendingSummary
from tensorstats.torch.attach.functions import activation_before, graph_number
from tensorstats.torch.attach.guard import Guard, GuardedHook
from tensorstats.torch.attach.masks import Mask, MaskViews
from tensorstats.torch.attach.outputs import tensors_in
from tensorstats.torch.attach.scaling import Scaling
from tensorstats.torch.attach.sharded import arrived
from tensorstats.torch.record.collect import Collector, PendingList, Place
from tensorstats.torch.record.counted_outputs import CountedOutputs
from tensorstats.torch.record.offender import ModelInputs, StepOffenders, gradient_offender, output_offender
from tensorstats.torch.record.recorder import Locate, Opening

__all__ = ["OutputRecorder"]

# A cell called once per time step would otherwise make a series per time step; later calls share the last index.
MAX_CALLS = 16

# What has the values of an activation that is called as a function.
_STAND_INS: dict[str, nn.Module] = {"relu": nn.ReLU(), "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh()}

# Called with module name, module, call, output tensor, inputs and summary, at the first non-finite output of a step.
OnNonFinite = Callable[[str, nn.Module, int, torch.Tensor, tuple[Any, Any], Summary], object]


class OutputRecorder:
    """Collects from forward hooks for one step at a time.

    Parameters
    ----------
    collectors
        By signal: ``"outputs"`` always, ``"inputs"`` and ``"output_gradients"`` when chosen.
    chosen
        Whether a tensor of a signal is recorded, by name and module.
    mask
        Which positions count, see :mod:`tensorstats.torch.attach.masks`.
    scaling
        Whose scale gradients with respect to outputs still hold.
    modules
        All watched modules by name: no further call of one may be named as another is.
    on_function
        Called with the name and the kind of an activation that is called as a function, when it is first seen; without
        it, such activations are not looked for.
    """

    def __init__(
        self,
        statistics: Statistics,
        guard: Guard,
        collectors: Mapping[str, Collector],
        pending: PendingList,
        chosen: Callable[[str, str, nn.Module], bool],
        mask: Callable[[], Mask] = lambda: None,
        scaling: Scaling | None = None,
        modules: Callable[[], Mapping[str, nn.Module]] = dict,
        on_function: Callable[[str, str], object] | None = None,
    ) -> None:
        self._on_function = on_function
        self._functions: dict[str, tuple[Place, nn.Module]] = {}
        self._known_nodes: set[int] = set()  # of activations that were counted in this forward pass
        self._scaling = scaling
        self._statistics = statistics
        self._guard = guard
        self._collectors = collectors
        self.signals = tuple(collectors)
        self._pending = pending
        self._chosen = chosen
        self._modules = modules
        self._masks = MaskViews(mask)
        self._places: dict[str, Place] = {}
        self._graph_calls: dict[tuple[str, str], int] = {}  # in this forward pass, of what compiled code reports
        self._inputs = ModelInputs()
        self._layout: str | None = None
        self._locate: Locate | None = None
        self.on_nonfinite: OnNonFinite | None = None
        self.begin()

    def begin(self, opening: Opening | None = None, /) -> None:
        """A step begins, or begins anew."""
        self._statistics.begin()
        for collector in self._collectors.values():
            collector.begin()
            if opening is not None:
                collector.in_parts = opening.apart
        collected = {signal: collector.counted for signal, collector in self._collectors.items()}
        self.counted = CountedOutputs(collected, self._place_of)
        self._pending.clear()
        self._masks.clear()
        self._reset_calls()

    def let_go(self) -> None:
        """The step that was counted is closed later."""
        for collector in self._collectors.values():
            collector.let_go()
        self.begin()

    @property
    def ran(self) -> bool:
        """Whether any watched module was called in this step."""
        return self.counted.ran

    @property
    def offenders(self) -> StepOffenders:
        """The first non-finite tensors of this step."""
        return self.counted.offenders

    @property
    def locate(self) -> Locate | None:
        """Finds the part of a sharded tensor on this rank, while ranks are merged."""
        return self._locate

    @locate.setter
    def locate(self, locate: Locate | None) -> None:
        self._locate = locate
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        for signal, collector in self._collectors.items():
            if locate is not None:
                collector.locate = functools.partial(locate, signal)
            else:
                collector.locate = _arrived if distributed else None
            collector.in_parts = locate is not None

    def forget(self, names: Iterable[str]) -> None:
        """Forget what was known of modules that others have taken the place of."""
        for name in names:
            self._places.pop(name, None)

    def _reset_calls(self) -> None:
        for place in self._places.values():
            place.calls = 0
        self._graph_calls.clear()
        self._known_nodes.clear()
        self._inputs.clear()
        self._layout = None

    def forward_begins(self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """A model is called: calls are counted anew, its inputs remembered weakly in case something goes wrong."""
        self._reset_calls()
        for name, tensor in self._inputs.begin(model, arguments, keywords):
            if tensor.is_floating_point() and is_countable(tensor) and not self._statistics.uses_core(tensor):
                # It will be gone when the step is settled, so its numbers are taken now.
                summary, _ = self._statistics.parts(tensor, histogram=False, where=self._masks.of_unnamed(tensor))
                if isinstance(summary, PendingSummary):
                    self._pending.add(summary, self.offenders.input_checker(name, tuple(tensor.shape)))

    def record(
        self, name: str, module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: object
    ) -> None:
        """One call of one module has returned."""
        self.counted.ran = True
        place = self._places.get(name) or self._place(name, module)
        call = place.calls
        place.calls = call + 1
        stem = name
        if call:
            call = min(call, MAX_CALLS - 1)
            stem = f"{name}{place.mark}{call}"
        if place.layout is not None:
            self._layout = place.layout
        if self._on_function is not None and arguments and place.kind == "other":
            self._record_function(stem, name, call, arguments[0], place.layout or self._layout)
        if place.records_inputs:
            self._record_inputs(stem, place, module, call, arguments, keywords)
        if not (place.records_outputs or place.records_gradients):
            return
        if type(output) is torch.Tensor:  # what nearly every module returns
            self._record_output(stem, place, module, call, output, (arguments, keywords))
            return
        for path, tensor in tensors_in(output):
            self._record_output(stem + path, place, module, call, tensor, (arguments, keywords))

    def _record_function(self, stem: str, name: str, call: int, given: object, layout: str | None) -> None:
        """Count what a module was given, where an activation that is no module made it."""
        if type(given) is not torch.Tensor or given.is_nested or given.grad_fn is None:
            return
        found = activation_before(given)
        if found is None or found[1] in self._known_nodes:
            return
        kind, node = found
        self._known_nodes.add(node)
        path, name = f"{kind} before {stem}", f"{kind} before {name}"
        place, module = self._functions.get(name) or self._function(name, kind)
        if place.records_outputs:
            where, found_later = self._masks.of(path, given), self.counted.offenders.output_found
            self._collectors["outputs"].count(path, place, module, call, given, layout, where, found_later)

    def _function(self, name: str, kind: str) -> tuple[Place, nn.Module]:
        """An activation that is seen for the first time; a module of its kind says what its values mean."""
        module = _STAND_INS[kind]
        signals = frozenset(signal for signal in ("outputs",) if self._chosen(signal, name, module))
        self._functions[name] = known = Place(name, module, signals), module
        if self._on_function is not None:
            self._on_function(name, kind)
        return known

    def record_recomputed(self, name: str, module: nn.Module, output: object) -> None:
        """A module runs once more in a backward pass; if it ran without a graph before, gradients flow through this.

        That is what reentrant activation checkpointing does. Its outputs have been counted.
        """
        place = self._places.get(name)
        if place is None or not (place.records_gradients and place.ran_without_graph):
            return
        if place.calls > 1:
            what = "it is called several times under reentrant checkpointing, in an unknown order"
            self._guard.note(f"the gradients of {name}", what)
            return
        layout = place.layout or self._layout
        for path, tensor in tensors_in(output):
            if tensor.requires_grad:
                hook = OutputGradientHook(self._guard, self, name + path, place, module, 0, layout)
                tensor.register_hook(hook)

    def record_tensor(self, name: str, module: nn.Module, path: str, tensor: torch.Tensor) -> None:
        """One tensor of a module's output, reported by compiled code, which does not show what went into the module."""
        self.counted.ran = True
        place = self._places.get(name) or self._place(name, module)
        call = min(self._graph_calls.get((name, path), 0), MAX_CALLS - 1)
        self._graph_calls[(name, path)] = call + 1
        if place.layout is not None:
            self._layout = place.layout
        self._record_output((f"{name}{place.mark}{call}" if call else name) + path, place, module, call, tensor, None)

    def record_tensor_gradient(self, name: str, module: nn.Module, path: str, gradient: torch.Tensor) -> None:
        """The gradient with respect to such a tensor. The last call of a module is the first on the way back."""
        place = self._places.get(name) or self._place(name, module)
        if not place.records_gradients:
            return
        left = self._graph_calls.get((name, path), 1) - 1
        self._graph_calls[(name, path)] = left
        call = max(left, 0)
        stem = (f"{name}{place.mark}{call}" if call else name) + path
        OutputGradientHook(self._guard, self, stem, place, module, call, place.layout).run(gradient)

    def _place(self, name: str, module: nn.Module) -> Place:
        signals = frozenset(signal for signal in self._collectors if self._chosen(signal, name, module))
        self._places[name] = place = Place(name, module, signals)
        while any("#" in other and other.startswith(name + place.mark) for other in self._modules()):
            place.mark += "#"
        return place

    def _place_of(self, name: str) -> Place | None:
        """The place of a watched module, be it one that has not run, or of a function that has."""
        if name in self._functions:
            return self._functions[name][0]
        module = self._modules().get(name)
        return None if module is None else self._places.get(name) or self._place(name, module)

    def _record_output(
        self,
        path: str,
        place: Place,
        module: nn.Module,
        call: int,
        tensor: torch.Tensor,
        inputs: tuple[tuple[Any, ...], dict[str, Any]] | None,
    ) -> None:
        if tensor.is_nested:
            self._guard.leave_out(f"the output of {path}", "a nested tensor is not counted")
            return
        if place.records_outputs:
            where, offenders = self._masks.of(path, tensor), self.counted.offenders
            nonfinite = self._collectors["outputs"].count(
                path, place, module, call, tensor, self._layout, where, offenders.output_found
            )
            if self._on_function is not None:  # it is counted, whatever is inside
                node = graph_number(tensor)
                if node is not None:
                    self._known_nodes.add(node)
            if nonfinite and offenders.first is None:
                self._first_nonfinite(path, place, module, call, tensor, inputs, where)
        if not place.records_gradients:
            return
        place.ran_without_graph = not tensor.requires_grad
        if tensor.requires_grad:
            # A hook on the tensor sees its whole gradient once, also when the tensor is changed in place later, and
            # goes away with the graph. A hook on the module would put a function into the graph.
            tensor.register_hook(OutputGradientHook(self._guard, self, path, place, module, call, self._layout))

    def _first_nonfinite(
        self,
        path: str,
        place: Place,
        module: nn.Module,
        call: int,
        tensor: torch.Tensor,
        inputs: tuple[tuple[Any, ...], dict[str, Any]] | None,
        where: torch.Tensor | None,
    ) -> None:
        """An output is the first of the step that is not finite, where it counts."""
        named = (place.name, place.module_type)
        first = all(step.place is place for step in self.counted.outputs)
        self.offenders.first = output_offender(
            path, named, call, module, tensor, inputs, self._inputs, self._masks, first=first
        )
        if self.on_nonfinite is not None and self.offenders.first is not None:
            summary, _ = self._statistics.parts(tensor, histogram=False, where=where)
            assert isinstance(summary, Summary)
            self.on_nonfinite(place.name, module, call, tensor, inputs or ((), {}), summary)

    def _record_inputs(
        self,
        stem: str,
        place: Place,
        module: nn.Module,
        call: int,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> None:
        names = place.argument_names
        keys = names if len(names) == len(arguments) else [_key(names, i) for i in range(len(arguments))]
        for key, value in zip(keys, arguments, strict=True):
            self._record_input(f"{stem}.{key}", place, module, call, value)
        for key, value in keywords.items():
            self._record_input(f"{stem}.{key}", place, module, call, value)

    def _record_input(self, stem: str, place: Place, module: nn.Module, call: int, value: object) -> None:
        collector = self._collectors["inputs"]
        if type(value) is torch.Tensor:  # what nearly every module is given
            collector.count(stem, place, module, call, value, self._layout, self._masks.of(stem, value))
            return
        for path, tensor in tensors_in(value):
            name = stem + path
            collector.count(name, place, module, call, tensor, self._layout, self._masks.of(name, tensor))


class OutputGradientHook(GuardedHook):
    """Reads the gradient with respect to one output as it arrives; belongs to the step in which it was made."""

    __slots__ = ("_call", "_counted", "_layout", "_module", "_output", "_path", "_recorder")

    def __init__(
        self,
        guard: Guard,
        recorder: OutputRecorder,
        path: str,
        output: Place,
        module: nn.Module,
        call: int,
        layout: str | None,
    ) -> None:
        super().__init__(guard, f"the gradient of {path}")
        self._path = path
        self._recorder = recorder
        self._output = output
        self._module = module
        self._call = call
        self._layout = layout
        # A backward pass that comes after the step belongs to none.
        self._counted = recorder.counted

    def run(self, gradient: torch.Tensor | None) -> None:
        """Count the gradient; there is none of an output that the loss does not use."""
        if gradient is None:
            return
        recorder, path = self._recorder, self._path
        if recorder.counted is not self._counted:
            return
        collector, offenders = recorder._collectors["output_gradients"], self._counted.offenders
        place, call, where = self._output, self._call, recorder._masks.of(path, gradient)
        scaling = recorder._scaling
        if scaling is not None and scaling.scaler is not None and is_countable(gradient):
            # A scaler that looks for its scale overflows now and then, and leaves the step: no fault. What the
            # optimizer gets is judged.
            gradient = scaling.unscaled(gradient)
            collector.count(path, place, self._module, call, gradient, self._layout, where)
            return
        nonfinite = collector.count(
            path, place, self._module, call, gradient, self._layout, where, offenders.gradient_found
        )
        if nonfinite and offenders.gradient is None:
            offenders.gradient = gradient_offender(path, place.name, call, gradient, where)


def _arrived(_name: str, tensor: torch.Tensor) -> torch.Tensor:
    return arrived(tensor)


def _key(names: list[str], place: int) -> str:
    """The name of an argument; of one more than the signature names, its place."""
    return names[place] if place < len(names) else str(place)
