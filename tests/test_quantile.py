"""Exact quantiles against numpy bit for bit; quantiles and cumulative shares of histograms within their bounds."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorstats as ts
from conftest import LEVELS, THREADS
from oracle import Oracle
from samples import DTYPES, LAYOUTS, NARROW_FLOATS, all_patterns, block_of, mixed, ordinary, random_bits
from tensorstats import _core

SHARES = np.concatenate([np.linspace(0, 1, 33), np.random.default_rng(0).random(20), [1e-9, 1 - 1e-9]])


def as_float64(array: np.ndarray) -> np.ndarray:
    """The values as float64 (rounded to the nearest), NaN left out."""
    # ml_dtypes raises the invalid flag for NaN.
    with np.errstate(invalid="ignore"):
        values = array.reshape(-1).astype(np.float64)
    return values[~np.isnan(values)]


def assert_numpy(array: np.ndarray, shares: np.ndarray = SHARES) -> None:
    """The same float64 numbers as numpy's, but where infinities or overflow make numpy's NaN or infinite."""
    values = as_float64(array)
    found = ts.quantile(array, shares)
    if values.size == 0:
        assert np.isnan(found).all()
        return
    with np.errstate(all="ignore"):
        right = np.quantile(values, shares)
    plain = np.isfinite(right)
    assert np.array_equal(found[plain], right[plain])
    # Between the neighbours in any case.
    places = shares * (values.size - 1)
    values.sort()
    low = values[np.floor(places).astype(int)]
    high = values[np.minimum(np.floor(places).astype(int) + 1, values.size - 1)]
    opposite = (low == -math.inf) & (high == math.inf)
    assert np.all(np.isnan(found) <= opposite)
    # A rounded difference may lead a little past the neighbour.
    with np.errstate(all="ignore"):
        past = np.abs(found - np.clip(found, low, high)) <= np.spacing(np.maximum(np.abs(low), np.abs(high)))
    assert np.all(((low <= found) & (found <= high)) | opposite | past)


# --- ts.quantile ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 3, 100, 4097, 70_001])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_numpy(dtype: str, size: int):
    assert_numpy(ordinary(dtype, size))
    assert_numpy(mixed(dtype, size))
    assert_numpy(random_bits(dtype, size, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint64", "int32"])
def test_equals_numpy_where_every_pass_is_needed(dtype: str):
    """More values in one bin than are kept: alike but for their last bits, or all the same but a few."""
    random = np.random.default_rng(4)
    noise = random.integers(0, 1000, 200_000).astype(np.uint64)
    base = {"float32": 0x3F800000, "float64": 0x3FF0000000000000}.get(dtype, 1 << 30)
    bits = (noise + np.uint64(base)).astype(f"u{np.dtype(dtype).itemsize}")
    close = bits.view(dtype)
    for array in (close, close * close.dtype.type(3), np.concatenate([close[:7], np.full(150_000, close[9])])):
        assert_numpy(array)
    if not dtype.startswith("u"):
        assert_numpy(np.concatenate([-close, close[:50_000]]))
    assert_numpy(close[:100_000], np.random.default_rng(5).random(700))


@pytest.mark.parametrize("dtype", [*NARROW_FLOATS, "uint8", "int8", "int16", "uint16"])
def test_every_pattern_of_the_narrow_dtypes(dtype: str):
    assert_numpy(all_patterns(dtype), np.linspace(0, 1, 1025))


@given(st.lists(st.floats(), max_size=40), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_equals_numpy_on_anything(values: list[float], shares: list[float]):
    assert_numpy(np.array(values), np.array(shares))
    with np.errstate(over="ignore", under="ignore"):
        assert_numpy(np.array(values, dtype=np.float32), np.array(shares))


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_levels_and_threads_do_not_show(dtype: str, restore_simd_level: None):
    block = block_of(dtype)
    for layout in LAYOUTS.values():
        view = layout(block)
        expected = ts.quantile(np.ascontiguousarray(view), SHARES).tobytes()
        for level in LEVELS:
            _core.set_simd_level(level)
            assert ts.quantile(view, SHARES).tobytes() == expected
        _core.set_simd_level(None)


@pytest.mark.parametrize("threads", THREADS)
def test_threads_do_not_show(threads: int):
    x = np.random.default_rng(6).standard_normal(2_500_003)
    for array in (x, x.astype(np.float32), np.round(x, 2)):
        found = ts.quantile(array, [0.1, 0.5, 0.999], threads=threads)
        assert found.tolist() == ts.quantile(array, [0.1, 0.5, 0.999], threads=1).tolist()


def test_infinities_and_zeros():
    inf = math.inf
    x = np.array([-inf, -inf, -0.0, 0.0, 1.0, inf, math.nan])
    assert ts.quantile(x, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]).tolist() == [-inf, -inf, 0.0, 0.0, 1.0, inf]
    assert ts.quantile(x, [0.3, 0.9]).tolist() == [-inf, inf]
    assert math.copysign(1, ts.quantile(np.array([-0.0]), 0.5)) == 1
    assert ts.quantile(np.array([1.0, inf]), 0.0) == 1.0  # numpy: NaN
    assert math.isnan(ts.quantile(np.array([-inf, inf]), 0.5))


def test_no_overflow_between_far_neighbours():
    limit = float(np.finfo(np.float64).max)
    x = np.array([-limit, limit])
    assert ts.quantile(x, [0.0, 0.5, 1.0]).tolist() == [-limit, 0.0, limit]
    assert ts.quantile(x, 0.75) == pytest.approx(limit / 2)


def test_subnormals_of_a_caller_that_flushes_them():
    torch = pytest.importorskip("torch", reason="torch sets the processor's mode")
    x = np.array([5e-324, 1e-310, -1e-320, 2e-310], dtype=np.float64)
    singles = np.array([1e-45, 1e-40, -3e-42], dtype=np.float32)
    expected = [np.quantile(array.astype(np.float64), SHARES).tobytes() for array in (x, singles)]
    axis = ts.axis.Linear(8)
    plain = [ts.histogram(array, axis).to_bytes() for array in (x, singles)]
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU has no mode that flushes subnormals")
    try:
        found = [ts.quantile(array, SHARES).tobytes() for array in (x, singles)]
        states = [ts.histogram(array, axis) for array in (x, singles)]
        flushed = [h.to_bytes() for h in states]
        edges = [h.edges for h in states]
        medians = [h.median for h in states]
    finally:
        torch.set_flush_denormal(False)
    assert found == expected
    assert flushed == plain
    for h, kept, median in zip(states, edges, medians, strict=True):
        assert kept.tobytes() == h.edges.tobytes()
        assert median == h.median


def test_the_form_of_the_shares_is_that_of_the_result():
    x = np.arange(5.0)
    assert type(ts.quantile(x, 0.5)) is float
    assert ts.quantile(x, [0.5]).tolist() == [2.0]
    assert ts.quantile(x, np.array([[0.0, 0.25], [0.5, 1.0]])).tolist() == [[0.0, 1.0], [2.0, 4.0]]
    assert ts.quantile(x, []).shape == (0,)
    assert ts.quantile(np.float32(3), 0.5) == 3.0


@pytest.mark.parametrize("q", [-0.1, 1.5, math.nan, [0.5, 2.0]])
def test_shares_outside_are_refused(q: object):
    with pytest.raises(ValueError, match=r"q must be in \[0, 1\], got: (-0.1|1.5|NaN|2)$"):
        ts.quantile(np.ones(3), q)


def test_what_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match="got: list"):
        ts.quantile([1.0, 2.0], 0.5)
    with pytest.raises(TypeError, match="complex128"):
        ts.quantile(np.ones(3, complex), 0.5)
    with pytest.raises(ValueError, match="threads must be in \\[1, 1024\\], got: 0"):
        ts.quantile(np.ones(3), 0.5, threads=0)


MEASURE = """
import numpy as np, tensorstats as ts
from pathlib import Path

