"""Owns the exponential histogram of OpenTelemetry as OTLP/JSON; needs no library of theirs and sends nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorstats._core import Histogram, Summary
from tensorstats.export._bins import check_same_values
from tensorstats.export._exponential import Buckets, exponential

# The scales that OpenTelemetry's data model names.
_LOWEST_SCALE, _HIGHEST_SCALE = -10, 20


def to_opentelemetry(h: Histogram, scale: int = 0, summary: Summary | None = None) -> dict[str, Any]:
    """The histogram as an `ExponentialHistogramDataPoint` in OTLP/JSON.

    Bucket `i` holds `base^i < |x| <= base^(i + 1)` with `base = 2^(2^-scale)`; a log-linear bin holds its lower end
    instead of its upper.

    - Where the precision holds every mantissa bit of the dtypes counted (10 for float16, 7 for bfloat16 and 8-bit
      integers, 3 for float8_e4m3fn), each bin is one value and every scale is exact.
    - Otherwise scale 0 and below are exact but for values that are a power of two, which are counted one bucket higher.
    - Otherwise, above scale 0, each bin goes whole into the bucket of its middle: a value is counted where a value
      within `2^-(precision + 1)` of it belongs.

    NaN and ±inf are left out, as OpenTelemetry has it: `count` is that of the finite values.

    Parameters
    ----------
    h
        A histogram of a `LogLinear` axis.
    scale
        In [-10, precision of the axis].
    summary
        Of the same values: adds `min`, `max` and, unless a value is negative, `sum` (which has to grow with every
        value).

    Returns
    -------
    dict
        Times and attributes are the caller's: `h.to_opentelemetry() | {"timeUnixNano": str(time.time_ns())}`. For the
        message itself: `google.protobuf.json_format.ParseDict(point, ExponentialHistogramDataPoint())`.

    Raises
    ------
    TypeError
        The axis is not `LogLinear`.
    ValueError
        The scale is out of range, or the summary is of other values.

    References
    ----------
    https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> h = ts.histogram(np.array([0.0, 1.5, 3.0, 3.5, -6.0]), ts.axis.LogLinear(6))
    >>> point = h.to_opentelemetry()
    >>> point["count"], point["zeroCount"], point["positive"], point["negative"]
    ('5', '1', {'offset': 0, 'bucketCounts': ['1', '2']}, {'offset': 2, 'bucketCounts': ['1']})
    """
    found = exponential(h, scale, name="scale", lowest=_LOWEST_SCALE, highest=_HIGHEST_SCALE)
    # 64-bit numbers are text in the JSON form of protobuf.
    point: dict[str, Any] = {
        "count": str(found.total),
        "scale": scale,
        "zeroCount": str(found.zeros),
        "zeroThreshold": 0.0,
        "positive": _dense(found.positive),
        "negative": _dense(found.negative),
    }
    if summary is not None:
        check_same_values(h, summary)
        if found.total > 0:
            point |= {"min": float(summary.min), "max": float(summary.max)}
        if summary.negative_count == 0:
            point["sum"] = float(summary.sum) if found.total > 0 else 0.0
    return point


def _dense(buckets: Buckets) -> dict[str, Any]:
    if buckets.indices.size == 0:
        return {"offset": 0, "bucketCounts": []}
    offset = int(buckets.indices[0])
    counts = np.zeros(int(buckets.indices[-1]) - offset + 1, np.int64)
    counts[buckets.indices - offset] = buckets.counts
    return {"offset": offset, "bucketCounts": [str(n) for n in counts.tolist()]}
