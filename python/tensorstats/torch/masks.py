"""Leaves padding out of what is counted: positions that a mask excludes; knows no module."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

__all__ = ["Mask", "masked"]

Mask: TypeAlias = "torch.Tensor | Callable[[str, torch.Tensor], torch.Tensor | None] | None"


def masked(x: torch.Tensor, mask: Mask, name: str, layout: str | None) -> tuple[torch.Tensor, str | None]:
    """The values of `x` that count, and where their units lie.

    Parameters
    ----------
    x : torch.Tensor
    mask : tensor, callable or None
        True (or not zero) where a position counts, of the shape of the first dimensions of `x`: ``[batch, time]`` for
        ``[batch, time, features]``. A tensor of another shape is counted whole. A callable
        ``(name, x) -> mask or None`` decides for each tensor.
    name : str
        Of the output, for the callable.
    layout : str or None
        Where the units of `x` lie.

    Examples
    --------
    >>> x = torch.arange(6.0).reshape(1, 3, 2)
    >>> masked(x, torch.tensor([[True, True, False]]), "0", None)[0]
    tensor([[0., 1.],
            [2., 3.]])
    """
    if callable(mask) and not isinstance(mask, torch.Tensor):
        mask = mask(name, x)
    if mask is None or mask.dim() == 0 or tuple(x.shape[: mask.dim()]) != tuple(mask.shape):
        return x, layout
    with torch.no_grad():
        kept = x.detach()[mask.to(device=x.device, dtype=torch.bool)]
    return kept, "last"
