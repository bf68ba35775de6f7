"""Owns the picture of the units of a layer: one cell a unit, in the order of their indices."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, PercentFormatter

from tensorstats._core import UnitActivity
from tensorstats.plot import _words

Mask = npt.NDArray[np.bool_]

_NONFINITE = "#8e44ad"
_UNSEEN = "#d9d9d9"
# From this share on no difference between units can be seen.
_ALWAYS = 0.99


def units(u: UnitActivity, ax: Axes | None = None, *, what: str = "active", threshold: float = 0.0) -> Axes:
    """Draws every unit as a cell, row by row, coloured by how often it is active or saturated.

    Dead units are red, units that gave NaN or ±inf violet, units without a value grey; below the picture stands
    how many of each. Where all cells have one colour, the title says why. With more than 64 units the cells form a
    near-square; row and column add up to the index.

    Parameters
    ----------
    u
        Of any number of units.
    ax
        Axes to draw on, those in use by default. A colour bar is put beside them.
    what
        `"active"` (finite and not zero) or `"saturated"` (beyond the bounds that `u` was made with).
    threshold
        A unit is dead when its share of active values is at most this.

    Returns
    -------
    matplotlib.axes.Axes
        To set titles on, or to save: `ax.figure.savefig(...)`.

    Raises
    ------
    ValueError
        `what` is none of the above, or `"saturated"` without bounds.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> from matplotlib.figure import Figure
    >>> hidden = np.random.default_rng(0).standard_normal((100, 256)).clip(0)
    >>> hidden[:, 16:24] = 0
    >>> ts.plot.units(ts.unit_activity(hidden), Figure().subplots()).get_title(loc="left")
    '256 units'
    """
    if what not in ("active", "saturated"):
        raise ValueError(f"what must be 'active' or 'saturated', got: {what!r}")
    if what == "saturated" and u.saturation is None:
        raise ValueError("what='saturated' needs units counted with saturation=(low, high), got: none")
    ax = pyplot.gca() if ax is None else ax
    counted = f"{_words.amount(u.units)} unit{'' if u.units == 1 else 's'}"
    ax.set_title("\n".join([counted, *_why_alike(u, what)]), loc="left", fontsize="small", color=_words.GREY)
    ax.set_xlabel("unit", loc="left")
    if u.units == 0:
        _words.say(ax, "no units")
        ax.set_axis_off()
        return ax

    dead, bad, unseen = _marked(u, threshold)
    shares = u.active_fraction if what == "active" else u.saturated_fractions
    colormap = mpl.colormaps["cividis" if what == "active" else "YlOrBr"]
    cells = colormap(np.nan_to_num(shares))[:, :3]
    marks = {"dead": (dead, _words.BAD), "NaN or ±inf": (bad, _NONFINITE), "no values": (unseen, _UNSEEN)}
    for held, color in marks.values():
        cells[held] = to_rgb(color)

    across = u.units if u.units <= 64 else math.ceil(math.sqrt(u.units))
    down = -(-u.units // across)
    image = np.ones((across * down, 3))
    image[: u.units] = cells
    ax.imshow(image.reshape(down, across, 3), interpolation="nearest", aspect="auto" if down == 1 else "equal")
    if max(across, down) <= 40:
        _lines_between(ax, across, down)
    _index_ticks(ax, across, down)
    bar = ax.figure.colorbar(
        mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), colormap),
        ax=ax,
        label=f"share of values {what}",
        format=PercentFormatter(1.0),
        fraction=0.045,
    )
    bar.outline.set_visible(False)
    handles = [
        Patch(color=color, label=f"{name}: {_words.amount(int(held.sum()))} ({_words.share(int(held.sum()), u.units)})")
        for name, (held, color) in marks.items()
        if held.any()
    ]
    if handles:
        ax.legend(
            handles=handles,
            loc="upper right",
            bbox_to_anchor=(1, -0.06),
            ncols=3,
            frameon=False,
            fontsize="small",
            borderpad=0,
            handlelength=1,
            handleheight=1,
        )
    return ax


def _why_alike(u: UnitActivity, what: str) -> list[str]:
    """Why all cells have the same colour, where they have."""
    seen = u.count > 0
    if not seen.any():
        return []
    if what == "saturated":
        beyond = (u.low_count + u.high_count)[seen].any()
        return [] if beyond else [f"no value is beyond the bounds {u.saturation}"]
    if (u.active_fraction[seen] < _ALWAYS).any():
        return []
    return [
        "all are active nearly always: GELU, SiLU, tanh and the like are hardly ever exactly 0",
        'saturation=(low, high) counts what lies in their tails, and what="saturated" shows it',
    ]


def _marked(u: UnitActivity, threshold: float) -> tuple[Mask, Mask, Mask]:
    """Units that are dead, that were not finite, that have no values; no unit is two of these."""
    unseen = u.count == 0
    bad = u.nonfinite_count > 0
    dead = np.zeros(u.units, bool)
    dead[u.dead_units(threshold)] = True
    return dead & ~bad & ~unseen, bad, unseen


def _lines_between(ax: Axes, across: int, down: int) -> None:
    """Thin lines, so that single cells can be counted."""
    for x in range(1, across):
        ax.axvline(x - 0.5, color="white", linewidth=0.6)
    for y in range(1, down):
        ax.axhline(y - 0.5, color="white", linewidth=0.6)


def _index_ticks(ax: Axes, across: int, down: int) -> None:
    """Column at the bottom, index of the row's first unit at the left: together the index."""
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, min_n_ticks=1))
    if down == 1:
        ax.yaxis.set_major_locator(FixedLocator([]))
        return
    ax.set_xlabel("+ column", loc="left")
    ax.set_ylabel("first unit of the row")
    ax.yaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, min_n_ticks=1))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda row, _: f"{round(row) * across}" if 0 <= row < down else ""))
