"""Owns the picture of one histogram; the choice of scale and columns is that of `_columns`."""

from __future__ import annotations

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.typing import ColorType

from tensorstats._core import Histogram
from tensorstats.axis import LogLinear, Regular
from tensorstats.plot import _columns, _words
from tensorstats.plot._columns import Bars, Scale

# More bars than this are drawn as columns of several bins: no screen shows more, and thin ones are only noise.
_MOST_BARS = 256
_COLUMNS = 128
# Decades that can be told apart on a logarithmic axis.
_NARROWEST = 1e-3


def histogram(
    h: Histogram,
    ax: Axes | None = None,
    *,
    scale: str = "auto",
    label: str | None = None,
    color: ColorType | None = None,
) -> Axes:
    """Draws a histogram: `h.plot()`.

    The area says how many values there are, on every scale. In a corner stands what it cannot show: zeros of a
    log-linear axis, values outside the axis, NaN and ±inf. Of more than 256 bins neighbours are drawn as one.

    Parameters
    ----------
    h
        A histogram of any axis.
    ax
        Axes to draw on, those in use by default. On axes that hold a picture already the scale is theirs, so that
        several can be compared.
    scale
        Of the values: `"linear"`, `"log"`, `"symlog"` (logarithmic on both sides of 0), or `"auto"`: logarithmic where
        half of the values would crowd into a 25th of a linear axis, symlog where some are not positive. Equal bins stay
        linear.
    label
        For a legend; what the picture cannot show is then said there.
    color
        Any of matplotlib's.

    Returns
    -------
    matplotlib.axes.Axes
        To set titles and limits on, or to save: `ax.figure.savefig(...)`.

    Raises
    ------
    ValueError
        The scale is none of the above.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> from matplotlib.figure import Figure
    >>> gradients = np.random.default_rng(0).standard_normal(10_000) ** 9
    >>> ax = ts.histogram(gradients, ts.axis.LogLinear(6)).plot(Figure().subplots())
    >>> ax.get_xscale(), ax.get_ylabel()
    ('symlog', 'values per decade')
    """
    ax = pyplot.gca() if ax is None else ax
    bars = _columns.bars_of(h)
    first = not ax.has_data()
    if first:
        chosen = _columns.choose([bars], scale, equal_bins=isinstance(h.axis, Regular))
        _words.set_scale(ax, chosen)
    else:
        chosen = _columns.scale_of(ax)
    low, high = _limits(bars, chosen)
    edges, heights, unit = _heights(h, bars, chosen, low, high)
    if heights.any() or label is not None:
        color = f"C{len(ax.patches) % 10}" if color is None else color
        legend = None if label is None else ", ".join([label, *_words.undrawn(h), *_words.nonfinite(h)])
        ax.stairs(heights, edges, fill=True, facecolor=(color, 0.4), edgecolor=color, linewidth=1.1, label=legend)
    if first:
        ax.set_xlabel("value")
        ax.set_ylabel(unit)
        _words.tidy(ax)
    else:
        low, high = min(low, ax.get_xlim()[0]), max(high, ax.get_xlim()[1])
    ax.set_xlim(low, high)
    # Room above for the words in the corner.
    top = 1.12 * float(heights.max(initial=0.0))
    ax.set_ylim(0, (top or 1.0) if first else max(top, ax.get_ylim()[1]))
    _words.value_ticks(ax, chosen)
    if first and label is None:
        _notes(ax, h, _words.left_out(bars, chosen, low))
    if first and not heights.any():
        ax.set_yticks([])
        _words.say(ax, _words.why_empty(h, bars))
    return ax


def _limits(bars: Bars, scale: Scale) -> tuple[float, float]:
    """What of the values is shown: all, with room around them where they are in a single bin."""
    low, high = _columns.limits([bars], scale)
    if scale.name == "linear":
        room = max(abs(low + high) / 4, high - low) if len(bars.counts) == 1 else 0.0
        return low - room, high + room
    ends = scale.stretched(np.array([low, high]))
    return (low, high) if ends[1] - ends[0] > _NARROWEST else (low - abs(low) / 2, high + abs(high))


def _heights(
    h: Histogram, bars: Bars, scale: Scale, low: float, high: float
) -> tuple[_columns.Floats, _columns.Floats, str]:
    """Edges and heights of what is drawn, and the unit of the heights."""
    if isinstance(h.axis, Regular) and scale.name == "linear":
        bars, together = _columns.grouped(bars, _MOST_BARS)
        return bars.edges, bars.counts, "values per bin" if together == 1 else f"values per {together} bins"
    if len(bars.counts) > _COLUMNS or isinstance(h.axis, LogLinear) or scale.name != "linear":
        places = _columns.places_between(low, high, scale, _COLUMNS)
        heights = _columns.columns(bars, scale, places) / np.diff(places)
        edges = scale.value(places)
    else:
        edges, heights = bars.edges, bars.counts / np.diff(bars.edges)
    if scale.name != "linear":
        return edges, heights, "values per decade"
    width = _round_number((high - low) / 100)
    return edges, heights * width, f"values per {width:g}"


def _round_number(x: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is at most `x`."""
    power = 10.0 ** np.floor(np.log10(x))
    return float(power * max(n for n in (1, 2, 5) if n * power <= x * (1 + 1e-9)))


def _notes(ax: Axes, h: Histogram, more: list[str]) -> None:
    """In the upper right corner: how many values, what is not drawn, and loudly what is not finite."""
    told = [f"n = {_words.amount(h.count)}", *_words.undrawn(h), *more]
    texts = [(line, _words.GREY) for line in told] + [(line, _words.BAD) for line in _words.nonfinite(h)]
    for i, (line, color) in enumerate(texts):
        ax.annotate(
            line,
            (1, 1),
            xycoords="axes fraction",
            xytext=(-3, -3 - 11 * i),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize="small",
            color=color,
            fontweight="bold" if color == _words.BAD else "normal",
        )
