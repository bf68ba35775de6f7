"""Owns buckets bounded by powers of 2^(2^-scale), as OpenTelemetry and Prometheus have them; knows neither's form.

Their bucket `i` holds `base^i < |x| <= base^(i+1)`; a log-linear bin holds `low <= |x| < high`. A bin goes whole into
the bucket of one number: its lower end where the bin is known to hold no other value (the precision holds every
mantissa bit of the dtypes counted), else its middle, from which no value of the bin is further than `2^-(precision+1)`
of itself.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tensorstats._core import Histogram
from tensorstats.axis import LogLinear

# Exponent of the first octave of a log-linear axis: that of the smallest subnormal of float64.
_SMALLEST_EXPONENT = -1074


class Buckets(NamedTuple):
    """Buckets of one sign that hold something: increasing indices and their counts, int64."""

    indices: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    @property
    def total(self) -> int:
        """Values in all buckets."""
        return int(self.counts.sum())


class Exponential(NamedTuple):
    """Every finite value of a histogram: negative ones by their magnitude."""

    negative: Buckets
    zeros: int
    positive: Buckets

    @property
    def total(self) -> int:
        """Finite values."""
        return self.negative.total + self.zeros + self.positive.total


def exponential(h: Histogram, scale: int, *, name: str, lowest: int, highest: int) -> Exponential:
    """The buckets of a scale; `name` is what the caller calls it, between the `lowest` and `highest` of its format."""
    if not isinstance(h.axis, LogLinear):
        raise TypeError(f"exponential buckets are made from a LogLinear axis, got: {h.axis!r}")
    precision = h.axis.precision
    # Finer buckets than bins would be a guess.
    highest = min(highest, precision)
    if not lowest <= scale <= highest:
        raise ValueError(f"{name} must be in [{lowest}, {highest}] for {h.axis!r}, got: {scale}")
    state = h.to_dict()
    places = np.array(state["places"], np.int64)
    counts = np.array(state["counts"], np.int64)
    exact = state["value_bits"] <= precision
    sides = []
    for sign in (-1, 1):
        held = np.sign(places) == sign
        magnitudes = np.abs(places[held]) - 1
        exponents = (magnitudes >> precision) + _SMALLEST_EXPONENT
        leading = magnitudes & ((1 << precision) - 1)
        if scale >= 0:
            indices = (exponents << scale) + np.array(_within_octave(precision, exact, scale), np.int64)[leading]
        else:
            indices = (exponents + np.array(_within_octave(precision, exact, 0), np.int64)[leading]) >> -scale
        sides.append(_gathered(indices[::sign], counts[held][::sign]))
    return Exponential(sides[0], h.zero_count or 0, sides[1])


def _gathered(indices: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> Buckets:
    """Neighbours of the same index made one."""
    if indices.size == 0:
        return Buckets(indices, counts)
    starts = np.flatnonzero(np.insert(np.diff(indices) > 0, 0, True))
    return Buckets(indices[starts], np.add.reduceat(counts, starts))


@functools.cache
def _within_octave(precision: int, exact: bool, scale: int) -> tuple[int, ...]:
    """For each bin of an octave, its bucket relative to the first above the octave's lower end.

    The number standing for bin `k` is `m / 2^q` octaves' lower ends, and its bucket the largest `j` with `2^(j /
    2^scale) < m / 2^q`, that is `2^(q * 2^scale + j) < m^(2^scale)`: decided in whole numbers, since logarithms round.
    """
    buckets = []
    for k in range(1 << precision):
        m, q = ((1 << precision) + k, precision) if exact else ((2 << precision) + 2 * k + 1, precision + 1)
        buckets.append((m ** (1 << scale) - 1).bit_length() - 1 - (q << scale))
    return tuple(buckets)
