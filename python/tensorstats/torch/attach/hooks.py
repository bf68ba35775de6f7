"""The hooks that exist only while a step is recorded: puts them on and takes them off; counts nothing itself."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tensorstats.torch.attach.compiled import is_tracing
from tensorstats.torch.attach.guard import GuardedHook
from tensorstats.torch.attach.targets import unwrapped

if TYPE_CHECKING:
    from tensorstats.torch.monitor import Monitor

__all__ = ["StepHooks"]

_OF_MODULES = frozenset(("inputs", "outputs", "output_gradients"))


class StepHooks:
    """The hooks of one monitor on modules and parameters, from the beginning of a recorded step to its end.

    Between recorded steps there are none, so that those steps run at their bare speed, unless compiled code needs them
    to stay.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._handles: list[Any] = []
        self._on_parameters: list[Any] = []
        self._hooked: list[tuple[str, int]] = []  # names and identities of those parameters

    @property
    def handles(self) -> tuple[list[Any], list[Any]]:
        """What takes them off."""
        return self._handles, self._on_parameters

    @property
    def attached(self) -> bool:
        """Whether the hooks are there."""
        return bool(self._handles or self._on_parameters)

    def attach(self) -> None:
        """Put the hooks on."""
        monitor, handles, hook = self._monitor, self._handles, self._monitor._guard.hook
        has_optimizer = bool(monitor._targets.optimizers)
        for model in monitor._targets.models.values():
            if has_optimizer or model is not monitor._clock:
                called = hook("the call of the model", monitor._called)
                handles.append(model.register_forward_pre_hook(called, with_kwargs=True))
            if has_optimizer:
                handles.append(model.register_forward_hook(hook("the call of the model", monitor._returned)))
        if monitor._signals & _OF_MODULES:
            for name, module in monitor._modules.items():
                handles += monitor._reduction.hooks(module)
                handles.append(module.register_forward_hook(OutputHook(monitor, name), with_kwargs=True))
        self.renew()

    def renew(self) -> None:
        """Follow the parameters: some may have been replaced, frozen or thawed since the hooks were put on."""
        monitor = self._monitor
        reads_raw = "raw_gradients" in monitor._signals
        has_optimizer = bool(monitor._targets.optimizers)
        if has_optimizer and not reads_raw:
            return
        now = _that_accumulate(monitor)
        identities = [(name, id(parameter)) for name, parameter in now]
        if identities == self._hooked:
            return
        self._detach_parameters()
        self._hooked = identities
        for name, parameter in now:
            if not has_optimizer:
                accumulated = GradientHook(monitor, name)
                self._on_parameters.append(parameter.register_post_accumulate_grad_hook(accumulated))
            if reads_raw and monitor._chooses("raw_gradients", name):
                raw = RawGradientHook(monitor, name)
                self._on_parameters.append(parameter.register_post_accumulate_grad_hook(raw))

    def detach(self) -> None:
        """Take them off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._detach_parameters()

    def _detach_parameters(self) -> None:
        for handle in self._on_parameters:
            handle.remove()
        self._on_parameters.clear()
        self._hooked = []


class GradientHook(GuardedHook):
    """Without an optimizer a gradient is read whenever a backward pass has added to it; the last reading counts."""

    __slots__ = ("_monitor", "_name")

    def __init__(self, monitor: Monitor, name: str) -> None:
        super().__init__(monitor._guard, f"the gradient of {name}")
        self._monitor = weakref.ref(monitor)
        self._name = name

    def run(self, parameter: torch.Tensor) -> None:
        """The gradient is there."""
        monitor, gradient = self._monitor(), parameter.grad
        if monitor is not None and monitor._recording and gradient is not None:
            monitor._parameters.read_gradient(self._name, gradient)


class RawGradientHook(GuardedHook):
    """Hands the gradient of a parameter to the recorder whenever a backward pass has added to it."""

    __slots__ = ("_monitor", "_name")

    def __init__(self, monitor: Monitor, name: str) -> None:
        super().__init__(monitor._guard, f"the raw gradient of {name}")
        self._monitor = weakref.ref(monitor)
        self._name = name

    def run(self, parameter: torch.Tensor) -> None:
        """The gradient is there."""
        monitor, gradient = self._monitor(), parameter.grad
        if monitor is not None and monitor._recording and gradient is not None:
            monitor._raw.read(self._name, gradient)


class OutputHook(GuardedHook):
    """Hands what a module was given and what it returns to the recorder; to the graph while the module is compiled."""

    __slots__ = ("_model", "_monitor", "_name")

    def __init__(self, monitor: Monitor, name: str) -> None:
        super().__init__(monitor._guard, f"the output of {name}")
        self._monitor = weakref.ref(monitor)
        self._name = name
        self._model = unwrapped(monitor._targets.model_of(name))

    def run(self, module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: object) -> None:
        """The module has returned."""
        monitor = self._monitor()
        if monitor is None:
            return
        if is_tracing():
            monitor._graphs.hooks.output(self._name, output)
        elif monitor._listens(self._model):
            monitor._outputs.record(self._name, module, arguments, keywords, output)
            if not self._model.training:
                monitor._record_eval(self._model, self._name, module, arguments, keywords, output)
        elif self._model.training:
            monitor._recomputed(self._name, module, output)
        else:
            monitor._record_eval(self._model, self._name, module, arguments, keywords, output)


def _that_accumulate(monitor: Monitor) -> list[tuple[str, nn.Parameter]]:
    """The watched parameters whose gradients backward passes add up."""
    watched = monitor._watched_parameters().items()
    return [(name, parameter) for name, parameter in watched if parameter.requires_grad and parameter.is_leaf]
