"""Exact quantiles of tensors outside CPU memory, by torch operations; knows no model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tensorstats import _core
from tensorstats.device.kernels import FLOATS, INT64_MIN, blocks, dtype_name, float_bits, value_of

__all__ = ["quantile"]

# Tables kept on the host: half a megabyte each.
_KEPT = 16

# Bits that one pass decides; a table of as many places lies on the device meanwhile.
_DIGIT = 16
_HALF = 1 << (_DIGIT - 1)


def quantile(x: torch.Tensor, q: Any) -> Any:
    """Quantiles of a tensor on any device, by torch operations: the numbers of `tensorstats.quantile`.

    Keys that order as the values do are narrowed down 16 bits a pass; only tables of counts come to the host.

    Parameters
    ----------
    x : torch.Tensor
        Dense, real, of any shape.
    q : float or array
        Shares in [0, 1].

    Examples
    --------
    >>> quantile(torch.tensor([4.0, 1.0, float("nan"), 2.0]), 0.25)
    1.5
    """
    dtype_name(x.dtype)
    # The core checks the shares and gives their form to the result.
    shares = np.asarray(q, dtype=np.float64)
    _core.quantile(np.zeros(1), shares)
    with torch.no_grad():
        search = _Search(x.detach())
        found = [search.quantile(share) for share in shares.ravel().tolist()]
    return found[0] if shares.ndim == 0 else np.array(found).reshape(shares.shape)


class _Search:
    """The values of ranks of one tensor, with the tables of counts that were needed so far."""

    def __init__(self, x: torch.Tensor) -> None:
        self._x = x
        self._passes = max(8 * x.element_size() // _DIGIT, 1)
        self._tables: dict[tuple[int, int], npt.NDArray[np.int64]] = {}
        self._count = int(self._table(0, 0).sum())

    def quantile(self, share: float) -> float:
        if self._count == 0:
            return float("nan")
        last = self._count - 1
        place = min(last * share, float(last))
        below = int(place)
        pair = np.array([self._value(below), self._value(min(below + 1, last))])
        # Of two values the quantile at the rest is the point between them, rounded as the core rounds it.
        return float(_core.quantile(pair, place - below))

    def _value(self, rank: int) -> float:
        """The value of a rank, from 0 on."""
        prefix = 0
        for depth in range(self._passes):
            table = self._table(depth, prefix)
            digit = int(np.searchsorted(table.cumsum(), rank, side="right"))
            rank -= int(table[:digit].sum())
            prefix = digit - _HALF if depth == 0 else (prefix << _DIGIT) + digit
        return _from_key(prefix, self._x.dtype)

    def _table(self, depth: int, prefix: int) -> npt.NDArray[np.int64]:
        """How many keys that begin with `prefix` go on with each digit."""
        if (depth, prefix) not in self._tables:
            shift = (self._passes - 1 - depth) * _DIGIT
            # The first digit has a sign, or as many values above zero as an unsigned number of 16 bits.
            size = 3 * _HALF if depth == 0 else 2 * _HALF
            counts = torch.zeros(size + 1, dtype=torch.int64, device=self._x.device)
            for block, _ in blocks(self._x):
                key, isnan = _keys(block)
                if depth == 0:
                    place = (key >> shift) + _HALF
                else:
                    inside = key >> (shift + _DIGIT) == prefix
                    place = torch.where(inside, (key >> shift) & (2 * _HALF - 1), size)
                if isnan is not None:
                    place = torch.where(isnan, size, place)
                counts.scatter_add_(0, place, torch.ones_like(place))
            if len(self._tables) > _KEPT:
                self._tables = {(0, 0): self._tables[0, 0]}
            self._tables[depth, prefix] = counts[:size].cpu().numpy()
        return self._tables[depth, prefix]


def _keys(block: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Signed integers that order as the values do, and where there is NaN."""
    form = FLOATS.get(block.dtype)
    if form is None:
        unsigned = block.dtype is torch.uint64
        return (block.view(torch.int64) ^ INT64_MIN if unsigned else block.to(torch.int64)), None
    magnitude, sign = float_bits(block, form)
    wide = magnitude.to(torch.int64)
    # -0 and +0 are the same number, and so is their key.
    return torch.where(sign, -wide, wide), magnitude > form.infinity


def _from_key(key: int, dtype: torch.dtype) -> float:
    """The value of a key; integers beyond 2^53 are rounded to the nearest."""
    form = FLOATS.get(dtype)
    if form is None:
        return float(key - INT64_MIN if dtype is torch.uint64 else key)
    return math.copysign(value_of(abs(key), form), key)
