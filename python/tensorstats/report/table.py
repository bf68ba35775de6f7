"""The table of a recorded step: which rows it shows, in which order, and how a cell is written; knows no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from tensorstats._core import Summary
from tensorstats._text import Text
from tensorstats.report.fold import Row, fold_alike
from tensorstats.report.text import printable, shorten_names

__all__ = ["SORT_KEYS", "Row", "format_table", "number"]

_HEADERS = ("layer", "tensor", "dtype", "shape", "min", "max", "mean", "std", "zeros", "NaN", "inf", "norm", "dead")
_LEFT = 4  # the first columns are words
_NAME_WIDTH = 22
_TYPE_WIDTH = 16

# What a table may be sorted by: the columns of numbers. The largest come first, of minima the smallest.
_SORT: dict[str, Callable[[Row], float]] = {
    "min": lambda row: -row.summary.min,
    "max": lambda row: row.summary.max,
    "mean": lambda row: abs(row.summary.mean),
    "std": lambda row: row.summary.std(),
    "zeros": lambda row: row.summary.zero_count / max(row.summary.count, 1),
    "nan": lambda row: row.summary.nan_count,
    "inf": lambda row: _infinite(row.summary),
    "norm": lambda row: row.summary.l2,
    "dead": lambda row: row.dead,
}
SORT_KEYS = tuple(_SORT)


def format_table(
    rows: Sequence[Row], *, sort: str | None = None, match: str | None = None, limit: int | None = None
) -> Text:
    """An aligned text table, one line per tensor, grouped by layer; at most about 140 columns wide.

    Parameters
    ----------
    rows
        The tensors, in the order in which they shall stand.
    sort : {"min", "max", "mean", "std", "zeros", "nan", "inf", "norm", "dead"}, optional
        The column by which rows are ordered instead, the most conspicuous first.
    match : str, optional
        A regular expression that must match somewhere in ``"layer type tensor"``.
    limit : int, optional
        How many rows there may be. Of more, layers whose names differ in numbers alone are counted together, and what
        then does not fit is left out; a last line says so.

    Raises
    ------
    ValueError
        For another column, or a regular expression that is none.
    """
    if sort is not None and str(sort).lower() not in _SORT:
        raise ValueError(f"sort must be one of {', '.join(SORT_KEYS)} or None, got {sort!r}")
    chosen = _matching(rows, match)
    shown = list(chosen)
    if limit is not None and sort is None and len(shown) > limit:
        shown = fold_alike(shown)
    if sort is not None:
        shown = _sorted(shown, _SORT[sort.lower()])
    hidden = 0
    if limit is not None and len(shown) > limit:
        shown, hidden = _most_wanted(shown, limit, in_order=sort is not None)
    if match is not None and not shown:
        return Text(f"no layer, type or tensor of {len(rows)} matches {match!r}")
    return Text("\n".join([*_lines(shown, grouped=sort is None), *_footer(shown, hidden)]))


def _matching(rows: Sequence[Row], match: str | None) -> list[Row]:
    if match is None:
        return list(rows)
    try:
        pattern = re.compile(match)
    except (re.error, TypeError) as error:
        raise ValueError(f"match must be a regular expression, got {match!r}: {error}") from None
    return [row for row in rows if pattern.search(f"{row.module} {row.module_type} {row.tensor}")]


def _sorted(rows: Sequence[Row], key: Callable[[Row], float]) -> list[Row]:
    """The largest first, in front of those that have no such number."""
    return sorted(rows, key=lambda row: math.inf if math.isnan(key(row)) else -key(row))


def _most_wanted(rows: list[Row], limit: int, *, in_order: bool) -> tuple[list[Row], int]:
    """The rows that fit, in their order: the first of them, but what is troubled before what is not."""
    places = range(len(rows))
    wanted = places if in_order else sorted(places, key=lambda i: not rows[i].troubled)
    kept = sorted(wanted[:limit])
    return [rows[i] for i in kept], sum(row.members for row in rows) - sum(rows[i].members for i in kept)


def _footer(rows: Sequence[Row], hidden: int) -> list[str]:
    lines = []
    if any(row.members > 1 for row in rows):
        lines.append("×: so many tensors counted together; dead: the worst of them.")
    if hidden:
        lines.append(
            f'{hidden} more tensors: table(match="a regular expression"), table(sort="norm"), table(all=True).'
        )
    return lines


def _lines(rows: Sequence[Row], *, grouped: bool) -> list[str]:
    labels = _labels(rows)
    if grouped:
        order = {module: i for i, module in enumerate(dict.fromkeys(row.module for row in rows))}
        rows = sorted(rows, key=lambda row: order[row.module])
    cells: list[tuple[str, ...]] = []
    above = None
    for row in rows:
        label = labels[(row.module, row.module_type)]
        cells.append(_cells(row, "" if grouped and label == above else label))
        above = label
    widths = [
        max(len(header), *(len(line[i]) for line in cells)) if cells else len(header)
        for i, header in enumerate(_HEADERS)
    ]
    ruler = "  ".join("─" * width for width in widths)
    text = [_join(_HEADERS, widths), ruler, *(_join(line, widths) for line in cells)]
    return [line.rstrip() for line in text]


def _labels(rows: Sequence[Row]) -> dict[tuple[str, str], str]:
    """Name and type of every layer, short enough for a table."""
    types = {row.module_type for row in rows}
    short_types = {kind: kind if len(kind) <= _TYPE_WIDTH else kind[: _TYPE_WIDTH - 1] + "…" for kind in types}
    short = shorten_names([printable(row.module) for row in rows], _NAME_WIDTH)
    return {
        (row.module, row.module_type): f"{short[printable(row.module)]} {short_types[row.module_type]}".strip()
        for row in rows
    }


def _join(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [
        cell.ljust(width) if place < _LEFT else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned)


def _cells(row: Row, label: str) -> tuple[str, ...]:
    summary = row.summary
    shape = "" if row.shape is None else "×".join(str(size) for size in row.shape) or "scalar"
    return (
        label,
        printable(row.tensor) + (f" ×{row.members}" if row.members > 1 else ""),
        _short_dtype(summary.dtype),
        shape,
        number(summary.min),
        number(summary.max),
        number(summary.mean),
        number(summary.std()),
        _share(summary.zero_count, summary.count),
        _loud(summary.nan_count),
        _loud(_infinite(summary)),
        number(summary.l2),
        "" if math.isnan(row.dead) else f"{row.dead:.0%}",
    )


def _infinite(summary: Summary) -> int:
    return summary.posinf_count + summary.neginf_count


def number(value: float) -> str:
    """A number in at most nine characters: ``0.0123``, ``-1.5e-08``, ``nan``."""
    if math.isnan(value):
        return "nan"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    return f"{value:.2e}"


def _share(part: int, whole: int) -> str:
    """A percentage that is 0 or 100 only when it is exactly that."""
    if whole == 0 or part == 0:
        return "0"
    if part == whole:
        return "100%"
    return f"{min(max(100 * part / whole, 0.1), 99.9):.1f}%"


def _loud(count: int) -> str:
    return f"{count}!" if count else "0"


def _short_dtype(dtype: str | None) -> str:
    if dtype is None:
        return "mixed"
    for long, short in (("bfloat", "bf"), ("float", "f"), ("uint", "u"), ("int", "i")):
        if dtype.startswith(long):
            return short + dtype[len(long) :].split("_")[0]
    return dtype
