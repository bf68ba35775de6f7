"""Owns what the graph says of a tensor's last activation: which it is and what it can be; calls nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Activation", "last_activation"]

# What changes the layout or the dtype, and no value.
_VIEWS = (
    *("View", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Permute", "TBackward", "Alias", "ToCopy", "Clone"),
    *("UnsafeView", "Expand", "Select", "Slice", "Index", "Unbind", "Split", "Contiguous"),
)
_RANGES = {
    "Sigmoid": ("sigmoid", 0.0, 1.0),
    "Tanh": ("tanh", -1.0, 1.0),
    "Relu": ("relu", 0.0, math.inf),
    "Softmax": ("softmax", 0.0, 1.0),
    "LogSoftmax": ("log_softmax", -math.inf, 0.0),
    "Hardtanh": ("hardtanh", -1.0, 1.0),
    "Hardsigmoid": ("hardsigmoid", 0.0, 1.0),
    "Softplus": ("softplus", 0.0, math.inf),
    "Exp": ("exp", 0.0, math.inf),
}


@dataclass(frozen=True, slots=True)
class Activation:
    """The last activation of a tensor, the range of its values, and the units a softmax was taken over (else 0)."""

    name: str
    low: float
    high: float
    units: int = 0


def last_activation(tensor: torch.Tensor) -> Activation | None:
    """What a tensor went through last, views aside; None for anything that is no activation."""
    node: Any = tensor.grad_fn
    for _ in range(20):
        if node is None:
            return None
        name = type(node).__name__.partition("Backward")[0]
        if name in _RANGES:
            word, low, high = _RANGES[name]
            return Activation(word, low, high, _softmax_units(node) if "oftmax" in name else 0)
        if not any(name.startswith(view.removesuffix("Backward")) for view in _VIEWS) or not node.next_functions:
            return None
        node = node.next_functions[0][0]
    return None


def _softmax_units(node: Any) -> int:
    result, dim = getattr(node, "_saved_result", None), getattr(node, "_saved_dim", None)
    if not isinstance(result, torch.Tensor) or dim is None:
        return 0
    dim = dim - 2**64 if dim >= 2**63 else dim
    return int(result.shape[dim]) if result.ndim else 0
