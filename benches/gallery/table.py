"""The scoreboard as markdown: totals of both halves, single programs of the tuning half alone."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gallery.program import PROGRAMS
from gallery.score import Line, Row, line, verdicts
from gallery.split import half

__all__ = ["details", "page", "totals"]

HALVES = ("kept", "tuning", "known")
WORDS = {
    "kept": "Kept half",
    "tuning": "Tuning half",
    "known": "The 25 published programs (in both halves above)",
}


def totals(rows: Sequence[Row], tools: Sequence[str], halves: Sequence[str] = HALVES) -> str:
    """One table per half."""
    parts = []
    for which in halves:
        lines = [line(rows, tool, which) for tool in tools if tool != "nothing"]
        lines = [one for one in lines if one.bugs or one.healthy]
        if lines:
            parts += [
                f"### {WORDS[which]}: {lines[0].bugs} bugs, {lines[0].healthy} healthy programs",
                "",
                _table(lines),
                "",
            ]
    return "\n".join(parts)


def _table(lines: Sequence[Line]) -> str:
    head = ["tool", "FAIL", "FAIL or WARN", "cause named", "place named", "before the loop", "step, if later"]
    head += ["healthy: FAIL", "healthy: told", "errors", "seconds before the loop", "loop takes more"]
    body = [head, ["---"] * len(head)]
    for one in lines:
        body.append(
            [
                one.tool,
                f"{one.failed}/{one.bugs}",
                f"{one.caught}/{one.bugs}",
                f"{one.named}/{one.bugs}",
                f"{one.placed}/{one.places}",
                str(one.before_loop),
                "" if one.step is None else f"{one.step:.0f}",
                f"{one.healthy_failed}/{one.healthy}",
                f"{one.healthy_told}/{one.healthy}",
                str(one.errors),
                "" if not one.preflight_seconds else f"{one.preflight_seconds:.2f}",
                "" if one.overhead is None else f"{one.overhead:+.0%}",
            ]
        )
    return "\n".join("| " + " | ".join(cells) + " |" for cells in body)


def details(rows: Sequence[Row], tool: str) -> str:
    """What a tool said of each program of the tuning half; nothing of the other."""
    body = ["| program | what is wrong | seen | cause | place | since |", "|---|---|---|---|---|---|"]
    fine = []
    for one in verdicts(rows, tool):
        program = one.program
        if half(program.name) == "kept":
            continue
        seen = "FAIL" if one.failed else "WARN" if one.caught else "no"
        since = "" if not one.caught else "before" if one.at == -1 else "end" if one.at is None else f"step {one.at}"
        if program.is_healthy:
            fine += [f"`{program.name}` ({seen})"] if one.caught else []
            continue
        place = "" if program.place is None else "yes" if one.placed else "no"
        named = "yes" if one.named else "no"
        body.append(f"| `{program.name}` | {program.planted} | {seen} | {named} | {place} | {since} |")
    return "\n".join([*body, "", "Healthy programs that were told something: " + (", ".join(fine) or "none") + "."])


def page(rows: Sequence[Row], tools: Sequence[str], seeds: Sequence[int]) -> str:
    """All of ``docs/scoreboard.md``."""
    bugs = sum(not program.is_healthy for program in PROGRAMS.values())
    intro = f"""\
# Scoreboard: bugs caught, and healthy programs left alone

`make scoreboard` trains {bugs} programs with a planted bug and {len(PROGRAMS) - bugs} healthy ones
([benches/gallery](../benches/gallery)), each under one tool at a time, as its author would use it: a look at the
model before the loop, a watch around it, no knowledge of the bug. {len(seeds)} seeds; what most of them say counts.
Which half a program is in is the parity of the SHA-256 of its name ([split.py](../benches/gallery/split.py)): no rule
or limit was chosen by what is found in the kept half, and single programs are listed for the other half alone. Bugs of
our own making are not the bugs of the world.

- **cause named**: one of the first three findings of a report says what was planted. **place named**: it points at
  the module or parameter, for bugs that have one.
- **before the loop**: caught without a step of training; else the median step at which the first finding was told
  (none for a tool that tells at the end).
- **healthy: told**: healthy programs with a WARN or FAIL. Every one of them learned: it won a tenth of the room below
  the best constant, at least.
- **errors**: runs in which the tool raised an error or noted one of its own. **loop takes more**: the median, in
  seconds of the CPU on one thread, with networks so small that fixed costs are most of it.

{_machine()}

"""
    parts = [intro, "## Totals\n\n", totals(rows, tools)]
    if "tensorstats" in tools:
        parts += ["\n## tensorstats on the tuning half\n\n", details(rows, "tensorstats"), "\n"]
    return "".join(parts)


def _machine() -> str:
    versions = []
    for name in ("torch", "scikit-learn", "torchtest2", "torch-audit", "torchmortem", "torchdiag"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"Measured {day} on {_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        + ", ".join(versions)
        + "."
    )


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    names: list[Any] = []
    if listing.exists():
        names = [row.split(":")[1].strip() for row in listing.read_text().splitlines() if row.startswith("model name")]
    return str(names[0]) if names else platform.machine()
