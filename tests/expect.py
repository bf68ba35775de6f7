"""Compares a summary with the oracle, field by field, with the bounds that the package promises."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oracle import Oracle
    from tensorstats import Summary

COUNTS = (
    "count",
    "nan_count",
    "posinf_count",
    "neginf_count",
    "nonfinite_count",
    "finite_count",
    "zero_count",
    "negative_count",
    "positive_count",
    "subnormal_count",
)
EXTREMES = ("min", "max", "absmax", "absmin")
REALS = ("sum", "mean", "l1", "l2", "rms")


def field_bits(summary: Summary) -> dict[str, object]:
    """All results with floats as their bit patterns, so that equality means the same bits."""
    fields: dict[str, object] = {name: getattr(summary, name) for name in ("dtype", "moments", *COUNTS)}
    reals = {name: getattr(summary, name) for name in (*EXTREMES, *REALS)}
    for correction in (0, 1):
        reals[f"var({correction})"] = summary.var(correction=correction)
        reals[f"std({correction})"] = summary.std(correction=correction)
    if summary.moments == 4:
        reals["skewness"], reals["kurtosis"] = summary.skewness, summary.kurtosis
    for name, value in reals.items():
        if isinstance(value, int):
            fields[name] = value
        else:
            fields[name] = "nan" if math.isnan(value) else struct.pack("<d", value).hex()
    return fields


def assert_counts_and_extremes(summary: Summary, oracle: Oracle) -> None:
    """What is promised to be exact."""
    assert {name: getattr(summary, name) for name in COUNTS} == oracle.counts
    for name, expected in oracle.extremes.items():
        found = getattr(summary, name)
        if expected is None:
            assert math.isnan(found), f"{name}: {found!r}, where there is no such value"
        else:
            assert type(found) is type(expected), f"{name}: {found!r} is a {type(found).__name__}"
            assert found == expected, f"{name}: {found!r}, exact {expected!r}"


def assert_close(name: str, found: float, exact: Fraction, bound: Fraction) -> None:
    """``|found - exact| <= bound``, in exact arithmetic."""
    assert math.isfinite(found), f"{name}: {found!r}, exact {float(exact)!r}"
    error = abs(Fraction(found) - exact)
    assert error <= bound, f"{name}: {found!r}, exact {float(exact)!r}, error {float(error):.3e} > {float(bound):.3e}"


# Half a unit in the last place of the largest subnormal: what the final rounding to float64 may cost near zero.
ROUNDING_NEAR_ZERO = Fraction(1, 2**1075)
LARGEST_FLOAT = Fraction((2**53 - 1) * 2**971)


def assert_sums(summary: Summary, oracle: Oracle) -> None:
    """`sum`, `l1`, `l2`, `rms` within the promised bounds."""
    if oracle.finite_count == 0:
        assert all(math.isnan(getattr(summary, name)) for name in REALS)
        return
    if oracle.is_integer:
        assert (summary.sum, summary.l1) == (oracle.sum, oracle.l1)
        assert (type(summary.sum), type(summary.l1)) == (int, int)
    else:
        if oracle.dtype == "float64":
            sum_bound = abs(oracle.sum) / 2**52 + oracle.l1 / 10**28
        else:
            sum_bound = oracle.l1 * 4 / 10**14
        if abs(oracle.sum) <= LARGEST_FLOAT:
            assert_close("sum", summary.sum, oracle.sum, sum_bound + ROUNDING_NEAR_ZERO)
        if oracle.l1 <= LARGEST_FLOAT:
            assert_close("l1", summary.l1, oracle.l1, oracle.l1 * 4 / 10**14 + ROUNDING_NEAR_ZERO)
    for name, exact in (("l2", oracle.l2), ("rms", oracle.rms)):
        if exact <= LARGEST_FLOAT:
            assert_close(name, getattr(summary, name), exact, exact / 10**13 + ROUNDING_NEAR_ZERO)


def assert_moments(summary: Summary, oracle: Oracle) -> None:
    """`mean`, `var`, `std`, `skewness`, `kurtosis` within the promised bounds, where they apply."""
    if oracle.finite_count == 0:
        assert math.isnan(summary.mean)
        assert math.isnan(summary.var())
        assert math.isnan(summary.std())
        return
    if oracle.l1 <= LARGEST_FLOAT:
        # The bound of the sum, divided by the count, and one more rounding.
        bound = oracle.l1 * 4 / 10**14 / oracle.finite_count
        assert_close("mean", summary.mean, oracle.mean, bound + abs(oracle.mean) / 2**52 + ROUNDING_NEAR_ZERO)
    if oracle.second_moment == 0:
        assert summary.var() == 0
        assert summary.std() == 0
    if not oracle.is_well_conditioned:
        return
    for correction in (0, 1):
        exact = oracle.var(correction)
        assert_close(f"var({correction})", summary.var(correction=correction), exact, exact / 10**9)
        exact = oracle.std(correction)
        assert_close(f"std({correction})", summary.std(correction=correction), exact, exact / 10**9)
    if summary.moments == 4:
        # Both are ratios to powers of std, so an absolute error of the size of a rounding is left where they vanish.
        for name, value in (("skewness", oracle.skewness), ("kurtosis", oracle.kurtosis)):
            exact = Fraction(value)
            assert_close(name, getattr(summary, name), exact, abs(exact) / 10**6 + Fraction(1, 10**9))


def assert_matches(summary: Summary, oracle: Oracle) -> None:
    """Every field."""
    assert_counts_and_extremes(summary, oracle)
    assert_sums(summary, oracle)
    assert_moments(summary, oracle)
