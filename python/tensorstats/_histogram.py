"""Owns the function that makes a histogram and the choice of its range; the counts are the core's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from tensorstats import _core, axis
from tensorstats._arrays import is_torch_tensor
from tensorstats._core import Histogram
from tensorstats._summary import summary

if TYPE_CHECKING:
    from tensorstats.axis import Axis

__all__ = ["Histogram", "histogram"]


def histogram(
    x: Any,
    axis: Axis | None = None,
    /,
    *,
    bins: int | npt.ArrayLike | None = None,
    range: tuple[float, float] | None = None,
    threads: int | None = None,
    where: Any = None,
) -> Histogram:
    """Exact counts of a tensor's values in bins, in one pass over its memory.

    Parameters
    ----------
    x
        Any tensor, as for `summary`; nothing is copied.
    axis
        `axis.Regular`, `axis.Variable`, `axis.LogLinear` or `axis.Linear`. With neither `axis` nor `bins` nor `range`
        it is `axis.LogLinear()`, as for an empty `Histogram()` and the histograms of `watch`: it needs no range, so
        histograms of any tensors merge, and quantiles have a bound.
    bins
        Number of equal bins from `range[0]` to `range[1]`, for `axis.Regular(bins, *range)`, 64 where only a range is
        given; or their increasing edges, for `axis.Variable(edges)`.
    range
        First and last edge. None for the smallest and largest finite value, which takes a pass of its own; around a
        constant the range is one wide, as numpy has it, and without finite values it is (0, 1).
    threads
        Most threads to use; None leaves it to `thread_count()`.
    where
        A bool mask that broadcasts to the shape of `x`: only elements where it is true count, as for `summary`.

    Returns
    -------
    Histogram
        A mergeable state. A value falls into bin `i` when `edges[i] <= x < edges[i + 1]`, the last bin holds its upper
        edge too; -inf and +inf are in the flow bins, NaN in no bin, and all three are counted. With `bins`,
        `to_numpy()` equals `numpy.histogram(x.astype(numpy.float64), bins, range)` bit for bit, but for integers beyond
        2^53, which numpy rounds and this does not, and for a range of a single value such as (1, 1), which is refused
        here.

    Raises
    ------
    TypeError
        The object, its dtype or its layout is not supported, or `axis` is no axis.
    ValueError
        The axis cannot exist, or is given twice; the message names what is wrong with it.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> h = ts.histogram(np.array([0.0, 0.25, 0.5, 1.0, np.nan]), bins=2, range=(0, 1))
    >>> h.to_numpy(), h.nan_count
    ((array([2, 2]), array([0. , 0.5, 1. ])), 1)
    >>> ts.histogram(np.array([1.0, 5.0, 7.0]), bins=[0, 4, 6, 8]).values()
    array([1, 1, 1])
    >>> ts.histogram(np.array([1e-3, 1.0, 1e6])).axis
    LogLinear(6)
    """
    if axis is not None:
        if range is not None or bins is not None:
            twice = f"bins={bins!r}" if range is None else f"range={range!r}"
            raise ValueError(f"{twice.split('=')[0]} is part of the axis, got both: {axis!r} and {twice}")
    elif bins is not None and np.ndim(bins) > 0:
        axis = _of_edges(bins, range)
    elif bins is not None or range is not None:
        if range is None:
            # Two passes, and an object that is no array of ours is asked for its memory once.
            x, where = _held(x), _held(where)
        axis = _regular(x, 64 if bins is None else cast("int", bins), range, threads, where)
    return _core.histogram(x, axis, threads, where)


def _held(x: Any) -> Any:
    """Something that the core reads as often as it likes."""
    if x is None or isinstance(x, np.ndarray | np.generic | list | tuple) or is_torch_tensor(x):
        return x
    return _core.Held(x)


def _of_edges(edges: Any, range: tuple[float, float] | None) -> axis.Variable:
    """Bins between given edges, which have their range with them."""
    if range is not None:
        raise ValueError(f"range is part of the edges, got both: bins={edges!r} and range={range!r}")
    return axis.Variable(edges)


def _regular(x: Any, bins: int, range: tuple[float, float] | None, threads: int | None, where: Any) -> axis.Regular:
    """Equal bins over a given range or over the finite values of `x`."""
    if range is not None:
        start, stop = range
        return axis.Regular(bins, start, stop)
    s = summary(x, threads=threads, where=where)
    if s.finite_count == 0:
        return axis.Regular(bins, 0.0, 1.0)
    start, stop = _at_most(s.min), _at_least(s.max)
    if start == stop:
        start, stop = start - 0.5, stop + 0.5
    try:
        return axis.Regular(bins, start, stop)
    except ValueError:
        if bins < 1:
            raise
    # Fewer floats than bins between the two: widen by as many floats as there are bins. numpy gives up here.
    spare = bins * math.ulp(max(abs(start), abs(stop)))
    limit = float(np.finfo(np.float64).max)
    return axis.Regular(bins, max(start - spare, -limit), min(stop + spare, limit))


def _at_most(value: float) -> float:
    """The largest float64 that is at most an exact number."""
    nearest = float(value)
    return math.nextafter(nearest, -math.inf) if nearest > value else nearest


def _at_least(value: float) -> float:
    """The smallest float64 that is at least an exact number."""
    nearest = float(value)
    return math.nextafter(nearest, math.inf) if nearest < value else nearest