def peak():
    text = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM")))

random = np.random.default_rng(0)
bits = random.integers(0, 2**64, 1 << 22, dtype=np.uint64).view(np.{dtype})
block = random.standard_normal(1 << 24).astype(np.{dtype})
ts.quantile(block[:1000].copy(), [0.5, 0.9])
for view in (block, block[::-3], bits, np.ones(1 << 24, np.{dtype})):
    before = peak()
    ts.quantile(view, [0.25, 0.5, 0.9], threads=2)
    print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_temporary_beside_the_tensor(dtype: str):
    code = MEASURE.format(dtype=dtype)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100).stdout
    assert len(out.split()) == 4
    assert max(map(int, out.split()[:1])) < 8 * 1024
    assert max(map(int, out.split())) < 8 * 1024


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", [*NARROW_FLOATS, "float32", "float64", "uint64", "uint32", "int64", "int16", "uint8", "bool"]
)
def test_the_device_path_gives_the_same(dtype: str):
    torch = pytest.importorskip("torch", reason="the device path is torch operations")
    from tensorstats.device.quantile import quantile

    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**63), 2**63 - 1, (1001,), generator=generator)
    form = getattr(torch, dtype)
    if form.is_floating_point:
        x = torch.randn(1001, generator=generator).to(form)
        x[3], x[4] = math.nan, -0.0
        if dtype != "float8_e4m3fn":
            x[5], x[6] = math.inf, -math.inf
    else:
        x = bits > 0 if dtype == "bool" else bits.to(form)
    shares = SHARES[:33:3].reshape(1, 11)
    for view in (x, x[::3], x[:1], x[:0], x[3:4]):
        assert np.array_equal(quantile(view, shares), ts.quantile(view, shares), equal_nan=True)
    assert quantile(x, 0.3) == ts.quantile(x, 0.3)
    with pytest.raises(ValueError, match=r"q must be in \[0, 1\], got: 7"):
        quantile(x, 7)


