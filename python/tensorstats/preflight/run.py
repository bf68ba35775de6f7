"""Runs the checks on a subject, one after the other, and makes one finding of each fault; knows no check by name."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from tensorstats.preflight.checks.check import Check, Measurement, Skip
from tensorstats.preflight.report import CheckResult, Preflight, State
from tensorstats.preflight.subject.batch import InseparableError
from tensorstats.preflight.subject.subject import Subject
from tensorstats.rules import Finding
from tensorstats.rules.base import sentence

__all__ = ["run"]


def run(checks: Sequence[Check], subject: Subject, started: float) -> Preflight:
    """Make every check, causes before what follows from them; an exception in one is its SKIP."""
    found: list[tuple[Check, Finding]] = []
    results = []
    for check in checks:
        try:
            measured = list(check.measure(subject))
            if any(math.isnan(measurement.value) for measurement in measured):
                raise Skip("what was measured is not a number")
            broken = [measurement for measurement in measured if check.broken(measurement)]
            findings = [check.finding(measurement) for measurement in broken]
        except (Skip, InseparableError) as skip:
            results.append(CheckResult(check.id, check.asks, "SKIP", str(skip)))
            continue
        except Exception as error:
            results.append(CheckResult(check.id, check.asks, "SKIP", f"{type(error).__name__}: {error}"))
            continue
        found += [(check, finding) for finding in _once(findings)]
        note = sentence(broken[0]) if broken else _note(check, measured)
        results.append(CheckResult(check.id, check.asks, _state(findings), note))
    return Preflight(_one_per_fault(found), results, time.monotonic() - started)


def _state(findings: Sequence[Finding]) -> State:
    if any(finding.status == "failure" for finding in findings):
        return "FAIL"
    return "WARN" if findings else "PASS"


def _note(check: Check, measured: Sequence[Measurement]) -> str:
    """What came nearest to a limit, unless there was nothing to count."""
    worst = max(measured, key=lambda measurement: measurement.value / (check.limit_of(measurement) or 1), default=None)
    if worst is None or worst.value == 0:
        return ""
    limit = check.limit_of(worst)
    return f"{worst.value:.3g} at {worst.where}" + (f" (limit {limit:.3g})" if math.isfinite(limit) else "")


def _once(findings: list[Finding]) -> list[Finding]:
    """The worst finding of a check, with the other places in its words; parameters of several modules stay apart."""
    if len(findings) < 2:
        return findings
    worst = max(findings, key=lambda finding: (finding.status == "failure", finding.value / (finding.limit or 1)))
    others = [finding.where for finding in findings if finding is not worst]
    more = ", ".join(others[:6]) + (f" and {len(others) - 6} more" if len(others) > 6 else "")
    return [replace(worst, why=f"{worst.why} Also at {more}.")]


def _one_per_fault(found: Sequence[tuple[Check, Finding]]) -> list[Finding]:
    """Findings without those that follow from an earlier one, which become its consequences; failures first.

    A symptom that makes training fail is a failure: what follows decides with it.
    """
    causes: list[tuple[Check, Finding, list[Finding]]] = []
    for check, finding in found:
        cause = next((entry for entry in causes if check.id in entry[0].leads_to), None)
        if cause is None:
            causes.append((check, finding, []))
        else:
            cause[2].append(finding)
    told = []
    for _, finding, follows in causes:
        fails = any(other.status == "failure" for other in follows)
        told.append(
            replace(
                finding,
                status="failure" if fails else finding.status,
                consequences=tuple(f"{other.rule} at {other.where}" for other in follows),
            )
        )
    return sorted(told, key=lambda finding: finding.status != "failure")
