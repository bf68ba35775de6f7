"""One maker for each kind of state, for the tests of what all states share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensorstats as ts
from samples import mixed

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS: dict[str, Callable[[], Any]] = {
    "summary": ts.Summary,
    "summary-4-moments": lambda: ts.Summary(moments=4),
    "histogram-regular": lambda: ts.Histogram(ts.axis.Regular(16, -3.0, 3.0)),
    "histogram-variable": lambda: ts.Histogram(ts.axis.Variable([-3.0, -0.1, 0.0, 0.2, 5.0])),
    "histogram-log-linear": lambda: ts.Histogram(ts.axis.LogLinear(4)),
    "histogram-linear": lambda: ts.Histogram(ts.axis.Linear(32)),
    "unit-activity": lambda: ts.UnitActivity(1),
    "unit-activity-saturation": lambda: ts.UnitActivity(1, saturation=(-1.0, 1.0)),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Rows of eight columns, which are the units of a `UnitActivity`."""
    return mixed("float32", 8 * count, seed).reshape(count, 8)


def updated(kind: str, *counts: int) -> Any:
    state = KINDS[kind]()
    for seed, count in enumerate(counts):
        state.update(rows(count, seed))
    return state
