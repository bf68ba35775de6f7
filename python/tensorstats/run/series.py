"""What is kept of a run: per signal a bounded series of tables and the running totals; knows no torch.

One recorded step adds one native table with a row for each tensor. Fields are read from the tables when somebody asks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tensorstats._core import FIELDS, Summaries, Summary, UnitActivity, summaries_from
from tensorstats.run.histograms import HistogramSeries
from tensorstats.run.step import Extras, SignalStep

__all__ = ["EXTRA_FIELDS", "MAX_POINTS", "ScalarLog", "SignalLog", "read_number"]

# A series that reaches this length drops every second point, so that a run of any length needs bounded memory; with
# many tensors it is shorter. Totals and findings see every recorded step.
MAX_POINTS = 1000
MIN_POINTS = 100
MAX_ROWS = 100_000

# What is no number of a summary, and the signal that has it.
EXTRA_FIELDS = {"dead_fraction": "outputs", "saturated_fraction": "outputs", "update_ratio": "updates"}

# Every number a row holds. Those that take a correction are methods of a summary, plain fields here.
_FIELDS = tuple(field.name for field in FIELDS if field.moments == 2)
_CORRECTED = frozenset(field.name for field in FIELDS if field.corrected)


@dataclass(slots=True)
class _Page:
    """One recorded step: a row for each name of the log so far, and which of them did not appear."""

    step: int
    table: Summaries
    extras: Extras
    missing: frozenset[int]

    def has(self, row: int) -> bool:
        return row < len(self.table) and row not in self.missing


def _column(table: Summaries, name: str) -> npt.NDArray[np.float64]:
    counts, values = table.column(name)
    return np.frombuffer(values, dtype=np.uint64 if counts else np.float64).astype(np.float64)


@dataclass(slots=True)
class SignalLog:
    """One signal over the recorded steps. Rows are in the order in which names first appeared."""

    modules: dict[str, str] = field(default_factory=dict)  # of every name, in the order of rows
    histograms: HistogramSeries = field(default_factory=HistogramSeries)
    units: dict[str, UnitActivity] = field(default_factory=dict)
    _layout: tuple[str, ...] = ()
    _totals: Summaries = field(default_factory=lambda: summaries_from([]))
    _pages: list[_Page] = field(default_factory=list)
    _latest: dict[str, _Page] = field(default_factory=dict)  # where it is not the newest page
    _newest: _Page | None = None
    _stride: int = 1  # of the recorded steps kept
    _recorded: int = 0

    def add(self, step: int, rows: SignalStep) -> None:
        """Append one recorded step."""
        missing: frozenset[int] = frozenset()
        table = rows.table
        if tuple(rows.names) != self._layout:
            table, missing = self._align(rows.names, rows.modules, table)
        self._totals.merge(table)
        page = _Page(step, table, rows.extras, missing)
        for name, units in rows.units.items():
            if units is None:
                self.units.pop(name, None)
            else:
                self.units[name] = units
        previous, self._newest = self._newest, page
        if previous is not None:
            last_seen_there = [self._layout[row] for row in missing if previous.has(row)]
            self._latest.update(dict.fromkeys(last_seen_there, previous))
            if not last_seen_there:
                previous.table.keep_numbers()  # only the latest summary of a tensor is ever shown whole
        if self._recorded % self._stride == 0:
            self._pages.append(page)
        self._recorded += 1
        if len(self._pages) >= min(MAX_POINTS, max(MIN_POINTS, MAX_ROWS // max(len(table), 1))):
            self._stride *= 2
            self._pages = self._pages[::2]

    def _align(
        self, names: Sequence[str], modules: Sequence[str], table: Summaries
    ) -> tuple[Summaries, frozenset[int]]:
        """The rows in the order of the log, new names at its end, names that did not appear as empty rows."""
        given = {name: row for row, name in enumerate(names)}
        for name, module in zip(names, modules, strict=True):
            if name not in self.modules:
                self.modules[name] = module
        self._layout = tuple(self.modules)
        known = len(self._totals)
        totals = [self._totals[row] if row < known else Summary() for row in range(len(self._layout))]
        self._totals = summaries_from(totals)
        aligned = [table[given[name]] if name in given else Summary() for name in self._layout]
        missing = frozenset(row for row, name in enumerate(self._layout) if name not in given)
        return summaries_from(aligned), missing

    def total(self, name: str) -> Summary:
        """The summary over all recorded steps."""
        return self._totals[self._row(name)]

    def latest(self, name: str) -> Summary:
        """The summary of the last recorded step in which the name appeared."""
        row = self._row(name)
        return self._page_of(name, row).table[row]

    def latest_extra(self, name: str, extra: str) -> float:
        """One of `EXTRA_FIELDS` at the last recorded step in which the name appeared."""
        return self._page_of(name, self._row(name)).extras.get(extra, {}).get(name, math.nan)

    def series(self, name: str, wanted: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Steps and values of one field.

        Raises
        ------
        KeyError
            If there is no such field; the message lists all of them.
        """
        row = self._row(name)
        pages = [page for page in self._pages if page.has(row)]
        steps = np.array([page.step for page in pages], dtype=np.int64)
        if wanted in EXTRA_FIELDS:
            values = [page.extras.get(wanted, {}).get(name, math.nan) for page in pages]
        elif wanted == "zero_fraction":
            counts = [(_column(page.table, "zero_count")[row], _column(page.table, "count")[row]) for page in pages]
            values = [zeros / count if count else math.nan for zeros, count in counts]
        elif wanted in _FIELDS:
            values = [float(_column(page.table, wanted)[row]) for page in pages]
        else:
            accepted = ", ".join((*_FIELDS, "zero_fraction", *EXTRA_FIELDS))
            raise KeyError(f"no field {wanted!r}; accepted are {accepted}")
        return steps, np.array(values, dtype=np.float64)

    def _row(self, name: str) -> int:
        return self._layout.index(name)

    def _page_of(self, name: str, row: int) -> _Page:
        newest = self._newest
        assert newest is not None
        return newest if newest.has(row) else self._latest[name]


@dataclass(slots=True)
class ScalarLog:
    """One number per step, such as a loss; thinned like the others."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    _stride: int = 1
    _recorded: int = 0

    def add(self, step: int, value: float) -> None:
        """Append one number."""
        if self._recorded % self._stride == 0:
            self.steps.append(step)
            self.values.append(value)
        self._recorded += 1
        if len(self.values) >= 10 * MAX_POINTS:
            self._stride *= 2
            self.steps, self.values = self.steps[::2], self.values[::2]

    def series(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Steps and values."""
        return np.array(self.steps, dtype=np.int64), np.array(self.values, dtype=np.float64)


def read_number(summary: Summary, field: str) -> float:
    """One field of a summary; ``std`` and ``var`` are methods there.

    Raises
    ------
    ValueError
        If there is no such number.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> read_number(ts.summary(np.array([1.0, 3.0])), "std")
    1.0
    """
    if field == "zero_fraction":
        return summary.zero_count / summary.count if summary.count else math.nan
    value = getattr(summary, field)() if field in _CORRECTED else getattr(summary, field, None)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(
            f"a field must be a number of tensorstats.Summary, such as 'l2', 'mean' or 'std', got {field!r}"
        )
    return float(value)
