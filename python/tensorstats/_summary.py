"""Owns the function that summarises a tensor; the numbers are the core's."""

from __future__ import annotations

from typing import Any

from tensorstats import _core
from tensorstats._core import Summary

__all__ = ["Summary", "summary"]


def summary(
    x: Any,
    /,
    *,
    moments: int = 2,
    threads: int | None = None,
    where: Any = None,
    formats: Any = (),
    scale: float = 1.0,
) -> Summary:
    """Count, extremes, sums, norms, mean and spread of a tensor in one pass over its memory.

    Parameters
    ----------
    x
        Any tensor: numpy array (ml_dtypes included), torch tensor on any device, or an object with `__dlpack__`; any
        shape, strides and alignment. Nothing is copied.
    moments
        2, or 4 to also get `skewness` and `kurtosis`.
    threads
        Most threads to use; None leaves it to `thread_count()`.
    where
        A bool mask, a numpy array or torch tensor that broadcasts to the shape of `x` as numpy has it: only elements
        where it is true count. The result is that of `summary(x[mask])`, bit for bit, without the copy. The padding
        mask of [B, T] for x of [B, T, C] is ``mask[..., None]``.
    formats
        Narrower formats to ask about with `Summary.fits`: any of float8_e4m3fn, float8_e5m2, float16 and bfloat16, as
        names or dtypes.
    scale
        What values are multiplied by before they are looked at as `formats`; finite and above 0.

    Returns
    -------
    Summary
        A mergeable state; see the class for its fields. NaN and ±inf are counted and left out of everything else. Of
        an empty or all-non-finite tensor the counts are as they are and the rest is NaN.

    Raises
    ------
    TypeError
        The object, its dtype or its layout is not supported, or the mask is not of bool; the message names it and what
        is accepted.
    ValueError
        `moments` is neither 2 nor 4, `threads` is below 1, the mask does not broadcast, or a format is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> s = ts.summary(np.array([1.0, 2.0, np.nan, 0.0], dtype=np.float32))
    >>> s.count, s.nan_count, s.zero_count, s.max, s.mean
    (4, 1, 1, 2.0, 1.0)
    >>> s = ts.summary(np.array([1000.0, 1.0, 1e-3, 1e-9]), formats=("float8_e4m3fn", "float16"))
    >>> s.fits("float8_e4m3fn")
    float8_e4m3fn: 25% overflow, 25% subnormal, 25% flushed to zero of n=4
    >>> ts.summary(np.array([[1.0, 2.0], [3.0, 4.0]]), where=np.array([[True], [False]])).sum
    3.0
    """
    if where is None and not formats:
        return _core.summary(x, moments, threads)
    return _core.summary_where(x, moments, threads, where, formats, scale)
