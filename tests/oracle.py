"""The obviously right and slow answers: exact integers and fractions from raw bits. Knows nothing of tensorstats.

Every finite value of a supported dtype is a whole number of its smallest subnormal, ``2**-scale``. The oracle turns a
bit pattern into that whole number, counts equal patterns, and does all further arithmetic in Python's unbounded
integers. Only the very last step, from a fraction to a float, rounds, and it rounds correctly.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class FloatFormat:
    """A binary float format: widths of its fields, and what its top exponent means."""

    exponent_bits: int
    mantissa_bits: int
    # IEEE: the top exponent holds infinity and NaN. OCP e4m3fn: only the all-ones pattern of both fields is NaN.
    ieee_specials: bool = True

    @property
    def bias(self) -> int:
        return 2 ** (self.exponent_bits - 1) - 1

    @property
    def scale(self) -> int:
        """Finite values are whole multiples of ``2**-scale``."""
        return self.bias - 1 + self.mantissa_bits


FLOATS = {
    "float16": FloatFormat(5, 10),
    "bfloat16": FloatFormat(8, 7),
    "float32": FloatFormat(8, 23),
    "float64": FloatFormat(11, 52),
    "float8_e4m3fn": FloatFormat(4, 3, ieee_specials=False),
    "float8_e5m2": FloatFormat(5, 2),
}
INTEGERS = {f"{sign}int{bits}": (bits, sign == "") for bits in (8, 16, 32, 64) for sign in ("", "u")}
NAN, POSITIVE_INFINITY, NEGATIVE_INFINITY = "nan", "+inf", "-inf"


def decode(bits: int, dtype: str) -> int | str:
    """One bit pattern as a whole number of ``2**-scale``, or the name of its class where it is not finite."""
    if dtype == "bool":
        return int(bits != 0)
    if dtype in INTEGERS:
        width, signed = INTEGERS[dtype]
        return bits - 2**width if signed and bits >= 2 ** (width - 1) else bits
    form = FLOATS[dtype]
    mantissa = bits & (2**form.mantissa_bits - 1)
    exponent = (bits >> form.mantissa_bits) & (2**form.exponent_bits - 1)
    negative = bits >> (form.mantissa_bits + form.exponent_bits) == 1
    if exponent == 2**form.exponent_bits - 1:
        if form.ieee_specials:
            if mantissa != 0:
                return NAN
            return NEGATIVE_INFINITY if negative else POSITIVE_INFINITY
        if mantissa == 2**form.mantissa_bits - 1:
            return NAN
    if exponent == 0:
        magnitude = mantissa
    else:
        magnitude = (mantissa + 2**form.mantissa_bits) << (exponent - 1)
    return -magnitude if negative else magnitude


def is_subnormal(bits: int, dtype: str) -> bool:
    """Whether a pattern has the exponent field of a subnormal and is not zero."""
    form = FLOATS.get(dtype)
    if form is None:
        return False
    magnitude_bits = bits & (2 ** (form.mantissa_bits + form.exponent_bits) - 1)
    return 0 < magnitude_bits < 2**form.mantissa_bits


def bits_of(array: np.ndarray) -> list[int]:
    """The bit patterns of an array's elements in logical order, whatever its strides."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(f"u{array.dtype.itemsize}").tolist()


