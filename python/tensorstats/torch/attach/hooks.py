"""The hooks that exist only while a step is recorded: puts them on and takes them off; counts nothing itself."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

import torch
from torch import nn

from tensorstats.torch.attach.guard import Guard, GuardedHook
from tensorstats.torch.attach.targets import unwrapped
from tensorstats.torch.attach.watched import WatchedModels

__all__ = ["HookListener", "StepHooks"]

_OF_MODULES = frozenset(("inputs", "outputs", "output_gradients"))


class HookListener(Protocol):
    """Who hears what the hooks see."""

    def model_called(self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], /) -> None:
        """A model begins a forward pass."""

    def model_returned(self, model: nn.Module, arguments: Any, output: Any, /) -> None:
        """It has returned."""

    def module_hooks(self, module: nn.Module, /) -> list[Any]:
        """The handles of what has to be seen of a module beside what it returns."""

    def module_returned(self, model: nn.Module, name: str, module: nn.Module, /, *of_call: Any) -> None:
        """A module of `model` has returned; `of_call` are its arguments, keywords and output."""

    def gradient_added(self, name: str, gradient: torch.Tensor, /) -> None:
        """A backward pass has added to the gradient of a parameter."""

    def raw_gradient_added(self, name: str, gradient: torch.Tensor, /) -> None:
        """As `gradient_added`, for the signal ``"raw_gradients"``."""


class StepHooks:
    """The hooks of one monitor on modules and parameters, from the beginning of a recorded step to its end.

    Between recorded steps there are none, so that those steps run at their bare speed, unless compiled code needs them
    to stay.
    """

    def __init__(self, listener: HookListener, watched: WatchedModels, guard: Guard) -> None:
        self._listener = listener
        self._watched = watched
        self._guard = guard
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
        listener, watched, handles, hook = self._listener, self._watched, self._handles, self._guard.hook
        has_optimizer = bool(watched.targets.optimizers)
        for model in watched.targets.models.values():
            if has_optimizer or model is not watched.clock:
                called = hook("the call of the model", listener.model_called)
                handles.append(model.register_forward_pre_hook(called, with_kwargs=True))
            if has_optimizer:
                handles.append(model.register_forward_hook(hook("the call of the model", listener.model_returned)))
        if watched.signals & _OF_MODULES:
            for name, module in watched.modules.items():
                handles += listener.module_hooks(module)
                output_hook = OutputHook(self._guard, listener, unwrapped(watched.targets.model_of(name)), name)
                handles.append(module.register_forward_hook(output_hook, with_kwargs=True))
        self.renew()

    def renew(self) -> None:
        """Follow the parameters: some may have been replaced, frozen or thawed since the hooks were put on."""
        watched = self._watched
        reads_raw = "raw_gradients" in watched.signals
        has_optimizer = bool(watched.targets.optimizers)
        if has_optimizer and not reads_raw:
            return
        now = [(name, p) for name, p in watched.parameters().items() if p.requires_grad and p.is_leaf]
        identities = [(name, id(parameter)) for name, parameter in now]
        if identities == self._hooked:
            return
        self._detach_parameters()
        self._hooked = identities
        for name, parameter in now:
            if not has_optimizer:
                accumulated = GradientHook(self._guard, self._listener, name)
                self._on_parameters.append(parameter.register_post_accumulate_grad_hook(accumulated))
            if reads_raw and watched.chooses("raw_gradients", name):
                raw = RawGradientHook(self._guard, self._listener, name)
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

    __slots__ = ("_listener", "_name")

    what = "gradient"

    def __init__(self, guard: Guard, listener: HookListener, name: str) -> None:
        super().__init__(guard, f"the {self.what} of {name}")
        self._listener = weakref.ref(listener)
        self._name = name

    def run(self, parameter: torch.Tensor) -> None:
        """The gradient is there."""
        listener, gradient = self._listener(), parameter.grad
        if listener is not None and gradient is not None:
            self.tell(listener, gradient)

    def tell(self, listener: HookListener, gradient: torch.Tensor) -> None:
        """Hand the gradient over."""
        listener.gradient_added(self._name, gradient)


class RawGradientHook(GradientHook):
    """Hands over the gradient of a parameter as a backward pass left it."""

    __slots__ = ()

    what = "raw gradient"

    def tell(self, listener: HookListener, gradient: torch.Tensor) -> None:
        """Hand the gradient over."""
        listener.raw_gradient_added(self._name, gradient)


class OutputHook(GuardedHook):
    """Hands over what a module was given and what it returns."""

    __slots__ = ("_listener", "_model", "_name")

    def __init__(self, guard: Guard, listener: HookListener, model: nn.Module, name: str) -> None:
        super().__init__(guard, f"the output of {name}")
        self._listener = weakref.ref(listener)
        self._model = model
        self._name = name

    def run(self, module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: object) -> None:
        """The module has returned."""
        listener = self._listener()
        if listener is not None:
            listener.module_returned(self._model, self._name, module, arguments, keywords, output)
