"""Lets compiled code report its tensors: two ops in the graph that hand them to a monitor; knows no statistic.

A hook that Dynamo traces cannot run Python at every step, so it leaves an op in the graph instead. The op declares that
it changes `order`, a tensor every op of one monitor shares: that is why no compiler drops an op, repeats it when a
checkpoint is recomputed, or moves one past another. Whether a step is recorded is asked when the op runs, so switching
between idle and recording compiles nothing again.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import nn

__all__ = ["CompileStart", "GraphHooks", "clean_name", "compiled_regions", "is_tracing"]


class Observer(Protocol):
    """What the ops report to: a monitor."""

    @property
    def listens_in_graphs(self) -> bool:
        """Whether the step is recorded; asked at every op, so it must be cheap."""

    def graph_begins(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """A compiled model is called with these tensors."""

    def graph_output(self, name: str, place: str, tensor: torch.Tensor) -> None:
        """A module inside compiled code returned `tensor` at `place` of its output."""

    def graph_gradient(self, name: str, place: str, tensor: torch.Tensor) -> None:
        """The gradient with respect to such an output."""

    def graph_step(self, *, after: bool) -> None:
        """A compiled optimizer is about to step, or has."""


_OBSERVERS: weakref.WeakValueDictionary[int, Observer] = weakref.WeakValueDictionary()
_NUMBERS = itertools.count()

_LIBRARY = torch.library.Library("tensorstats", "FRAGMENT")
# A CUDA graph would replay the kernels and leave these calls out.
_TAGS = tuple(tag for tag in (getattr(torch.Tag, "cudagraph_unsafe", None),) if tag is not None)


def _define(name: str, schema: str, body: Callable[..., None]) -> Any:
    """Register an op without a result: `body` on every device, nothing while shapes are traced, no derivative."""
    _LIBRARY.define(f"{name}{schema} -> ()", tags=_TAGS)
    _LIBRARY.impl(name, body, "CompositeExplicitAutograd")
    _LIBRARY.impl(name, torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(f"tensorstats::{name}", lambda *_: None, lib=_LIBRARY)
    return getattr(torch.ops.tensorstats, name).default


def _observe(x: torch.Tensor, _order: torch.Tensor, watch: int, name: str, place: str, gradient: bool) -> None:
    observer = _OBSERVERS.get(watch)
    if observer is None or not observer.listens_in_graphs:
        return
    if gradient:
        observer.graph_gradient(name, place, x)
    else:
        observer.graph_output(name, place, x)


def _begin(inputs: list[torch.Tensor], _order: torch.Tensor, watch: int, names: list[str]) -> None:
    observer = _OBSERVERS.get(watch)
    if observer is not None:
        observer.graph_begins(dict(zip(names, inputs, strict=True)))


def _step(_parameters: list[torch.Tensor], _order: torch.Tensor, watch: int, after: bool) -> None:
    observer = _OBSERVERS.get(watch)
    if observer is not None:
        observer.graph_step(after=after)


_observe_op = _define(
    "observe", "(Tensor x, Tensor(a!) order, int watch, str name, str place, bool gradient)", _observe
)
_begin_op = _define("begin", "(Tensor[] inputs, Tensor(a!) order, int watch, str[] names)", _begin)
_step_op = _define("step", "(Tensor[] parameters, Tensor(a!) order, int watch, bool after)", _step)


def is_tracing() -> bool:
    """Whether Dynamo is tracing the caller, for a compiled program or for an export."""
    return torch.compiler.is_compiling()


class GraphHooks:
    """What the hooks of one monitor do while Dynamo traces them."""

    def __init__(self, observer: Observer, *, gradients: bool) -> None:
        self._watch = next(_NUMBERS)
        self._order = torch.zeros(1, dtype=torch.int64)
        self._gradients = gradients
        _OBSERVERS[self._watch] = observer

    def output(self, name: str, output: object) -> None:
        """Leave an op in the graph for every tensor in a module's output."""
        # An exported program must run where this package is not installed.
        if not _is_exporting():
            self._walk(name, "", output, 0)

    def begin(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """Leave an op in the graph that says that the model is called."""
        if _is_exporting():
            return
        names: list[str] = []
        tensors: list[torch.Tensor] = []
        for place, value in enumerate(arguments):
            if isinstance(value, torch.Tensor):
                names.append(str(place))
                tensors.append(value)
        for key, value in keywords.items():
            if isinstance(value, torch.Tensor):
                names.append(key)
                tensors.append(value)
        _begin_op(tensors, self._order, self._watch, names)

    def step(self, groups: list[dict[str, Any]], *, after: bool) -> None:
        """Leave an op in the graph of an optimizer's step."""
        parameters: list[torch.Tensor] = []
        if not after:
            # They are given so that the op runs while they hold what they held before.
            for group in groups:
                parameters.extend(group["params"])
        _step_op(parameters, self._order, self._watch, after)

    def _walk(self, name: str, place: str, value: Any, depth: int) -> None:
        """As `tensors_in` walks, in terms that Dynamo can trace."""
        if isinstance(value, torch.Tensor):
            self._leave(name, place, value)
        elif depth >= 8:
            return
        elif dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                self._walk(name, place + "." + field.name, getattr(value, field.name, None), depth + 1)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                self._walk(name, f"{place}[{key!r}]", item, depth + 1)
        elif isinstance(value, tuple) and hasattr(value, "_fields"):
            for field_name in value._fields:
                self._walk(name, place + "." + field_name, getattr(value, field_name), depth + 1)
        elif isinstance(value, (tuple, list)):
            for index, item in enumerate(value):
                self._walk(name, f"{place}[{index}]", item, depth + 1)

    def _leave(self, name: str, place: str, tensor: torch.Tensor) -> None:
        order, watch = self._order, self._watch
        _observe_op(tensor, order, watch, name, place, False)
        if self._gradients and tensor.requires_grad:
            # Traced into the backward graph, where the op runs at every step.
            tensor.register_hook(lambda gradient: _observe_op(gradient, order, watch, name, place, True))


def _is_exporting() -> bool:
    exporting = getattr(torch.compiler, "is_exporting", None)
    return exporting is not None and bool(exporting())


class CompileStart:
    """Calls a method whenever Dynamo begins to compile something, before it traces the first line.

    That is the moment to attach hooks: those attached later would be invisible to the compiled code. The method is held
    weakly. Versions of torch without such callbacks never call it.
    """

    def __init__(self, method: Callable[[], None]) -> None:
        self._method = weakref.WeakMethod(method)

    def __call__(self, _arguments: Any = None) -> None:
        """Dynamo begins."""
        method = self._method()
        if method is not None:
            method()

    def register(self) -> bool:
        """Ask to be called, again after ``torch.compiler.reset()`` forgot it; False without Dynamo."""
        handler = _callback_handler()
        if handler is not None and self not in handler.start_callbacks:
            handler.register_start_callback(self)
        return handler is not None

    def remove(self) -> None:
        """Ask no longer."""
        handler = _callback_handler()
        if handler is not None and self in handler.start_callbacks:
            handler.remove_start_callback(self)


def _callback_handler() -> Any:
    """Dynamo's list of callbacks; None before Dynamo is loaded, which any optimizer or compiled model does."""
    module = sys.modules.get("torch._dynamo.callback")
    return getattr(module, "callback_handler", None)


def clean_name(name: str) -> str:
    """A module or parameter name without the wrappers that ``torch.compile`` puts around submodules.

    Examples
    --------
    >>> clean_name("block._orig_mod.0.weight"), clean_name("_orig_mod")
    ('block.0.weight', '')
    """
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def compiled_regions(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that are compiled as a whole, by name: wrapped by ``torch.compile`` or after ``module.compile()``."""
    regions: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        wrapped = "_orig_mod" in module._modules
        if wrapped or getattr(module, "_compiled_call_impl", None) is not None:
            regions.setdefault(clean_name(name), module)
    return regions
