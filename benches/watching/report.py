"""The tables of the watcher's bench as Markdown. Measures nothing."""

from __future__ import annotations

from typing import Any

from watching.trainings import TRAININGS
from watching.ways import WAYS

__all__ = ["markdown"]


def markdown(results: list[dict[str, Any]]) -> str:
    """Costs by way and training, the trainings, memory, and whatever is to be said against a row."""
    found = {(result["way"], result["training"]): result for result in results}
    ways = [name for name in WAYS if any(way == name for way, _ in found)]
    trainings = [name for name in TRAININGS if any(training == name for _, training in found)]
    lines: list[str] = []
    if trainings:
        lines += [
            "What a way of watching adds to a step: median of the pairs (95 % confidence interval of the median); for "
            "ts.watch also the time inside its hooks over that of a bare step.",
            "",
        ]
        lines += _table(
            ["way", *trainings, "reads"],
            [
                [name, *(_cost(found.get((name, training))) for training in trainings), WAYS[name].reads]
                for name in ways
                if any((name, training) in found for training in trainings)
            ],
        )
        lines += ["", *_trainings(results, trainings)]
    notes = list(dict.fromkeys(note for result in results if (note := _note(result))))
    if notes:
        lines += ["", *notes]
    lines += _memory(results)
    return "\n".join(lines)


def _cost(result: dict[str, Any] | None) -> str:
    if result is None:
        return ""
    if "missing" in result:
        return "not there"
    mark = " †" if result["problem"] or not result["same_losses"] else ""
    within = result.get("inside")
    inside = "" if within is None else f", hooks {within * 100:.2g} %"
    return f"{_percent(result['cost'])} ({_percent(result['low'])} … {_percent(result['high'])}){inside}{mark}"


def _percent(share: float) -> str:
    return f"{share * 100:+.1f} %" if abs(share) < 0.1 else f"{share * 100:+.0f} %"


def _note(result: dict[str, Any]) -> str:
    where = f"{result['training']}, {result['way']}"
    if "missing" in result:
        return f"- {result['way']}: {result['missing']}"
    if result["problem"]:
        return f"- † {where}: {result['problem']}"
    return "" if result.get("same_losses", True) else f"- † {where}: the losses are not those of the bare training"


def _trainings(results: list[dict[str, Any]], names: list[str]) -> list[str]:
    rows = []
    for name in names:
        measured = [result for result in results if result["training"] == name and "bare_ms" in result]
        if measured:
            times = sorted(result["bare_ms"] for result in measured)
            pairs = sorted(result["pairs"] for result in measured)
            span = f"{times[0]:.3g} to {times[-1]:.3g} ms"
            rows.append(
                [name, measured[0]["words"], f"{measured[0]['parameters']:,}", span, f"{pairs[0]} to {pairs[-1]}"]
            )
    return _table(["training", "model and batch", "parameters", "bare step, all processes", "pairs"], rows)


def _memory(results: list[dict[str, Any]]) -> list[str]:
    runs = [result for result in results if result.get("resident")]
    if not runs:
        return []
    marks = [f"step {step:,}" for step, _ in runs[0]["resident"]]
    rows = [[run["way"], *(f"{size:.0f}" for _, size in run["resident"])] for run in runs]
    return [
        "",
        "Resident memory of the whole process in MiB while a transformer of 109,376 parameters is watched:",
        "",
        *_table(["way", *marks], rows),
    ]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows]]
