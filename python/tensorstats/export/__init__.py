"""Histograms in the forms that other tools read; knows their formats, not their libraries.

`Histogram.to_tensorboard`, `to_wandb`, `to_opentelemetry`, `to_prometheus` and `_to_uhi_` are these functions. A
library is imported only where an object of its own is returned.
"""

from __future__ import annotations

from tensorstats.export.opentelemetry import to_opentelemetry
from tensorstats.export.prometheus import to_prometheus
from tensorstats.export.tensorboard import TensorBoardHistogram, to_tensorboard
from tensorstats.export.uhi import to_uhi
from tensorstats.export.wandb import to_wandb

__all__ = [
    "TensorBoardHistogram",
    "to_opentelemetry",
    "to_prometheus",
    "to_tensorboard",
    "to_uhi",
    "to_wandb",
]
