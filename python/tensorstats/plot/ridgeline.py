"""Owns the picture of histograms over steps; the choice of scale and columns is that of `_columns`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from tensorstats._core import Histogram
from tensorstats.axis import Regular
from tensorstats.plot import _columns, _words
from tensorstats.plot._columns import Bars

_COLUMNS = 128
# How far a row's peak reaches up, in rows: enough to see its shape, little enough to see those behind it.
_REACH = 2.2
_MOST_LABELS = 12


def ridgeline(
    histograms: Mapping[Any, Histogram] | Sequence[Histogram],
    ax: Axes | None = None,
    *,
    scale: str = "auto",
    rows: int = 40,
    cmap: str = "viridis",
) -> Axes:
    """Draws histograms over steps, one behind the other: the first at the top, the last in front.

    Each row has its own height, so that its shape is seen whatever its count; all share the axis of values. At the
    right stands what a row cannot show: NaN, ±inf, zeros of a log-linear axis, values outside the axis.

    Parameters
    ----------
    histograms
        Step to histogram, in order, or a sequence, whose steps are 0, 1, 2, ...; of any axes.
    ax
        Axes to draw on, those in use by default.
    scale
        Of the values: `"linear"`, `"log"`, `"symlog"` or `"auto"`, as in `histogram`, for all rows together.
    rows
        Of more histograms than this so many are drawn, evenly spaced, the first and the last among them.
    cmap
        A colour map of matplotlib, from first to last.

    Returns
    -------
    matplotlib.axes.Axes
        To set titles on, or to save: `ax.figure.savefig(...)`.

    Raises
    ------
    ValueError
        There is no histogram, fewer than one row, or an unknown scale.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> from matplotlib.figure import Figure
    >>> random = np.random.default_rng(0)
    >>> weights = {step: ts.histogram(random.normal(0, 1 + step / 100, 5000)) for step in range(0, 500, 50)}
    >>> ax = ts.plot.ridgeline(weights, Figure().subplots())
    >>> ax.get_ylabel(), len(ax.lines)
    ('step', 10)
    """
    if len(histograms) == 0:
        raise ValueError("histograms must hold at least one, got: none")
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got: {rows}")
    all_steps = [*histograms.keys()] if isinstance(histograms, Mapping) else list(range(len(histograms)))
    everything = [*histograms.values()] if isinstance(histograms, Mapping) else [*histograms]
    drawn = np.unique(np.linspace(0, len(everything) - 1, min(rows, len(everything))).round().astype(int))
    steps, chosen = [all_steps[i] for i in drawn], [everything[i] for i in drawn]
    ax = pyplot.gca() if ax is None else ax

    bars = [_columns.bars_of(h) for h in chosen]
    axis_scale = _columns.choose(bars, scale, equal_bins=all(isinstance(h.axis, Regular) for h in chosen))
    low, high = _columns.limits(bars, axis_scale)
    places = _columns.places_between(low, high, axis_scale, _COLUMNS)
    middles = axis_scale.value((places[:-1] + places[1:]) / 2)
    colors = mpl.colormaps[cmap](np.linspace(0.0, 0.85, len(chosen)))
    _words.set_scale(ax, axis_scale)
    for row, (h, bar, color) in enumerate(zip(chosen, bars, colors, strict=True)):
        heights = _columns.columns(bar, axis_scale, places)
        top = heights.max()
        # Downwards is later: smaller heights are nearer, and the axis is turned around below.
        outline = row - (_REACH * heights / top if top > 0 else heights)
        ax.fill_between(middles, row, outline, color=color, alpha=0.75, linewidth=0, zorder=2 + row)
        ax.plot(middles, outline, color="white" if top > 0 else color, linewidth=0.8, zorder=2 + row)
        _say_beside(ax, row, h, bar, has_shape=top > 0, crowded=len(chosen) > 24)
    ax.set_xlim(low, high)
    ax.set_ylim(len(chosen) - 0.6, -_REACH - 0.2)
    _words.value_ticks(ax, axis_scale)
    shown = np.unique(np.linspace(0, len(steps) - 1, min(_MOST_LABELS, len(steps))).round().astype(int))
    ax.set_yticks(shown.tolist(), [f"{steps[i]}" for i in shown])
    ax.set_xlabel("value")
    ax.set_ylabel("step")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def _say_beside(ax: Axes, row: int, h: Histogram, bars: Bars, *, has_shape: bool, crowded: bool) -> None:
    """To the right of a row: loudly what is not finite, faintly what else is not drawn."""
    bad = _words.nonfinite(h)
    told = bad if bad else _words.undrawn(h)
    if not has_shape:
        told = [*bad, _words.why_empty(h, bars)]
    if not told or (crowded and has_shape and not bad):
        return
    ax.text(
        1.01,
        row,
        ", ".join(told),
        transform=ax.get_yaxis_transform(),
        va="center",
        fontsize="x-small",
        color=_words.BAD if bad or not has_shape else _words.GREY,
    )
