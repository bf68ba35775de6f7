"""Owns TensorBoard's forms of a histogram; imports nothing of TensorBoard and writes no file."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tensorstats._core import Histogram, Summary
from tensorstats.export._bins import check_same_values, finite_bins


class TensorBoardHistogram(NamedTuple):
    """The fields of TensorBoard's `HistogramProto`, in the order of `SummaryWriter.add_histogram_raw`.

    All are about the finite values. `bucket[i]` counts those from `bucket_limit[i - 1]` up to `bucket_limit[i]`; the
    first bucket is empty and its limit the lower edge of the second, as TensorFlow and torch write it.
    """

    min: float
    max: float
    num: float
    sum: float
    sum_squares: float
    bucket_limit: list[float]
    bucket: list[float]

    def to_tensor(self) -> npt.NDArray[np.float64]:
        """The tensor of the histograms plugin: float64 `[k, 3]` of left edge, right edge, count.

        The outermost edges are the extremes, as in `tf.summary.histogram` and where TensorBoard converts a proto.
        """
        inner = self.bucket_limit[1:-1]
        if self.num == 0:
            return np.zeros((0, 3))
        return np.array([[self.min, *inner], [*inner, self.max], self.bucket[1:]]).T


def to_tensorboard(h: Histogram, summary: Summary) -> TensorBoardHistogram:
    """The histogram as TensorBoard's fields, with counts that are exact up to 2^53.

    Buckets are half-open, `[low, high)`, as TensorFlow and torch count them (the comment in the proto says otherwise).
    Finite values outside the axis are in a bucket of their own at its end, out to the extreme. NaN and ±inf are in no
    bucket and not in `num`: TensorBoard cannot show them. Neighbouring empty bins are one bucket.

    Parameters
    ----------
    h
        A histogram of any axis. For small files lower a log-linear one first: `h.lower_precision(3)`.
    summary
        Of the same values; it has the extremes and the sums, which no histogram knows.

    Returns
    -------
    TensorBoardHistogram
        `writer.add_histogram_raw(tag, *fields, global_step=step)` writes it, `HistogramProto(**fields._asdict())` is
        the message, `fields.to_tensor()` the form of the histograms plugin. Without finite values all fields are 0 and
        one bucket is empty.

    Raises
    ------
    ValueError
        The summary is of other values.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> x = np.array([0.5, 1.0, 1.5, 3.0, np.nan])
    >>> fields = ts.histogram(x, bins=4, range=(0, 2)).to_tensorboard(ts.summary(x))
    >>> fields.num, fields.bucket_limit, fields.bucket
    (4.0, [0.5, 1.0, 1.5, 2.0, 3.0], [0.0, 1.0, 1.0, 1.0, 1.0])
    >>> fields.to_tensor()[-1]
    array([2., 3., 1.])
    """
    check_same_values(h, summary)
    edges, counts = finite_bins(h, summary)
    if counts.size == 0:
        return TensorBoardHistogram(0.0, 0.0, 0.0, 0.0, 0.0, [0.0], [0.0])
    return TensorBoardHistogram(
        min=float(summary.min),
        max=float(summary.max),
        num=float(summary.finite_count),
        sum=float(summary.sum),
        sum_squares=summary.l2 * summary.l2,
        bucket_limit=edges.tolist(),
        bucket=[0.0, *counts.astype(np.float64).tolist()],
    )
