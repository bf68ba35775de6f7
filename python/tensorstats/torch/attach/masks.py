"""Brings the mask of a step into the shape that a tensor needs, once for each rank of tensors; copies no values."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TypeAlias

import torch

__all__ = ["Mask", "MaskViews"]

Mask: TypeAlias = "torch.Tensor | Callable[[str, torch.Tensor], torch.Tensor | None] | None"

# A step has one mask, or a few that a function chooses from, for tensors of two or three ranks.
_MOST = 16


class MaskViews:
    """Says which values of a tensor count.

    Parameters
    ----------
    given
        What the user gave: a tensor that is true (or not zero) where a position counts, of the shape of the first
        dimensions of what it is meant for, ``[batch, time]`` for ``[batch, time, features]``; or a function
        ``(name, x) -> mask or None`` that decides for each tensor. A tensor of another shape counts whole.

    Examples
    --------
    >>> mask = torch.tensor([[True, True, False]])
    >>> MaskViews(lambda: mask).of("0", torch.zeros(1, 3, 2)).shape
    torch.Size([1, 3, 1])
    """

    def __init__(self, given: Callable[[], Mask]) -> None:
        self._given = given
        self._views: dict[tuple[int, int, torch.device], tuple[weakref.ref[torch.Tensor], int, torch.Tensor]] = {}

    def of(self, name: str, x: torch.Tensor) -> torch.Tensor | None:
        """A mask of dtype bool that broadcasts to `x`; None where all of `x` counts."""
        mask = self._given()
        if mask is None:
            return None
        return self._fitted(mask if isinstance(mask, torch.Tensor) else mask(name, x), x)

    def of_unnamed(self, x: torch.Tensor) -> torch.Tensor | None:
        """The same for a tensor that is recorded under no name, which a function cannot be asked about."""
        mask = self._given()
        return self._fitted(mask, x) if isinstance(mask, torch.Tensor) else None

    def _fitted(self, mask: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor | None:
        if mask is None or mask.dim() == 0 or tuple(x.shape[: mask.dim()]) != tuple(mask.shape):
            return None
        if mask.is_inference():
            return _view(mask, x)  # without a version no change would show
        key = (id(mask), x.dim(), x.device)
        known = self._views.get(key)
        if known is None or known[0]() is not mask or known[1] != mask._version:
            if len(self._views) >= _MOST:
                del self._views[next(iter(self._views))]
            self._views[key] = known = (weakref.ref(mask), mask._version, _view(mask, x))
        return known[2]

    def clear(self) -> None:
        """Let go of all masks."""
        self._views.clear()


def _view(mask: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        kept = mask.detach().to(device=x.device, dtype=torch.bool)
        return kept.reshape(*mask.shape, *(1 for _ in range(x.dim() - mask.dim())))
