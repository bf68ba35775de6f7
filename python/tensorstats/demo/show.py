"""Everything the demo prints: results to stdout, the progress bar to stderr; knows neither training nor pictures."""

from __future__ import annotations

import math
import os
import sys
import textwrap
from pathlib import Path
from types import TracebackType

from tensorstats.demo.bugs import HEALTHY, Bug
from tensorstats.demo.train import Run, silent_shares
from tensorstats.report import Row, format_finding, format_table
from tensorstats.torch import Finding

__all__ = ["WIDTH", "Progress", "details", "ending", "introduction", "outcome", "run_name"]

WIDTH = 120

_NAME_WIDTH = 12
_GREEN, _RED, _BOLD = "32", "31", "1"

# Findings told in full, each of another rule; what follows from them is listed.
_FULL_FINDINGS = 2


class Progress:
    """A progress bar in one line of stderr, wiped at the end; silent unless stdout and stderr are terminals."""

    def __init__(self, label: str, total: int, *, width: int = 40) -> None:
        self.label, self.total, self.width = label, total, width
        self.visible = sys.stderr.isatty() and sys.stdout.isatty()

    def __call__(self, done: int, loss: float) -> None:
        """Draw the bar anew."""
        if self.visible:
            filled = self.width * done // self.total
            bar = "█" * filled + "░" * (self.width - filled)
            line = f"{self.label:<{_NAME_WIDTH}} {bar} step {done}/{self.total}, loss {loss:<9.4g}"
            print(f"\r{line}", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.visible:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def run_name(bug: Bug) -> str:
    """What a training is called in the output."""
    return "healthy" if bug is HEALTHY else bug.name


def introduction(*, steps: int, seed: int, amp: bool = False, compiled: bool = False) -> None:
    """The first lines: what is going to happen."""
    head = _paint("tensorstats demo", _BOLD)
    how = (", mixed precision (bfloat16)" if amp else "") + (", compiled" if compiled else "")
    print(f"{head}: a network with six hidden layers learns handwritten digits, {steps} steps, seed {seed}{how}\n")


def outcome(run: Run) -> None:
    """One line on how a training ended."""
    print(
        f"{run_name(run.bug):<{_NAME_WIDTH}} loss {run.losses[0]:.3g} → {run.losses[-1]:.3g}, "
        f"{run.accuracy:.1%} of the test images recognised, {_counted(len(run.findings), 'finding')}"
    )


def details(run: Run) -> None:
    """The table of the last step and the findings in words."""
    print()
    if run.bug is not HEALTHY:
        print(f"Planted in the {run_name(run.bug)} run: {run.bug.planted}.\n")
    print(f"Every layer at its last step ({run.monitor.step - 1}); biases left out:\n")
    print(format_table(_rows(run)))
    print()
    print(_findings(run.findings))
    for error in run.monitor.errors:
        print(f"\nThe watcher could not do everything: {error}")


def ending(runs: list[Run], out: Path) -> None:
    """The verdict on every training, and where the picture is."""
    print()
    for run in runs:
        good = run.as_expected
        print(f"{_paint('ok' if good else 'WRONG', _GREEN if good else _RED)}  {_verdict(run)}")
    print(f"picture: {out}")


def _verdict(run: Run) -> str:
    name = run_name(run.bug)
    found = [f"{finding.rule} at {finding.where}" for finding in run.findings]
    if not run.bug.rule:
        return f"{name}: nothing is wrong, " + (f"yet found: {', '.join(found)}" if found else "and nothing was found")
    expected = f"{run.bug.rule} at {' or '.join(run.bug.where) if len(run.bug.where) < 3 else 'one of its layers'}"
    if run.as_expected:
        return f"{name}: planted {expected}, found {found[0]} since step {run.findings[0].step}"
    return f"{name}: planted {expected}, found first: {found[0] if found else 'nothing'}"


def _rows(run: Run) -> list[Row]:
    """Output, weight and gradient of every layer with numbers of its own."""
    monitor = run.monitor
    outputs, parameters, gradients = (set(monitor.names(signal)) for signal in ("outputs", "parameters", "gradients"))
    rows = []
    for layer, kind in run.layers.items():
        weight = f"{layer}.weight"
        if layer in outputs and kind != "Flatten":
            rows.append(
                Row(layer, kind, "output", monitor.latest("outputs", layer), float(silent_shares(run, layer)[-1]))
            )
        if weight in parameters:
            rows.append(Row(layer, kind, "weight", monitor.latest("parameters", weight), math.nan))
        if weight in gradients:
            rows.append(Row(layer, kind, "weight grad", monitor.latest("gradients", weight), math.nan))
    return rows


def _findings(findings: list[Finding]) -> str:
    """The first finding of the first rules in full; the rest, which mostly follows from them, by rule and place."""
    if not findings:
        return "No findings."
    firsts = list({finding.rule: finding for finding in reversed(findings)}.values())[::-1][:_FULL_FINDINGS]
    text = [format_finding(finding) for finding in firsts]
    places: dict[str, list[str]] = {}
    for finding in findings:
        if finding not in firsts:
            places.setdefault(finding.rule, []).append(f"{finding.where} (step {finding.step})")
    if places:
        listed = "; ".join(f"{rule} at {', '.join(where)}" for rule, where in places.items())
        text.append(textwrap.fill(f"Also found, as a rule in consequence: {listed}", WIDTH, subsequent_indent="  "))
    return "\n\n".join(text)


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'s' if number > 1 else ''}"


def _paint(text: str, code: str) -> str:
    """Colour for terminals, unless NO_COLOR is set; the text says the same without."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return f"\x1b[{code}m{text}\x1b[0m"
