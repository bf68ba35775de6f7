"""Counts what tools said about programs: rows of single runs in, one line per tool and half out."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gallery.program import PROGRAMS, Program
from gallery.split import half

__all__ = ["Line", "Verdict", "line", "verdicts"]

Row = dict[str, Any]
SEEN_FIRST = 3  # findings of a report that count when a cause is named: what stands on top of it


def _on_top(told: Sequence[Row]) -> list[Row]:
    """The first findings of the report before the loop, and of the one after it; failures come first in each."""
    worst_first = sorted(told, key=lambda one: one["status"] != "fail")
    before = [one for one in worst_first if one["at"] == -1]
    after = [one for one in worst_first if one["at"] != -1]
    return before[:SEEN_FIRST] + after[:SEEN_FIRST]


@dataclass(frozen=True)
class Verdict:
    """What a tool said of one program: each holds when two of three seeds (the majority) say so."""

    program: Program
    failed: bool
    caught: bool
    named: bool
    placed: bool
    at: int | None  # -1 before the loop; None: at its end, or never
    learned: bool | None
    broke: int


def _verdict(program: Program, rows: Sequence[Row]) -> Verdict:
    def most(holds: Iterable[bool]) -> bool:
        return sum(holds) * 2 > len(rows)

    steps = [min((one["at"] for one in row["told"] if one["at"] is not None), default=None) for row in rows]
    known = [step for step in steps if step is not None]
    return Verdict(
        program,
        failed=most(any(one["status"] == "fail" for one in row["told"]) for row in rows),
        caught=most(bool(row["told"]) for row in rows),
        named=most(any(program.names_cause(one["rule"], one["text"]) for one in _on_top(row["told"])) for row in rows),
        placed=most(any(program.names_place(one["where"]) for one in _on_top(row["told"])) for row in rows),
        at=round(statistics.median_low(known)) if known else None,
        learned=None if rows[0]["learned"] is None else most(bool(row["learned"]) for row in rows),
        broke=sum(bool(row["errors"]) for row in rows),
    )


def verdicts(rows: Iterable[Row], tool: str) -> list[Verdict]:
    """One per program that the tool was run on."""
    mine: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["tool"] == tool:
            mine[row["name"]].append(row)
    return [_verdict(program, mine[name]) for name, program in PROGRAMS.items() if name in mine]


@dataclass(frozen=True)
class Line:
    """The numbers of one tool on one half; counts are of programs, errors of runs, seconds of the CPU."""

    tool: str
    half: str
    bugs: int
    failed: int
    caught: int
    named: int
    places: int
    placed: int
    before_loop: int
    step: float | None
    healthy: int
    healthy_failed: int
    healthy_told: int
    errors: int
    preflight_seconds: float | None
    overhead: float | None


def line(rows: Sequence[Row], tool: str, which: str) -> Line:
    """Count a tool's verdicts on a half: ``"tuning"``, ``"kept"``, or ``"known"`` for the 25 published programs."""

    def chosen(program: Program) -> bool:
        return program.kind == "known" if which == "known" else half(program.name) == which

    mine = [verdict for verdict in verdicts(rows, tool) if chosen(verdict.program)]
    bugs = [verdict for verdict in mine if not verdict.program.is_healthy]
    fine = [verdict for verdict in mine if verdict.program.is_healthy]
    found = [verdict for verdict in bugs if verdict.caught]
    steps = [verdict.at for verdict in found if verdict.at is not None and verdict.at >= 0]
    with_place = [verdict for verdict in bugs if verdict.program.place is not None]
    preflight, overhead = _cost([row for row in rows if chosen(PROGRAMS[row["name"]])], tool)
    return Line(
        tool=tool,
        half=which,
        bugs=len(bugs),
        failed=sum(verdict.failed for verdict in bugs),
        caught=len(found),
        named=sum(verdict.named for verdict in bugs),
        places=len(with_place),
        placed=sum(verdict.placed for verdict in with_place),
        before_loop=sum(verdict.at == -1 for verdict in found),
        step=statistics.median(steps) if steps else None,
        healthy=len(fine),
        healthy_failed=sum(verdict.failed for verdict in fine),
        healthy_told=sum(verdict.caught for verdict in fine),
        errors=sum(verdict.broke for verdict in mine),
        preflight_seconds=preflight,
        overhead=overhead,
    )


def _cost(rows: Sequence[Row], tool: str) -> tuple[float | None, float | None]:
    """The median seconds before the loop, and the median of what the loop took more than without a tool."""
    alone = {(row["name"], row["seed"]): row["seconds"] for row in rows if row["tool"] == "nothing"}
    mine = [row for row in rows if row["tool"] == tool and not row["errors"]]
    pairs = [(row, alone[row["name"], row["seed"]]) for row in mine if (row["name"], row["seed"]) in alone]
    preflight = [row["preflight_seconds"] for row in mine]
    more = [(row["seconds"] - row["preflight_seconds"]) / without - 1 for row, without in pairs if without > 0]
    return statistics.median(preflight) if preflight else None, statistics.median(more) if more else None
