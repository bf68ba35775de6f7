"""Owns norms over tensors and lists of tensors. Knows no array library; the numbers are the core's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorstats import _core
from tensorstats._arrays import REFUSALS, as_list, of_named

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["norm", "norms"]


def _order(ord: float | str) -> float:
    if ord == "inf":
        return math.inf  # as torch has it
    if ord not in (1, 2, math.inf):
        raise ValueError(f"ord must be 1, 2 or inf, got: {ord!r}")
    return float(ord)


def norm(tensors: Any, /, *, ord: float | str = 2, threads: int | None = None) -> float:
    """Norm of all given tensors taken as one long vector.

    Parameters
    ----------
    tensors
        One tensor, a mapping from name to tensor (a `state_dict()`), a module (its parameters), or any iterable of
        tensors. Entries that are None (gradients) are left out. dtypes and devices may differ.
    ord
        1 (sum of magnitudes), 2 (Euclidean) or `math.inf` (largest magnitude; `"inf"` is the same).
    threads
        Most threads to use; None leaves it to `thread_count()`.

    Returns
    -------
    float
        Accurate to 1e-13 relative whatever the number of elements and their dtype, without overflow on the way. NaN if
        there is a NaN, infinite if there is an infinity; 0 without values, so that an empty tensor contributes nothing.

    Raises
    ------
    TypeError
        A tensor is not supported.
    ValueError
        `ord` is something else.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> ts.norm([np.full(3, 200, dtype=np.float16), np.zeros(0, dtype=np.float32)])
    346.41016151377545
    """
    order, (rows, names) = _order(ord), as_list(tensors)
    try:
        return _core.norm(rows, order, threads)
    except REFUSALS as error:
        raise of_named(error, names) from error.__cause__


def norms(tensors: Any, /, *, ord: float | str = 2, threads: int | None = None) -> npt.NDArray[np.float64]:
    """Norm of each of the given tensors.

    Parameters, errors and the rule for NaN, infinities and empty tensors are those of `norm`.

    Returns
    -------
    numpy.ndarray
        One float64 for each tensor.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> ts.norms([np.array([3.0, 4.0]), np.array([1e200, 1e200])])
    array([5.00000000e+000, 1.41421356e+200])
    """
    order, (rows, names) = _order(ord), as_list(tensors)
    try:
        values = _core.norms(rows, order, threads)
    except REFUSALS as error:
        raise of_named(error, names) from error.__cause__
    return np.array(values, dtype=np.float64)
