"""Which modules are watched, what their outputs mean (unit dimension, kind of activation); reads no values."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import nn

from tensorstats.rules import limits
from tensorstats.rules.base import ROOT
from tensorstats.torch.attach.compiled import clean_name

__all__ = [
    "ModuleChoice",
    "activation_kind",
    "argument_names",
    "choose_modules",
    "is_activation",
    "module_layout",
    "saturation_bounds",
    "scripted_parts",
    "unit_dimension",
]

ModuleChoice: TypeAlias = (
    "type[nn.Module] | tuple[type[nn.Module], ...] | str | Callable[[str, nn.Module], bool] | None"
)

ROOT_NAME = ROOT

# Modules that hold others but run them without calling them, so that their children's hooks never fire.
_CLOSED_CONTAINERS = (nn.MultiheadAttention,)

# Activations of other libraries and of users go by their names.
_ACTIVATION_NAMES = re.compile(r"relu|gelu|silu|swish|mish|sigmoid|tanh|softplus|activation", re.IGNORECASE)

_RELU = (nn.ReLU, nn.ReLU6, nn.Threshold)
_SIGMOID = (nn.Sigmoid,)
_TANH = (nn.Tanh,)

_CHANNELS_FIRST: tuple[type[nn.Module], ...] = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
_CHANNELS_LAST: tuple[type[nn.Module], ...] = (
    nn.Linear,
    nn.Bilinear,
    nn.LayerNorm,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
    nn.Flatten,
)


def choose_modules(model: nn.Module, modules: ModuleChoice, *, several: bool = False) -> dict[str, nn.Module]:
    """The watched modules by name, each module once, in the order of ``named_modules``.

    Parameters
    ----------
    model : torch.nn.Module
    modules : None, type, tuple of types, str or callable
        ``None`` takes every module without children (and those whose children are never called, such as
        ``MultiheadAttention``); a type or a tuple of types takes their instances; a string is a regular expression that
        must match somewhere in the name; a callable ``(name, module) -> bool`` decides itself.
    several : bool
        Whether `model` is only a container of the models that are watched, and thus not a module of its own.

    Raises
    ------
    TypeError
        If `modules` is of another kind.
    ValueError
        If nothing is chosen.
    """
    keep = _predicate(modules)
    chosen: dict[str, nn.Module] = {}
    closed: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if "_orig_mod" in module._modules:
            continue  # the wrapper of torch.compile; what it wraps follows
        name = clean_name(path)
        if (several and not name) or (modules is None and name.startswith(closed) and closed):
            continue
        if isinstance(module, torch.jit.ScriptModule):
            continue  # scripted and traced code takes no hooks
        if keep(name, module):
            chosen[name or ROOT_NAME] = module
            if _is_closed(module):
                closed += (name + ".",) if name else ("",)
    if not chosen and modules is None and not several:
        chosen[ROOT_NAME] = model  # all of its parts are scripted
    if not chosen:
        raise ValueError(
            f"modules={modules!r} chooses none of the {sum(1 for _ in model.modules())} modules of the model"
        )
    return chosen


def scripted_parts(model: nn.Module) -> list[str]:
    """The names of the outermost modules of scripted and traced code, which take no hooks."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(not outer or name.startswith(outer + ".") for outer in found)
        if isinstance(module, torch.jit.ScriptModule) and not inside:
            found.append(name)
    return found


def _predicate(modules: ModuleChoice) -> Callable[[str, nn.Module], bool]:
    if modules is None:
        return lambda _, module: _is_closed(module) or not any(True for _ in module.children())
    if isinstance(modules, str):
        pattern = re.compile(modules)
        return lambda name, _: pattern.search(name) is not None
    if isinstance(modules, type) and issubclass(modules, nn.Module):
        types: tuple[type[nn.Module], ...] = (modules,)
        return lambda _, module: isinstance(module, types)
    if isinstance(modules, tuple) and modules and all(isinstance(kind, type) for kind in modules):
        return lambda _, module: isinstance(module, modules)
    if callable(modules) and not isinstance(modules, type):
        return modules
    raise TypeError(
        "modules must be None, a module type, a tuple of module types, a regular expression or a callable(name, "
        f"module), got {modules!r}"
    )


def _is_closed(module: nn.Module) -> bool:
    """Whether a module is a layer although it has children: they only help it to its result or its weights."""
    if isinstance(module, _CLOSED_CONTAINERS):
        return True
    helpers = {"parametrizations", "weight_fake_quant", "activation_post_process"}
    return bool(module._modules) and helpers.issuperset(module._modules)


def is_activation(module: nn.Module) -> bool:
    """Whether a module is an activation, by its class: those of torch (attention and softmax apart) and alike ones."""
    if isinstance(module, (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax)):
        return False
    if next(module.parameters(recurse=True), None) is not None and not isinstance(module, nn.PReLU):
        return False
    return type(module).__module__ == nn.ReLU.__module__ or _ACTIVATION_NAMES.search(type(module).__name__) is not None


def activation_kind(module: nn.Module) -> str:
    """``"relu"``, ``"sigmoid"``, ``"tanh"`` or ``"other"``: which rule on units applies."""
    if isinstance(module, _RELU):
        return "relu"
    if isinstance(module, _SIGMOID):
        return "sigmoid"
    return "tanh" if isinstance(module, _TANH) else "other"


def saturation_bounds(kind: str) -> tuple[float, float] | None:
    """The outputs beyond which an activation is flat, or None for one without flat ends."""
    if kind == "sigmoid":
        return limits.SIGMOID_SATURATION_LOW, limits.SIGMOID_SATURATION_HIGH
    return (-limits.TANH_SATURATION, limits.TANH_SATURATION) if kind == "tanh" else None


def module_layout(module: nn.Module) -> str | None:
    """``"first"`` for modules whose units lie in dimension 1, ``"last"`` for the last one, None if inherited."""
    if isinstance(module, _CHANNELS_LAST):
        return "last"
    return "first" if isinstance(module, _CHANNELS_FIRST) else None


def unit_dimension(module: nn.Module, output: torch.Tensor, layout: str | None) -> int | None:
    """The dimension of `output` along which units lie, or None when it has none.

    `layout` is that of the module, or, for activations, dropout and the like, of the module before it. Without any,
    images and volumes (four dimensions or more) have their channels in dimension 1 and everything else has its features
    last.
    """
    dimensions = output.dim()
    if dimensions == 0:
        return None
    if isinstance(module, nn.modules.conv._ConvNd):
        # Without a batch dimension: [C, L], [C, H, W] or [C, D, H, W].
        return 1 if dimensions == len(module.kernel_size) + 2 else 0
    if layout == "last" or dimensions <= 2:
        return dimensions - 1
    return 1 if layout == "first" or dimensions >= 4 else dimensions - 1


def argument_names(module: nn.Module) -> list[str]:
    """The names that a module's forward gives its arguments; empty when they cannot be read."""
    function = getattr(module.forward, "__func__", None)
    return _names_of(module.forward) if function is None else _names_of(function)[1:]


@functools.lru_cache(maxsize=256)
def _names_of(forward: Callable[..., object]) -> list[str]:
    """Reading a signature takes longer than counting a small tensor, so it is done once for a class."""
    with contextlib.suppress(TypeError, ValueError):
        return list(inspect.signature(forward).parameters)
    return []
