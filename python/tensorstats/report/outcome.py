"""What a judge has to say, for people and for programs: findings, verdict, text, JSON, SARIF; judges nothing."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

from tensorstats._core import __version__
from tensorstats._text import Text
from tensorstats.rules import Finding, Suppression

__all__ = ["Report", "verdict"]

_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"failure": "error", "warning": "warning"}
_COLOURS = {"FAIL": "#c62828", "WARN": "#b26a00", "OK": "#2e7d32"}


def verdict(findings: Iterable[Finding]) -> str:
    """``"FAIL"`` where there is a failure, ``"WARN"`` where there is any finding that holds, else ``"OK"``."""
    found = list(findings)
    if any(finding.status == "failure" for finding in found):
        return "FAIL"
    return "WARN" if any(not finding.over for finding in found) else "OK"


class Report(Text):
    """A text for people that knows what it says: a ``str`` with the findings in it.

    Attributes
    ----------
    findings : list of Finding
        What was found and not suppressed.
    suppressed : list of Finding
        What was found and is known.
    errors : list of str
        What could not be looked at.
    judged : str
        What was: ``"300 steps"``.

    Examples
    --------
    >>> report = Report("All is well.", [], judged="300 steps")
    >>> report, report.ok, report.verdict
    (All is well., True, 'OK')
    """

    def __new__(cls, text: str, *_: object, **__: object) -> Report:
        """The text alone; what it knows comes with ``__init__``."""
        return super().__new__(cls, text)

    def __init__(
        self,
        text: str,  # noqa: ARG002  # the string itself, made by __new__
        findings: Sequence[Finding] = (),
        *,
        suppressed: Sequence[Finding] = (),
        errors: Sequence[str] = (),
        judged: str = "",
    ) -> None:
        self.findings = list(findings)
        self.suppressed = list(suppressed)
        self.errors = list(errors)
        self.judged = judged

    @property
    def ok(self) -> bool:
        """Whether nothing failed; warnings do not count."""
        return self.verdict != "FAIL"

    @property
    def verdict(self) -> str:
        """In one word: ``"OK"``, ``"WARN"`` or ``"FAIL"``."""
        return verdict(self.findings)

    def new_since(self, known: Iterable[Suppression]) -> list[Finding]:
        """The findings that no suppression covers, such as those of a baseline: fail only on what is new.

        Parameters
        ----------
        known : iterable of Suppression
            For example what :func:`tensorstats.rules.load_baseline` returns.
        """
        known = list(known)
        return [finding for finding in self.findings if not any(each.covers(finding) for each in known)]

    def to_json(self, *, indent: int | None = 2) -> str:
        """Everything but the table as JSON; numbers that JSON does not have are strings: ``"nan"``, ``"inf"``."""
        data = {
            "version": 1,
            "tensorstats": __version__,
            "judged": self.judged,
            "verdict": self.verdict,
            "findings": [finding.to_dict() for finding in self.findings],
            "suppressed": [finding.to_dict() for finding in self.suppressed],
            "errors": self.errors,
        }
        return json.dumps(data, indent=indent, allow_nan=False)

    def to_sarif(self, *, indent: int | None = 2) -> str:
        """The findings in SARIF 2.1.0 (OASIS), which code hosts and editors show; places are logical locations."""
        every = [(finding, False) for finding in self.findings] + [(finding, True) for finding in self.suppressed]
        ids = list(dict.fromkeys(finding.rule for finding, _ in every))
        first = {finding.rule: finding for finding, _ in reversed(every)}
        driver = {
            "name": "tensorstats",
            "version": __version__,
            "rules": [{"id": each, "help": {"text": first[each].advice}} for each in ids],
        }
        notifications = [{"level": "note", "message": {"text": error}} for error in self.errors]
        run = {
            "tool": {"driver": driver},
            "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notifications}],
            "results": [_result(finding, ids.index(finding.rule), known) for finding, known in every],
        }
        return json.dumps({"$schema": _SARIF, "version": "2.1.0", "runs": [run]}, indent=indent, allow_nan=False)

    def _repr_html_(self) -> str:
        """For a notebook: the verdict in its colour, then the text."""
        head = f'<b style="color:{_COLOURS[self.verdict]}">{self.verdict}</b>'
        return f"<div>{head}<pre>{html.escape(str(self))}</pre></div>"


def _result(finding: Finding, index: int, known: bool) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _LEVELS[finding.status],
        "message": {"text": f"{finding.where}, {finding.when}: {finding.why} {finding.advice}"},
        "locations": [{"logicalLocations": [{"fullyQualifiedName": finding.where, "kind": "module"}]}],
        "partialFingerprints": {"ruleAndPlace/v1": f"{finding.rule}:{finding.where}"},
        "properties": {
            name: value
            for name, value in finding.to_dict().items()
            if name in ("step", "last_step", "over", "value", "limit", "consequences")
        },
    }
    if known:
        result["suppressions"] = [{"kind": "external"}]
    return result
