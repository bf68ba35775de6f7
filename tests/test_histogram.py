"""Histograms against numpy, bit for bit where numpy answers, and against exact arithmetic where it does not."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorstats as ts
from conftest import LEVELS, THREADS
from oracle import FLOATS, Oracle
from samples import DTYPES, LAYOUTS, all_patterns, block_of, mixed, ordinary, random_bits
from tensorstats import _core

RANGES = [
    (64, (-4.0, 4.0)),
    (10, (-3.0, 3.0)),
    (7, (0.1, 0.7)),
    (1, (0.0, 2.0)),
    (100, (-60.0, 60.0)),
    (2000, (-50.3, 41.7)),
    (64, (0, 64)),
]


def as_float64(array: np.ndarray) -> np.ndarray:
    # ml_dtypes raises the invalid flag for NaN.
    with np.errstate(invalid="ignore"):
        return array.astype(np.float64)


def assert_numpy(h: ts.Histogram, array: np.ndarray, bins: object, range: tuple[float, float] | None = None) -> None:
    """Counts and edges of `numpy.histogram`, and what numpy drops."""
    values = as_float64(array).reshape(-1)
    counts, edges = np.histogram(values[np.isfinite(values)], bins, range)
    found, found_edges = h.to_numpy()
    assert found.dtype == np.int64
    assert found_edges.dtype == np.float64
    assert np.array_equal(found_edges, edges)
    assert np.array_equal(found, counts)
    assert h.underflow == np.sum(values < edges[0])
    assert h.overflow == np.sum(values > edges[-1])
    assert (h.nan_count, h.posinf_count, h.neginf_count) == (
        np.sum(np.isnan(values)),
        np.sum(values == np.inf),
        np.sum(values == -np.inf),
    )
    assert h.count == values.size
    assert h.count == found.sum() + h.underflow + h.overflow + h.nan_count


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("bins", "range"), RANGES)
def test_equals_numpy(dtype: str, bins: int, range: tuple[float, float]):
    array = mixed(dtype, 5000)
    assert_numpy(ts.histogram(array, bins=bins, range=range), array, bins, range)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_numpy_with_the_range_of_the_data(dtype: str):
    # 64-bit integers of the whole range are rounded by numpy, so they are kept below 2^53.
    array = ordinary(dtype, 5000)
    if array.dtype.itemsize == 8 and dtype != "float64":
        array = array >> 12
    assert_numpy(ts.histogram(array, bins=37), array, 37)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32", "int64"])
@pytest.mark.parametrize(("bins", "range"), [*RANGES, (16, (-1e-40, 1e-40)), (3, (1e6, 1e6 + 1)), (50, (-0.7, 0.0))])
def test_values_on_edges_and_beside_them(dtype: str, bins: int, range: tuple[float, float]):
    edges = np.linspace(*range, bins + 1)
    doubles = np.concatenate(
        [edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf), -edges, [0.0, -0.0, 5e-324, -5e-324]]
    )
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        array = doubles.astype(dtype)
    if dtype.startswith("float"):
        array = np.concatenate(
            [array, np.nextafter(array, array.dtype.type(np.inf)), np.nextafter(array, array.dtype.type(-np.inf))]
        )
    array = np.tile(array, 3)
    assert_numpy(ts.histogram(array, bins=bins, range=range), array, bins, range)
    assert_numpy(ts.histogram(array, ts.axis.Variable(edges)), array, edges)


@given(
    st.lists(st.floats(width=32) | st.floats(-10, 10, width=32), max_size=60),
    st.integers(1, 80),
    st.tuples(st.floats(-20, 20), st.floats(1e-3, 40)),
)
def test_equals_numpy_on_anything(values: list[float], bins: int, where: tuple[float, float]):
    range = (where[0], where[0] + where[1])
    for dtype in (np.float32, np.float64):
        array = np.array(values, dtype=dtype)
        assert_numpy(ts.histogram(array, bins=bins, range=range), array, bins, range)


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=40, unique=True),
    st.lists(st.floats(), max_size=60),
)
def test_variable_edges_equal_numpy(edges: list[float], values: list[float]):
    edges = sorted(set(edges) - {0.0}) or [0.0]
    if len(edges) < 2:
        return
    array = np.array(values + edges + [math.nextafter(e, math.inf) for e in edges])
    assert_numpy(ts.histogram(array, ts.axis.Variable(edges)), array, np.array(edges))


def test_tensorboard_edges():
    positive = 1e-12 * 1.1 ** np.arange(774)
    edges = np.concatenate([-positive[::-1], [0.0], positive])
    array = np.random.default_rng(0).standard_normal(20_000) ** 9
    assert_numpy(ts.histogram(array, ts.axis.Variable(edges)), array, edges)


@pytest.mark.parametrize(
    "axis",
    [ts.axis.Regular(10, -3, 3), ts.axis.Variable([-3, -0.1, 0, 2]), ts.axis.LogLinear(5), ts.axis.Linear(50)],
    ids=repr,
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_levels_and_threads_do_not_show(dtype: str, axis: ts.axis.Axis, restore_simd_level: None):
    block = block_of(dtype)
    for layout in LAYOUTS.values():
        array = layout(block)
        expected = ts.histogram(np.array(array, copy=True), axis, threads=1).to_bytes()
        for level in LEVELS:
            _core.set_simd_level(level)
            assert ts.histogram(array, axis).to_bytes() == expected
        _core.set_simd_level(None)


@pytest.mark.parametrize("axis", [ts.axis.Regular(64, -3, 3), ts.axis.LogLinear(6)], ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8", "int64"])
def test_thread_counts_do_not_show(dtype: str, axis: ts.axis.Axis):
    array = mixed(dtype, 3_000_000 if dtype != "uint8" else 6_000_000)
    states = {ts.histogram(array, axis, threads=threads).to_bytes() for threads in THREADS}
    assert len(states) == 1


# --- what numpy cannot do ---------------------------------------------------------------------------------------------


def test_nothing_constants_and_single_values():
    assert ts.histogram(np.zeros(0)).to_numpy()[1][[0, -1]].tolist() == [0.0, 1.0]
    assert ts.histogram(np.array([np.nan, np.inf])).edges[[0, -1]].tolist() == [0.0, 1.0]
    h = ts.histogram(np.float32(3.0), bins=5)
    assert_numpy(h, np.full(1, 3.0), 5)
    assert ts.histogram(np.full(100, 2.0), bins=4).edges.tolist() == [1.5, 1.75, 2.0, 2.25, 2.5]
    big = ts.histogram(np.full(7, 2.0**53), bins=64)
    assert (big.values().sum(), big.underflow, big.overflow) == (7, 0, 0)
    assert np.all(np.diff(big.edges) > 0)


@pytest.mark.parametrize(
    "values",
    [[3e38, -3e38, 0.0], [1.7e308, -1.7e308, 0.0], [1.7976931348623157e308] * 2, [1.0, 1.0 + 2**-52], [5e-324, 1e-323]],
    ids=str,
)
def test_data_for_which_numpy_gives_up(values: list[float]):
    h = ts.histogram(np.array(values), bins=64)
    assert np.all(np.isfinite(h.edges))
    assert np.all(np.diff(h.edges) > 0)
    assert (h.values().sum(), h.underflow, h.overflow) == (len(values), 0, 0)
    for x in values:
        at = min(int(np.searchsorted(h.edges, x, "right")) - 1, 63)
        assert h.values()[at] >= 1


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_integers_beyond_2_53_are_not_rounded_over_an_edge(dtype: str):
    base = 2**62
    values = [base + i for i in range(-3, 4100, 7)] + [0, np.iinfo(dtype).max]
    edges = np.linspace(float(base), float(base + 4096), 5)
    h = ts.histogram(np.array(values, dtype=dtype), bins=4, range=(float(base), float(base + 4096)))
    exact = [int(e) for e in edges]
    expected = [sum(a <= x < b for x in values) for a, b in pairwise(exact)]
    expected[-1] += sum(x == exact[-1] for x in values)
    assert h.values().tolist() == expected
    assert h.underflow == sum(x < exact[0] for x in values)
    extremes = ts.histogram(np.array(values, dtype=dtype), bins=9)
    assert (extremes.underflow, extremes.overflow, extremes.values().sum()) == (0, 0, len(values))


def test_known_wrong_answers_of_others():
    # torch.histc on float16 counts in float16: it says 2048.
    assert ts.histogram(np.zeros(100_000, np.float16), bins=1, range=(-1, 1)).values().tolist() == [100_000]
    # torch counts bfloat16 zeros as 512 of 100,000.
    zeros = np.zeros(100_000, ml_dtypes.bfloat16)
    assert ts.histogram(zeros, ts.axis.LogLinear(7)).zero_count == 100_000
    # numpy#20610: floating edges put 0.3 below 0.30000000000000004.
    array, edges = np.arange(0, 1, 0.01), np.arange(0, 1.1, 0.1)
    assert ts.histogram(array, ts.axis.Variable(edges)).values().tolist() == [10, 10, 11, 9, 10, 11, 9, 10, 10, 10]
    # numpy#8123: an edge rounded to float32 once gave a negative index.
    h = ts.histogram(np.array([-24.35791367], np.float32), bins=10, range=(-24.3579135, 0))
    assert (h.underflow, h.values().sum()) == (1, 0) or h.values()[0] == 1


# --- LogLinear --------------------------------------------------------------------------------------------------------


def exact_place(value: int, precision: int) -> tuple[int, int, int]:
    """Sign, power of two and leading bits below the highest one, by whole numbers."""
    power = abs(value).bit_length() - 1
    return 1 if value > 0 else -1, power, (abs(value) << precision >> power) - 2**precision


@pytest.mark.parametrize("precision", [0, 1, 6, 10])
@pytest.mark.parametrize("dtype", DTYPES)
def test_log_linear_against_fractions(dtype: str, precision: int):
    array = np.concatenate([mixed(dtype, 300), random_bits(dtype, 300, 1)])
    h = ts.histogram(array, ts.axis.LogLinear(precision))
    oracle = Oracle.of(array)
    expected: dict[tuple[int, int, int], int] = {}
    for value, times in oracle.values.items():
        if value != 0:
            sign, power, leading = exact_place(value, precision)
            place = sign, power - oracle.scale, leading
            expected[place] = expected.get(place, 0) + times
    state = h.to_dict()
    found = {}
    for place, times in zip(state["places"], state["counts"], strict=True):
        if place != 0:
            octave, leading = divmod(abs(place) - 1, 2**precision)
            found[(1 if place > 0 else -1, octave - 1074, leading)] = times
    assert found == expected
    assert h.zero_count == oracle.counts["zero_count"]
    assert h.count == array.size
    assert h.values().sum() == oracle.finite_count
    assert np.all(np.diff(h.edges) > 0) if oracle.finite_count else h.edges.tolist() == [0.0, 1.0]


def test_every_dtype_counts_the_same_value_into_the_same_bin():
    values = np.array([0.0, 1.0, -1.0, 3.0, -7.0, 96.0])
    forms = [
        np.float64,
        np.float32,
        np.float16,
        ml_dtypes.bfloat16,
        ml_dtypes.float8_e4m3fn,
        np.int64,
        np.int32,
        np.int16,
        np.int8,
    ]
    states = [ts.histogram(values.astype(form), ts.axis.LogLinear(10)) for form in forms]
    assert len({tuple(h.to_dict()["places"]) for h in states}) == 1
    total = sum(states[1:], start=states[0])
    assert total.values().sum() == len(forms) * values.size


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float32", "float64"])
def test_subnormals_have_bins_of_their_own(dtype: str):
    tiny = np.array([1, 2, 3, 5], dtype=f"u{np.dtype(mixed(dtype, 1).dtype).itemsize}").view(mixed(dtype, 1).dtype)
    h = ts.histogram(tiny, ts.axis.LogLinear(10))
    assert h.zero_count == 0
    assert sorted(h.values()[h.values() > 0].tolist()) == [1, 1, 1, 1]
    low = float(tiny[0]) if dtype != "float64" else 5e-324
    assert h.edges[0] == low


@pytest.mark.parametrize("precision", [10, 7, 3, 0])
def test_lower_precision_is_exact(precision: int):
    array = mixed("float32", 4000)
    h = ts.histogram(array, ts.axis.LogLinear(10))
    assert h.lower_precision(precision) == ts.histogram(array, ts.axis.LogLinear(precision))


def test_the_zero_bin_lies_between_the_signs():
    h = ts.histogram(np.array([-4.0, -1.0, 0.0, 0.0, 0.5]), ts.axis.LogLinear(0))
    assert h.edges.tolist() == [-8.0, -4.0, -2.0, -1.0, 0.5, 1.0]
    assert h.values().tolist() == [1, 0, 1, 2, 1]
    assert ts.histogram(np.zeros(3), ts.axis.LogLinear(4)).to_numpy()[1].tolist() == [-0.5, 0.5]
    assert ts.Histogram(ts.axis.LogLinear(4)).to_numpy()[1].tolist() == [0.0, 1.0]


# --- quantiles --------------------------------------------------------------------------------------------------------

QUANTILES = [0.0, 0.001, 0.25, 0.5, 0.75, 0.9, 0.999, 1.0]


@pytest.mark.parametrize("precision", [0, 3, 6, 10])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "float16"])
def test_quantiles_within_the_bound(dtype: str, precision: int):
    array = ordinary(dtype, 5001)
    h = ts.histogram(array, ts.axis.LogLinear(precision))
    right = np.quantile(as_float64(array), QUANTILES, method="inverted_cdf")
    found = h.quantile(QUANTILES)
    assert np.all(np.abs(found - right) <= np.abs(right) * 2.0 ** -(precision + 1))
    assert found.tolist() == [h.quantile(q) for q in QUANTILES]


@pytest.mark.parametrize(
    ("dtype", "precision"),
    [
        ("float16", 10),
        ("bfloat16", 7),
        ("float8_e4m3fn", 3),
        ("float8_e5m2", 2),
        ("uint8", 7),
        ("int8", 7),
        ("bool", 0),
    ],
)
def test_quantiles_of_narrow_dtypes_are_exact(dtype: str, precision: int):
    array = all_patterns(dtype) if dtype != "bool" else np.array([True, False, True])
    values = as_float64(array)
    values = values[~np.isnan(values)]
    h = ts.histogram(array, ts.axis.LogLinear(precision))
    grid = np.linspace(0, 1, 257)
    assert (
        h.quantile(grid).tolist()
        == np.sort(values)[np.maximum(np.ceil(grid * values.size).astype(int) - 1, 0)].tolist()
    )


@pytest.mark.parametrize(
    "array",
    [
        np.full(1000, 0.1),
        np.r_[np.zeros(900), np.full(100, 1e30)],
        np.geomspace(1e-300, 1e300, 999),
        np.r_[-1e-320, 5e-324, 1e-310],
    ],
    ids=["constant", "atoms", "whole-range", "subnormal"],
)
def test_adversarial_quantiles(array: np.ndarray):
    h = ts.histogram(array, ts.axis.LogLinear(6))
    right = np.quantile(array, QUANTILES, method="inverted_cdf")
    assert np.all(np.abs(h.quantile(QUANTILES) - right) <= np.abs(right) * 2.0**-7)


def test_quantiles_of_an_edge_table_are_off_by_a_bin_at_most():
    array = np.random.default_rng(0).standard_normal(10_001)
    h = ts.histogram(array, bins=100, range=(-6, 6))
    right = np.quantile(array, QUANTILES, method="inverted_cdf")
    assert np.all(np.abs(h.quantile(QUANTILES) - right) <= 0.12 + 1e-12)
    narrow = ts.histogram(array, bins=4, range=(-0.1, 0.1))
    assert (narrow.quantile(0.01), narrow.quantile(0.99)) == (-np.inf, np.inf)


def test_quantiles_of_nothing_and_of_infinities():
    assert math.isnan(ts.histogram(np.array([np.nan]), ts.axis.LogLinear(6)).quantile(0.5))
    h = ts.histogram(np.array([-np.inf, 1.0, np.inf, np.nan]), ts.axis.LogLinear(6))
    assert h.quantile([0, 0.5, 1]).tolist() == [-np.inf, h.quantile(0.5), np.inf]
    for q in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=rf"q must be in \[0, 1\], got: {'NaN' if q != q else q}"):
            h.quantile(q)


# --- the state --------------------------------------------------------------------------------------------------------

AXES = [
    ts.axis.Regular(10, -3.0, 3.0),
    ts.axis.Variable([-3.0, -0.1, 0.0, 2.0]),
    ts.axis.LogLinear(5),
    ts.axis.Linear(40),
]
axes = pytest.mark.parametrize("axis", AXES, ids=repr)


@axes
def test_pieces_merge_to_the_whole(axis: ts.axis.Axis):
    array = mixed("float32", 5000)
    whole = ts.histogram(array, axis)
    pieces = [ts.histogram(piece, axis) for piece in np.array_split(array, [0, 1, 777, 778, 4000])]
    total = ts.Histogram(axis)
    for piece in reversed(pieces):
        total += piece
    assert total == whole
    streamed = ts.Histogram(axis)
    for piece in np.array_split(array, 7):
        streamed.update(piece)
    assert streamed.to_bytes() == whole.to_bytes()


def test_only_equal_axes_merge():
    a = ts.histogram(np.ones(3), ts.axis.Regular(4, 0, 1))
    for other in (
        ts.axis.Regular(4, 0, 1.5),
        ts.axis.Regular(5, 0, 1),
        ts.axis.Variable([0, 0.25, 0.5, 0.75, 1]),
        ts.axis.LogLinear(3),
    ):
        with pytest.raises(ValueError, match=r"cannot merge histograms of different axes: Regular\(4, 0, 1\) and "):
            a + ts.Histogram(other)
    with pytest.raises(ValueError, match="LogLinear\\(3\\) and LogLinear\\(4\\)"):
        ts.Histogram(ts.axis.LogLinear(3)).merge(ts.Histogram(ts.axis.LogLinear(4)))


def test_repr_is_one_line_and_loud():
    h = ts.histogram(np.array([-5.0, 0.5, 0.5, 1.5, 9.0, np.nan, np.inf]), bins=2, range=(0, 2))
    assert repr(h) == "Histogram Regular(2) n=7 x∈[0 █▅ 2] underflow=1 overflow=1 NaN=1! +inf=1!"
    assert repr(ts.Histogram(ts.axis.LogLinear(6))) == "Histogram LogLinear(6) n=0"


def test_repr_is_logarithmic_where_equal_widths_would_be_one_spike():
    def bars_and_rest(values: np.ndarray) -> tuple[str, str]:
        shown = repr(ts.histogram(values, ts.axis.LogLinear(6)))
        low, bars, rest = shown[shown.index("[") + 1 :].split(" ", 2)
        return bars, f"{low} {rest}"

    bars, rest = bars_and_rest(np.linspace(-2, 2, 4096))
    assert (set(bars), rest) == ({"▇", "█"}, "-2.031 2.031]")
    wide = np.geomspace(1e-8, 1e8, 4096)
    for values, ends in ((wide, "9.90e-9 1.01e8"), (-wide, "-1.01e8 -9.90e-9"), (np.r_[-wide, wide], "-1.01e8 1.01e8")):
        bars, rest = bars_and_rest(values)
        # Every decade holds as many values.
        assert (len(bars), rest) == (16, f"{ends} log]")
        assert set(bars) <= {"▇", "█"}
    assert repr(ts.histogram(np.array([0.0, 0.0, 1.0]), ts.axis.LogLinear(6))).endswith(" zero=66.7%")


# --- axes -------------------------------------------------------------------------------------------------------------


@axes
def test_axes_are_values(axis: ts.axis.Axis):
    again = pickle.loads(pickle.dumps(axis))
    assert again == axis
    assert hash(again) == hash(axis)
    assert repr(again) == repr(axis)
    assert (
        eval(repr(axis), {name: getattr(ts.axis, name) for name in ("Regular", "Variable", "LogLinear", "Linear")})
        == axis
    )
    assert ts.Histogram(axis).axis == axis
    assert all(axis != other for other in AXES if other is not axis)
    assert axis != 3
    with pytest.raises(AttributeError):
        axis.bins = 3


@pytest.mark.parametrize(("bins", "start", "stop"), [(64, -4, 4), (10, 0, 1), (7, 0.1, 0.3), (1000, -1e300, 1e300)])
def test_regular_edges_are_numpys(bins: int, start: float, stop: float):
    axis = ts.axis.Regular(bins, start, stop)
    assert np.array_equal(axis.edges, np.linspace(start, stop, bins + 1))
    assert (axis.bins, axis.start, axis.stop, len(axis)) == (bins, start, stop, bins)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: ts.axis.Regular(0, 0, 1), ValueError, "bins must be in \\[1, 16777216\\], got: 0"),
        (lambda: ts.axis.Regular(2.5, 0, 1), TypeError, "bins must be a whole number, got: 2.5"),
        (lambda: ts.axis.Regular(4, 1, 1), ValueError, r"range must be finite and increasing, got: \(1, 1\)"),
        (lambda: ts.axis.Regular(4, 0, np.inf), ValueError, r"range must be finite and increasing, got: \(0, inf\)"),
        (lambda: ts.axis.Regular(64, 1, 1 + 2**-51), ValueError, "too many bins for the range: 64 bins"),
        (lambda: ts.axis.Regular(2**25, 0, 1), ValueError, r"bins must be in \[1, 16777216\], got: 33554432"),
        (lambda: ts.axis.Variable([1.0]), ValueError, "an axis needs at least two edges, got: 1"),
        (lambda: ts.axis.Variable([1.0, 1.0]), ValueError, "edges must increase, got: 1 followed by 1"),
        (lambda: ts.axis.Variable([1.0, np.nan]), ValueError, "edges must be finite, got: NaN"),
        (lambda: ts.axis.Variable([[1.0, 2.0]]), ValueError, r"edges must be one-dimensional, got shape: \(1, 2\)"),
        (lambda: ts.axis.LogLinear(11), ValueError, r"precision must be in \[0, 10\], got: 11"),
        (lambda: ts.axis.Linear(1), ValueError, r"bins must be in \[2, 16777216\], got: 1"),
        (lambda: ts.axis.Linear(2.5), TypeError, "bins must be a whole number, got: 2.5"),
        (lambda: ts.axis.LogLinear("6"), TypeError, "precision must be a whole number, got: '6'"),
        (
            lambda: ts.Histogram(10),
            TypeError,
            "axis must be an axis.Regular, axis.Variable, axis.LogLinear or axis.Linear, got: int",
        ),
        (lambda: ts.histogram(np.ones(3), 10), TypeError, "got: int"),
        (lambda: ts.histogram(np.ones(3), bins=0), ValueError, "bins must be in \\[1, 16777216\\], got: 0"),
        (lambda: ts.histogram(np.ones(3), AXES[0], range=(0, 1)), ValueError, "range is part of the axis"),
        (lambda: ts.histogram(np.ones(3), threads=0), ValueError, "threads must be in \\[1, 1024\\], got: 0"),
        (
            lambda: ts.Histogram(AXES[0]).lower_precision(3),
            ValueError,
            "only a LogLinear axis has a precision to lower",
        ),
        (
            lambda: ts.Histogram(AXES[2]).lower_precision(6),
            ValueError,
            r"can only be lowered to a value in \[0, 5\], got: 6",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: object, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        make()


def test_formats_known_to_the_bound_table():
    # The docstring of `quantile` names the precision at which each format is exact: its mantissa bits.
    assert {name: FLOATS[name].mantissa_bits for name in ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")} == {
        "float16": 10,
        "bfloat16": 7,
        "float8_e4m3fn": 3,
        "float8_e5m2": 2,
    }


@pytest.mark.parametrize("bins", [64, 100, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_many_values_on_edges_and_then_others_are_counted_as_numpy_does(bins: int, dtype: type):
    # Enough values for faster counters to be taken, and enough on edges to change from one kind to another.
    generator = np.random.default_rng(0)
    axis = ts.axis.Regular(bins, -400.0, 400.0)
    edges = np.linspace(-400.0, 400.0, bins + 1)
    on_edges = np.repeat(generator.permutation(np.tile(edges, 3)), 1500).astype(dtype)[:200_000]
    others = (generator.standard_normal(200_000) * 150).astype(dtype)
    state = ts.Histogram(axis)
    total = np.zeros(bins, np.int64)
    for values in (others, on_edges, others, on_edges[::-1].copy()):
        state.update(values, threads=1)
        total += np.histogram(values.astype(np.float64), edges)[0]
        assert np.array_equal(state.values(), total)
    whole = np.concatenate([others, on_edges, others, on_edges])
    assert ts.histogram(whole, axis, threads=1) == ts.histogram(whole, axis, threads=3) == state
