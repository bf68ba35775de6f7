"""Owns the function that counts a summary and a histogram together; the numbers are the core's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorstats import _core

if TYPE_CHECKING:
    from tensorstats._core import Histogram, Summary
    from tensorstats.axis import Axis

__all__ = ["summary_and_histogram"]


def summary_and_histogram(
    x: Any, axis: Axis | None = None, /, *, moments: int = 2, threads: int | None = None
) -> tuple[Summary, Histogram]:
    """The summary and a histogram of a tensor in one call: each part of its memory is read once, for both.

    Parameters
    ----------
    x
        Any tensor, as for `summary`.
    axis
        `axis.Regular`, `axis.Variable`, `axis.LogLinear` or `axis.Linear`; `axis.LogLinear()` where none is given.
    moments, threads
        As for `summary`.

    Returns
    -------
    Summary, Histogram
        Bit for bit what `summary(x, moments=moments)` and `histogram(x, axis)` give.

    Raises
    ------
    TypeError
        The object, its dtype or its layout is not supported, or `axis` is no axis.
    ValueError
        `moments` is neither 2 nor 4, or `threads` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> s, h = ts.summary_and_histogram(np.array([1.0, 1.5, 2.0, 3.0]), ts.axis.LogLinear(0))
    >>> s.mean, h.to_numpy()
    (1.875, (array([2, 2]), array([1., 2., 4.])))
    """
    return _core.summary_and_histogram(x, axis, moments, threads)
