"""Owns putting everything back: weights, buffers, gradients, modes, hooks, optimizers, dice; judges nothing."""

from __future__ import annotations

import contextlib
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["Snapshot", "held_by", "restored", "seed"]

_CONTAINERS = (dict, OrderedDict, list, set)
_SEED = 0


class _Tensor:
    """The bits of one tensor and its gradient.

    They are written back through ``.data``: a graph that the caller holds onto must not hear of it.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.memory = tensor.data
        self.bits = tensor.detach().clone()
        self.requires_grad = tensor.requires_grad
        self.grad = tensor.grad if tensor.is_leaf else None

    def put_back(self) -> None:
        if self.tensor.data_ptr() != self.memory.data_ptr() or self.tensor.shape != self.memory.shape:
            self.tensor.data = self.memory
        self.tensor.data.copy_(self.bits)
        if self.tensor.is_leaf:
            if self.tensor.requires_grad != self.requires_grad:
                self.tensor.requires_grad_(self.requires_grad)
            self.tensor.grad = self.grad


class Snapshot:
    """What modules and optimizers are, to be put back any number of times.

    Of a module: every attribute, the contents of those that are containers (hooks, parameters, buffers among them), and
    the bits of every tensor. Of an optimizer: its groups and its state.
    """

    def __init__(self, modules: Iterable[nn.Module], optimizers: Iterable[torch.optim.Optimizer]) -> None:
        self._tensors: dict[int, _Tensor] = {}
        self._gradients: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._attributes: list[tuple[Any, dict[str, Any]]] = []
        self._contents: list[tuple[Any, Any]] = []
        seen: set[int] = set()
        for root in modules:
            for module in root.modules():
                if id(module) not in seen:
                    seen.add(id(module))
                    self._keep(module)
        for optimizer in optimizers:
            if id(optimizer) not in seen:
                seen.add(id(optimizer))
                self._keep_optimizer(optimizer)

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Those whose bits are kept."""
        return [kept.tensor for kept in self._tensors.values()]

    def put_back(self) -> None:
        """Restore all of it, bit for bit."""
        with torch.no_grad():
            for owner, attributes in self._attributes:
                now = vars(owner)
                if now.keys() != attributes.keys() or any(now[name] is not attributes[name] for name in attributes):
                    now.clear()
                    now.update(attributes)
            for container, contents in self._contents:
                if isinstance(container, list):
                    container[:] = contents
                else:
                    container.clear()
                    container.update(contents)
            for tensor in self._tensors.values():
                tensor.put_back()
            for gradient, bits in self._gradients:
                gradient.data.copy_(bits)

    def forget_gradients(self) -> None:
        """Let every parameter begin without a gradient; those that there were come back at the end."""
        for tensor in self._tensors.values():
            if tensor.tensor.is_leaf:
                tensor.tensor.grad = None

    def _keep(self, module: nn.Module) -> None:
        self._keep_attributes(module)
        for value in vars(module).values():
            self._keep_value(value)

    def _keep_attributes(self, owner: Any) -> None:
        self._attributes.append((owner, dict(vars(owner))))

    def _keep_value(self, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            self._keep_tensor(value)
        elif type(value) in _CONTAINERS:
            self._contents.append((value, value.copy()))
            for inner in value.values() if isinstance(value, dict) else value:
                if isinstance(inner, torch.Tensor):
                    self._keep_tensor(inner)

    def _keep_tensor(self, tensor: torch.Tensor) -> None:
        if id(tensor) in self._tensors or tensor.is_meta or nn.parameter.is_lazy(tensor):
            return
        kept = self._tensors[id(tensor)] = _Tensor(tensor)
        if kept.grad is not None:
            self._gradients.append((kept.grad, kept.grad.detach().clone()))

    def _keep_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        self._keep_attributes(optimizer)
        for value in vars(optimizer).values():
            if isinstance(value, torch.optim.Optimizer):
                self._keep_optimizer(value)
            elif isinstance(value, dict | list):
                self._keep_tree(value)

    def _keep_tree(self, value: Any) -> None:
        """Containers in containers: the state by parameter, the groups and their parameters."""
        if isinstance(value, torch.Tensor):
            self._keep_tensor(value)
        elif isinstance(value, dict | list | set):
            self._contents.append((value, value.copy()))
            for inner in value.values() if isinstance(value, dict) else value:
                self._keep_tree(inner)


@contextlib.contextmanager
def restored(modules: Iterable[nn.Module], optimizers: Iterable[torch.optim.Optimizer]) -> Iterator[Snapshot]:
    """Let anything be done to them, and put everything back in the end, whatever is raised."""
    randomness = _Randomness()
    snapshot = Snapshot(modules, optimizers)
    try:
        with contextlib.ExitStack() as stack:
            for tensor in snapshot.tensors:  # so that a graph which the caller holds can still be walked
                if not tensor.is_inference():
                    stack.enter_context(torch.autograd._unsafe_preserve_version_counter(tensor))
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            yield snapshot
    finally:
        snapshot.put_back()
        randomness.put_back()


class _Randomness:
    """The states of all generators that a training step may draw from."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        # A device that nobody has used yet has no state, and asking for it would start it.
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        self.mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
        self.numpy = np.random.get_state()  # noqa: NPY002 - the one that old code draws from
        self.python = random.getstate()

    def put_back(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state_all(self.cuda)
        if self.mps is not None:
            torch.mps.set_rng_state(self.mps)
        np.random.set_state(self.numpy)  # noqa: NPY002 - as above
        random.setstate(self.python)


def seed() -> None:
    """Begin all generators alike, so that a report does not depend on what was drawn before."""
    torch.default_generator.manual_seed(_SEED)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(_SEED)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(_SEED)
    np.random.seed(_SEED)  # noqa: NPY002 - as above
    random.seed(_SEED)


def held_by(function: Callable[..., Any] | None) -> Iterator[Any]:
    """What a callable holds onto: what it is bound to, its closure, the globals it names, the parts of a partial."""
    if function is None:
        return
    yield function
    for name in ("__self__", "func", "__wrapped__"):
        inner = getattr(function, name, None)
        if inner is not None and inner is not function:
            yield inner
            if name == "func":
                yield from held_by(inner)
                yield from getattr(function, "args", ())
                yield from getattr(function, "keywords", {}).values()
    for cell in getattr(function, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # an empty cell
            yield cell.cell_contents
    code, known = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    if code is not None:
        yield from (known[name] for name in code.co_names if name in known)
