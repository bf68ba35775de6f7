"""The picture of the demo: gradient norms, histograms of outputs and silent units, run beside run; prints nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter

from tensorstats.demo.bugs import HEALTHY
from tensorstats.demo.train import Run, silent_shares

__all__ = ["draw"]

_GOOD, _BAD, _GREY = "#1a7f37", "#b3261e", "#6e7781"
_NO_NUMBER = "#d0d7de"

# Outputs are drawn on an axis that is linear within ± this bound and logarithmic beyond, because one picture must hold
# sigmoids that all answer 0.5 and layers that shout 100,000.
_LINEAR_BOUND = 0.1
_BINS = 120

# Gradient norms below this are drawn as 0.
_SMALLEST_NORM = 1e-9


def draw(runs: Sequence[Run], path: Path) -> None:
    """Write a PNG with one column per run.

    Parameters
    ----------
    runs : sequence of Run
        One or two, the healthy one first.
    path : Path
        Where to write; an existing file is replaced.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.1)
    figure = Figure(figsize=(6.6 * len(runs) + 1.6, 10.5), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, len(runs) + 1, height_ratios=(4, 4, 3), width_ratios=(*[6.6] * len(runs), 1.0))
    axes = np.empty((3, len(runs) + 1), dtype=object)
    for row, column in np.ndindex(*axes.shape):
        share = axes[row, 0] if 0 < column < len(runs) else None
        axes[row, column] = figure.add_subplot(grid[row, column], sharey=share)
    panels, margin = axes[:, :-1], axes[:, -1]
    _limits(panels[0, 0], runs)
    edges = _bins(runs)
    for column, run in enumerate(runs):
        _title(panels[0, column], run)
        _gradients(panels[0, column], run)
        _histograms(panels[1, column], run, edges)
        _silent_units(panels[2, column], run)
        for row in range(3):
            panels[row, column].tick_params(labelleft=column == 0)
    _mark_first_finding(panels[0, -1], runs[-1])
    _label_rows(panels, margin)
    if runs[-1].bug is not HEALTHY:
        figure.suptitle(f"Planted: {runs[-1].bug.planted}", fontsize=14)
    figure.savefig(path, dpi=110, format="png")


def _limits(axes: Axes, runs: Sequence[Run]) -> None:
    norms = np.concatenate([_norms(run, name) for run in runs for name in _weights(run)])
    shown = norms[np.isfinite(norms) & (norms >= _SMALLEST_NORM)]
    low, high = (shown.min(), shown.max()) if len(shown) else (1e-3, 1.0)
    # The lowest line of the axis stands for 0.
    axes.set_yscale("log")
    axes.set_ylim(10 ** (np.floor(np.log10(low)) - 1), 10 ** np.ceil(np.log10(high) + 0.2))


def _title(axes: Axes, run: Run) -> None:
    name = "healthy" if run.bug is HEALTHY else run.bug.name
    if run.findings:
        first = run.findings[0]
        told = f"{first.rule} at {first.where}, since step {first.step}"
        more = len(run.findings) - 1
        told += f"  (+{more} more)" if more else ""
    else:
        told = "no finding"
    axes.set_title(
        f"{name}: {run.accuracy:.0%} of the test images recognised\n{told}",
        color=_BAD if run.findings else _GOOD,
        fontsize=13,
        fontweight="bold",
        pad=12,
    )


# --- gradient norms ---------------------------------------------------------------------------------------------------


def _weights(run: Run) -> list[str]:
    return [name for name in run.monitor.names("gradients") if name.endswith(".weight")]


def _norms(run: Run, name: str) -> npt.NDArray[np.float64]:
    """The norm of a gradient at every step; NaN where any of its values is not finite."""
    norms = run.monitor.series("gradients", name, "l2")[1].copy()
    norms[run.monitor.series("gradients", name, "nonfinite_count")[1] > 0] = np.nan
    return norms


def _gradients(axes: Axes, run: Run) -> None:
    names = _weights(run)
    colours = mpl.colormaps["viridis"](np.linspace(0.0, 0.88, len(names)))
    floor = axes.get_ylim()[0]
    last = max(1, run.monitor.step - 1)
    lost = last + 1
    largest = 0.0
    for name, colour in zip(names, colours, strict=True):
        steps, _ = run.monitor.series("gradients", name, "l2")
        norms = _norms(run, name)
        if np.isnan(norms).any():
            lost = min(lost, int(steps[np.isnan(norms)][0]))
        largest = max(largest, float(np.nanmax(norms)))
        axes.plot(steps, np.maximum(norms, floor), color=colour, linewidth=1.4, label=name.removesuffix(".weight"))
    if lost <= last:
        axes.axvspan(lost, last, color=_BAD, alpha=0.12, linewidth=0)
        _say(axes, (lost + last) / 2 / last, f"NaN from step {lost} on")
    if largest == 0.0:
        axes.axhline(floor, color=_BAD, linewidth=5)
        _say(axes, 0.5, "the gradient of every weight is exactly 0")
    axes.set_xlim(0, last)
    axes.set_xlabel("step")
    axes.grid(axis="y", alpha=0.25)


def _say(axes: Axes, place: float, text: str) -> None:
    axes.text(place, 0.5, text, transform=axes.transAxes, color=_BAD, fontsize=15, ha="center", va="center")


# --- histograms -------------------------------------------------------------------------------------------------------


def _watched_outputs(run: Run) -> list[str]:
    """The outputs worth drawing: those of the activations, and the last one."""
    names = [name for name in run.monitor.names("outputs") if name.startswith("act")]
    return [*names, run.monitor.names("outputs")[-1]]


