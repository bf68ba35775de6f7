"""Owns the function for exact quantiles of a whole tensor; the search is the core's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from tensorstats import _core

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["quantile"]


@overload
def quantile(x: Any, q: float, /, *, threads: int | None = None) -> float: ...
@overload
def quantile(x: Any, q: npt.ArrayLike, /, *, threads: int | None = None) -> npt.NDArray[np.float64]: ...
def quantile(x: Any, q: Any, /, *, threads: int | None = None) -> Any:
    """Exact quantiles of all values of a tensor, of any dtype and size, without sorting or copying it.

    Parameters
    ----------
    x
        Any tensor: numpy array (ml_dtypes included), torch tensor on any device, or an object with `__dlpack__`; any
        shape and strides. It is read two to four times, and a few megabytes of other memory are used, whatever its
        size.
    q
        Shares in [0, 1]: a number, or an array of any shape.
    threads
        Most threads to use; None leaves it to `thread_count()`.

    Returns
    -------
    float or numpy.ndarray
        Linear between the two values next to `q * (n - 1)`: the numbers of `numpy.quantile` (method "linear") for the
        values as float64, to the last bit. NaN is left out, ±inf are ordered like numbers. A zero is +0. Beside an
        infinity the result is that infinity (numpy: NaN for some `q`), and where float64 holds the neighbours but not
        their distance the result does not overflow. NaN when there are no values.

    Raises
    ------
    ValueError
        A share is not in [0, 1].
    TypeError
        The tensor is not supported.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> ts.quantile(np.array([1.0, 2.0, 4.0, np.nan]), [0.0, 0.5, 0.75])
    array([1., 2., 3.])
    """
    return _core.quantile(x, q, threads)