# --- of a histogram ---------------------------------------------------------------------------------------------------

AXES = [ts.axis.Regular(100, -5.0, 5.0), ts.axis.Variable([-9.0, -1, -0.1, 0, 0.2, 3, 9]), ts.axis.Linear(64)]
HARD = {
    "normal": np.random.default_rng(7).standard_normal(9001).clip(-4.5, 4.5),
    "two-values": np.array([-2.0] * 900 + [2.0] * 101),
    "one-far-away": np.concatenate([np.full(999, 0.3), [4.5]]),
    "on-edges": np.round(np.random.default_rng(8).standard_normal(2000).clip(-4, 4), 1),
    "constant": np.full(77, 0.7),
}
hard = pytest.mark.parametrize("name", HARD)


@hard
@pytest.mark.parametrize("axis", AXES, ids=repr)
def test_quantiles_are_off_by_a_bin_at_most(axis: ts.axis.Axis, name: str):
    values = HARD[name]
    h = ts.histogram(values, axis)
    found = h.quantile(SHARES)
    right = np.quantile(values, SHARES, method="inverted_cdf")
    bins = np.clip(np.searchsorted(h.edges, right, side="right") - 1, 0, len(h.edges) - 2)
    assert np.all(np.abs(found - right) <= np.diff(h.edges)[bins] * (1 + 1e-12))
    assert np.all(np.diff(found[:33]) >= 0)
    assert (h.median, h.iqr) == (h.quantile(0.5), h.quantile(0.75) - h.quantile(0.25))


@hard
@pytest.mark.parametrize("axis", [*AXES, ts.axis.LogLinear(4), ts.axis.LogLinear(10)], ids=repr)
def test_cumulative_shares_are_off_by_the_bin_of_x_at_most(axis: ts.axis.Axis, name: str):
    values = HARD[name]
    h = ts.histogram(values, axis)
    points = np.concatenate([values[:100], h.edges[:200], np.linspace(-6, 6, 101)])
    found = h.cdf(points)
    right = (values[None, :] <= points[:, None]).mean(axis=1)
    within = np.concatenate([[0], h.values(), [0]]) / values.size
    bins = np.searchsorted(h.edges, points, side="right")
    beside = np.searchsorted(h.edges, points, side="left")
    assert np.all(np.abs(found - right) <= np.maximum(within[bins], within[beside]) + 1e-12)
    order = np.argsort(points)
    assert np.all(np.diff(found[order]) >= 0)


