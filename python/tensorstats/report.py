"""Text for people: the table of a recorded step and the findings in words; knows no torch."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tensorstats._core import Summary
from tensorstats.rules import Finding

__all__ = ["Row", "format_finding", "format_report", "format_table"]

_HEADERS = ("layer", "tensor", "dtype", "shape", "min", "max", "mean", "std", "zeros", "NaN", "inf", "norm", "dead")
_LEFT = 4  # the first columns are words
_NAME_WIDTH = 28


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor of the table. `dead` is the share of units without activity, NaN where it does not apply."""

    module: str
    module_type: str
    tensor: str
    summary: Summary
    dead: float


def format_table(rows: Sequence[Row]) -> str:
    """An aligned text table, one line per tensor, grouped by layer; at most about 140 columns wide."""
    order = list(dict.fromkeys(row.module for row in rows))
    lines: list[tuple[str, ...]] = []
    for module in order:
        label = True
        for row in rows:
            if row.module == module:
                lines.append(_cells(row, label))
                label = False
    widths = [
        max(len(header), *(len(line[i]) for line in lines)) if lines else len(header)
        for i, header in enumerate(_HEADERS)
    ]
    ruler = "  ".join("─" * width for width in widths)
    text = [_join(_HEADERS, widths), ruler, *(_join(line, widths) for line in lines)]
    return "\n".join(line.rstrip() for line in text)


def format_report(rows: Sequence[Row], findings: Sequence[Finding], errors: Sequence[str], *, steps: int) -> str:
    """The table, then the findings in words, then the watcher's own errors if it had any."""
    parts = [format_table(rows), ""]
    if not findings:
        parts.append(f"No findings in {steps} steps.")
    else:
        failures = sum(finding.status == "failure" for finding in findings)
        counts = f"failures: {failures}, warnings: {len(findings) - failures}"
        parts.append(f"Findings in {steps} steps ({counts}):")
        for group in _alike(findings):
            parts += ["", format_finding(group[0])]
            if len(group) > 1:
                parts.append(f"  also at   {', '.join(finding.where for finding in group[1:])}")
    if errors:
        parts += ["", "The watcher could not do everything:", *(f"  {error}" for error in errors)]
    return "\n".join(parts)


def _alike(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings of one rule, status and step together: a fault at one layer often shows at many others."""
    groups: dict[tuple[str, str, int], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.rule, finding.status, finding.step), []).append(finding)
    return list(groups.values())


def format_finding(finding: Finding) -> str:
    """A finding as text; its status in colour on a terminal, unless NO_COLOR is set."""
    text = str(finding)
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    colour = "31" if finding.status == "failure" else "33"
    head, rest = text.split("  ", 1)
    return f"\x1b[1;{colour}m{head}\x1b[0m  {rest}"


def _join(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [
        cell.ljust(width) if place < _LEFT else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned)


def _cells(row: Row, label: bool) -> tuple[str, ...]:
    summary = row.summary
    name = f"{row.module} {row.module_type}".strip() if label else ""
    shape = "" if summary.shape is None else "×".join(str(size) for size in summary.shape) or "scalar"
    return (
        _shorten(name, _NAME_WIDTH),
        row.tensor,
        _short_dtype(summary.dtype),
        shape,
        number(summary.min),
        number(summary.max),
        number(summary.mean),
        number(summary.std()),
        _share(summary.zero_count, summary.count),
        _loud(summary.nan_count),
        _loud(summary.posinf_count + summary.neginf_count),
        number(summary.l2),
        "" if math.isnan(row.dead) else f"{row.dead:.0%}",
    )


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


def _shorten(text: str, width: int) -> str:
    """The end of a long name, which is what tells layers apart."""
    return text if len(text) <= width else "…" + text[1 - width :]


def _short_dtype(dtype: str | None) -> str:
    if dtype is None:
        return "mixed"
    for long, short in (("bfloat", "bf"), ("float", "f"), ("uint", "u"), ("int", "i")):
        if dtype.startswith(long):
            return short + dtype[len(long) :].split("_")[0]
    return dtype