def _stretched(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Linear near 0, logarithmic beyond; counted in decades."""
    return np.asarray(np.arcsinh(values / _LINEAR_BOUND) / np.log(10.0))


def _histograms(axes: Axes, run: Run, edges: npt.NDArray[np.float64]) -> None:
    names = _watched_outputs(run)
    centres = (edges[:-1] + edges[1:]) / 2
    for place, name in enumerate(names):
        base = len(names) - 1 - place
        total = run.monitor.total("outputs", name)
        shares = _shares(run, name, edges)
        axes.axhline(base, color=_GREY, linewidth=0.6)
        if shares.max() > 0:
            axes.fill_between(
                centres, base, base + 0.85 * shares / shares.max(), step="mid", color="#4c78a8", alpha=0.85, linewidth=0
            )
        dead = total.zero_count == total.finite_count
        axes.text(
            1.01,
            base + 0.3,
            "all zero" if dead else f"{total.zero_count / max(1, total.finite_count):.0%} zero",
            transform=axes.get_yaxis_transform(),
            fontsize=9,
            color=_BAD if dead else _GREY,
            fontweight="bold" if dead else "normal",
        )
    axes.set_yticks(range(len(names)), names[::-1])
    axes.set_ylim(-0.1, len(names))
    axes.set_xlim(float(edges[0]), float(edges[-1]))
    _value_ticks(axes)
    axes.set_xlabel("value of the output, over all steps (zeros left out)")


def _bins(runs: Sequence[Run]) -> npt.NDArray[np.float64]:
    """Edges on the stretched axis that hold every output of every run."""
    totals = [run.monitor.total("outputs", name) for run in runs for name in _watched_outputs(run)]
    ends = np.array([np.nanmin([total.min for total in totals]), np.nanmax([total.max for total in totals])])
    low, high = _stretched(ends)
    return np.linspace(float(low), float(high), _BINS + 1)


def _shares(run: Run, name: str, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The counts of a log-linear histogram in the bins of the picture, zeros left out.

    Its bins are spread evenly over their own width, so that the two sets of edges make no pattern.
    """
    histogram = run.monitor.histogram("outputs", name)
    source = np.asarray(histogram.edges, dtype=np.float64)
    counts = np.asarray(histogram.values(), dtype=np.float64)
    counts = np.where((source[:-1] <= 0) & (source[1:] > 0), 0.0, counts)
    below = np.concatenate([[0.0], np.cumsum(counts)])
    return np.diff(np.interp(_LINEAR_BOUND * np.sinh(edges * np.log(10.0)), source, below))


def _value_ticks(axes: Axes) -> None:
    low, high = axes.get_xlim()
    wide = high - low > 8
    decades = 10.0 ** np.arange(1 if wide else -1, 39, 3 if wide else 1)
    values = np.concatenate([-decades, [0.0], decades])
    values = values[(_stretched(values) >= low) & (_stretched(values) <= high)]
    axes.set_xticks(_stretched(values), [f"{value:g}" for value in values])


# --- silent units -----------------------------------------------------------------------------------------------------


def _silent_units(axes: Axes, run: Run) -> None:
    names = [name for name in run.monitor.names("outputs") if name.startswith("act")]
    rows = np.stack([silent_shares(run, name) for name in names])
    axes.imshow(
        rows,
        cmap=mpl.colormaps["Reds"].with_extremes(bad=_NO_NUMBER),
        vmin=0.0,
        vmax=1.0,
        aspect="auto",
        interpolation="nearest",
        extent=(0.0, float(max(1, run.monitor.step - 1)), len(names) - 0.5, -0.5),
    )
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("step")
    for place, row in enumerate(rows):
        axes.text(
            1.01,
            place,
            "NaN" if np.isnan(row[-1]) else f"{row[-1]:.0%}",
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=9,
            color=_GREY,
        )


# --- around the panels ------------------------------------------------------------------------------------------------


def _mark_first_finding(axes: Axes, run: Run) -> None:
    if not run.findings:
        return
    step, last = run.findings[0].step, max(1, run.monitor.step - 1)
    axes.axvline(step, color=_BAD, linestyle="--", linewidth=2, clip_on=False)
    right = step < 0.8 * last
    axes.annotate(
        "first finding" if right else "first finding ",
        (step, 0.93),
        xycoords=axes.get_xaxis_transform(),
        xytext=(6 if right else -6, 0),
        textcoords="offset points",
        ha="left" if right else "right",
        color=_BAD,
        fontsize=10,
    )


def _label_rows(panels: npt.NDArray[np.object_], margin: npt.NDArray[np.object_]) -> None:
    """What each row shows, and at the margin what its colours mean."""
    panels[0, 0].set_ylabel("gradient norm of the weights")
    panels[1, 0].set_ylabel("distribution of the outputs")
    panels[2, 0].set_ylabel("silent units")
    floor, ceiling = panels[0, 0].get_ylim()
    powers = np.arange(np.log10(floor) + 1, np.log10(ceiling) + 1e-9)
    powers = powers[:: -(-len(powers) // 8)]
    panels[0, 0].set_yticks([floor, *10.0**powers], ["0", *(f"$10^{{{power:.0f}}}$" for power in powers)])
    panels[0, 0].minorticks_off()
    for axes in margin:
        axes.set_axis_off()
    lines, labels = panels[0, 0].get_legend_handles_labels()
    margin[0].legend(lines, labels, loc="center left", bbox_to_anchor=(-0.3, 0.5), title="first to last", frameon=False)
    margin[2].figure.colorbar(
        ScalarMappable(cmap="Reds"),
        cax=margin[2].inset_axes((0.1, 0.0, 0.18, 1.0)),
        label="units without activity in a batch",
        format=PercentFormatter(1.0),
    )
