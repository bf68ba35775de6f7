"""Owns the native histogram of Prometheus; needs no library of theirs and serves nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensorstats._core import Histogram, Summary
from tensorstats.export._bins import check_same_values
from tensorstats.export._exponential import Buckets, exponential

# The standard schemas of the specification.
_LOWEST_SCHEMA, _HIGHEST_SCHEMA = -4, 8


def to_prometheus(h: Histogram, summary: Summary, schema: int = 0) -> dict[str, Any]:
    """The histogram as the native histogram of Prometheus: the fields of `io.prometheus.client.Histogram`.

    Bucket `i` holds `base^(i - 1) < |x| <= base^i` with `base = 2^(2^-schema)`. How a log-linear bin, which holds its
    lower end instead of its upper, gets into them is that of `to_opentelemetry`: exact at every schema where each bin
    holds one value, exact at schema 0 and below but for powers of two (one bucket higher), else off by at most
    `2^-(precision + 1)` of the value.

    Everything is counted, by the rules of the specification: ±inf in the overflow bucket of their sign, NaN in
    `sample_count` alone, and `sample_sum` is what adding them up gives. Zeros are in the zero bucket, whose threshold
    is 0.

    Parameters
    ----------
    h
        A histogram of a `LogLinear` axis.
    summary
        Of the same values; it has the sum.
    schema
        In [-4, 8], and at most the precision of the axis.

    Returns
    -------
    dict
        `Histogram(**fields)` is the message, with the class that protoc makes of Prometheus' metrics.proto.

    Raises
    ------
    TypeError
        The axis is not `LogLinear`.
    ValueError
        The schema is out of range, or the summary is of other values.

    References
    ----------
    https://prometheus.io/docs/specs/native_histograms/

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> x = np.array([0.0, 1.5, 3.0, 3.5, 48.0])
    >>> native = ts.histogram(x, ts.axis.LogLinear(6)).to_prometheus(ts.summary(x))
    >>> native["positive_span"], native["positive_delta"]
    ([{'offset': 1, 'length': 2}, {'offset': 3, 'length': 1}], [1, 1, -1])
    >>> native["sample_count"], native["sample_sum"], native["zero_count"]
    (5, 56.0, 1)
    """
    check_same_values(h, summary)
    found = exponential(h, schema, name="schema", lowest=_LOWEST_SCHEMA, highest=_HIGHEST_SCHEMA)
    # The bucket after the one that ends at 2^1024 holds infinity.
    overflow = int(1024 * 2.0**schema) + 1
    positive = spans(_with_overflow(found.positive, overflow, h.posinf_count))
    negative = spans(_with_overflow(found.negative, overflow, h.neginf_count))
    if not positive[1] and not negative[1] and found.zeros == 0:
        # Nothing else would tell it from a classic histogram.
        positive = [{"offset": 0, "length": 0}], []
    return {
        "sample_count": h.count,
        "sample_sum": _sum(summary),
        "schema": schema,
        "zero_threshold": 0.0,
        "zero_count": found.zeros,
        "negative_span": negative[0],
        "negative_delta": negative[1],
        "positive_span": positive[0],
        "positive_delta": positive[1],
    }


def _with_overflow(buckets: Buckets, overflow: int, infinite: int) -> Buckets:
    """With infinities, and by Prometheus' indices, which are one higher than those of OpenTelemetry."""
    indices = buckets.indices + 1
    if infinite == 0:
        return Buckets(indices, buckets.counts)
    return Buckets(np.append(indices, overflow), np.append(buckets.counts, infinite))


def spans(buckets: Buckets) -> tuple[list[dict[str, int]], list[int]]:
    """Runs of neighbouring buckets, each by its distance from the one before, and the counts as differences."""
    if buckets.indices.size == 0:
        return [], []
    starts = np.flatnonzero(np.insert(np.diff(buckets.indices) > 1, 0, True))
    ends = np.append(starts[1:], buckets.indices.size)
    after = np.insert(buckets.indices[ends[:-1] - 1] + 1, 0, 0)
    offsets = buckets.indices[starts] - after
    deltas = np.diff(buckets.counts, prepend=0)
    return (
        [{"offset": o, "length": n} for o, n in zip(offsets.tolist(), (ends - starts).tolist(), strict=True)],
        deltas.tolist(),
    )


def _sum(summary: Summary) -> float:
    """The sum of all values by floating-point rules; 0 for none."""
    if summary.nan_count or (summary.posinf_count and summary.neginf_count):
        return math.nan
    if summary.posinf_count or summary.neginf_count:
        return math.inf if summary.posinf_count else -math.inf
    return float(summary.sum) if summary.finite_count else 0.0
