"""Exact statistics of tensors at memory speed, and a watcher for training loops.

Importing this package imports neither torch nor matplotlib; `watch` brings torch and `plot` matplotlib when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tensorstats import _methods as _methods
from tensorstats import axis
from tensorstats._arrays import DeviceError
from tensorstats._checks import CheckError, check
from tensorstats._core import __version__
from tensorstats._distance import distance
from tensorstats._formats import FormatFit
from tensorstats._fused import summary_and_histogram
from tensorstats._histogram import Histogram, histogram
from tensorstats._norms import norm, norms
from tensorstats._outside import Offender, RangeCounts, outside
from tensorstats._quantile import quantile
from tensorstats._settings import SimdLevel, ThreadCount, simd_level, thread_count
from tensorstats._summary import Summary, summary
from tensorstats._table import SummaryTable, summaries
from tensorstats._units import UnitActivity, unit_activity
from tensorstats._verdicts import all_between, is_finite

if TYPE_CHECKING:
    from tensorstats import export as export
    from tensorstats import plot as plot
    from tensorstats import rules as rules
    from tensorstats import torch as torch
    from tensorstats.preflight import preflight as preflight
    from tensorstats.torch import watch as watch

__all__ = [
    "CheckError",
    "DeviceError",
    "FormatFit",
    "Histogram",
    "Offender",
    "RangeCounts",
    "SimdLevel",
    "Summary",
    "SummaryTable",
    "ThreadCount",
    "UnitActivity",
    "__version__",
    "all_between",
    "axis",
    "check",
    "distance",
    "histogram",
    "is_finite",
    "norm",
    "norms",
    "outside",
    "quantile",
    "simd_level",
    "summaries",
    "summary",
    "summary_and_histogram",
    "thread_count",
    "unit_activity",
]

# Where users find them, and pickles too.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = "tensorstats"
del _name


def __getattr__(name: str) -> Any:
    if name in ("watch", "torch", "preflight"):
        try:
            room = importlib.import_module("tensorstats.preflight" if name == "preflight" else "tensorstats.torch")
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise ImportError(f"ts.{name} needs torch: pip install 'tensorstats[torch]'", name="torch") from None
        if name == "preflight":
            globals()[name] = room.preflight  # the import has put the room there, which is called alike
        return room if name == "torch" else getattr(room, name)
    if name in ("export", "plot", "rules"):
        return importlib.import_module(f"tensorstats.{name}")
    raise AttributeError(f"module 'tensorstats' has no attribute {name!r}")


def __dir__() -> list[str]:
    # These are not in `__all__`: `from tensorstats import *` must import neither torch nor matplotlib.
    return [*__all__, "export", "plot", "preflight", "rules", "torch", "watch"]
