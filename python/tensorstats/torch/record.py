"""What is kept of a run: a bounded series per tensor and the running total; knows no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tensorstats._core import Histogram, Summary, UnitActivity

__all__ = ["EXTRA_FIELDS", "MAX_POINTS", "Track", "read_field"]

# A series that reaches this length drops every second point, so that a run of any length needs bounded memory. Totals
# and findings see every recorded step.
MAX_POINTS = 1000

EXTRA_FIELDS = ("dead_fraction", "saturated_fraction", "update_ratio")
NO_EXTRAS = (math.nan, math.nan, math.nan)


@dataclass(slots=True)
class Track:
    """One tensor of one signal over the recorded steps.

    `extras` holds, per point, the numbers of `EXTRA_FIELDS`, which are not in a summary; NaN where one does not apply.
    """

    module: str
    total: Summary = field(default_factory=Summary)
    steps: list[int] = field(default_factory=list)
    points: list[Summary] = field(default_factory=list)
    extras: list[tuple[float, float, float]] = field(default_factory=list)
    latest: Summary | None = None
    units: UnitActivity | None = None
    histogram: Histogram | None = None
    stride: int = 1  # of the recorded steps kept
    recorded: int = 0

    def add(self, step: int, summary: Summary, extras: tuple[float, float, float] = NO_EXTRAS) -> None:
        """Append one recorded step; `extras` are the numbers of `EXTRA_FIELDS`."""
        self.total.merge(summary)
        self.latest = summary
        if self.recorded % self.stride == 0:
            self.steps.append(step)
            self.points.append(summary)
            self.extras.append(extras)
        self.recorded += 1
        if len(self.points) >= MAX_POINTS:
            self.stride *= 2
            self.steps, self.points, self.extras = self.steps[::2], self.points[::2], self.extras[::2]

    def add_histogram(self, histogram: Histogram) -> None:
        """Merge one recorded step's histogram."""
        if self.histogram is None:
            self.histogram = histogram.copy()
        else:
            self.histogram.merge(histogram)

    def series(self, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Steps and values of one field."""
        read = read_field(name)
        if read is None:
            column = EXTRA_FIELDS.index(name)
            values = [extras[column] for extras in self.extras]
        else:
            values = [read(point) for point in self.points]
        return np.array(self.steps, dtype=np.int64), np.array(values, dtype=np.float64)


# Every number a summary holds. `std` and `var` are methods there (they take a correction), plain fields here.
_FIELDS = (
    "count",
    "nan_count",
    "posinf_count",
    "neginf_count",
    "nonfinite_count",
    "finite_count",
    "zero_count",
    "negative_count",
    "positive_count",
    "subnormal_count",
    "min",
    "max",
    "absmax",
    "absmin",
    "sum",
    "mean",
    "l1",
    "l2",
    "rms",
)


def read_field(name: str) -> Callable[[Summary], float] | None:
    """A function that reads `name` from a summary, or None when it is one of `EXTRA_FIELDS`.

    Raises
    ------
    KeyError
        If there is no such field; the message lists all of them.
    """
    if name in EXTRA_FIELDS:
        return None
    if name == "std":
        return lambda summary: float(summary.std())
    if name == "var":
        return lambda summary: float(summary.var())
    if name == "zero_fraction":
        return lambda summary: summary.zero_count / summary.count if summary.count else math.nan
    if name in _FIELDS:
        return lambda summary: float(getattr(summary, name))
    accepted = ", ".join((*_FIELDS, "std", "var", "zero_fraction", *EXTRA_FIELDS))
    raise KeyError(f"no field {name!r}; accepted are {accepted}")
