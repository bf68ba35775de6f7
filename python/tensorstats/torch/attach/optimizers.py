"""The hooks on optimizers: those that are watched, and any other that takes over their parameters; counts nothing."""

from __future__ import annotations

import sys
import weakref
from types import FrameType
from typing import Any, Protocol

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tensorstats.torch.attach.compiled import is_tracing
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.targets import parameters_of
from tensorstats.torch.attach.watched import WatchedModels

__all__ = ["OptimizerHooks", "OptimizerListener", "has_closure", "scale_left_over", "skipped_inside"]


# What torch puts around the step of every class of optimizers, to call hooks.
_TELLS_OF_STEPS = "profile_hook_step.<locals>.wrapper"


class OptimizerListener(Protocol):
    """Who hears of the steps of optimizers."""

    @property
    def inside_optimizer(self) -> bool:
        """Whether a watched optimizer is stepping, which may step others."""

    def other_optimizer_steps(self) -> None:
        """Any optimizer at all is about to step."""

    def before_optimizer_step(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any, /) -> None:
        """A watched optimizer is about to step."""

    def after_optimizer_step(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any, /) -> None:
        """It has."""


class OptimizerHooks:
    """Hears the watched optimizers, and watches one that takes over for them in their place.

    It steps parameters of theirs, or they have none left in the model that could be trained: replaced, or frozen for
    another adapter.
    """

    def __init__(self, listener: OptimizerListener, watched: WatchedModels, guard: Guard) -> None:
        self._listener = listener
        self._watched = watched
        self._guard = guard
        self._given = weakref.WeakValueDictionary(watched.targets.optimizers)
        self._heard: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self._depths: dict[int, int] = {}  # of the steps that are going on, by the identity of the optimizer
        self.handles: list[Any] = []

    def attach(self) -> None:
        """Put the hooks on."""
        for optimizer in self._watched.targets.optimizers.values():
            self._hear(optimizer)
        stepping = self._guard.hook("another optimizer", self._any_steps)
        self.handles.append(register_optimizer_step_pre_hook(stepping))

    def detach(self) -> None:
        """Take them off."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def _hear(self, optimizer: torch.optim.Optimizer) -> None:
        """Put the hooks on an optimizer that has none of this monitor yet."""
        if optimizer in self._heard:
            return
        self._heard.add(optimizer)
        hook = self._guard.hook
        self.handles += [
            optimizer.register_step_pre_hook(hook("the optimizer's step", self._before_step)),
            optimizer.register_step_post_hook(hook("the optimizer's step", self._after_step)),
        ]

    def _before_step(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any) -> None:
        """A watched optimizer is about to step; or its base class is, within its own step, which torch tells alike."""
        if not is_tracing():
            depth = self._depths.get(id(optimizer), 0)
            # One that was left by an exception has told nobody that it is over.
            if depth and _steps_on_the_stack(optimizer) > 1:
                self._depths[id(optimizer)] = depth + 1
                return
            self._depths[id(optimizer)] = 1
        self._listener.before_optimizer_step(optimizer, arguments, keywords)

    def _after_step(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any) -> None:
        """It has, or its base class has."""
        if not is_tracing():
            depth = self._depths.pop(id(optimizer), 1)
            if depth > 1:
                self._depths[id(optimizer)] = depth - 1
                return
        self._listener.after_optimizer_step(optimizer, arguments, keywords)

    def _any_steps(self, optimizer: torch.optim.Optimizer, _arguments: Any, _keywords: Any) -> None:
        """Any optimizer is about to step."""
        if is_tracing():
            return
        self._listener.other_optimizer_steps()
        optimizers = self._watched.targets.optimizers
        if self._listener.inside_optimizer or any(optimizer is watched for watched in optimizers.values()):
            return
        added = len(self._watched.parameters_in(optimizer))
        name = self._whose_place(optimizer, added)
        if name is not None:
            optimizers[name] = optimizer
            self._hear(optimizer)  # its own hooks are run after those on all optimizers: already in this step
        elif added:
            self._guard.remark(
                "another optimizer",
                f"one that was not given to ts.watch ({type(optimizer).__name__}) steps {added} of the parameters; "
                "their updates are not recorded, and no step ends with it",
            )

    def _whose_place(self, optimizer: torch.optim.Optimizer, added: int) -> str | None:
        """The watched one whose place another takes: whose parameters it steps, or that has none left to train."""
        stepped = parameters_of(optimizer)
        for name, watched in self._watched.targets.optimizers.items():
            if stepped & parameters_of(watched):
                return name
        for name, given in self._given.items():
            if given is optimizer:
                return name  # it had only been left out for a while
        if added:
            trained = {id(parameter) for parameter in self._watched.parameters().values() if parameter.requires_grad}
            for name, watched in self._watched.targets.optimizers.items():
                if not parameters_of(watched) & trained:
                    return name
        return None


def _steps_on_the_stack(optimizer: torch.optim.Optimizer) -> int:
    """How many steps of an optimizer are going on: one whose class calls ``super().step()`` makes two at once."""
    frame: FrameType | None = sys._getframe(1)
    steps = 0
    while frame is not None:
        if frame.f_code.co_qualname.endswith(_TELLS_OF_STEPS) and frame.f_locals.get("self") is optimizer:
            steps += 1
        frame = frame.f_back
    return steps


def has_closure(arguments: Any, keywords: Any) -> bool:
    """Whether optimizer.step was called with a closure (LBFGS must be)."""
    closure = keywords.get("closure") if keywords else None
    if closure is None and len(arguments) > 1:
        closure = arguments[1]
    if closure is None and arguments and not isinstance(arguments[0], torch.optim.Optimizer):
        closure = arguments[0]
    return callable(closure)


def skipped_inside(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a gradient scaler found infinities and leaves it to a fused optimizer to do nothing."""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, torch.Tensor) and bool(found.any())


def scale_left_over(optimizer: torch.optim.Optimizer) -> float | None:
    """The loss scale still in the gradients: a GradScaler leaves the division to fused optimizers."""
    scale = getattr(optimizer, "grad_scale", None)
    return float(scale) if isinstance(scale, torch.Tensor) else None
