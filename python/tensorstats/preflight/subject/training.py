"""Owns short trainings: twins of the user's optimizer, a default one, and what is noted of a training on the way."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

__all__ = ["DEFAULT_RATE", "Curve", "Training", "optimizers_in", "twin_of"]

# Adam's own default rate suits most models; trainings that are only to show what can be learnt take ten times as much
# where that fails.
DEFAULT_RATE = 1e-3

# A weight that was drawn smaller than this part of what is usual was born small on purpose (layer scales, heads, LoRA),
# and is no measure for its steps.
_SMALL = 0.1

# Of which steps gradients are looked at, one by one.
_STEPS_WITH_GRADIENTS = 10


def optimizers_in(given: Any) -> list[torch.optim.Optimizer]:
    """The optimizers that were handed over: one, several, or what a wrapper such as accelerate's keeps.

    Raises
    ------
    TypeError
        For anything else.
    """
    if given is None:
        return []
    if isinstance(given, torch.optim.Optimizer):
        inner = getattr(given, "optimizer", None)
        return [inner if isinstance(inner, torch.optim.Optimizer) else given]
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, list | tuple) and given:
        return [one for item in given for one in optimizers_in(item)]
    inner = getattr(given, "optimizer", None)
    if isinstance(inner, torch.optim.Optimizer):
        return [inner]
    raise TypeError(f"optimizer must be a torch.optim.Optimizer or several, got {type(given).__name__}")


def twin_of(optimizer: torch.optim.Optimizer, **changed: float) -> torch.optim.Optimizer:
    """An optimizer of the same class, groups and state over the same parameters, that nobody else hears of.

    A scheduler that warms up starts at a rate of next to nothing; the twin has the rate that it warms up to.
    """
    twin: torch.optim.Optimizer = object.__new__(type(optimizer))
    attributes = dict(vars(optimizer))
    attributes.pop("step", None)  # what a scheduler puts in its place counts steps
    for name, value in attributes.items():
        if name.endswith("_hooks"):
            attributes[name] = type(value)()
    twin.__dict__.update(attributes)
    twin.state = defaultdict(dict)
    for key, value in optimizer.state.items():
        twin.state[key] = _cloned(value)
    twin.param_groups = [_cloned_group(group) for group in optimizer.param_groups]
    for group in twin.param_groups:
        for name, value in changed.items():
            if name in group:
                group[name] = value
    return twin


def _cloned_group(group: dict[str, Any]) -> dict[str, Any]:
    cloned = {name: value if name == "params" else _cloned(value) for name, value in group.items()}
    base = group.get("initial_lr")
    if base is not None and float(base) > float(group["lr"]):
        cloned["lr"] = _cloned(base)
    return cloned


def _cloned(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _cloned(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cloned(inner) for inner in value]
    return value


@dataclass
class Curve:
    """The losses of a short training, and what was noted.

    `ratios` has, by parameter, the norm of the first update over that of the weight. `without_gradient` names those
    whose gradient was missing or exactly 0 in each of the first steps.
    """

    asked: int
    losses: list[float] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, float] = field(default_factory=dict)
    without_gradient: set[str] = field(default_factory=set)
    checked: list[float] = field(default_factory=list)
    stopped: str = ""
    reached: bool = False

    @property
    def first(self) -> float:
        """The loss before the first step."""
        return self.losses[0]

    @property
    def best(self) -> float:
        """The lowest loss."""
        return min((loss for loss in self.losses if math.isfinite(loss)), default=math.inf)

    @property
    def last(self) -> float:
        """The loss at the end: the one asked for, or the median of the last five, infinite if any is not finite."""
        if self.reached:
            return self.losses[-1]
        tail = sorted(self.losses[-5:])
        return tail[len(tail) // 2] if all(map(math.isfinite, tail)) else math.inf

    @property
    def complete(self) -> bool:
        """Whether all steps were made, or enough of them to know."""
        return not self.stopped


def _usual_norm(weight: torch.Tensor) -> float:
    """The norm that torch's own initialisation of layers gives: a variance of 1 / (3 inputs)."""
    return math.sqrt(weight.numel() / (3 * max(weight[0].numel(), 1)))


@dataclass
class Training:
    """How to train: the loss of a step, on which parameters, with which optimizers, until when."""

    model: nn.Module
    loss: Callable[[], torch.Tensor]
    optimizers: list[torch.optim.Optimizer]
    deadline: float

    def run(
        self, steps: int, *, until: float = -math.inf, check: Callable[[], float] | None = None, every: int = 10
    ) -> Curve:
        """Train for so many steps, or until the loss is at most `until`; `check` is asked every so many steps."""
        curve = Curve(steps)
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        curve.without_gradient = {name for name, _ in named}
        held = [p for optimizer in self.optimizers for group in optimizer.param_groups for p in group["params"]]

        def closure() -> torch.Tensor:
            _forget_gradients(held, (p for _, p in named))
            with torch.enable_grad():
                loss = self.loss()
                loss.backward()
            latest.append(float(loss.detach()))
            return loss

        for step in range(steps):
            if time.monotonic() > self.deadline:
                curve.stopped = f"its time was over after {step} of {steps} steps"
                break
            before = [(name, p, p.detach().clone()) for name, p in named] if step == 0 else []
            latest: list[float] = []
            for optimizer in self.optimizers:
                optimizer.step(closure)  # type: ignore[arg-type]
            curve.losses.append(latest[0])
            if step < _STEPS_WITH_GRADIENTS:
                self._note_gradients(curve, named)
            for name, p, was in before:
                if p.ndim > 1 and (norm := float(was.norm())) > 0:
                    curve.ratios[name] = float((p.detach() - was).norm()) / max(norm, _SMALL * _usual_norm(p))
            if check is not None and step % every == every - 1:
                curve.checked.append(check())
            curve.reached = latest[0] <= until
            if curve.reached or not math.isfinite(latest[0]):
                break
        _forget_gradients(held, (p for _, p in named))
        return curve

    def _note_gradients(self, curve: Curve, named: list[tuple[str, nn.Parameter]]) -> None:
        for name, p in named:
            if p.grad is None:
                continue
            norm = float(p.grad.detach().to_dense().float().norm())
            curve.gradients.setdefault(name, norm)
            if norm != 0:  # NaN too
                curve.without_gradient.discard(name)


def _forget_gradients(*parameters: Iterable[torch.Tensor]) -> None:
    for some in parameters:
        for p in some:
            p.grad = None
