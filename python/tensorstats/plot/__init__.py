"""Pictures of histograms and units on matplotlib axes; needs the extra `plot`."""

from __future__ import annotations

from tensorstats.plot.histogram import histogram
from tensorstats.plot.ridgeline import ridgeline
from tensorstats.plot.units import units

__all__ = ["histogram", "ridgeline", "units"]
