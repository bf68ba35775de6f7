"""The axes of histograms: how values are put into bins. The classes are native; this is their public place."""

from __future__ import annotations

from typing import TypeAlias

from tensorstats._bins import Bins, Traits
from tensorstats._core import Linear, LogLinear, Regular, Variable

__all__ = ["Axis", "Bins", "Linear", "LogLinear", "Regular", "Traits", "Variable"]

# Where users find them, and pickles too.
Bins.__module__ = Traits.__module__ = __name__

Axis: TypeAlias = Regular | Variable | LogLinear | Linear
