"""Owns the counts of values outside a range, over one tensor or many; knows no array library. The core counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tensorstats import _core
from tensorstats._arrays import REFUSALS, as_list, is_one, of_named

__all__ = ["Offender", "RangeCounts", "outside"]


@dataclass(frozen=True, slots=True)
class Offender:
    """One value and where it stands.

    Attributes
    ----------
    index
        Along each dimension.
    value
        A float, or an exact int for integer dtypes.
    position
        In C order, from 0 on.
    """

    index: tuple[int, ...]
    value: int | float
    position: int


@dataclass(frozen=True, slots=True, repr=False)
class RangeCounts:
    """How many values of a tensor are outside a range, and the first of each kind in C order.

    Attributes
    ----------
    dtype, shape
        Of the tensor.
    count
        All values.
    below, above
        Finite values below the minimum, above the maximum.
    nan_count, posinf_count, neginf_count
        Values that are not finite; they are in no other count.
    first_below, first_above, first_nonfinite
        The first of each; None where there is none.
    """

    dtype: str
    shape: tuple[int, ...]
    count: int
    below: int
    above: int
    nan_count: int
    posinf_count: int
    neginf_count: int
    first_below: Offender | None
    first_above: Offender | None
    first_nonfinite: Offender | None

    @property
    def nonfinite_count(self) -> int:
        """NaN and infinities."""
        return self.nan_count + self.posinf_count + self.neginf_count

    @property
    def outside(self) -> int:
        """All values that are not finite numbers within the range."""
        return self.below + self.above + self.nonfinite_count

    def __repr__(self) -> str:
        kinds = (
            ("below", self.below, self.first_below),
            ("above", self.above, self.first_above),
            ("nonfinite", self.nonfinite_count, self.first_nonfinite),
        )
        parts = [f"{self.dtype}{list(self.shape)} n={self.count}"]
        for name, count, first in kinds:
            where = f" (first {first.value} at {list(first.index)})" if first else ""
            parts.append(f"{name}={count}{where}")
        return " ".join(parts)


def outside(tensors: Any, /, *, min: float | None = None, max: float | None = None, threads: int | None = None) -> Any:
    """Count the values of one tensor or many that are below a minimum, above a maximum or not finite.

    Parameters
    ----------
    tensors
        One tensor, a mapping from name to tensor (a `state_dict()`), a module (its parameters), or any iterable of
        tensors; dtypes, shapes and devices may differ. Entries that are None are left out.
    min, max
        Smallest and largest value allowed; None for no bound. Every dtype is compared exactly, integers beyond 2^53
        with floats included.
    threads
        Most threads to use; None leaves it to `thread_count()`. They are spread over tensors and parts of big ones.

    Returns
    -------
    RangeCounts, or a dict or list of them
        In the form of `tensors`; a dict for a module. Infinities count as not finite, never as above or below.

    Raises
    ------
    TypeError
        A tensor is not supported; the message names it.
    ValueError
        A bound is NaN, or `min` is above `max`.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> ts.outside(np.array([[0.5, np.nan], [2.0, 3.0]]), min=0, max=1)
    float64[2, 2] n=4 below=0 above=2 (first 2.0 at [1, 0]) nonfinite=1 (first nan at [0, 1])
    >>> counts = ts.outside({"weight": np.array([-3, 7]), "bias": np.array([0])}, min=-1)
    >>> {name: found.below for name, found in counts.items()}
    {'weight': 1, 'bias': 0}
    """
    rows, names = as_list(tensors)
    try:
        counts = _counts(rows, min, max, threads)
    except REFUSALS as error:
        raise of_named(error, names) from error.__cause__
    if names is not None:
        return dict(zip(names, counts, strict=True))
    return counts[0] if is_one(tensors) else counts


def _counts(tensors: list[Any], min: float | None, max: float | None, threads: int | None) -> list[RangeCounts]:
    found = []
    for dtype, shape, (nan, posinf, neginf, below, above), places in _core.outside(tensors, min, max, False, threads):
        nonfinite, first_below, first_above = (place and Offender(place[1], place[2], place[0]) for place in places)
        counts = (math.prod(shape), below, above, nan, posinf, neginf)
        found.append(RangeCounts(dtype, shape, *counts, first_below, first_above, nonfinite))
    return found
