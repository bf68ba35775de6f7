"""Finds the activation, called as a function, that a tensor comes from: by the graph of autograd; reads no values."""

from __future__ import annotations

import torch

__all__ = ["activation_before", "graph_number"]

# The functions that the rules on units know, by their nodes in the graph.
_ACTIVATIONS = {"ReluBackward0": "relu", "SigmoidBackward0": "sigmoid", "TanhBackward0": "tanh"}

# What hands every value on as it is, in another shape.
_RESHAPES = frozenset(
    f"{name}Backward{number}"
    for name in (
        *("Alias", "Clone", "Permute", "ReshapeAlias", "Squeeze", "Transpose", "T", "UnsafeView", "Unsqueeze", "View"),
        "ToCopy",
    )
    for number in (0, 1, 2)
)
# What is 0 for a unit that was 0 throughout, and only then: pooling and dropout after a ReLU.
_POOLS = frozenset(
    (
        *("MaxPool2DWithIndicesBackward0", "MaxPool3DWithIndicesBackward0", "AvgPool2DBackward0", "AvgPool3DBackward0"),
        *("AdaptiveAvgPool2DBackward0", "AdaptiveAvgPool3DBackward0", "AdaptiveMaxPool2DBackward0"),
        *("MeanBackward1", "NativeDropoutBackward0", "MulBackward0"),
    )
)

# As many such steps as are looked back: flatten, dropout, pooling and a permutation in between.
_DEPTH = 5


def activation_before(tensor: torch.Tensor) -> tuple[str, int] | None:
    """The kind of activation that a tensor holds the result of, and the number of its node; None for anything else.

    A ReLU is recognised through pooling, dropout and changes of shape as well, a sigmoid and a tanh through the latter.

    Examples
    --------
    >>> x = torch.ones(2, 3, requires_grad=True)
    >>> activation_before(torch.relu(x).flatten())[0], activation_before(x * 2)
    ('relu', None)
    """
    node = tensor.grad_fn
    pooled = False
    for _ in range(_DEPTH):
        if node is None:
            return None
        name = node.name()
        kind = _ACTIVATIONS.get(name)
        if kind is not None:
            return None if pooled and kind != "relu" else (kind, node._sequence_nr())
        if name in _POOLS:
            pooled = True
        elif name not in _RESHAPES:
            return None
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        if len(parents) != 1:
            return None  # a product of two things that learn is no dropout
        node = parents[0]
    return None


def graph_number(tensor: torch.Tensor) -> int | None:
    """The number of the node that made a tensor, which no other node of a forward pass has; None without a graph."""
    node = tensor.grad_fn
    return None if node is None else node._sequence_nr()
