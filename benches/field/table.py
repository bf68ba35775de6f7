"""The table of the field and what it must show; trains nothing."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from case import Case

__all__ = ["faults", "write"]

Row = Mapping[str, Any]

FEWEST_MODELS = 40
MOST_WARNINGS = 1  # over all runs that learn
LIBRARIES = ("torch", "timm", "torchvision", "transformers", "accelerate", "peft", "trl", "lightning")
LIBRARIES += ("torch-geometric", "diffusers")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "field.md"

_TEXT = """# The field

Models of other people, built small and with random weights, trained watched and unwatched by `make field`: {models}
models, {runs} runs of {steps} steps each, on data at hand (handwritten digits, sources of the standard library, tones,
a graph, noise). Every model runs under a plain loop with a warm-up of 50 steps and without, and under one of the others
in turn: `GradScaler` with float16 autocast, Accelerate (two micro-batches to a step), Lightning, the Trainer of
transformers.

A run is right if its weights and losses have the bits of the unwatched run, if every module that ran is recorded, and
if nothing went wrong in the watcher (`monitor.errors` is empty). Over all runs that learn there may be no finding that
fails and at most one warning. "Learned" means that the mean loss of the last tenth is below 0.97 times that of the
first.

What each run asks, in short:

```python
import torch

import tensorstats as ts

model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with ts.watch(model, optimizer) as monitor:
    for _ in range(10):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
print(monitor.step, monitor.names("outputs"), monitor.findings, monitor.errors)
```

```text
10 ['(model)'] [] []
```

| | |
|---|---|
| runs that learned | {learned} of {runs} |
| findings that fail, there | {failures} |
| warnings, there | {warnings} |
| runs with other bits than unwatched | {other_bits} |
| with errors | {errors} |
| with a module that was missed | {missing} |
| that broke | {broke} |

{versions}; Python {python}, {machine}, CPU, one thread a run. `*`: without a warm-up.

| model | library | family | rate | loops | learned | loss, first to last (plain) | findings |
|---|---|---|---|---|---|---|---|
{rows}
"""


def _is_wrong(row: Row) -> list[str]:
    if "broke" in row:
        return [f"broke: {row['broke']}"]
    wrong = []
    if not row["same_bits"]:
        wrong.append("other weights or losses than unwatched")
    if row["errors"]:
        wrong.append(f"errors: {row['errors']}")
    if row["missing"]:
        wrong.append(f"not recorded: {', '.join(row['missing'])}")
    if row["learned"]:
        wrong += [f"failed: {rule} at {where}" for rule, where, status, *_ in row["findings"] if status == "failure"]
    return wrong


def _warnings(rows: Iterable[Row]) -> list[str]:
    return [
        f"{row['name']}, {row['loop']}: {rule} at {where} ({when})"
        for row in rows
        if row.get("learned")
        for rule, where, status, when, _ in row["findings"]
        if status == "warning"
    ]


def faults(rows: Sequence[Row]) -> list[str]:
    """What the watcher did that it must not do, one sentence each."""
    found = [f"{row['name']}, {row['loop']}: {what}" for row in rows for what in _is_wrong(row)]
    warned = _warnings(rows)
    if len(warned) > MOST_WARNINGS:
        found += [f"more than {MOST_WARNINGS} warning: {warning}" for warning in warned]
    return found


def _line(name: str, case: Case, rows: Sequence[Row]) -> str:
    ran = [row for row in rows if "broke" not in row]
    loops = ", ".join(f"{row['loop']}{'' if row['warm_up'] else '*'}" for row in rows)
    plain = next((row for row in ran if row["loop"] == "plain"), None)
    losses = "" if plain is None else f"{plain['first_loss']:.3g} to {plain['last_loss']:.3g}"
    told = Counter(f"{status}: {rule}" for row in ran for rule, _, status, *_ in row["findings"])
    findings = ", ".join(f"{what} ({count})" for what, count in told.items()) or "none"
    wrong = "; ".join(what for row in rows for what in _is_wrong(row))
    learned = f"{sum(row['learned'] for row in ran)} of {len(rows)}"
    cells = (
        name,
        case.library,
        case.family,
        f"{case.rate:g}",
        loops,
        learned,
        losses,
        findings + (f"; {wrong}" if wrong else ""),
    )
    return "| " + " | ".join(cells) + " |"


def write(rows: Sequence[Row], cases: Mapping[str, Case], *, steps: int, complete: bool) -> int:
    """Say what was found; of all models, write the page. Returns 1 if anything is wrong."""
    by_model: dict[str, list[Row]] = {}
    for row in rows:
        by_model.setdefault(row["name"], []).append(row)
    wrong = faults(rows)
    if complete and len(by_model) < FEWEST_MODELS:
        wrong.append(f"only {len(by_model)} models")
    ran = [row for row in rows if "broke" not in row]
    learned = [row for row in ran if row["learned"]]
    told = Counter(status for row in learned for _, _, status, *_ in row["findings"])
    numbers = {
        "models": len(by_model),
        "runs": len(rows),
        "steps": steps,
        "learned": len(learned),
        "failures": told["failure"],
        "warnings": told["warning"],
        "other_bits": sum(not row["same_bits"] for row in ran),
        "errors": sum(bool(row["errors"]) for row in ran),
        "missing": sum(bool(row["missing"]) for row in ran),
        "broke": len(rows) - len(ran),
    }
    print(", ".join(f"{what.replace('_', ' ')}: {number}" for what, number in numbers.items()))
    for what in wrong:
        print("wrong:", what)
    if complete:
        page = _TEXT.format(
            **numbers,
            versions=", ".join(f"{name} {version(name)}" for name in LIBRARIES),
            python=platform.python_version(),
            machine=platform.machine(),
            rows="\n".join(_line(name, cases[name], made) for name, made in by_model.items()),
        )
        PAGE.write_text(page)
        print(f"written: {PAGE}")
    return bool(wrong)
