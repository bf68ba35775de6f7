"""Owns the methods of `Histogram` that are exports and pictures, which the native class does not have.

Each imports what it needs when it is called. Functions here become methods of the class when the package is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorstats._core import Histogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import ColorType

    from tensorstats._core import Summary
    from tensorstats.export import TensorBoardHistogram

__all__: list[str] = []


def _to_uhi_(self: Histogram) -> dict[str, Any]:
    """The dict of UHI's serialisation, which hist and boost-histogram read. See `tensorstats.export.to_uhi`."""
    from tensorstats import export

    return export.to_uhi(self)


def to_tensorboard(self: Histogram, summary: Summary) -> TensorBoardHistogram:
    """TensorBoard's fields; the summary is of the same values. See `tensorstats.export.to_tensorboard`."""
    from tensorstats import export

    return export.to_tensorboard(self, summary)


def to_wandb(self: Histogram, summary: Summary | None = None) -> Any:
    """A `wandb.Histogram` of at most 512 bins that hold every finite value. See `tensorstats.export.to_wandb`."""
    from tensorstats import export

    return export.to_wandb(self, summary)


def to_opentelemetry(self: Histogram, scale: int = 0, summary: Summary | None = None) -> dict[str, Any]:
    """OpenTelemetry's exponential histogram as OTLP/JSON. See `tensorstats.export.to_opentelemetry`."""
    from tensorstats import export

    return export.to_opentelemetry(self, scale, summary)


def to_prometheus(self: Histogram, summary: Summary, schema: int = 0) -> dict[str, Any]:
    """Prometheus' native histogram by its protobuf names. See `tensorstats.export.to_prometheus`."""
    from tensorstats import export

    return export.to_prometheus(self, summary, schema)


def plot(
    self: Histogram,
    ax: Axes | None = None,
    *,
    scale: str = "auto",
    label: str | None = None,
    color: ColorType | None = None,
) -> Axes:
    """Draws the histogram on matplotlib axes and returns them. See `tensorstats.plot.histogram`."""
    from tensorstats import plot

    return plot.histogram(self, ax, scale=scale, label=label, color=color)


for _function in (_to_uhi_, to_tensorboard, to_wandb, to_opentelemetry, to_prometheus, plot):
    _function.__qualname__ = f"Histogram.{_function.__name__}"
    _function.__module__ = "tensorstats"
    setattr(Histogram, _function.__name__, _function)
