"""What ``ts.preflight`` returns: findings, the state of every check, and both on one screen; runs nothing."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from tensorstats.report import Report, Text, verdict
from tensorstats.rules import Finding

__all__ = ["CheckResult", "Preflight", "State"]

State = Literal["PASS", "WARN", "FAIL", "SKIP"]

_WIDTH = 110
# One screen: of so many lines, what findings may take in full, and how many more are told in a line each.
_FINDING_LINES = 30
_HEADS = 6
_SKIPS = 8


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What became of one check: its id, what it asks, its state, and what was measured or why it was left out."""

    id: str
    asks: str
    state: State
    note: str = ""

    def __str__(self) -> str:
        return f"{self.state}  {self.id}: {self.note or self.asks}"


class Preflight(Report):
    """The report of ``ts.preflight``: a text of one screen that knows what it says.

    Attributes
    ----------
    findings : list of Finding
        What is wrong, failures first; what follows from a finding is in its ``consequences``.
    checks : list of CheckResult
        Every check with PASS, WARN, FAIL or SKIP.
    seconds : float
        How long it took.

    Examples
    --------
    >>> print(Preflight([], [CheckResult("one-class", "are there different targets?", "PASS")], 0.2))
    OK  nothing found in 1 check (1 passed, 0 skipped, 0.2 s)
    """

    def __new__(cls, findings: Sequence[Finding], checks: Sequence[CheckResult], seconds: float) -> Preflight:
        """The text of what was found."""
        made = super().__new__(cls, "\n".join(_lines(findings, checks, seconds, all=False)))
        assert isinstance(made, Preflight)
        return made

    def __init__(self, findings: Sequence[Finding], checks: Sequence[CheckResult], seconds: float) -> None:
        left_out = [f"{check.id}: {check.note}" for check in checks if check.state == "SKIP"]
        super().__init__(str(self), findings, errors=left_out, judged=_many(len(checks), "check"))
        self.checks = list(checks)
        self.seconds = seconds

    def __reduce__(self) -> tuple[type[Preflight], tuple[list[Finding], list[CheckResult], float]]:
        return Preflight, (self.findings, self.checks, self.seconds)

    def text(self, *, all: bool = False) -> Text:
        """What fits on a screen, or with ``all=True`` every finding and every check."""
        return Text("\n".join(_lines(self.findings, self.checks, self.seconds, all=all)))

    def to_json(self, *, indent: int | None = 2) -> str:
        """Findings and checks as JSON; numbers that JSON does not have are strings: ``"nan"``, ``"inf"``."""
        data = json.loads(super().to_json())
        data |= {"seconds": round(self.seconds, 3), "checks": [asdict(check) for check in self.checks]}
        return json.dumps(data, indent=indent, allow_nan=False)


def _lines(findings: Sequence[Finding], checks: Sequence[CheckResult], seconds: float, *, all: bool) -> list[str]:
    lines = [_headline(findings, checks, seconds)]
    heads: list[str] = []
    for finding in findings:
        entry = ["", *_entry(finding)]
        if all or len(lines) == 1 or (not heads and len(lines) + len(entry) <= _FINDING_LINES):
            lines += entry
        else:
            heads.append(_head(finding))
    if heads:
        lines += ["", *heads[:_HEADS]]
        if len(heads) > _HEADS:
            lines.append(f"... and {len(heads) - _HEADS} more")
    skipped = [check for check in checks if check.state == "SKIP"]
    shown = skipped if all else skipped[:_SKIPS]
    if shown:
        lines += ["", "Not checked:"]
        for check in shown:
            text = " ".join(f"{check.id}: {check.note}".split())
            lines += _wrapped(text) if all else [_cut(text)]
        if len(shown) < len(skipped):
            lines.append(f"  ... and {len(skipped) - len(shown)} more")
    if all:
        lines += ["", "Checked:"]
        for check in checks:
            if check.state != "SKIP":
                lines += _wrapped(str(check))
    elif heads or len(shown) < len(skipped):
        lines.append("Everything in full: report.text(all=True).")
    return lines


def _headline(findings: Sequence[Finding], checks: Sequence[CheckResult], seconds: float) -> str:
    failures = sum(finding.status == "failure" for finding in findings)
    counted = [(failures, "failure"), (len(findings) - failures, "warning")]
    found = " and ".join(_many(count, noun) for count, noun in counted if count) or "nothing found"
    passed, skipped = (sum(check.state == state for check in checks) for state in ("PASS", "SKIP"))
    rest = f"({passed} passed, {skipped} skipped, {seconds:.1f} s)"
    return f"{verdict(findings)}  {found} in {_many(len(checks), 'check')} {rest}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _head(finding: Finding) -> str:
    return f"{finding.status.upper()}  {finding.rule} at {finding.where}"


def _entry(finding: Finding) -> list[str]:
    # As a finding says it itself, but for "since step 0", which says nothing before the first step.
    lines = str(finding).split("\n")
    return [_head(finding), *lines[1:]]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False)


def _cut(text: str) -> str:
    return f"  {text}" if len(text) <= _WIDTH - 2 else f"  {text[: _WIDTH - 5]}..."
