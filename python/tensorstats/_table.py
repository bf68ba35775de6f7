"""Owns the table of summaries of many tensors. Knows no array library but numpy, which holds its columns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorstats import _core
from tensorstats._arrays import REFUSALS, is_one, named, of_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from tensorstats._core import Summary

__all__ = ["SummaryTable", "summaries"]

COLUMNS = tuple(field.name for field in _core.FIELDS if field.usual)


class SummaryTable(Mapping[str, "Summary"]):
    """Summaries of many tensors: rows by name, columns as numpy arrays.

    Made by `summaries`. Behaves as a read-only mapping from name to `Summary`.
    """

    def __init__(self, names: Iterable[str], rows: _core.Summaries) -> None:
        self._rows = rows
        self._names = tuple(names)

    @cached_property
    def _index(self) -> dict[str, int]:
        # Made when first asked for: columns are read without it.
        return {name: row for row, name in enumerate(self._names)}

    @property
    def names(self) -> list[str]:
        """Names of the rows, in the order given."""
        return list(self._names)

    def __getitem__(self, name: str) -> Summary:
        return self._rows[self._index[name]]

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def column(self, name: str, /) -> npt.NDArray[Any]:
        """One field of every row, as a read-only array.

        Parameters
        ----------
        name
            A field of `Summary`, or "var" or "std" (of the population). Integer extremes and sums come as float64
            here; the rows have them exact.

        Returns
        -------
        numpy.ndarray
            uint64 for counts, else float64.

        Raises
        ------
        KeyError
            There is no such field.
        """
        counts, data = self._rows.column(name)
        return np.frombuffer(data, dtype=np.uint64 if counts else np.float64)

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The usual columns by name."""
        return {name: self.column(name) for name in COLUMNS}

    def to_pandas(self) -> Any:
        """The table as a `pandas.DataFrame` with the names as index; needs pandas.

        Raises
        ------
        ModuleNotFoundError
            pandas is not installed.
        """
        import pandas as pd  # type: ignore[import-untyped, unused-ignore]  # optional, and not every pandas has types

        frame = pd.DataFrame({"dtype": self._rows.dtypes(), **self.columns()}, index=self.names)
        frame.index.name = "name"
        return frame

    def __repr__(self) -> str:
        head = ("name", "dtype", "shape", "min", "max", "mean", "std", "l2", "zero", "nan", "inf")
        floats = [self.column(name) for name in ("min", "max", "mean", "std", "l2")]
        infinities = self.column("posinf_count") + self.column("neginf_count")
        rows: list[tuple[str, ...]] = [head]
        for row, (name, dtype, shape) in enumerate(
            zip(self._names, self._rows.dtypes(), self._rows.shapes(), strict=True)
        ):
            zero, nan = int(self.column("zero_count")[row]), int(self.column("nan_count")[row])
            numbers = [f"{column[row]:.4g}" for column in floats]
            rows.append((name, dtype or "", str(shape or []), *numbers, str(zero), str(nan), str(int(infinities[row]))))
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        lines = []
        for cells in rows:
            left = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
            right = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
            lines.append("  ".join([*left, *right]).rstrip())
        return "\n".join(lines)


def summaries(tensors: Any, /, *, moments: int = 2, threads: int | None = None) -> SummaryTable:
    """Summaries of many tensors in one call: a model's `state_dict()`, a batch, a list of gradients.

    Parameters
    ----------
    tensors
        A mapping from name to tensor (a `state_dict()`), a module (its parameters), a table of pandas, polars or
        pyarrow (its columns), or an iterable of tensors (named "0", "1", ...). dtypes, shapes and devices may differ;
        entries that are None are left out.
    moments, threads
        As for `summary`; threads are spread over tensors and over the parts of big ones.

    Returns
    -------
    SummaryTable
        Rows by name, columns as numpy arrays.

    Raises
    ------
    TypeError
        A tensor is not supported; the message is that of `summary`, and names the tensor.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> table = ts.summaries({"weight": np.array([[3.0, 4.0]]), "bias": np.zeros(2, dtype=np.float32)})
    >>> table.column("l2")
    array([5., 0.])
    >>> print(table)
    name    dtype    shape   min  max  mean  std  l2  zero  nan  inf
    weight  float64  [1, 2]    3    4   3.5  0.5   5     0    0    0
    bias    float32  [2]       0    0     0    0   0     2    0    0
    """
    by_name = None if type(tensors) is list else named(tensors)
    if by_name is not None:
        names, rows = list(by_name), list(by_name.values())
    else:
        rows = [tensors] if is_one(tensors) else list(tensors)
        names = list(map(str, range(len(rows))))
    # Asking once for all of them is cheap beside small tensors; looking at each is not.
    if set(map(type, names)) != {str} or type(None) in set(map(type, rows)):
        kept = {str(name): tensor for name, tensor in zip(names, rows, strict=True) if tensor is not None}
        names, rows = list(kept), list(kept.values())
    try:
        return SummaryTable(names, _core.summaries(rows, moments, threads))
    except REFUSALS as error:
        raise of_named(error, _known_as(by_name, names)) from error.__cause__


def _known_as(by_name: object, names: list[str]) -> list[Any]:
    """What errors call the tensors: by their keys, or by their places among those given."""
    return list(map(int, names)) if by_name is None else names
