"""Exact statistics of tensors at memory speed, and a watcher for training loops.

Importing this package imports neither torch nor matplotlib; `watch` brings torch when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorstats import axis
from tensorstats._checks import CheckError, check
from tensorstats._core import __version__
from tensorstats._fused import summary_and_histogram
from tensorstats._histogram import Histogram, histogram
from tensorstats._norms import norm, norms
from tensorstats._settings import SimdLevel, ThreadCount, simd_level, thread_count
from tensorstats._summary import Summary, summary
from tensorstats._table import SummaryTable, summaries
from tensorstats._units import UnitActivity, unit_activity
from tensorstats._verdicts import all_between, is_finite

if TYPE_CHECKING:
    from tensorstats.torch import watch as watch

__all__ = [
    "CheckError",
    "Histogram",
    "SimdLevel",
    "Summary",
    "SummaryTable",
    "ThreadCount",
    "UnitActivity",
    "__version__",
    "all_between",
    "axis",
    "check",
    "histogram",
    "is_finite",
    "norm",
    "norms",
    "simd_level",
    "summaries",
    "summary",
    "summary_and_histogram",
    "thread_count",
    "unit_activity",
]


def __getattr__(name: str) -> Any:
    if name == "watch":
        from tensorstats.torch import watch

        return watch
    raise AttributeError(f"module 'tensorstats' has no attribute {name!r}")


def __dir__() -> list[str]:
    # `watch` is not in `__all__`: `from tensorstats import *` must not import torch.
    return [*__all__, "watch"]
