"""Owns yes-or-no questions about tensors, answered as early as possible; knows no array library."""

from __future__ import annotations

import math
from typing import Any

from tensorstats import _core
from tensorstats._arrays import REFUSALS, as_list, of_named

__all__ = ["all_between", "is_finite"]


def is_finite(tensors: Any, /, *, threads: int | None = None) -> bool:
    """Whether there is neither a NaN nor an infinity in a tensor, or in any of several.

    Parameters
    ----------
    tensors
        One tensor, a mapping from name to tensor (a `state_dict()`), a module (its parameters), or any iterable of
        tensors. Entries that are None are left out.
    threads
        Most threads to use; None leaves it to `thread_count()`.

    Returns
    -------
    bool
        Decided at the first 65,536 values that hold one. True where there are no values.

    Raises
    ------
    TypeError
        A tensor is not supported.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> ts.is_finite(np.array([1.0, 2.0])), ts.is_finite([np.ones(3), np.array([np.inf])])
    (True, False)
    """
    rows, names = as_list(tensors)
    try:
        return _core.all_hold(rows, None, threads)
    except REFUSALS as error:
        raise of_named(error, names) from error.__cause__


def all_between(
    tensors: Any, /, min: float | None = None, max: float | None = None, *, threads: int | None = None
) -> bool:
    """Whether every value of a tensor, or of several, is at least `min` and at most `max`.

    Parameters
    ----------
    tensors
        One tensor, a mapping from name to tensor (a `state_dict()`), a module (its parameters), or any iterable of
        tensors. Entries that are None are left out.
    min, max
        Smallest and largest value allowed; None for no bound. Every dtype is compared exactly; an infinite bound, or
        none, allows that infinity. NaN is never between.
    threads
        Most threads to use; None leaves it to `thread_count()`.

    Returns
    -------
    bool
        Decided at the first 65,536 values that hold one outside. True where there are no values.

    Raises
    ------
    TypeError
        A tensor is not supported.
    ValueError
        A bound is NaN, or `min` is above `max`.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> ts.all_between(np.array([0, 255], dtype=np.uint8), 0, 255), ts.all_between(np.array([0.0, 1.5]), 0, 1)
    (True, False)
    """
    rows, names = as_list(tensors)
    low, high = -math.inf if min is None else min, math.inf if max is None else max
    try:
        return _core.all_hold(rows, (low, high), threads)
    except REFUSALS as error:
        raise of_named(error, names) from error.__cause__
