"""Owns the functions that summarise tensors. Knows no array library; the numbers are the core's."""

from __future__ import annotations

from typing import Any

from tensorstats import _core
from tensorstats._arrays import DeviceError, is_torch_tensor
from tensorstats._core import Summary

__all__ = ["Summary", "summary"]


def summary(x: Any, /, *, moments: int = 2, threads: int | None = None) -> Summary:
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

    Returns
    -------
    Summary
        A mergeable state; see the class for its fields. NaN and ±inf are counted and left out of everything else. Of
        an empty or all-non-finite tensor the counts are as they are and the rest is NaN.

    Raises
    ------
    TypeError
        The object, its dtype or its layout is not supported; the message names it and what is accepted.
    ValueError
        `moments` is neither 2 nor 4, or `threads` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> s = ts.summary(np.array([1.0, 2.0, np.nan, 0.0], dtype=np.float32))
    >>> s.count, s.nan_count, s.zero_count, s.max, s.mean
    (4, 1, 1, 2.0, 1.0)
    """
    try:
        return _core.summary(x, moments, threads)
    except DeviceError:
        if not is_torch_tensor(x):
            raise
        from tensorstats.torch.device import summary as device_summary

        return device_summary(x, moments=moments)
