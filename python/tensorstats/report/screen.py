"""The report of a run on one screen: findings first, then the table, then the watcher's own errors; knows no torch."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import replace

from tensorstats.report.outcome import Report, verdict
from tensorstats.report.table import Row, format_table
from tensorstats.rules import Finding

__all__ = ["LINES", "format_finding", "format_report"]

# One screen of a large terminal.
LINES = 58

# Of these lines, what findings may take in full, how many more are told in a line each, and what the errors may take.
_FINDING_LINES = 26
_FINDING_HEADS = 6
_ERROR_LINES = 5
_WIDTH = 110
_PLACES = 6
_FEWEST_ROWS = 8


def format_report(
    rows: Sequence[Row],
    findings: Sequence[Finding],
    errors: Sequence[str],
    *,
    judged: str,
    suppressed: Sequence[Finding] = (),
    all: bool = False,
) -> Report:
    """The verdict and the findings in words, the table, and the watcher's own errors if it had any.

    Parameters
    ----------
    rows, findings, errors
        What there is to tell.
    suppressed
        What is known: told in one line.
    judged : str
        What was looked at: ``"12 steps"``.
    all : bool
        Tell everything, however long; otherwise what fits on one screen, the worst first.
    """
    parts = [*_findings(findings, judged, all=all), *_known(suppressed)]
    ending = _errors(errors, all=all)
    marked = {finding.where for finding in findings}
    limit = None
    if not all:
        limit = max(LINES - len(parts) - len(ending) - 6, _FEWEST_ROWS)
    table = format_table([_mark(row, marked) for row in rows], limit=limit)
    text = "\n".join([*parts, "", table, *ending])
    return Report(text, findings, suppressed=suppressed, errors=errors, judged=judged)


def _mark(row: Row, places: Collection[str]) -> Row:
    names = (row.module, f"{row.module}.{row.tensor.removesuffix(' grad')}")
    return replace(row, marked=True) if any(name in places for name in names) else row


def _findings(findings: Sequence[Finding], judged: str, *, all: bool) -> list[str]:
    if not findings:
        return [f"OK: no findings in {judged}."]
    failures = sum(finding.status == "failure" for finding in findings)
    numbers = f"failures: {failures}, warnings: {len(findings) - failures}"
    lines = [f"{verdict(findings)}: findings in {judged} ({numbers}):"]
    ordered = findings if all else sorted(findings, key=lambda finding: (finding.over, finding.status != "failure"))
    heads: list[str] = []
    for group in _alike(ordered):
        text = ["", *format_finding(group[0]).split("\n"), *_also(group, all=all)]
        if all or len(lines) == 1 or (not heads and len(lines) + len(text) <= _FINDING_LINES):
            lines += text
        else:
            more = f" and {len(group) - 1} more places" if len(group) > 1 else ""
            heads.append(text[1].replace(", ", f"{more}, ", 1) if more else text[1])
    if heads:
        lines += ["", *heads[:_FINDING_HEADS]]
        if len(heads) > _FINDING_HEADS:
            lines.append(f"... and {len(heads) - _FINDING_HEADS} more kinds")
        lines.append("All findings in full: report(all=True).")
    lines += ["", f"More on a rule: python -m tensorstats explain {ordered[0].rule}"]
    return lines


def _known(suppressed: Sequence[Finding]) -> list[str]:
    if not suppressed:
        return []
    listed = ", ".join(f"{finding.rule} at {finding.where}" for finding in suppressed[:_PLACES])
    more = f" and {len(suppressed) - _PLACES} more" if len(suppressed) > _PLACES else ""
    return [f"Suppressed: {listed}{more}."]


def _also(group: Sequence[Finding], *, all: bool) -> list[str]:
    if len(group) == 1:
        return []
    places = [finding.where for finding in group[1:]]
    if not all and len(places) > _PLACES:
        places = [*places[:_PLACES], f"{len(places) - _PLACES} more"]
    return [f"  also at   {', '.join(places)}"]


def _errors(errors: Sequence[str], *, all: bool) -> list[str]:
    if not errors:
        return []
    shown = errors if all else errors[:_ERROR_LINES]
    lines = ["", "The watcher could not do everything:"]
    for error in shown:
        lines += textwrap.wrap(error, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
    if len(shown) < len(errors):
        lines.append(f"  ... and {len(errors) - len(shown)} more in errors")
    return lines


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
