"""Folds the rows of layers that are alike into one; knows nothing of how rows are printed."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tensorstats._core import Summary

__all__ = ["Row", "fold_alike"]

_NUMBER = re.compile(r"\d+")

# A layer of which this share of the units is dead gets a line of its own.
_DEAD = 0.5


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor of the table, or `members` of them together.

    `dead` is the share of units without activity, the largest of the members, NaN where it does not apply. `marked`
    says that a finding is about it.
    """

    module: str
    module_type: str
    tensor: str
    summary: Summary
    dead: float
    marked: bool = False
    members: int = 1
    member_shape: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...] | None:
        """That of the tensor, or of each member."""
        return self.summary.shape if self.members == 1 else self.member_shape

    @property
    def troubled(self) -> bool:
        """Whether somebody who looks for a fault wants to see it."""
        return self.marked or self.summary.nonfinite_count > 0 or self.dead >= _DEAD


def fold_alike(rows: Sequence[Row]) -> list[Row]:
    """One row for the tensors of all layers whose names differ in numbers alone, with one type, dtype and shape.

    What is troubled is folded with what is troubled too. A folded row has the summary of all its members together.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        pattern = _NUMBER.sub("#", row.module)
        summary = row.summary
        key = (pattern, row.module_type, row.tensor, summary.dtype, summary.shape, row.troubled)
        groups.setdefault(key, []).append(row)
    return [_together(group) for group in groups.values()]


def _together(rows: list[Row]) -> Row:
    if len(rows) == 1:
        return rows[0]
    total = rows[0].summary.copy()
    for row in rows[1:]:
        total.merge(row.summary)
    dead = [row.dead for row in rows if not math.isnan(row.dead)]
    return replace(
        rows[0],
        module=_common([row.module for row in rows]),
        summary=total,
        dead=max(dead, default=math.nan),
        marked=any(row.marked for row in rows),
        members=len(rows),
        member_shape=rows[0].summary.shape,
    )


def _common(names: list[str]) -> str:
    """Names that differ in numbers alone as one: ``blocks.0-11.attention``."""
    columns = list(zip(*(_NUMBER.findall(name) for name in names), strict=True))
    ranges = []
    for column in columns:
        low, high = min(column, key=int), max(column, key=int)
        ranges.append(low if low == high else f"{low}-{high}")
    taken = iter(ranges)
    return _NUMBER.sub(lambda _: next(taken), names[0])
