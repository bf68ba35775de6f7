"""The histograms of one signal, step by step and in total, in bounded memory; counts nothing and knows no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tensorstats._core import Histogram

__all__ = ["SERIES_PRECISION", "HistogramSeries", "StepHistograms"]

# Of the bins of single steps: 16 to an octave, so that a quantile is right within 3 %. Totals keep every bin.
SERIES_PRECISION = 4

# How many steps of one signal are kept, and what they may take. With more, every second step is dropped, and from then
# on only every second is kept; so a series of any length stays evenly spaced.
MAX_STEPS = 256
MAX_BYTES = 4 << 20
MIN_STEPS = 8


class StepHistograms:
    """The histograms of one signal in one step. Whoever counts or closes the step holds this object.

    Most steps go straight into the totals. A step that is due in the series, or that other ranks have a share in, is
    counted apart and added by `keep`.

    Attributes
    ----------
    apart : dict or None
        Histograms by name; None: straight into the totals.
    """

    __slots__ = ("_due", "_series", "apart")

    def __init__(self, series: HistogramSeries, *, apart: bool, due: bool) -> None:
        self._series = series
        self._due = due
        self.apart: dict[str, Histogram] | None = {} if apart or due else None

    def target(self, name: str, empty: Histogram) -> Histogram:
        """The histogram that a tensor of this step goes into, begun as a copy of `empty` when it is new."""
        return _get(self._series.totals if self.apart is None else self.apart, name, empty)

    def keep(self, step: int) -> None:
        """The step has ended: add what was counted apart to the totals, and to the series where it is due."""
        apart, self.apart = self.apart, None
        if not apart:
            return
        for name, histogram in apart.items():
            _get(self._series.totals, name, histogram).merge(histogram)
        if self._due:
            self._series.append(step, apart)


@dataclass(slots=True)
class HistogramSeries:
    """Histograms by name: the totals of all recorded steps, and those of single steps, evenly thinned."""

    totals: dict[str, Histogram] = field(default_factory=dict)
    step: StepHistograms = field(init=False)  # that is being recorded
    _steps: list[tuple[int, dict[str, bytes]]] = field(default_factory=list)
    _bytes: int = 0
    _stride: int = 1  # of the recorded steps that are kept
    _recorded: int = 0

    def __post_init__(self) -> None:
        self.step = StepHistograms(self, apart=False, due=False)

    def begin(self, *, apart: bool) -> None:
        """A step begins; `apart` says that it must not go straight into the totals."""
        self.step = StepHistograms(self, apart=apart, due=self._recorded % self._stride == 0)
        self._recorded += 1

    def append(self, step: int, histograms: Mapping[str, Histogram]) -> None:
        """One more step of the series."""
        page = {name: histogram.lower_precision(SERIES_PRECISION).to_bytes() for name, histogram in histograms.items()}
        self._steps.append((step, page))
        self._bytes += _size(page)
        while len(self._steps) >= MAX_STEPS or (self._bytes > MAX_BYTES and len(self._steps) > MIN_STEPS):
            self._stride *= 2
            self._steps = self._steps[::2]
            self._bytes = sum(_size(page) for _, page in self._steps)

    def series(self, name: str) -> tuple[npt.NDArray[np.int64], list[Histogram]]:
        """The steps that were kept, and the histogram of each."""
        pages = [(step, page[name]) for step, page in self._steps if name in page]
        return np.array([step for step, _ in pages], dtype=np.int64), [Histogram.from_bytes(data) for _, data in pages]


def _get(histograms: dict[str, Histogram], name: str, like: Histogram) -> Histogram:
    found = histograms.get(name)
    if found is None:
        empty = like.copy()
        empty.reset()
        found = histograms.setdefault(name, empty)  # another thread may close a step meanwhile
    return found


def _size(page: Mapping[str, bytes]) -> int:
    return sum(map(len, page.values()))
