"""Owns the words and ticks on pictures; knows no scale's arithmetic."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, NullLocator

from tensorstats._core import Histogram
from tensorstats.plot._columns import Bars, Scale

BAD = "#c0392b"
GREY = "#555555"
BLUE = "#4c78a8"


def amount(n: int) -> str:
    """A count with its thousands apart."""
    return f"{n:,}"


def share(part: float, whole: float) -> str:
    """A share in per cent that says 0 % and 100 % only where it is meant."""
    percent = 100.0 * part / whole
    if 0 < percent < 0.05:
        return "<0.1%"
    if 99.95 < percent < 100:
        return ">99.9%"
    return f"{percent:.1f}%".replace(".0%", "%")


def undrawn(h: Histogram) -> list[str]:
    """What a picture of finite values does not show, but NaN and infinities."""
    told = []
    if h.zero_count:
        told.append(f"zeros {share(h.zero_count, h.count)}")
    below, above = h.underflow - h.neginf_count, h.overflow - h.posinf_count
    sides = [f"{amount(n)} {where}" for n, where in ((below, "below"), (above, "above")) if n]
    return [*told, f"{' and '.join(sides)} the axis"] if sides else told


def nonfinite(h: Histogram) -> list[str]:
    """NaN and infinities."""
    counted = {"NaN": h.nan_count, "+inf": h.posinf_count, "-inf": h.neginf_count}
    return [f"{name} {amount(n)}" for name, n in counted.items() if n]


def say(ax: Axes, text: str) -> None:
    """Puts words into the middle of axes that have nothing to draw."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=BAD, fontsize="large")


def left_out(bars: Bars, scale: Scale, low: float) -> list[str]:
    """Values of the bins that this picture has no place for."""
    below = round(float(bars.counts[bars.edges[1:] <= low].sum())) if scale.name == "log" and len(bars.counts) else 0
    told = [f"{amount(below)} below {low:.0e}"] if below else []
    return [*told, f"{amount(bars.undrawable)} too far out to draw"] if bars.undrawable else told


def why_empty(h: Histogram, bars: Bars) -> str:
    """Why nothing is drawn of a histogram."""
    if h.count == 0:
        return "no values"
    if bars.undrawable:
        return "values beyond what matplotlib can draw"
    if h.zero_count and h.zero_count == h.count - h.nan_count - h.posinf_count - h.neginf_count:
        return "every finite value is 0"
    outside = h.underflow - h.neginf_count + h.overflow - h.posinf_count
    return "every finite value is outside the axis" if outside else "no finite value"


def set_scale(ax: Axes, scale: Scale) -> None:
    """Gives axes a scale."""
    if scale.name == "symlog":
        ax.set_xscale("symlog", linthresh=scale.linear_up_to, linscale=1)
    elif scale.name == "log":
        ax.set_xscale("log")


def value_ticks(ax: Axes, scale: Scale) -> None:
    """On a symlog axis: 0 and a few powers of ten on either side, so that labels never touch."""
    if scale.name != "symlog":
        return
    low, high = ax.get_xlim()
    first = round(np.log10(scale.linear_up_to))
    last = int(np.floor(np.log10(max(abs(low), abs(high), scale.linear_up_to))))
    step = max(1, -(-(last - first + 1) // 4))
    powers = 10.0 ** np.arange(last, first - 1, -step)
    ticks = np.concatenate([-powers, [0.0], powers[::-1]])
    ax.xaxis.set_major_locator(FixedLocator(ticks[(ticks >= low) & (ticks <= high)].tolist()))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(_power))


def _power(x: float, _: object) -> str:
    if x == 0 or abs(x) == 1:
        return f"{x:g}"
    return f"${'-' if x < 0 else ''}10^{{{round(np.log10(abs(x)))}}}$"


def tidy(ax: Axes) -> None:
    """No frame above and to the right, faint lines behind the data, and counts as 1k, 2M."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.yaxis.set_major_formatter(EngFormatter(sep=""))
