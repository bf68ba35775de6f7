"""Exports of histograms without the libraries they are for: every count arrives, in the bucket that holds its value."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

import tensorstats as ts
from samples import mixed
from tensorstats.export._bins import FiniteBins, at_most, without_empty_runs
from tensorstats.export._exponential import Buckets
from tensorstats.export.prometheus import spans
from tensorstats.export.wandb import wandb_bins

AXES = [
    ts.axis.Regular(10, -3.0, 3.0),
    ts.axis.Variable([-3.0, -0.1, 0.0, 2.0]),
    *(ts.axis.LogLinear(p) for p in (0, 2, 6)),
]
axes = pytest.mark.parametrize("axis", AXES, ids=repr)
LOSSLESS = [("float16", 10), ("bfloat16", 7), ("float8_e4m3fn", 3), ("float8_e5m2", 2), ("int8", 7), ("uint8", 7)]


def pair(array: np.ndarray, axis: ts.axis.Axis) -> tuple[ts.Histogram, ts.Summary]:
    return ts.histogram(array, axis), ts.summary(array)


def finite(array: np.ndarray) -> np.ndarray:
    # ml_dtypes raises the invalid flag for NaN.
    with np.errstate(invalid="ignore"):
        values = array.astype(np.float64).reshape(-1)
    return values[np.isfinite(values)]


# --- bins with edges --------------------------------------------------------------------------------------------------


@axes
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "bfloat16"])
def test_tensorboard_buckets_hold_their_values(dtype: str, axis: ts.axis.Axis):
    array = mixed(dtype, 3000)
    h, s = pair(array, axis)
    fields = h.to_tensorboard(s)
    values = finite(array)
    assert (fields.num, sum(fields.bucket)) == (values.size, values.size)
    assert (fields.min, fields.max) == (values.min(), values.max())
    assert fields.sum == s.sum
    assert fields.sum_squares == s.l2 * s.l2
    assert len(fields.bucket) == len(fields.bucket_limit)
    assert fields.bucket[0] == 0
    assert fields.bucket[1] > 0
    assert fields.bucket[-1] > 0
    # No two empty buckets in a row, but for the leading one.
    assert all(a > 0 or b > 0 for a, b in itertools.pairwise(fields.bucket[1:]))
    edges = np.array(fields.bucket_limit)
    assert np.all(np.diff(edges) > 0)
    log = isinstance(axis, ts.axis.LogLinear)
    assert_counted(values, edges, fields.bucket[1:], log=log, closed=None if log else axis.edges[-1])


def assert_counted(
    values: np.ndarray, edges: np.ndarray, counts: list[float], *, log: bool, closed: float | None = None
) -> None:
    """Bins are closed below, those of negative values of a log-linear axis above; the last of an axis on both sides."""
    side = np.searchsorted(edges, values, "right") - 1 - (values == closed)
    if log:
        side = np.where(values < 0, np.searchsorted(edges, values, "left") - 1, side)
    places = np.clip(side, 0, len(edges) - 2)
    assert np.bincount(places, minlength=len(edges) - 1).tolist() == counts


@axes
def test_tensorboard_tensor(axis: ts.axis.Axis):
    array = mixed("float32", 2000)
    fields = ts.histogram(array, axis).to_tensorboard(ts.summary(array))
    tensor = fields.to_tensor()
    assert tensor.dtype == np.float64
    assert tensor[0, 0] == fields.min
    assert tensor[-1, 1] == fields.max
    assert np.array_equal(tensor[1:, 0], tensor[:-1, 1])
    assert tensor[:, 2].tolist() == fields.bucket[1:]


@axes
@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, -math.inf, math.nan]], ids=["empty", "nan", "infinite"])
def test_nothing_finite(axis: ts.axis.Axis, values: list[float]):
    h, s = pair(np.array(values), axis)
    assert h.to_tensorboard(s) == (0, 0, 0, 0, 0, [0], [0])
    assert h.to_tensorboard(s).to_tensor().shape == (0, 3)
    assert [part.tolist() for part in wandb_bins(h)] == [[0, 1], [0]]
    if isinstance(axis, ts.axis.LogLinear):
        point = h.to_opentelemetry(0, s)
        nothing = {"offset": 0, "bucketCounts": []}
        assert (point["count"], point["positive"], point["negative"], point["sum"]) == ("0", nothing, nothing, 0)
        assert "min" not in point
        native = h.to_prometheus(s)
        assert native["sample_count"] == len(values)
        if not any(math.isinf(x) for x in values):
            assert native["positive_span"] == [{"offset": 0, "length": 0}]


@axes
@pytest.mark.parametrize(
    "array",
    [np.array([3.0]), np.zeros(4), np.full(5, 7.25, np.float32), np.array([2**53 + 1, 2**62], np.int64)],
    ids=["one", "zeros", "constant", "big integers"],
)
def test_few_values(axis: ts.axis.Axis, array: np.ndarray):
    h, s = pair(array, axis)
    fields = h.to_tensorboard(s)
    assert (sum(fields.bucket), fields.num) == (array.size, array.size)
    assert np.all(np.diff(fields.bucket_limit) > 0)
    assert wandb_bins(h, s).counts.sum() == array.size


def test_the_extreme_rounded_onto_the_edge_keeps_its_bin():
    # 2^53 + 1 is above the last edge and rounds to it.
    array = np.array([1, 2**53 + 1], np.int64)
    fields = ts.histogram(array, bins=2, range=(0, 2**53)).to_tensorboard(ts.summary(array))
    assert fields.bucket == [0, 1, 0, 1]
    assert fields.bucket_limit[-1] == 2**53 + 2


def test_a_summary_of_other_values_is_refused():
    array = np.array([1.0, np.nan])
    h = ts.histogram(array, ts.axis.LogLinear(6))
    for other in (ts.summary(array[:1]), ts.summary(np.array([1.0, np.inf]))):
        for export in (
            lambda s: h.to_tensorboard(s),
            lambda s: wandb_bins(h, s),
            lambda s: h.to_opentelemetry(0, s),
            lambda s: h.to_prometheus(s),
        ):
            with pytest.raises(ValueError, match=r"summary must be of the values in the histogram, got: a summary of "):
                export(other)
    message = r"a summary of 1 values \(0 NaN, 0 \+inf, 0 -inf\) for a histogram of 2 values \(1 NaN, 0 \+inf, 0 -inf\)"
    with pytest.raises(ValueError, match=message):
        h.to_tensorboard(ts.summary(array[:1]))


def test_counts_beyond_float32_arrive():
    h = ts.histogram(np.ones(1, np.float32), ts.axis.LogLinear(6))
    s = ts.summary(np.ones(1, np.float32))
    for _ in range(25):
        h, s = h + h, s + s
    h.update(np.ones(1))
    s.update(np.ones(1))
    count = 2**25 + 1
    assert h.to_tensorboard(s).bucket == [0, count]
    assert h.to_tensorboard(s).to_tensor()[0, 2] == count
    assert h.to_opentelemetry()["negative"]["bucketCounts"] == []
    assert h.to_opentelemetry()["count"] == str(count)
    assert h.to_prometheus(s)["positive_delta"] == [count]


# --- at most so many bins ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [1, 512, 513, 1549, 4096, 100_003])
def test_wandb_merges_bins_and_drops_none(bins: int):
    array = np.random.default_rng(bins).standard_normal(20_000)
    h, s = pair(array, ts.axis.Regular(bins, -2.0, 2.0))
    merged = wandb_bins(h, s)
    assert 1 <= len(merged.counts) <= 512
    assert merged.counts.dtype == np.int64
    assert (merged.counts.sum(), merged.edges[0], merged.edges[-1]) == (array.size, array.min(), array.max())
    assert set(merged.edges[1:-1]) <= set(h.edges)
    assert_counted(array, merged.edges, merged.counts.tolist(), log=False)


@pytest.mark.parametrize("precision", range(11))
def test_wandb_lowers_the_precision_of_log_linear_axes(precision: int):
    array = np.random.default_rng(0).standard_normal(20_000).astype(np.float32) ** 3
    merged = wandb_bins(ts.histogram(array, ts.axis.LogLinear(precision)))
    assert len(merged.counts) <= 512
    assert merged.counts.sum() == array.size
    # Some lower precision made these edges, so powers of two stand among them wherever values do.
    inner = np.abs(merged.edges[(merged.edges != 0)])
    mantissas, _ = np.frexp(inner)
    assert np.all(mantissas * 2**11 % 1 == 0)
    assert_counted(array.astype(np.float64), merged.edges, merged.counts.tolist(), log=True)


def test_wandb_with_every_octave_of_float64():
    array = np.concatenate([sign * np.ldexp(1.0, np.arange(-1074, 1024)) for sign in (-1, 1)])
    merged = wandb_bins(ts.histogram(array, ts.axis.LogLinear(3)))
    assert len(merged.counts) <= 512
    assert merged.counts.sum() == array.size
    assert np.all(np.isfinite(merged.edges))


def test_wandb_needs_the_summary_when_values_lie_outside():
    h = ts.histogram(np.array([-9.0, 0.5, np.inf]), bins=2, range=(0, 1))
    with pytest.raises(ValueError, match=r"got: None with 1 finite values below 0 and 0 above 1"):
        wandb_bins(h)


def test_empty_runs_become_one_bin_and_ends_vanish():
    bins = FiniteBins(np.arange(10.0), np.array([0, 0, 3, 0, 0, 0, 1, 2, 0]))
    edges, counts = without_empty_runs(bins)
    assert edges.tolist() == [2, 3, 6, 7, 8]
    assert counts.tolist() == [3, 0, 1, 2]
    assert [part.tolist() for part in at_most(FiniteBins(edges, counts), 2)] == [[2, 6, 8], [3, 3]]
    assert [part.tolist() for part in at_most(FiniteBins(edges, counts), 3)] == [[2, 6, 8], [3, 3]]


# --- exponential buckets ----------------------------------------------------------------------------------------------


def exact_index(magnitude: Fraction, scale: int) -> int:
    """The `i` with `base^i < magnitude <= base^(i + 1)`, by whole numbers alone."""
    if scale < 0:
        return exact_index(magnitude, 0) >> -scale
    power = magnitude ** (1 << scale)
    i = power.numerator.bit_length() - power.denominator.bit_length()
    while Fraction(2) ** i >= power:
        i -= 1
    while Fraction(2) ** (i + 1) < power:
        i += 1
    return i


def buckets(side: dict) -> dict[int, int]:
    return {side["offset"] + i: int(n) for i, n in enumerate(side["bucketCounts"]) if n != "0"}


def expected(values: np.ndarray, scale: int) -> dict[int, int]:
    counted: dict[int, int] = {}
    for value, times in zip(*np.unique(np.abs(values), return_counts=True), strict=True):
        i = exact_index(Fraction(float(value)), scale)
        counted[i] = counted.get(i, 0) + int(times)
    return counted


def test_the_oracle_of_indices():
    # Of the specification: 1 is the upper end of bucket -1, and scale 1 has bounds at powers of the root of two.
    assert [exact_index(Fraction(x), 0) for x in (1, 2, 3, 4, 5)] == [-1, 0, 1, 1, 2]
    assert [exact_index(Fraction(x), 1) for x in (1, 2)] == [-1, 1]
    assert exact_index(Fraction(math.nextafter(math.sqrt(2), 0)), 1) == 0
    assert exact_index(Fraction(math.nextafter(math.sqrt(2), 2)), 1) == 1
    assert [exact_index(Fraction(x), -1) for x in (1, 4, 5, 16, 17)] == [-1, 0, 1, 1, 2]


@pytest.mark.parametrize(("dtype", "precision"), LOSSLESS)
@pytest.mark.parametrize("scale", [-10, -2, -1, 0, 1, 2, 3, 7, 10])
def test_one_value_a_bin_is_exact_at_every_scale(dtype: str, precision: int, scale: int):
    array = mixed(dtype, 2000)
    h = ts.histogram(array, ts.axis.LogLinear(precision))
    if scale > precision:
        with pytest.raises(ValueError, match=rf"scale must be in \[-10, {precision}\] for LogLinear"):
            h.to_opentelemetry(scale)
        return
    point = h.to_opentelemetry(scale)
    values = finite(array)
    assert buckets(point["positive"]) == expected(values[values > 0], scale)
    assert buckets(point["negative"]) == expected(values[values < 0], scale)
    assert int(point["zeroCount"]) == np.sum(values == 0)
    assert int(point["count"]) == values.size


@pytest.mark.parametrize("precision", [0, 3, 6, 10])
@pytest.mark.parametrize("scale", [-3, -1, 0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_octaves_are_exact_but_for_powers_of_two(dtype: str, precision: int, scale: int):
    array = mixed(dtype, 2000)
    values = finite(array)
    mantissas, _ = np.frexp(np.abs(values))
    powers, others = values[mantissas == 0.5], values[(mantissas != 0.5)]
    assert powers.size > 0
    point = ts.histogram(array, ts.axis.LogLinear(precision)).to_opentelemetry(scale)
    for side, sign in (("positive", 1), ("negative", -1)):
        counted = expected(others[others * sign > 0], scale)
        for power in powers[powers * sign > 0]:
            # The bucket whose lower end it is.
            i = (math.frexp(abs(power))[1] - 1) >> -scale
            counted[i] = counted.get(i, 0) + 1
        assert buckets(point[side]) == counted


@pytest.mark.parametrize(("precision", "scale"), [(3, 1), (3, 3), (6, 3), (6, 6), (10, 8)])
def test_finer_buckets_are_off_by_half_a_bin_at_most(precision: int, scale: int):
    values = np.random.default_rng(0).lognormal(0, 3, 3000).astype(np.float32).astype(np.float64)
    found = buckets(ts.histogram(values, ts.axis.LogLinear(precision)).to_opentelemetry(scale)["positive"])
    slack = 2.0 ** -(precision + 1) * (1 + 1e-9)
    low = np.array([exact_index(Fraction(float(x * (1 - slack))), scale) for x in values])
    high = np.array([exact_index(Fraction(float(x * (1 + slack))), scale) for x in values])
    assert sum(found.values()) == values.size
    for i in range(min(found), max(found) + 1):
        # As many values as surely lie up to bucket i, and at most as many as may.
        below = sum(n for j, n in found.items() if j <= i)
        assert np.sum(high <= i) <= below <= np.sum(low <= i)


def test_opentelemetry_tells_of_the_summary():
    h, s = pair(np.array([0.5, 2.0, np.nan]), ts.axis.LogLinear(6))
    assert {"sum": 2.5, "min": 0.5, "max": 2.0}.items() <= h.to_opentelemetry(summary=s).items()
    h, s = pair(np.array([0.5, -2.0, np.inf]), ts.axis.LogLinear(6))
    point = h.to_opentelemetry(summary=s)
    # A sum that may fall is not allowed.
    assert "sum" not in point
    assert (point["min"], point["max"], point["count"]) == (-2.0, 0.5, "2")
    assert not {"min", "max", "sum"} & h.to_opentelemetry().keys()


def test_spans_of_the_specification():
    buckets_of_it = {-2: 3, -1: 5, 2: 1, 4: 3, 5: 2}
    found = spans(Buckets(np.array([*buckets_of_it]), np.array([*buckets_of_it.values()])))
    offsets = [(span["offset"], span["length"]) for span in found[0]]
    assert (offsets, found[1]) == ([(-2, 2), (2, 1), (1, 2)], [3, 2, -4, 2, -1])


def native_buckets(native: dict, side: str) -> dict[int, int]:
    """Reads spans and deltas as the specification says."""
    counted, index, total, deltas = {}, 0, 0, iter(native[f"{side}_delta"])
    for span in native[f"{side}_span"]:
        index += span["offset"]
        for _ in range(span["length"]):
            total += next(deltas)
            counted[index] = total
            index += 1
    assert next(deltas, None) is None
    return counted


@pytest.mark.parametrize("schema", [-4, -1, 0, 2, 5])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_prometheus_has_the_buckets_of_opentelemetry_one_higher(dtype: str, schema: int):
    array = mixed(dtype, 2000)
    h, s = pair(array, ts.axis.LogLinear(6))
    native, point = h.to_prometheus(s, schema), h.to_opentelemetry(schema)
    overflow = math.ceil(1024 * 2**schema) + 1
    for side, infinite in (("positive", h.posinf_count), ("negative", h.neginf_count)):
        counted = {i + 1: n for i, n in buckets(point[side]).items()}
        assert native_buckets(native, side) == counted | ({overflow: infinite} if infinite else {})
    in_buckets = sum(sum(native_buckets(native, side).values()) for side in ("positive", "negative"))
    # What is missing from the buckets is NaN, and the sum says so: Prometheus refuses any other difference.
    assert native["sample_count"] - in_buckets - native["zero_count"] == h.nan_count
    assert math.isnan(native["sample_sum"]) == (h.nan_count > 0 or (h.posinf_count > 0 and h.neginf_count > 0))
    assert native["zero_threshold"] == 0


@pytest.mark.parametrize(
    ("values", "total"),
    [([1.0, 2.0], 3), ([1.0, np.inf], math.inf), ([1.0, -np.inf], -math.inf), ([np.inf, -np.inf], math.nan), ([], 0)],
)
def test_prometheus_sum_is_that_of_adding_up(values: list[float], total: float):
    h, s = pair(np.array(values), ts.axis.LogLinear(6))
    assert str(h.to_prometheus(s)["sample_sum"]) == str(float(total))


def test_what_cannot_be_is_refused():
    h, s = pair(np.ones(3), ts.axis.Regular(3, 0, 1))
    for export in (h.to_opentelemetry, lambda: h.to_prometheus(s)):
        with pytest.raises(TypeError, match=r"made from a LogLinear axis, got: Regular\(3, 0.0, 1.0\)"):
            export()
    h = ts.histogram(np.ones(3), ts.axis.LogLinear(10))
    for schema in (-5, 9):
        with pytest.raises(ValueError, match=rf"schema must be in \[-4, 8\] for LogLinear\(10\), got: {schema}"):
            h.to_prometheus(s, schema)
