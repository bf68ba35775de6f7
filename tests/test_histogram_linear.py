"""The range-free linear axis: its width and counts by exact fractions, whatever the order, the cuts and the threads."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorstats as ts
from conftest import LEVELS
from oracle import Oracle
from samples import DTYPES, LAYOUTS, block_of, mixed, ordinary, random_bits

LARGEST = float(np.finfo(np.float64).max)


def expected(values: list[int], bins: int) -> tuple[int, dict[int, int]]:
    """The exponent of the width and the counts, by the docstring of the axis, of values in units of 2**-1074."""
    if not values:
        return 0, {}
    low, high = min(values), max(values)
    top = max(-low, high).bit_length() - 1 - 1074
    # The spacing of float64; one step more in the last octave.
    exponent = max(top - 52 + (top == 1023), -1074)
    # A shift to the right rounds down, also below zero.
    while (high >> exponent + 1074) - (low >> exponent + 1074) >= bins:
        exponent += 1
    return exponent, dict(Counter(value >> exponent + 1074 for value in values))


def found(h: ts.Histogram) -> tuple[int, dict[int, int]]:
    state = h.to_dict()
    return state["width_exponent"], dict(zip(state["places"], state["counts"], strict=True))


def exact_values(array: np.ndarray) -> list[int]:
    """Finite values as whole numbers of 2**-1074."""
    oracle = Oracle.of(array)
    return [value << 1074 - oracle.scale for value, times in oracle.values.items() for _ in range(times)]


@pytest.mark.parametrize("bins", [2, 7, 64, 5000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_width_and_counts_by_fractions(dtype: str, bins: int):
    for array in (ordinary(dtype, 300), mixed(dtype, 300), random_bits(dtype, 40, 1)):
        h = ts.histogram(array, ts.axis.Linear(bins))
        assert found(h) == expected(exact_values(array), bins)
        oracle = Oracle.of(array)
        assert h.count == array.size
        assert (h.nan_count, h.overflow, h.underflow) == tuple(
            oracle.counts[name] for name in ("nan_count", "posinf_count", "neginf_count")
        )
        assert (h.posinf_count, h.neginf_count) == (h.overflow, h.underflow)
        assert h.values().sum() == oracle.finite_count


@given(st.lists(st.floats(), max_size=12), st.integers(2, 9), st.randoms(use_true_random=False))
def test_any_values_in_any_order(values: list[float], bins: int, random: object):
    axis = ts.axis.Linear(bins)
    whole = ts.histogram(np.array(values), axis)
    assert found(whole) == expected(exact_values(np.array(values)), bins)
    random.shuffle(values)
    one_by_one = ts.Histogram(axis)
    for value in values:
        one_by_one.update(np.array([value]))
    assert one_by_one.to_bytes() == whole.to_bytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_levels_and_threads_do_not_show(dtype: str, restore_simd_level: None):
    from tensorstats import _core

    block = block_of(dtype)
    axis = ts.axis.Linear(100)
    for layout in LAYOUTS.values():
        view = layout(block)
        whole = ts.histogram(np.ascontiguousarray(view), axis, threads=1).to_bytes()
        for level in LEVELS:
            _core.set_simd_level(level)
            assert ts.histogram(view, axis).to_bytes() == whole
        _core.set_simd_level(None)


@pytest.mark.parametrize("threads", range(1, 8))
def test_threads_find_the_same_width(threads: int):
    """Every thread sees another range; the table of the first has to give way many times."""
    x = (np.random.default_rng(0).standard_normal(3_000_001) * np.geomspace(1e-6, 1e6, 3_000_001)).astype(np.float32)
    for bins in (64, 3000):
        axis = ts.axis.Linear(bins)
        whole = ts.histogram(x, axis, threads=threads)
        assert whole.to_bytes() == ts.histogram(x[::-1], axis, threads=1).to_bytes()
        assert np.array_equal(whole.values(), np.histogram(x.astype(np.float64), whole.edges)[0])


def test_pieces_in_every_order():
    pieces = [np.array(values) for values in ([0.0], [1e-300, -3.0], [2.5] * 4, [1e10, math.nan], [-math.inf])]
    states = [ts.histogram(piece, ts.axis.Linear(8)) for piece in pieces]
    whole = ts.histogram(np.concatenate(pieces), ts.axis.Linear(8))
    for order in itertools.permutations(states):
        assert sum(order, start=ts.Histogram(ts.axis.Linear(8))) == whole


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([0.0, -0.0], [0.0, 1.0]),
        ([1.5] * 3, [1.0, 2.0]),
        ([-3.0], [-4.0, -2.0]),
        ([-2.0], [-2.0, 0.0]),
        ([5e-324], [5e-324, 1e-323]),
        ([math.nan, math.inf], [0.0, 1.0]),
        ([], [0.0, 1.0]),
    ],
    ids=str,
)
def test_a_constant_has_one_bin_of_a_width_one_can_see(values: list[float], edges: list[float]):
    h = ts.histogram(np.array(values), ts.axis.Linear(16))
    assert h.edges.tolist() == edges
    finite = sum(map(math.isfinite, values))
    assert h.values().tolist() == [finite]
    if finite:
        # Shown wide, known exactly.
        assert h.quantile([0.0, 0.3, 1.0]).tolist() == [values[0]] * 3
        assert h.cdf([values[0], math.nextafter(values[0], -math.inf)]).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("value", [LARGEST, -LARGEST])
def test_the_largest_number_has_an_upper_edge(value: float):
    h = ts.histogram(np.full(3, value), ts.axis.Linear(16))
    assert h.edges[0] <= value <= h.edges[1]
    assert np.isfinite(h.edges).all()
    assert abs(h.median - value) <= math.ulp(value)


@pytest.mark.parametrize("bins", [2, 3, 64, 1 << 16])
def test_the_ends_of_float64(bins: int):
    values = np.array([LARGEST, -LARGEST, 5e-324, -5e-324, 0.0, 1.0])
    h = ts.histogram(values, ts.axis.Linear(bins))
    assert np.isfinite(h.edges).all()
    assert np.all(np.diff(h.edges / 2) > 0)
    assert h.values().sum() == 6
    assert (h.edges[0], h.edges[-1]) == (-LARGEST, LARGEST)
    negative = h.values()[: len(h.values()) // 2].sum()
    assert negative == 2


def test_integers_beyond_2_53_are_counted_exactly():
    step = 2**54
    array = np.array([step - 1, step, step + 1, 2**63 - 1, -(2**63)], dtype=np.int64)
    h = ts.histogram(array, ts.axis.Linear(1024))
    assert h.to_dict()["width_exponent"] == 54
    assert found(h)[1] == {-512: 1, 0: 1, 1: 2, 511: 1}
    close = ts.histogram(np.array([2**60 + 255, 2**60 + 256], dtype=np.uint64), ts.axis.Linear(1024))
    assert close.edges.tolist() == [2.0**60, 2.0**60 + 256, 2.0**60 + 512]
    assert close.values().tolist() == [1, 1]


def test_bins_are_used():
    for scale in (1e-30, 0.003, 1.0, 7e20):
        h = ts.histogram(np.random.default_rng(1).standard_normal(5000) * scale, ts.axis.Linear(256))
        assert 128 < len(h.values()) <= 256
        assert math.frexp(h.edges[1] - h.edges[0])[0] == 0.5


def test_every_dtype_agrees():
    values = np.array([0.0, 1.0, -1.0, 3.0, -7.0, 96.0])
    forms = [
        np.float64,
        np.float32,
        np.float16,
        ml_dtypes.bfloat16,
        ml_dtypes.float8_e4m3fn,
        np.int64,
        np.int32,
        np.int8,
    ]
    states = [ts.histogram(values.astype(form), ts.axis.Linear(64)) for form in forms]
    assert len({tuple(h.to_dict()["places"]) for h in states}) == 1
    assert sum(states[1:], start=states[0]).values().sum() == len(forms) * values.size


def test_a_stream_of_unknown_range():
    random = np.random.default_rng(2)
    steps = [random.standard_normal(1000).astype(np.float32) * 1.5**step for step in range(40)]
    h = ts.Histogram(ts.axis.Linear(64))
    for step in steps:
        h.update(step)
    everything = np.concatenate(steps).astype(np.float64)
    assert len(h.values()) <= 64
    assert np.array_equal(h.values(), np.histogram(everything, h.edges)[0])


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "bfloat16", "float8_e5m2", "uint64", "int64", "int8", "bool"]
)
def test_the_device_path_counts_the_same(dtype: str):
    torch = pytest.importorskip("torch", reason="the device path is torch operations")
    from tensorstats.device import results as device

    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**63), 2**63 - 1, (3000,), generator=generator)
    form = getattr(torch, dtype)
    cases = [bits.to(form) if dtype != "bool" else bits > 0]
    if form.is_floating_point:
        normal = torch.randn(3000, generator=generator).to(form)
        normal[5], normal[6] = math.nan, math.inf
        cases = [normal, normal[:0], normal[5:6], torch.zeros(7, dtype=form), torch.full((5,), -1.5, dtype=form)]
    if dtype == "float64":
        cases.append(torch.tensor([LARGEST, -LARGEST, 5e-324, math.nan, -math.inf], dtype=form))
    for x in cases:
        for bins in (2, 64):
            assert device.histogram(x, ts.axis.Linear(bins)) == ts.histogram(x, ts.axis.Linear(bins))
