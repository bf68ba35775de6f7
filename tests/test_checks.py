"""Checks: what they find, where, and what they say."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tensorstats as ts
from conftest import LEVELS, THREADS
from exporters import Exporter
from samples import DTYPES, LAYOUTS, block_of, mixed, random_bits
from tensorstats import _core
from tensorstats._checks import first_nonfinite


def said(*args: object, **rules: object) -> str:
    with pytest.raises(ts.CheckError) as caught:
        ts.check(*args, **rules)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


def test_a_good_tensor_passes():
    x = np.linspace(0, 1, 60, dtype=np.float32).reshape(5, 3, 4)
    assert ts.check(x, finite=True, min=0, max=1, dtype="float32", shape=("N", 3, None), name="image") is None
    assert ts.check(np.zeros((0, 3))) is None
    assert ts.check(np.float64(1.0), shape=()) is None


def test_every_broken_rule_is_in_one_error():
    x = np.array([[0.5, np.nan, np.inf], [2.0, -1.0, -3.0]], dtype=np.float32)
    assert said(x, min=0, max=1, dtype="float64", shape=("N", "N"), name="image").splitlines() == [
        "image breaks 5 rules:",
        "  dtype is float32; allowed: float64",
        "  shape is [2, 3] (dim 1 is 3, but N is 2); allowed: (N, N)",
        "  2 of 6 values are not finite (1 NaN, 1 +inf); first: nan at [0, 1]; allowed: finite values",
        "  2 of 6 values are below the minimum; first: -1.0 at [1, 1]; allowed: at least 0",
        "  1 of 6 values is above the maximum; first: 2.0 at [1, 0]; allowed: at most 1",
    ]


def test_a_tensor_without_a_name_is_described():
    assert said(torch.tensor([math.nan], dtype=torch.bfloat16)).splitlines() == [
        "bfloat16 tensor of shape [1] breaks 1 rule:",
        "  1 of 1 value is not finite (1 NaN); first: nan at [0]; allowed: finite values",
    ]
    assert (
        said(np.float64(-2.0), min=0).splitlines()[1]
        == "  1 of 1 value is below the minimum; first: -2.0 at []; allowed: at least 0"
    )


def test_infinities_are_values_when_they_are_allowed():
    x = np.array([1.0, -np.inf, np.nan, np.inf])
    ts.check(x, finite=False)
    ts.check(x, finite=False, min=-np.inf, max=np.inf)
    assert "1 of 4 values is below the minimum; first: -inf at [1]" in said(x, finite=False, min=0)
    assert "1 of 4 values is above the maximum; first: inf at [3]" in said(x, finite=False, max=3)
    # With finite=True they break that rule and no other.
    assert said(x, min=0, max=3).count("\n") == 1


@pytest.mark.parametrize(
    ("dtype", "accepted", "refused"),
    [
        (
            np.float32,
            ["float32", np.float32, np.dtype("f4"), torch.float32, ("float16", "float32")],
            ["float64", torch.float64],
        ),
        (ml_dtypes.bfloat16, ["bfloat16", ml_dtypes.bfloat16, torch.bfloat16], ["float16", np.uint16]),
        (np.int64, ["int64", int, torch.int64], ["int32"]),
        (np.bool_, ["bool", bool, torch.bool], ["uint8"]),
    ],
)
def test_dtypes(dtype: type, accepted: list[object], refused: list[object]):
    x = np.zeros(3, dtype=dtype)
    for wanted in accepted:
        ts.check(x, dtype=wanted)
    for wanted in refused:
        assert f"dtype is {np.dtype(dtype).name}; allowed: " in said(x, dtype=wanted)
    with pytest.raises(TypeError, match=r"unknown dtype: 3\.5; accepted: bool, .*, as names or as dtypes of"):
        ts.check(x, dtype=3.5)


@pytest.mark.parametrize(
    ("shape", "pattern", "line"),
    [
        ((2, 3), (2, 3, None), "shape is [2, 3], of 2 dims; allowed: (2, 3, any)"),
        ((2, 3), (2, 4), "shape is [2, 3] (dim 1 is 3, not 4); allowed: (2, 4)"),
        (
            (2, 3, 5),
            ("N", 4, "N"),
            "shape is [2, 3, 5] (dim 1 is 3, not 4, dim 2 is 5, but N is 2); allowed: (N, 4, N)",
        ),
        ((), (1,), "shape is [], of 0 dims; allowed: (1)"),
    ],
)
def test_shapes(shape: tuple[int, ...], pattern: tuple[object, ...], line: str):
    assert said(np.zeros(shape), shape=pattern).splitlines()[1:] == ["  " + line]
    ts.check(np.zeros(shape), shape=(None,) * len(shape))
    ts.check(np.zeros(shape), shape=shape)
    ts.check(np.zeros((4, 7, 4)), shape=["N", "M", "N"])


def test_objects_that_only_export_their_memory():
    ts.check(Exporter(np.ones((2, 3), np.float32)), dtype="float32", shape=(2, 3))
    assert "float32 tensor of shape [2, 3]" in said(Exporter(np.ones((2, 3), np.float32)), min=2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_first_offenders_in_every_layout(dtype: str, restore_simd_level: None):
    for layout in LAYOUTS.values():
        array = layout(block_of(dtype))
        with np.errstate(invalid="ignore"):
            values = array.astype(np.float64).reshape(-1)
        found = []
        for level in LEVELS:
            _core.set_simd_level(level)
            found.append(_core.outside([array], -1, 1.5)[0])
        assert all(repr(other) == repr(found[0]) for other in found)
        name, shape, counts, places = found[0]
        assert (name, shape) == (dtype, array.shape)
        finite = np.isfinite(values)
        broken = [~finite, finite & (values < -1), finite & (values > 1.5)]
        assert counts == [
            np.isnan(values).sum(),
            (values == np.inf).sum(),
            (values == -np.inf).sum(),
            broken[1].sum(),
            broken[2].sum(),
        ]
        for place, mask in zip(places, broken, strict=True):
            if not mask.any():
                assert place is None
                continue
            flat, index, value = place
            assert flat == mask.argmax()
            assert index == tuple(int(i) for i in np.unravel_index(flat, array.shape))
            assert value == values[flat] or math.isnan(value) == math.isnan(values[flat])
        assert first_nonfinite(array) == places[0] or math.isnan(places[0][2])


@pytest.mark.parametrize("threads", THREADS)
def test_threads_do_not_show(threads: int):
    x = np.ones((1000, 3000), dtype=np.float32)
    x[700, 5], x[999, 2999], x[650, 2] = np.inf, np.nan, -7
    assert _core.first_nonfinite(x, threads=threads) == (700 * 3000 + 5, (700, 5), np.inf)
    report = _core.outside([x], 0, 1, False, threads)[0]
    assert report[2:] == ([1, 1, 0, 1, 0], [(700 * 3000 + 5, (700, 5), np.inf), (650 * 3000 + 2, (650, 2), -7.0), None])


def test_first_nonfinite():
    assert first_nonfinite(np.ones(5)) is None
    assert first_nonfinite(np.arange(5)) is None
    assert first_nonfinite(np.zeros(0)) is None
    assert first_nonfinite(np.float32(np.inf)) == (0, (), np.inf)
    assert first_nonfinite(torch.tensor([[1.0, math.nan], [-math.inf, 0]]).T) == (1, (0, 1), -math.inf)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_integers_are_compared_exactly(dtype: str):
    big = 2**53
    x = np.array([big, big + 1, big + 2], dtype=dtype)
    assert "1 of 3 values is above the maximum" in said(x, max=big + 1)
    # The bound is a float, 2^53; the value beside it is not rounded onto it.
    assert "2 of 3 values are above the maximum; first: 9007199254740993 at [1]" in said(x, max=float(big))
    ts.check(x, min=float(big), max=float(big + 2))
    assert "3 of 3 values are below the minimum" in said(x, min=10**30)
    assert "3 of 3 values are above the maximum" in said(x, max=-(10**30))
    ts.check(x, min=-(10**30), max=10**30)


def test_float32_is_not_compared_with_a_rounded_bound():
    x = np.array([0.1], dtype=np.float32)
    assert float(x[0]) > 0.1
    assert "above the maximum" in said(x, max=0.1)
    ts.check(x, min=0.1)
    ts.check(x, max=np.float32(0.1))


@given(st.integers(0, 2**32), st.floats(allow_nan=False), st.floats(allow_nan=False), st.sampled_from(DTYPES))
def test_counts_against_numpy(seed: int, a: float, b: float, dtype: str):
    low, high = min(a, b), max(a, b)
    array = np.concatenate([random_bits(dtype, 50, seed), mixed(dtype, 50, seed)])
    if array.dtype.itemsize == 8 and dtype != "float64":
        array = array >> 12
    with np.errstate(invalid="ignore"):
        values = array.astype(np.float64)
    finite = np.isfinite(values)
    counts = _core.outside([array], low, high)[0][2]
    assert counts[3:] == [(finite & (values < low)).sum(), (finite & (values > high)).sum()]
    counts = _core.outside([array], low, high, True)[0][2]
    assert counts[3:] == [(values < low).sum(), (values > high).sum()]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"min": math.nan}, "min must be a number, got: nan"),
        ({"max": math.nan}, "max must be a number, got: nan"),
        ({"min": 2, "max": 1.5}, "min must not exceed max, got: min 2 and max 1.5"),
    ],
)
def test_rules_that_make_no_sense(rules: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message) as caught:
        ts.check(np.ones(3), **rules)
    assert not isinstance(caught.value, ts.CheckError)


def test_unsupported_tensors_are_refused():
    with pytest.raises(TypeError, match="complex"):
        ts.check(np.ones(3, complex))
    with pytest.raises(TypeError, match="list"):
        ts.check([1.0])
