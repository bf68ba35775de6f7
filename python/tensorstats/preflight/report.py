"""What ``ts.preflight`` returns: findings, the state of every check, and both on one screen; runs nothing."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from tensorstats.report import Text
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


class Preflight:
    """The report of ``ts.preflight``.

    Attributes
    ----------
    findings : list of Finding
        What is wrong, worst first; what follows from a finding is in its ``consequences``.
    checks : list of CheckResult
        Every check with PASS, WARN, FAIL or SKIP.
    ok : bool
        Whether there is no failure; warnings are no failures.
    seconds : float
        How long it took.
    """

    def __init__(self, findings: Sequence[Finding], checks: Sequence[CheckResult], seconds: float) -> None:
        self.findings = list(findings)
        self.checks = list(checks)
        self.seconds = seconds

    @property
    def ok(self) -> bool:
        """Whether there is no failure."""
        return all(finding.status != "failure" for finding in self.findings)

    def text(self, *, all: bool = False) -> Text:
        """The report as text: what fits on a screen, or with ``all=True`` every finding and every check."""
        return Text("\n".join(self._lines(all=all)))

    def to_json(self) -> str:
        """Findings and checks as JSON."""
        content = {
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "findings": [asdict(finding) for finding in self.findings],
            "checks": [asdict(check) for check in self.checks],
        }
        return json.dumps(content, indent=2)

    def __str__(self) -> str:
        return str(self.text())

    def __repr__(self) -> str:
        return str(self)

    def _lines(self, *, all: bool) -> list[str]:
        count = {
            state: sum(check.state == state for check in self.checks) for state in ("PASS", "WARN", "FAIL", "SKIP")
        }
        failures = sum(finding.status == "failure" for finding in self.findings)
        warnings = len(self.findings) - failures
        verdict = f"FAIL  {_many(failures, 'fault')}" if failures else "WARN" if warnings else "PASS"
        verdict += f"{' and' if failures else ' '} {_many(warnings, 'warning')}" if warnings else ""
        verdict += (
            f" in {len(self.checks)} checks" if self.findings else f"  nothing found in {len(self.checks)} checks"
        )
        lines = [f"{verdict} ({count['PASS']} passed, {count['SKIP']} skipped, {self.seconds:.1f} s)"]
        heads: list[str] = []
        for finding in self.findings:
            entry = ["", *_entry(finding)]
            if all or len(lines) == 1 or (not heads and len(lines) + len(entry) <= _FINDING_LINES):
                lines += entry
            else:
                heads.append(_head(finding))
        if heads:
            lines += ["", *heads[:_HEADS]]
            if len(heads) > _HEADS:
                lines.append(f"... and {len(heads) - _HEADS} more")
        skipped = [check for check in self.checks if check.state == "SKIP"]
        shown = skipped if all else skipped[:_SKIPS]
        if shown:
            lines += ["", "Not checked:"]
            for check in shown:
                text = f"{check.id}: {check.note}"
                lines += (
                    textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ") if all else [_cut(text)]
                )
            if len(shown) < len(skipped):
                lines.append(f"  ... and {len(skipped) - len(shown)} more")
        if all:
            lines += ["", "Checked:"]
            for check in self.checks:
                if check.state != "SKIP":
                    lines += textwrap.wrap(f"{check}", _WIDTH, initial_indent="  ", subsequent_indent="    ")
        elif heads or len(shown) < len(skipped):
            lines.append("Everything in full: report.text(all=True).")
        return lines


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _head(finding: Finding) -> str:
    return f"{'FAIL' if finding.status == 'failure' else 'WARN'}  {finding.rule} at {finding.where}"


def _entry(finding: Finding) -> list[str]:
    # "since step 0" would say nothing before the first one.
    lines = [_head(finding)]
    entries = [
        ("measured", f"{finding.value:.4g} (limit {finding.limit:.4g})"),
        ("why", finding.why),
        ("try", finding.advice),
    ]
    if finding.consequences:
        entries.append(("led to", "; ".join(finding.consequences)))
    for label, text in entries:
        if text:
            lead = f"  {label:<10}"
            lines += textwrap.wrap(text, _WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead))
    return lines


def _cut(text: str) -> str:
    return f"  {text}" if len(text) <= _WIDTH - 2 else f"  {text[: _WIDTH - 5]}..."
