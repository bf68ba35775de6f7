"""The models and optimizers that one monitor watches, by name; attaches nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["Models", "Optimizers", "Targets", "parameters_of", "resolve_targets", "states_of", "unwrapped"]

Models = nn.Module | Iterable[nn.Module] | Mapping[str, nn.Module]
Optimizers = torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | Mapping[str, torch.optim.Optimizer] | None


@dataclass(frozen=True, slots=True)
class Targets:
    """Models and optimizers by name; the name is empty for a single one.

    `root` is what names of modules and parameters are relative to: the model, or a container of several.
    """

    root: nn.Module
    models: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]

    def model_of(self, name: str) -> nn.Module:
        """The model that a module of this name belongs to."""
        if "" in self.models:
            return self.models[""]
        return self.models[name.split(".", 1)[0]]

    def are(self, others: Targets) -> bool:
        """Whether both are of the same models and optimizers, by the same names."""
        return all(
            one.keys() == other.keys() and all(one[name] is other[name] for name in one)
            for one, other in ((self.models, others.models), (self.optimizers, others.optimizers))
        )


def resolve_targets(models: Models, optimizers: Optimizers) -> Targets:
    """Check and name what ``ts.watch`` was given.

    Raises
    ------
    TypeError
        For anything that is not a module or an optimizer.
    ValueError
        For no model, or for a name that modules cannot have.
    """
    named = _named_models(models)
    root = named[""] if "" in named else nn.Module()
    if "" not in named:
        for name, model in named.items():
            if not name or "." in name or hasattr(root, name):
                raise ValueError(f"the name of a model must be one that a module can have, without dots, got {name!r}")
            root.add_module(name, model)
    return Targets(root, named, _named_optimizers(optimizers))


def _named_models(models: Models) -> dict[str, nn.Module]:
    # torch.compile wraps a model; its modules and parameters are those of the original.
    if isinstance(models, nn.Module):
        return {"": _hookable(_original(models))}
    given: dict[Any, object]
    if isinstance(models, Mapping):
        given = dict(models)
    elif isinstance(models, Iterable):
        given = {f"model{place}": model for place, model in enumerate(models)}
    else:
        raise TypeError(
            "model must be a torch.nn.Module, several of them or a mapping of names to them, got "
            f"{type(models).__name__}"
        )
    if not given:
        raise ValueError("there must be at least one model, got none")
    named = {}
    for name, model in given.items():
        if not isinstance(name, str):
            raise TypeError(f"the name of a model must be a string, got {name!r}")
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__} under {name!r}")
        named[name] = _hookable(_original(model))
    return named


def _hookable(model: nn.Module) -> nn.Module:
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            "model is scripted or traced code as a whole, which takes no hooks: watch the module that it was made of, "
            "before torch.jit.script or torch.jit.trace (scripted parts of a model are left out, and named)"
        )
    return model


def unwrapped(model: nn.Module) -> nn.Module:
    """What DistributedDataParallel wraps: evaluation goes past the wrapper, and may set the mode of the model alone."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def _original(model: nn.Module) -> nn.Module:
    original = getattr(model, "_orig_mod", None)
    return original if isinstance(original, nn.Module) else model


def _named_optimizers(optimizers: Optimizers) -> dict[str, torch.optim.Optimizer]:
    if optimizers is None:
        return {}
    given: dict[str, object]
    if isinstance(optimizers, Mapping):
        given = dict(optimizers)
    elif isinstance(optimizers, Iterable):
        given = {str(place): optimizer for place, optimizer in enumerate(optimizers)}
    else:
        given = {"": optimizers}
    if not given:
        raise ValueError("optimizer must be None where there is none, got several of which there are none")
    named: dict[str, object] = {}
    for name, optimizer in given.items():
        stepping = _that_steps(optimizer)
        if not _takes_hooks(stepping):
            raise TypeError(
                "optimizer must be a torch.optim.Optimizer, several of them, a mapping of names to them or None, or a "
                f"wrapper that holds one of them, in .optimizer or alone, got {type(optimizer).__name__}"
            )
        twice = next((other for other, known in named.items() if known is stepping), None)
        if twice is not None:
            raise ValueError(f"each optimizer is given once, got the same one under {twice!r} and {name!r}")
        named[name] = stepping
    return named  # type: ignore[return-value]  # checked by what is needed of them: wrappers are no subclasses


# Where wrappers keep the optimizer that they step: Accelerate and most others, Opacus, SAM and schedule-free ones.
_INNER = ("optimizer", "original_optimizer", "base_optimizer", "_optimizer", "optim")


def _takes_hooks(optimizer: object) -> bool:
    """Whether it was made as an optimizer: one that never called ``Optimizer.__init__`` has no place for hooks."""
    return hasattr(optimizer, "register_step_post_hook") and hasattr(optimizer, "_optimizer_step_post_hooks")


def parameters_of(optimizer: Any) -> set[int]:
    """The identities of the parameters that an optimizer steps."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def states_of(optimizer: torch.optim.Optimizer) -> list[Mapping[Any, Any]]:
    """What an optimizer keeps by parameter, and what one inside it keeps of the parameters of this rank."""
    inside = [vars(optimizer).get(name) for name in _INNER]
    return [optimizer.state, *(inner.state for inner in inside if isinstance(inner, torch.optim.Optimizer))]


def _inside(optimizer: object, seen: Collection[int]) -> object | None:
    """The optimizer that a wrapper keeps: under a name that is known, or the only one that it keeps."""
    kept = vars(optimizer) if hasattr(optimizer, "__dict__") else {}
    for name in _INNER:
        found = kept.get(name)
        if hasattr(found, "param_groups") and id(found) not in seen:
            return found
    others = {id(found): found for found in kept.values() if isinstance(found, torch.optim.Optimizer)}
    only = [found for place, found in others.items() if place not in seen]
    return only[0] if len(only) == 1 else None


def _that_steps(optimizer: object) -> object:
    """The optimizer whose step changes the weights: the innermost of wrappers, which step it once an update."""
    seen = {id(optimizer)}
    while True:
        inner = _inside(optimizer, seen)
        if inner is not None and _takes_hooks(optimizer) and not parameters_of(optimizer) <= parameters_of(inner):
            return optimizer  # each rank has an optimizer of some parameters, and hears of the others afterwards
        if inner is None or not (_takes_hooks(inner) or hasattr(inner, "__dict__")):
            return optimizer
        seen.add(id(inner))
        optimizer = inner
