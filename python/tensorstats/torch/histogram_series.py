"""The histograms of one signal, step by step and in total, in bounded memory; counts nothing and knows no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tensorstats._core import Histogram

__all__ = ["SERIES_PRECISION", "HistogramSeries", "OpenHistograms"]

# Of the bins of single steps: 16 to an octave, so that a quantile is right within 3 %. Totals keep every bin.
SERIES_PRECISION = 4

# How many steps of one signal are kept, and what they may take. With more, every second step is dropped, and from then
# on only every second is kept; so a series of any length stays evenly spaced.
MAX_STEPS = 256
MAX_BYTES = 4 << 20
MIN_STEPS = 8


@dataclass(slots=True)
class HistogramSeries:
    """Histograms by name: the totals of all recorded steps, and those of single steps, evenly thinned.

    Within a step `target` says what a tensor is counted into. Most steps go straight into the totals. A step that is
    `due`, or that other ranks have a share in, is counted apart and added by `keep`.
    """

    totals: dict[str, Histogram] = field(default_factory=dict)
    apart: dict[str, Histogram] | None = None  # of the step that is being recorded; None: straight into the totals
    _steps: list[tuple[int, dict[str, bytes]]] = field(default_factory=list)
    _bytes: int = 0
    _stride: int = 1  # of the recorded steps that are kept
    _recorded: int = 0
    _due: bool = False

    def begin(self, *, apart: bool) -> None:
        """A step begins; `apart` says that it must not go straight into the totals."""
        self._due = self._recorded % self._stride == 0
        self._recorded += 1
        self.apart = {} if apart or self._due else None

    def target(self, name: str, empty: Histogram) -> Histogram:
        """The histogram that a tensor of this step goes into, begun as a copy of `empty` when it is new."""
        return _get(self.totals if self.apart is None else self.apart, name, empty)

    def keep(self, step: int) -> None:
        """The step has ended: add what was counted apart to the totals, and to the series where it is due."""
        apart, self.apart = self.apart, None
        if not apart:
            return
        for name, histogram in apart.items():
            _get(self.totals, name, histogram).merge(histogram)
        if self._due:
            page = {name: histogram.lower_precision(SERIES_PRECISION).to_bytes() for name, histogram in apart.items()}
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


class OpenHistograms:
    """What a step that is closed later has counted of one signal, out of the way of the steps after it."""

    def __init__(self, series: HistogramSeries) -> None:
        self._series = series
        self._step: tuple[dict[str, Histogram] | None, bool] | None = None

    def set_aside(self) -> None:
        """The step has ended, and another one may begin."""
        self._exchange((None, False))

    def _exchange(self, step: tuple[dict[str, Histogram] | None, bool]) -> None:
        series = self._series
        self._step = (series.apart, series._due)
        series.apart, series._due = step

    def __enter__(self) -> HistogramSeries:
        """For as long as the step is being closed its histograms are the ones in hand."""
        if self._step is not None:
            self._exchange(self._step)
        return self._series

    def __exit__(self, *_: object) -> None:
        if self._step is not None:
            self._exchange(self._step)


def _get(histograms: dict[str, Histogram], name: str, like: Histogram) -> Histogram:
    found = histograms.get(name)
    if found is None:
        histograms[name] = found = like.copy()
        found.reset()
    return found


def _size(page: Mapping[str, bytes]) -> int:
    return sum(map(len, page.values()))
