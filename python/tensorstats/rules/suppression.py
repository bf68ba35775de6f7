"""Findings that are known and meant to be: by rule, place and step, from code or from a file; judges nothing."""

from __future__ import annotations

import difflib
import glob
import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

from tensorstats.rules.base import ROOT
from tensorstats.rules.finding import Finding, Status

__all__ = ["Suppress", "Suppression", "load_baseline", "resolve_suppressions", "save_baseline"]

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Suppression:
    """Findings that shall not be told: they fail nothing and call nobody, and stay readable as suppressed ones.

    Attributes
    ----------
    rule : str
        The id of a rule, or a pattern of ids: ``"dead-units"``, ``"*-gradient"``.
    where : str
        A pattern of places (``*`` and ``?`` as in file names). A module stands for all that is in it.
    start, stop : int
        Findings that begin at step `start` or later, and before `stop`; None has no end.
    at_most : {"warning", "failure"}
        ``"warning"`` lets a failure through.
    reason : str
        For whoever reads it later.

    Examples
    --------
    >>> known = Suppression("dead-units", "encoder", reason="half of the experts are idle on purpose")
    >>> finding = Finding("dead-units", "warning", "encoder.3", 30, 0.75, 0.5, "75 % never fired.", "Lower the rate.")
    >>> known.covers(finding), Suppression("dead-units", "decoder").covers(finding)
    (True, False)
    """

    rule: str
    where: str = "*"
    start: int = 0
    stop: int | None = None
    at_most: Status = "failure"
    reason: str = ""

    def __post_init__(self) -> None:
        for name in ("rule", "where", "reason"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} of a suppression must be a string, got {getattr(self, name)!r}")
        for name in ("start", "stop"):
            value = getattr(self, name)
            if not (isinstance(value, int) or (name == "stop" and value is None)) or isinstance(value, bool):
                raise TypeError(f"{name} of a suppression must be a step, a whole number, got {value!r}")
        if self.at_most not in ("warning", "failure"):
            raise ValueError(f"at_most of a suppression must be 'warning' or 'failure', got {self.at_most!r}")

    @classmethod
    def of(cls, text: str) -> Suppression:
        """What ``"dead-units"`` or ``"dead-units:encoder.*"`` stands for: a rule, and a place after the colon."""
        rule, _, where = text.partition(":")
        return cls(rule, where or "*")

    def covers(self, finding: Finding) -> bool:
        """Whether a finding is one of these."""
        if not fnmatchcase(finding.rule, self.rule) or (finding.status == "failure" and self.at_most == "warning"):
            return False
        if finding.step < self.start or (self.stop is not None and finding.step >= self.stop):
            return False
        return any(fnmatchcase(place, self.where) for place in _enclosing(finding.where))


def _enclosing(where: str) -> Iterator[str]:
    """A place, the modules that it is in, and the model itself."""
    parts = where.split(".")
    for end in range(len(parts), 0, -1):
        yield ".".join(parts[:end])
    yield ROOT


Suppress: TypeAlias = str | Suppression | Iterable[str | Suppression]


def resolve_suppressions(given: Suppress | None, known_rules: Collection[str]) -> tuple[Suppression, ...]:
    """Suppressions of what ``suppress=`` was given, each for a rule that there is.

    Raises
    ------
    TypeError
        For anything but strings and suppressions.
    ValueError
        For a rule that does not exist: a suppression that covers nothing is a mistake of spelling.
    """
    if given is None:
        return ()
    if isinstance(given, (str, Suppression)):
        given = [given]
    if not isinstance(given, Iterable):
        raise TypeError(f"suppress must be rule ids, 'rule:place' strings or Suppression objects, got {given!r}")
    resolved = []
    for each in given:
        if not isinstance(each, (str, Suppression)):
            raise TypeError(f"suppress must be rule ids, 'rule:place' strings or Suppression objects, got {each!r}")
        suppression = Suppression.of(each) if isinstance(each, str) else each
        if not any(fnmatchcase(rule, suppression.rule) for rule in known_rules):
            near = difflib.get_close_matches(suppression.rule, known_rules, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            listed = ", ".join(known_rules)
            raise ValueError(f"suppress names no rule: {suppression.rule!r}; the rules are {listed}{hint}")
        resolved.append(suppression)
    return tuple(resolved)


def save_baseline(findings: Iterable[Finding], path: str | os.PathLike[str]) -> None:
    """Write what is known today to a file, so that tomorrow only what is new is told.

    A warning that is a failure later is new. The file is JSON, one entry a finding, made to be read and edited.

    Parameters
    ----------
    findings : iterable of Finding
        ``monitor.findings`` or ``report.findings``.
    path : str or path
        Replaced as a whole, or not at all.

    Examples
    --------
    >>> import tempfile
    >>> known = [Finding("dead-units", "warning", "encoder.3", 30, 0.75, 0.5, "75 % never fired.", "Lower the rate.")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_baseline(known, f"{folder}/known.json")
    ...     load_baseline(f"{folder}/known.json")[0].where
    'encoder.3'
    """
    entries = [
        asdict(Suppression(finding.rule, glob.escape(finding.where), at_most=finding.status, reason="in the baseline"))
        for finding in findings
    ]
    text = json.dumps({"version": _VERSION, "suppressions": entries}, indent=2) + "\n"
    target = Path(path)
    beside = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(target)


def load_baseline(path: str | os.PathLike[str]) -> list[Suppression]:
    """The suppressions of a file that :func:`save_baseline` wrote, for ``suppress=``.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no such file; the message says what is wrong with it.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is no baseline: {error}") from None
    if not isinstance(data, dict) or data.get("version") != _VERSION or not isinstance(data.get("suppressions"), list):
        raise ValueError(f"{os.fspath(path)} is no baseline of version {_VERSION}, as save_baseline writes it")
    accepted = [field.name for field in fields(Suppression)]
    return [_of_entry(entry, accepted, path) for entry in data["suppressions"]]


def _of_entry(entry: Any, accepted: list[str], path: str | os.PathLike[str]) -> Suppression:
    try:
        return Suppression(**entry)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{os.fspath(path)} holds {entry!r}, which is no suppression ({error}); accepted are {', '.join(accepted)}"
        ) from None