@hard
@pytest.mark.parametrize("axis", AXES, ids=repr)
def test_cumulative_shares_and_quantiles_are_inverse(axis: ts.axis.Axis, name: str):
    h = ts.histogram(HARD[name], axis)
    if len(h.values()) > 1:
        inner = SHARES[(SHARES > 0) & (SHARES < 1)]
        assert h.cdf(h.quantile(inner)) == pytest.approx(inner, abs=1e-9)


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
def test_cumulative_shares_of_narrow_dtypes_are_exact(dtype: str, precision: int):
    array = mixed(dtype, 4000)
    values = as_float64(array)
    h = ts.histogram(array, ts.axis.LogLinear(precision))
    points = np.unique(np.concatenate([values, np.nextafter(values, math.inf), np.nextafter(values, -math.inf)]))
    finite = points[np.isfinite(points)]
    right = [float(Fraction(int(np.sum(values <= x)), values.size)) for x in finite]
    assert h.cdf(finite).tolist() == right
    assert h.quantile(0.5) == h.median


def test_quantiles_of_a_lossless_histogram_are_those_of_the_tensor():
    array = ordinary("float16", 5000)
    h = ts.histogram(array, ts.axis.LogLinear(10))
    places = np.linspace(0, 1, 5000)
    assert h.quantile(places).tolist() == np.quantile(as_float64(array), places, method="inverted_cdf").tolist()


def test_flow_bins_lie_at_the_infinities():
    h = ts.histogram(np.array([-9.0, 0.5, 1.5, 9.0]), bins=2, range=(0, 2))
    assert h.cdf([-math.inf, -100.0, 0.0, 0.5, 1.0, 2.0, 100.0, math.inf]).tolist() == [
        *(0.25, 0.25, 0.25, 0.375, 0.5, 0.75, 0.75, 1.0)
    ]
    assert h.quantile([0.1, 0.5, 0.9]).tolist() == [-math.inf, 1.0, math.inf]
    assert h.iqr == math.inf
    assert ts.histogram(np.array([-9.0, 0.5, 1.5, 1.5, 9.0]), bins=2, range=(0, 2)).iqr == 1.875 - 0.25


def test_of_nothing():
    for axis in (*AXES, ts.axis.LogLinear(6)):
        for h in (ts.Histogram(axis), ts.histogram(np.array([math.nan]), axis)):
            assert math.isnan(h.cdf(0.0))
            assert math.isnan(h.quantile(0.5))
            assert math.isnan(h.median)
            assert math.isnan(h.iqr)
            assert np.isnan(h.quantile([0.0, 1.0])).all()
    assert math.isnan(ts.histogram(np.ones(3), AXES[0]).cdf(math.nan))


def test_forms():
    h = ts.histogram(np.arange(10.0), bins=10, range=(0, 10))
    assert type(h.cdf(3)) is float
    assert type(h.median) is float
    assert h.cdf([[1.0, 2.0], [3.0, 4.0]]).tolist() == [[0.1, 0.2], [0.3, 0.4]]
    assert h.quantile(np.array([[0.5]])).shape == (1, 1)
    assert h.quantile(np.float32(0.5)) == 5.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_linear_histogram_brackets_the_exact_quantile(dtype: str):
    array = mixed(dtype, 3000)
    oracle = Oracle.of(array)
    h = ts.histogram(array, ts.axis.Linear(128))
    if oracle.finite_count == 0:
        return
    right = np.quantile(as_float64(array), SHARES, method="inverted_cdf")
    found = h.quantile(SHARES)
    finite = np.isfinite(right)
    assert np.array_equal(found[~finite], right[~finite])
    with np.errstate(over="ignore"):
        width = 2.0 ** h.to_dict()["width_exponent"]
    assert np.all(np.abs(found[finite] / 2 - right[finite] / 2) <= width / 2 * (1 + 1e-9))
