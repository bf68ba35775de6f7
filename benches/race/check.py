"""What is wrong in a peer's answer, field by field. Knows nothing of times."""

from __future__ import annotations

import math
from typing import Any

# A field of another library is called wrong beyond this relative error: what a careful float32 computation still keeps.
OTHERS = 1e-5
# What tensorstats promises.
PROMISED = {"sum": 4e-14, "mean": 4e-14, "l1": 4e-14, "l2": 1e-13, "var": 1e-9}


def errors(answer: dict[str, Any], exact: dict[str, Any]) -> dict[str, float]:
    """The relative error of every field of an answer, infinite where there is no number to compare.

    The error of a sum or mean is relative to the sum or mean of magnitudes.
    """
    found: dict[str, float] = {}
    for name, value in answer.items():
        if name == "values":
            # The fraction of values that are in another bin than they belong to.
            misplaced = sum(abs(a - b) for a, b in zip(value, exact[name], strict=True)) / 2
            found[name] = misplaced / max(1, sum(exact[name]))
            continue
        wanted = exact[name]
        if wanted is None or value is None or math.isnan(value):
            found[name] = 0.0 if wanted is None and (value is None or math.isnan(value)) else math.inf
            continue
        difference = abs(float(value) - float(wanted))
        size = {"sum": exact["l1"], "mean": exact["l1"] / max(1, exact["finite_count"])}.get(name, abs(float(wanted)))
        found[name] = 0.0 if difference == 0 else (difference / size if size > 0 else math.inf)
    return found


def wrong_fields(peer: str, answer: dict[str, Any], exact: dict[str, Any]) -> dict[str, float | None]:
    """The fields whose error is too large, with their errors; None where the answer is no number."""
    ours = peer.startswith("tensorstats")
    wrong: dict[str, float | None] = {}
    for name, error in errors(answer, exact).items():
        if error > (PROMISED.get(name, 0.0) if ours else OTHERS):
            wrong[name] = error if math.isfinite(error) else None
    return wrong
