"""Owns the function that looks at units along a dimension; the numbers are the core's."""

from __future__ import annotations

from typing import Any

from tensorstats import _core
from tensorstats._core import UnitActivity

__all__ = ["UnitActivity", "unit_activity"]


def unit_activity(
    x: Any,
    /,
    dim: int = 1,
    *,
    saturation: tuple[float, float] | None = None,
    threads: int | None = None,
    where: Any = None,
) -> UnitActivity:
    """How often each unit along a dimension is active, saturated or not finite, and its own mean, spread and extremes.

    Parameters
    ----------
    x
        Any tensor of at least one dimension, on any device and in any layout: NCHW and channels-last alike are read in
        place.
    dim
        The dimension along which units lie: 1 for channels of NCHW and features of [N, F], -1 for features of [B, T,
        C].
    saturation
        `(low, high)`: finite values below the first or above the second count as saturated.
    threads
        Most threads to use; None leaves it to `thread_count()`.
    where
        A bool mask that broadcasts to the shape of `x`: each unit counts only its elements where it is true.

    Returns
    -------
    UnitActivity
        A mergeable state with one entry a unit in each field. A value is active when it is finite and not zero; NaN
        and ±inf are counted and left out of everything else. 64-bit integers beyond 2^53 are rounded to float64.

    Raises
    ------
    IndexError
        `dim` is not a dimension of the tensor.
    TypeError
        The object, its dtype or its layout is not supported.
    ValueError
        The bounds are not numbers or not in order.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> u = ts.unit_activity(np.array([[0.0, 1.0, -2.0], [0.0, 0.0, 4.0]]))
    >>> u.active_count, u.dead_units(), u.mean
    (array([0, 1, 2]), array([0]), array([0. , 0.5, 1. ]))
    """
    return _core.unit_activity(x, dim, saturation, threads, where)
