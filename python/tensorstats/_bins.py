"""Owns the bins of a histogram as the UHI protocol asks for them; knows no counts. The native module makes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

__all__ = ["Bins", "Traits"]


class Traits(NamedTuple):
    """What the UHI protocol asks of an axis."""

    circular: bool = False
    discrete: bool = False


class Bins(Sequence[tuple[float, float]]):
    """Neighbouring bins as pairs of their edges: an axis of the UHI protocol.

    Parameters
    ----------
    edges
        Increasing float64 edges, one more than there are bins; empty for no bins.
    """

    __slots__ = ("edges",)

    def __init__(self, edges: npt.NDArray[np.float64], /) -> None:
        self.edges = edges

    @property
    def traits(self) -> Traits:
        """Neither circular nor discrete."""
        return Traits()

    def __len__(self) -> int:
        return max(len(self.edges) - 1, 0)

    @overload
    def __getitem__(self, index: int) -> tuple[float, float]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[float, float]]: ...
    def __getitem__(self, index: int | slice) -> tuple[float, float] | list[tuple[float, float]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"bin must be in [{-len(self)}, {len(self) - 1}], got: {index}")
        index %= len(self)
        return float(self.edges[index]), float(self.edges[index + 1])

    def __iter__(self) -> Iterator[tuple[float, float]]:
        for i in range(len(self)):
            yield self[i]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Bins):
            return np.array_equal(self.edges, other.edges)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.edges.tobytes())

    def __repr__(self) -> str:
        if len(self) == 0:
            return "Bins(0)"
        return f"Bins({len(self)}, {self.edges[0]:g}, {self.edges[-1]:g})"
