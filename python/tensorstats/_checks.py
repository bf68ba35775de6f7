"""Owns the checks of a tensor's values, dtype and shape, and the words of their error; knows no array library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from tensorstats import _core
from tensorstats._arrays import dtype_name

__all__ = ["CheckError", "check", "first_nonfinite"]

ShapePattern: TypeAlias = Sequence[int | str | None]


class CheckError(ValueError):
    """A tensor is not what it should be. The message names every broken rule."""


def check(
    x: Any,
    /,
    *,
    finite: bool = True,
    min: float | None = None,
    max: float | None = None,
    dtype: Any = None,
    shape: ShapePattern | None = None,
    name: str | None = None,
) -> None:
    """Raise one error that names every rule a tensor breaks, how many values break it, and the first of them.

    Parameters
    ----------
    x
        Any tensor on any device, of any layout; nothing is copied.
    finite
        Refuse NaN and ±inf. When False, NaN is allowed anywhere and infinities are compared with `min` and `max` like
        any other value.
    min, max
        Smallest and largest value allowed; None for no bound. Every dtype is compared exactly, integers beyond 2^53
        with floats included.
    dtype
        The dtype it must have: a name such as ``"float32"`` or ``"bfloat16"``, a numpy or a torch dtype, or a tuple of
        them.
    shape
        One entry a dimension: a number, None for any length, or a word. A word stands for any length, the same
        wherever it is repeated.
    name
        What the error calls the tensor.

    Raises
    ------
    CheckError
        A rule is broken. It is a ValueError.
    TypeError, ValueError
        The tensor is not supported, or the rules make no sense (a bound that is NaN, `min` above `max`).

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> ts.check(np.array([[0.5, np.nan], [2.0, 0.0]]), min=0, max=1, shape=("N", 2), name="image")
    Traceback (most recent call last):
    ...
    tensorstats.CheckError: image breaks 2 rules:
      1 of 4 values is not finite (1 NaN); first: nan at [0, 1]; allowed: finite values
      1 of 4 values is above the maximum; first: 2.0 at [1, 0]; allowed: at most 1
    """
    (report,) = _core.outside([x], min, max, not finite)
    found_dtype, found_shape, (nan, posinf, neginf, below, above), places = report
    broken: list[str] = []
    if dtype is not None:
        broken += _broken_dtype(found_dtype, dtype)
    if shape is not None:
        broken += _broken_shape(found_shape, shape)
    count = math.prod(found_shape)
    if finite and nan + posinf + neginf:
        kinds = ", ".join(f"{n} {kind}" for n, kind in ((nan, "NaN"), (posinf, "+inf"), (neginf, "-inf")) if n)
        broken.append(_line(nan + posinf + neginf, count, f"not finite ({kinds})", places[0], "finite values"))
    if below:
        broken.append(_line(below, count, "below the minimum", places[1], f"at least {_shown(min)}"))
    if above:
        broken.append(_line(above, count, "above the maximum", places[2], f"at most {_shown(max)}"))
    if broken:
        subject = name or f"{found_dtype} tensor of shape {list(found_shape)}"
        rules = "1 rule" if len(broken) == 1 else f"{len(broken)} rules"
        raise CheckError(f"{subject} breaks {rules}:\n  " + "\n  ".join(broken))


def first_nonfinite(x: Any, /) -> tuple[int, tuple[int, ...], float] | None:
    """Position in C order, index and value of the first value that is NaN or infinite; None when all are finite.

    Examples
    --------
    >>> import numpy as np
    >>> first_nonfinite(np.array([[1.0, 2.0], [np.inf, np.nan]]))
    (2, (1, 0), inf)
    """
    return _core.first_nonfinite(x)


def _shown(bound: object) -> str:
    """A bound in words; of an integer beyond any dtype its length says enough."""
    if isinstance(bound, int) and bound.bit_length() > 128:
        return f"{'-' if bound < 0 else ''}10^{math.floor(math.log10(abs(bound)))} or so"
    return str(bound)


def _line(broken: int, count: int, what: str, place: tuple[int, tuple[int, ...], float] | None, allowed: str) -> str:
    verb = "is" if broken == 1 else "are"
    values = "value" if count == 1 else "values"
    # The memory may have changed between counting and looking.
    first = "" if place is None else f"; first: {place[2]} at {list(place[1])}"
    return f"{broken} of {count} {values} {verb} {what}{first}; allowed: {allowed}"


def _broken_dtype(found: str, wanted: Any) -> list[str]:
    names = [dtype_name(dtype) for dtype in (wanted if isinstance(wanted, (tuple, list)) else (wanted,))]
    return [] if found in names else [f"dtype is {found}; allowed: {' or '.join(names)}"]


def _broken_shape(found: tuple[int, ...], wanted: ShapePattern) -> list[str]:
    pattern = "(" + ", ".join("any" if entry is None else str(entry) for entry in wanted) + ")"
    if len(found) != len(wanted):
        return [f"shape is {list(found)}, of {len(found)} dims; allowed: {pattern}"]
    lengths: dict[str, int] = {}
    broken = []
    for dim, (length, entry) in enumerate(zip(found, wanted, strict=True)):
        if isinstance(entry, str):
            expected = lengths.setdefault(entry, length)
            if length != expected:
                broken.append(f"dim {dim} is {length}, but {entry} is {expected}")
        elif entry is not None and length != int(entry):
            broken.append(f"dim {dim} is {length}, not {entry}")
    return [f"shape is {list(found)} ({', '.join(broken)}); allowed: {pattern}"] if broken else []
