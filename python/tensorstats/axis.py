"""Owns the axes of histograms as users write them; knows no counts. The searching of bins is the core's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from tensorstats import _core

# Most bins of an axis, as the core has it; asked for here before edges are computed.
MAX_BINS = 2**24

__all__ = ["Axis", "Bins", "Linear", "LogLinear", "Regular", "Traits", "Variable"]


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


class _Axis:
    """What all axes share: equality by their edges, and no attribute that could change."""

    __slots__ = ("_native",)

    _native: _core.Axis

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _Axis):
            return self._native == other._native
        return NotImplemented

    def __hash__(self) -> int:
        native = self._native
        return hash((type(self).__name__, native.precision, native.bins, native.edges.tobytes()))


class _Edged(_Axis):
    """An axis whose edges are given."""

    __slots__ = ()

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """The edges, float64, one more than there are bins."""
        return self._native.edges

    def __len__(self) -> int:
        return len(self.edges) - 1


class Regular(_Edged):
    """Equal bins from `start` to `stop`: bin `i` holds `edges[i] <= x < edges[i + 1]`, the last its upper edge too.

    Parameters
    ----------
    bins
        Number of bins, at least 1.
    start, stop
        First and last edge, finite and increasing. The edges between are `numpy.linspace(start, stop, bins + 1)`, bit
        for bit.

    Raises
    ------
    ValueError
        Too few or too many bins, or a range that is not finite, not increasing or too narrow for float64 edges.

    Examples
    --------
    >>> from tensorstats import axis
    >>> axis.Regular(4, 0.0, 1.0).edges
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """

    __slots__ = ()

    def __init__(self, bins: int, start: float, stop: float) -> None:
        bins, start, stop = _whole(bins, "bins"), float(start), float(stop)
        if not 1 <= bins <= MAX_BINS:
            raise ValueError(f"bins must be in [1, {MAX_BINS}], got: {bins}")
        self._native = _core.Axis.regular(start, stop, _linspace(bins, start, stop))

    @property
    def bins(self) -> int:
        """Number of bins."""
        return len(self)

    @property
    def start(self) -> float:
        """First edge."""
        return float(self.edges[0])

    @property
    def stop(self) -> float:
        """Last edge."""
        return float(self.edges[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return Regular, (self.bins, self.start, self.stop)

    def __repr__(self) -> str:
        return f"Regular({self.bins}, {self.start!r}, {self.stop!r})"


class Variable(_Edged):
    """Bins between any increasing edges: bin `i` holds `edges[i] <= x < edges[i + 1]`, the last bin its upper edge too.

    Parameters
    ----------
    edges
        At least two finite, strictly increasing numbers.

    Raises
    ------
    ValueError
        Too few edges, or edges that are not finite or do not increase; the message names the first such pair.

    Examples
    --------
    >>> from tensorstats import axis
    >>> len(axis.Variable([0.0, 0.1, 1.0, 10.0]))
    3
    """

    __slots__ = ()

    def __init__(self, edges: npt.ArrayLike) -> None:
        values = np.asarray(edges, dtype=np.float64)
        if values.ndim != 1:
            raise ValueError(f"edges must be one-dimensional, got shape: {values.shape}")
        self._native = _core.Axis.variable(values)

    def __reduce__(self) -> tuple[Any, ...]:
        return Variable, (self.edges,)

    def __repr__(self) -> str:
        edges = [float(x) for x in self.edges]
        shown = edges if len(edges) <= 6 else [*edges[:3], ..., *edges[-2:]]
        return "Variable([" + ", ".join("..." if x is ... else repr(x) for x in shown) + "])"


class LogLinear(_Axis):
    """Bins by sign, power of two and the top `precision` bits of the mantissa: no range needed, quantiles with a bound.

    Every power of two is cut into `2**precision` equal bins, so a bin's values differ by less than a share
    `2**-precision`. Zeros have a
    count of their own. The bin of a value is the same whatever dtype it was counted from, subnormals included.

    Parameters
    ----------
    precision
        From 0 (powers of two) to 10 (a value of float16 each). 7 holds every value of bfloat16, 3 of float8_e4m3fn, 2
        of float8_e5m2.

    Raises
    ------
    ValueError
        `precision` is not in [0, 10].

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> h = ts.histogram(np.array([1.0, 1.5, 2.0, 3.0]), ts.axis.LogLinear(0))
    >>> h.to_numpy()
    (array([2, 2]), array([1., 2., 4.]))
    """

    __slots__ = ()

    def __init__(self, precision: int = 6) -> None:
        self._native = _core.Axis.log_linear(_whole(precision, "precision"))

    @property
    def precision(self) -> int:
        """Mantissa bits kept."""
        precision = self._native.precision
        assert precision is not None
        return precision

    def __reduce__(self) -> tuple[Any, ...]:
        return LogLinear, (self.precision,)

    def __repr__(self) -> str:
        return f"LogLinear({self.precision})"


class Linear(_Axis):
    """Equal bins for data whose range is not known: their width is the power of two that the values need.

    Bin `i` holds `i * width <= x < (i + 1) * width`. The width is the smallest power of two at which at most `bins`
    bins reach from the smallest finite value to the largest, and at least `math.ulp` of the largest magnitude; when the
    range grows, pairs of neighbouring bins become one. So it follows from the set of values alone: the order, the cuts
    and the threads they were counted in, and merging, change nothing. More than half of `bins` are in use unless the
    values are that close together.

    Parameters
    ----------
    bins
        Most bins, from 2 to 2^24.

    Raises
    ------
    ValueError
        `bins` is not in [2, 2^24].

    Notes
    -----
    Values are compared with the edges exactly, 64-bit integers included. Edges are exact float64 numbers; those beyond
    its range are its largest or smallest number. A constant is in one bin, shown as wide as its power of two (1 for
    zero). ±inf are in the flow bins and NaN in none, as on every axis.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> h = ts.Histogram(ts.axis.Linear(4)).update(np.array([0.1, 0.2, 0.9]))
    >>> h.to_numpy()
    (array([2, 0, 0, 1]), array([0.  , 0.25, 0.5 , 0.75, 1.  ]))
    >>> h.update(np.array([-1.5])).to_numpy()
    (array([1, 0, 3]), array([-2., -1.,  0.,  1.]))
    """

    __slots__ = ()

    def __init__(self, bins: int = 256) -> None:
        self._native = _core.Axis.linear(_whole(bins, "bins"))

    @property
    def bins(self) -> int:
        """Most bins."""
        bins = self._native.bins
        assert bins is not None
        return bins

    def __reduce__(self) -> tuple[Any, ...]:
        return Linear, (self.bins,)

    def __repr__(self) -> str:
        return f"Linear({self.bins})"


Axis: TypeAlias = Regular | Variable | LogLinear | Linear


def from_native(native: _core.Axis, /) -> Axis:
    """The axis around what the native module holds."""
    kinds: dict[str, type[Axis]] = {
        "regular": Regular,
        "variable": Variable,
        "log_linear": LogLinear,
        "linear": Linear,
    }
    kind = kinds[native.kind]
    axis: Axis = kind.__new__(kind)
    axis._native = native
    return axis


def _whole(value: int, name: str) -> int:
    try:
        return int(value.__index__())
    except AttributeError:
        raise TypeError(f"{name} must be a whole number, got: {value!r}") from None


def _linspace(bins: int, start: float, stop: float) -> npt.NDArray[np.float64]:
    """Numpy's edges; where the width is beyond float64, those of half the range, doubled."""
    if not (math.isfinite(start) and math.isfinite(stop)):
        raise ValueError(f"range must be finite and increasing, got: ({start}, {stop})")
    if math.isinf(stop - start):
        return 2 * np.linspace(start / 2, stop / 2, bins + 1)
    return np.linspace(start, stop, bins + 1)
