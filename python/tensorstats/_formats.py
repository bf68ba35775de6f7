"""Owns what is said about values in a narrower format; knows no array library. The native module makes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["FormatFit"]


@dataclass(frozen=True, slots=True, repr=False)
class FormatFit:
    """What values would be in a narrower format: each is multiplied by `scale` exactly and then rounded once.

    Rounding is to nearest, ties to even, as IEEE 754 and the OCP 8-bit formats have it. The six counts from `nonfinite`
    to `zero` add up to `count`.

    Attributes
    ----------
    format
        The name of the format.
    scale
        What values are multiplied by before they are rounded.
    count
        All values.
    nonfinite
        NaN and ±inf, which no scale changes.
    overflow
        Finite values that would round beyond the largest of the format: to an infinity, or in float8_e4m3fn, which has
        none, to whatever the conversion does then (NaN, or the largest value).
    normal
        Values that would be normal numbers, with all the digits of the format.
    subnormal
        Values that would be subnormal, with fewer digits.
    flushed
        Values that are not zero but would be.
    zero
        Values that are zero.
    """

    format: str
    scale: float
    count: int
    nonfinite: int
    overflow: int
    normal: int
    subnormal: int
    flushed: int
    zero: int

    def _fraction(self, count: int) -> float:
        return count / self.count if self.count else math.nan

    @property
    def overflow_fraction(self) -> float:
        """Share of all values that would overflow; NaN where there are none."""
        return self._fraction(self.overflow)

    @property
    def subnormal_fraction(self) -> float:
        """Share of all values that would be subnormal; NaN where there are none."""
        return self._fraction(self.subnormal)

    @property
    def flushed_fraction(self) -> float:
        """Share of all values that would be zero without being so now; NaN where there are none."""
        return self._fraction(self.flushed)

    def __repr__(self) -> str:
        name = self.format if self.scale == 1.0 else f"{self.format} (scale {self.scale:g})"
        if self.count == 0:
            return f"{name}: nothing counted"
        overflow, subnormal, flushed = (
            f"{100.0 * self._fraction(n):.3g}%" for n in (self.overflow, self.subnormal, self.flushed)
        )
        # Loud on purpose.
        nonfinite = f", {self.nonfinite} not finite!" if self.nonfinite else ""
        total = f"of n={self.count}{nonfinite}"
        return f"{name}: {overflow} overflow, {subnormal} subnormal, {flushed} flushed to zero {total}"
