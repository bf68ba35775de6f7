"""Results as Markdown and as a picture. Knows nothing of how they were made."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from race.data import Case, size_name

if TYPE_CHECKING:
    from pathlib import Path

OURS = {"summary": "tensorstats", "histogram": "tensorstats histogram"}
RULER = "torch.sum"


def seconds(entry: dict[str, Any]) -> float | None:
    """The median over rounds of each round's median."""
    rounds = [statistics.median(taken) for taken in entry.get("rounds", [])]
    return statistics.median(rounds) if rounds else None


def ruler_ratio(entry: dict[str, Any], ruler: str) -> float | None:
    """Time over the time of a plain read of the same buffer in the same process, median over rounds."""
    ratios = [
        statistics.median(taken) / rulers[ruler]
        for taken, rulers in zip(entry.get("rounds", []), entry.get("rulers", []), strict=True)
        if ruler in rulers
    ]
    return statistics.median(ratios) if ratios else None


def _times(value: float | None, digits: int = 1) -> str:
    if value is None:
        return "–"
    return f"{value:.0f} ×" if value >= 100 else f"{value:.{digits}f} ×"


def _duration(value: float | None) -> str:
    if value is None:
        return "–"
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value * 1e9:.3g} ns"


def _rows(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("---" for _ in head) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _label(case: Case) -> str:
    return f"{case.dtype} {case.look} {size_name(case.size)}"


def markdown(results: dict[str, Any]) -> str:
    """The tables: ratios first, then times, then what was wrong, then who was missing."""
    lines: list[str] = []
    machine = results["machine"]
    lines += [f"{name}: {value}  " for name, value in machine.items()] + [""]
    for work, ours in OURS.items():
        cases = [(Case(**entry["case"]), entry["peers"]) for entry in results["cases"] if entry["case"]["work"] == work]
        if not cases:
            continue
        names = [name for name in results["peers"] if any(name in peers for _, peers in cases)]
        others = [name for name in names if name not in (ours, RULER)]
        head = [work, "time", "GB/s", f"/ {RULER}", "extra memory", *others]
        rows = []
        for case, peers in cases:
            own = peers.get(ours, {})
            taken = seconds(own)
            ratios = []
            for name in others:
                entry = peers.get(name, {})
                other = seconds(entry)
                mark = " †" if entry.get("wrong") else ""
                ratios.append(_times(other / taken) + mark if other and taken else "–")
            speed = f"{case.size / taken / 1e9:.1f}" if taken else "–"
            extra = own.get("extra_bytes")
            memory = f"{extra / 2**20:.1f} MiB" if extra is not None else "–"
            rows.append([_label(case), _duration(taken), speed, _times(ruler_ratio(own, RULER), 2), memory, *ratios])
        lines += [
            f"How many times longer than `{ours}` each peer takes († some of its numbers are wrong, see below):",
            "",
        ]
        lines += [*_rows(head, rows), "", "The times themselves:", ""]
        lines += _rows(
            [work, *names],
            [[_label(case), *(_duration(seconds(peers.get(name, {}))) for name in names)] for case, peers in cases],
        )
        lines += ["", *_contents(names, cases), *_wrong(cases), ""]
    lines += [f"- {name}: missing ({reason})" for name, reason in results["missing"].items()]
    return "\n".join(lines).rstrip() + "\n"


def grid(results: dict[str, Any]) -> str:
    """One table for each work and size: dtypes down, looks across, GB/s of `tensorstats` in each cell."""
    lines: list[str] = []
    found = [(Case(**entry["case"]), entry["peers"]) for entry in results["cases"]]
    for work, size in dict.fromkeys((case.work, case.size) for case, _ in found):
        chosen = {(case.dtype, case.look): peers for case, peers in found if (case.work, case.size) == (work, size)}
        looks = list(dict.fromkeys(look for _, look in chosen))
        rows = []
        for dtype in dict.fromkeys(dtype for dtype, _ in chosen):
            cells = []
            for look in looks:
                own = chosen.get((dtype, look), {}).get(OURS[work], {})
                taken = seconds(own)
                ratio = _times(ruler_ratio(own, RULER), 2)
                cells.append(f"{size / taken / 1e9:.1f} ({ratio})" if taken else "–")
            rows.append([dtype, *cells])
        lines += [
            f"{work} of {size_name(size)}, GB/s (and how many times the `{RULER}` of the same buffer it takes):",
            "",
            *_rows(["dtype", *looks], rows),
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def _contents(names: list[str], cases: list[tuple[Case, dict[str, Any]]]) -> list[str]:
    """What each peer's time pays for."""
    lines = []
    for name in names:
        fields = next((peers[name]["fields"] for _, peers in cases if peers.get(name, {}).get("fields")), None)
        if fields:
            lines.append(f"- {name} gives: {', '.join(fields)}")
    return lines


def _wrong(cases: list[tuple[Case, dict[str, Any]]]) -> list[str]:
    lines = []
    for case, peers in cases:
        for name, entry in peers.items():
            if entry.get("wrong"):
                fields = ", ".join(
                    f"{field} (NaN)" if error is None else f"{field} ({error:.1g})"
                    for field, error in entry["wrong"].items()
                )
                lines.append(f"- {_label(case)}, {name}: wrong, with the relative error: {fields}")
            if entry.get("unsupported"):
                lines.append(f"- {_label(case)}, {name}: not run ({entry['unsupported']})")
    return lines


def plot(results: dict[str, Any], path: Path) -> None:
    """GB/s over size for the dtype and look that were measured at most sizes, one line per peer."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    cases = [
        (Case(**entry["case"]), entry["peers"]) for entry in results["cases"] if entry["case"]["work"] == "summary"
    ]
    if not cases:
        return
    groups: dict[tuple[str, str], list[tuple[Case, dict[str, Any]]]] = {}
    for case, peers in cases:
        groups.setdefault((case.dtype, case.look), []).append((case, peers))
    (dtype, look), chosen = max(groups.items(), key=lambda group: len(group[1]))
    chosen.sort(key=lambda pair: pair[0].size)
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    colors = mpl.colormaps["tab20"].colors  # ten are too few
    for place, name in enumerate(results["peers"]):
        points = [(case.size, seconds(peers[name])) for case, peers in chosen if name in peers]
        points = [(size, taken) for size, taken in points if taken]
        if points:
            ours = name == OURS["summary"]
            style: dict[str, Any] = (
                {"linewidth": 3, "color": "black", "zorder": 5}
                if ours
                else {"linewidth": 1.2, "color": colors[place % len(colors)]}
            )
            if name == RULER:
                style |= {"linestyle": "--", "color": "gray"}
            at = [size for size, _ in points]
            speed = [size / taken / 1e9 for size, taken in points]
            axes.plot(at, speed, marker="o", markersize=4, label=name, **style)
    axes.set(xscale="log", yscale="log", xlabel="size of the tensor", ylabel="GB/s (higher is faster)")
    axes.set_title(f"A full summary of a tensor: {dtype}, {look} values")
    sizes = sorted({case.size for case, _ in chosen})
    axes.set_xticks(sizes, [size_name(size) for size in sizes], minor=False)
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=130)
    plt.close(figure)