def to_float(value: Fraction) -> float:
    """The nearest float64, and an infinity beyond its range."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def sqrt(value: Fraction) -> Fraction:
    """A square root good to 2^-200, relative."""
    if value == 0:
        return Fraction(0)
    # Shift until the quotient has at least 400 bits; its integer root then has 200.
    shift = max(0, 400 - value.numerator.bit_length() + value.denominator.bit_length())
    shift += shift % 2
    return Fraction(math.isqrt((value.numerator << shift) // value.denominator), 2 ** (shift // 2))


class Oracle:
    """Every field of a summary, exactly, from bit patterns."""

    def __init__(self, patterns: Iterable[int], dtype: str) -> None:
        self.dtype = dtype
        self.is_integer = dtype not in FLOATS
        # Values are counted as whole numbers of 2**-scale.
        self.scale = 0 if self.is_integer else FLOATS[dtype].scale
        self.patterns = Counter(patterns)
        decoded = {bits: decode(bits, dtype) for bits in self.patterns}
        self.classes = Counter[str]()
        self.values = Counter[int]()
        for bits, times in self.patterns.items():
            value = decoded[bits]
            if isinstance(value, str):
                self.classes[value] += times
            else:
                self.values[value] += times
        # Zeros that the bits of all values end in say nothing, and cost a lot in the fourth powers of values.
        zeros = min([(value & -value).bit_length() - 1 for value in self.values if value != 0], default=0)
        zeros = min(zeros, self.scale)
        self.scale -= zeros
        self.values = Counter({value >> zeros: times for value, times in self.values.items()})

    @classmethod
    def of(cls, array: np.ndarray) -> Oracle:
        """The oracle of a numpy array, `ml_dtypes` included."""
        return cls(bits_of(array), array.dtype.name)

    # --- counts ---
    @cached_property
    def counts(self) -> dict[str, int]:
        finite = sum(self.values.values())
        nonfinite = sum(self.classes.values())
        return {
            "count": finite + nonfinite,
            "nan_count": self.classes[NAN],
            "posinf_count": self.classes[POSITIVE_INFINITY],
            "neginf_count": self.classes[NEGATIVE_INFINITY],
            "nonfinite_count": nonfinite,
            "finite_count": finite,
            "zero_count": self.values[0],
            "negative_count": sum(times for value, times in self.values.items() if value < 0),
            "positive_count": sum(times for value, times in self.values.items() if value > 0),
            "subnormal_count": sum(t for bits, t in self.patterns.items() if is_subnormal(bits, self.dtype)),
        }

    @property
    def finite_count(self) -> int:
        return self.counts["finite_count"]

    def _unscale(self, value: int) -> Fraction:
        return Fraction(value, 2**self.scale)

    # --- extremes: a float for float dtypes, an int for the others, None where there is no such value ---
    @cached_property
    def extremes(self) -> dict[str, float | int | None]:
        magnitudes = [abs(value) for value in self.values]
        found = {
            "min": min(self.values, default=None),
            "max": max(self.values, default=None),
            "absmax": max(magnitudes, default=None),
            "absmin": min((magnitude for magnitude in magnitudes if magnitude > 0), default=None),
        }
        if self.is_integer:
            return dict(found)
        return {name: None if value is None else to_float(self._unscale(value)) for name, value in found.items()}

    # --- sums ---
    def _power_sum(self, power: int) -> int:
        return sum(value**power * times for value, times in self.values.items())

    @cached_property
    def sum(self) -> Fraction:
        return self._unscale(self._power_sum(1))

    @cached_property
    def l1(self) -> Fraction:
        return self._unscale(sum(abs(value) * times for value, times in self.values.items()))

    @cached_property
    def sum_of_squares(self) -> Fraction:
        return Fraction(self._power_sum(2), 4**self.scale)

    @cached_property
    def l2(self) -> Fraction:
        return sqrt(self.sum_of_squares)

    @cached_property
    def rms(self) -> Fraction:
        return sqrt(self.sum_of_squares / self.finite_count)

    # --- moments ---
    @cached_property
    def mean(self) -> Fraction:
        return self.sum / self.finite_count

    def _central(self, power: int) -> Fraction:
        """The mean of ``(x - mean)**power``, through ``n*x - sum(x)``, which is a whole number."""
        count, total = self.finite_count, self._power_sum(1)
        scaled = sum((count * value - total) ** power * times for value, times in self.values.items())
        return Fraction(scaled, count * (count * 2**self.scale) ** power)

    @cached_property
    def second_moment(self) -> Fraction:
        return self._central(2)

    def var(self, correction: int = 0) -> Fraction:
        return self.second_moment * self.finite_count / (self.finite_count - correction)

    def std(self, correction: int = 0) -> Fraction:
        return sqrt(self.var(correction))

    @cached_property
    def skewness(self) -> float:
        """Biased, as `scipy.stats.skew`."""
        third = self._central(3)
        size = sqrt(third**2 / self.second_moment**3)
        return to_float(size if third >= 0 else -size)

    @cached_property
    def kurtosis(self) -> float:
        """Biased and Fisher's, as `scipy.stats.kurtosis`."""
        return to_float(self._central(4) / self.second_moment**2 - 3)

    @cached_property
    def is_well_conditioned(self) -> bool:
        """Whether the promises on moments apply: ``|mean| / std <= 1e6``, and a variance that float64 can hold."""
        if self.finite_count < 2 or self.second_moment == 0:
            return False
        if self.mean**2 > 10**12 * self.second_moment:
            return False
        return Fraction(10) ** -290 < self.second_moment < Fraction(10) ** 290
