"""Owns the UHI serialisation of a histogram; needs neither uhi nor boost-histogram, and knows nothing of files."""

from __future__ import annotations

from typing import Any

from tensorstats._core import Histogram, __version__
from tensorstats.axis import LogLinear, Regular


def to_uhi(h: Histogram) -> dict[str, Any]:
    """The dict of UHI's serialisation schema 1: what `uhi.io`, hist and boost-histogram read.

    An equal-width axis is UHI's `regular`, any other `variable` with its float64 edges; a log-linear one spans the bins
    from the smallest to the largest value counted (0 to 1 when there are none). Storage is `int` with the flow bins, so
    ±inf are in them; NaN is in no bin and stands with ±inf in the metadata: `nan_count`, `posinf_count`,
    `neginf_count`.

    Readers count a value equal to the last edge as overflow; here it stays in the last bin, where numpy has it.

    Parameters
    ----------
    h
        A histogram of any axis.

    Returns
    -------
    dict
        `values` and `edges` are arrays; `json.dumps(h, default=uhi.io.json.default)` writes them as lists.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> uhi = ts.histogram(np.array([0.5, 1.0, np.nan]), bins=2, range=(0, 2))._to_uhi_()
    >>> uhi["storage"]["values"], uhi["metadata"]["nan_count"]
    (array([0, 1, 1, 0]), 1)
    """
    flow = {"underflow": True, "overflow": True, "circular": False}
    made_by: dict[str, Any] = {"version": __version__}
    values = h.view(flow=True)
    if isinstance(h.axis, Regular):
        axis = {"type": "regular", "lower": h.axis.start, "upper": h.axis.stop, "bins": h.axis.bins, **flow}
    else:
        edges = h.edges
        if isinstance(h.axis, LogLinear):
            made_by["precision"] = h.axis.precision
        axis = {"type": "variable", "edges": edges, **flow}
    return {
        "uhi_schema": 1,
        "writer_info": {"tensorstats": made_by},
        "metadata": {"nan_count": h.nan_count, "posinf_count": h.posinf_count, "neginf_count": h.neginf_count},
        "axes": [axis],
        "storage": {"type": "int", "values": values},
    }
