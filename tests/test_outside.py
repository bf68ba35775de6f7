"""Counts of values outside a range, over one tensor or many, against whole numbers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tensorstats as ts
from oracle import FLOATS, bits_of, decode
from samples import DTYPES, LAYOUTS, all_patterns, block_of, mixed


def expected(array: np.ndarray, low: float | None, high: float | None) -> dict[str, Any]:
    """Every field by looking at one value after the other."""
    dtype = array.dtype.name
    unit = 2 ** FLOATS[dtype].scale if dtype in FLOATS else 1
    found: dict[str, Any] = dict.fromkeys(("below", "above", "nan_count", "posinf_count", "neginf_count"), 0)
    firsts: dict[str, int | None] = dict.fromkeys(("first_below", "first_above", "first_nonfinite"))

    def note(kind: str, first: str, position: int) -> None:
        found[kind] += 1
        if firsts[first] is None:
            firsts[first] = position

    for position, bits in enumerate(bits_of(array)):
        value = decode(bits, dtype)
        if isinstance(value, str):
            note(
                {"nan": "nan_count", "+inf": "posinf_count", "-inf": "neginf_count"}[value], "first_nonfinite", position
            )
        elif low is not None and Fraction(value, unit) < low:
            note("below", "first_below", position)
        elif high is not None and Fraction(value, unit) > high:
            note("above", "first_above", position)
    return {"count": array.size, **found, **firsts}


def check(array: np.ndarray, found: ts.RangeCounts, low: float | None, high: float | None) -> None:
    want = expected(array, low, high)
    assert (found.dtype, found.shape) == (array.dtype.name, array.shape)
    for name, value in want.items():
        if not name.startswith("first"):
            assert getattr(found, name) == value, name
            continue
        first = getattr(found, name)
        assert (first and first.position) == value, name
        if first:
            index = np.unravel_index(value, array.shape)
            assert first.index == index
            np.testing.assert_equal(float(first.value), float(array[index]))
            assert type(first.value) is (int if found.dtype not in FLOATS else float)
    assert found.nonfinite_count == found.nan_count + found.posinf_count + found.neginf_count
    assert found.outside == found.below + found.above + found.nonfinite_count


BOUNDS = [(None, None), (-1, 1.5), (0, None), (None, -0.25), (0.1, 0.1)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: str, simd_level: str):
    array = mixed(dtype, 5 * 7 * 40).reshape(5, 7, 40)
    for low, high in BOUNDS:
        check(array, ts.outside(array, min=low, max=high), low, high)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "int8"])
def test_every_pattern(dtype: str):
    array = all_patterns(dtype)
    for low, high in [*BOUNDS, (-448, 448), (2.0**-9, 2.0**-6)]:
        check(array, ts.outside(array, min=low, max=high), low, high)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout: str):
    array = LAYOUTS[layout](block_of("float32"))
    check(array, ts.outside(array, min=-1, max=1), -1, 1)


def test_whole_numbers_beyond_float64():
    array = np.array([2**63 - 1, 2**63 - 2, -(2**63)])
    found = ts.outside(array, max=2**63 - 2)
    assert (found.above, found.first_above) == (1, ts.Offender((0,), 2**63 - 1, 0))
    assert ts.outside(array, min=-(2**63)).below == 0
    assert ts.outside(np.array([2**64 - 1], dtype=np.uint64), max=2**64 - 2).above == 1


# --- many -------------------------------------------------------------------------------------------------------------


def several() -> dict[str, np.ndarray]:
    shapes = {"float32": (300, 700), "float64": (0,), "int64": (), "bfloat16": (9, 1), "uint8": (70_000,)}
    arrays = {dtype: mixed(dtype, math.prod(shape), 3).reshape(shape) for dtype, shape in shapes.items()}
    return {**arrays, "transposed": mixed("float16", 6000).reshape(60, 100).T}


def test_many_are_counted_as_one_by_one():
    arrays = several()
    for threads in (None, *range(1, 8)):
        found = ts.outside(arrays, min=-1, max=1, threads=threads)
        assert list(found) == list(arrays)
        # NaN is not equal to itself, its repr is.
        assert [repr(c) for c in found.values()] == [repr(ts.outside(a, min=-1, max=1)) for a in arrays.values()]
    for name, array in arrays.items():
        check(array, found[name], -1, 1)
    listed = ts.outside(iter(arrays.values()), min=-1, max=1)
    assert repr(listed) == repr(list(found.values()))


@pytest.mark.parametrize("threads", range(1, 8))
def test_big_tensors_are_shared_out(threads: int):
    big, small = np.zeros(3_000_001, dtype=np.float32), np.zeros(5, dtype=np.float32)
    big[[2_999_990, 3_000_000]], small[4] = [7, np.nan], -2
    found = ts.outside([small, big, small, big[:-1]], min=-1, max=1, threads=threads)
    assert [(c.below, c.above, c.nan_count) for c in found] == [(1, 0, 0), (0, 1, 1), (1, 0, 0), (0, 1, 0)]
    assert [c.first_above and c.first_above.position for c in found] == [None, 2_999_990, None, 2_999_990]
    assert found[1].first_nonfinite is not None
    assert found[1].first_nonfinite.index == (3_000_000,)


def test_one_native_call_for_many(monkeypatch: pytest.MonkeyPatch):
    asked = []
    native = ts._core.outside
    monkeypatch.setattr(ts._core, "outside", lambda *arguments: asked.append(1) or native(*arguments))
    assert len(ts.outside([np.ones(3)] * 50, max=0)) == 50
    assert asked == [1]


def test_nothing_and_none():
    assert ts.outside([]) == []
    assert ts.outside({}) == {}
    assert list(ts.outside({"a": None, "b": np.zeros(2)})) == ["b"]
    assert len(ts.outside([None, np.zeros(2), None])) == 1


def test_torch_tensors_small_and_large():
    torch = pytest.importorskip("torch")
    linear = torch.nn.Linear(300, 200)
    with torch.no_grad():
        linear.weight[3, 4], linear.bias[5] = 9.0, float("-inf")
    found = ts.outside(linear.state_dict(), min=-1, max=1)
    assert found["weight"].first_above == ts.Offender((3, 4), 9.0, 904)
    assert found["bias"].first_nonfinite == ts.Offender((5,), -math.inf, 5)
    listed = ts.outside([linear.bias, linear.weight.bfloat16()], max=1)
    assert [c.above for c in listed] == [0, 1]
    assert [c.nonfinite_count for c in listed] == [1, 0]
    with pytest.raises(TypeError, match="meta"):
        ts.outside([linear.bias, torch.empty(2, device="meta")])


# --- words ------------------------------------------------------------------------------------------------------------


def test_it_reads_well():
    counts = ts.outside(np.array([[0.5, np.nan], [2.0, -3.0]], dtype=np.float32), min=0, max=1)
    text = "float32[2, 2] n=4 below=1 (first -3.0 at [1, 1]) above=1 (first 2.0 at [1, 0]) "
    assert repr(counts) == text + "nonfinite=1 (first nan at [0, 1])"
    assert repr(ts.outside(np.zeros(0))) == "float64[0] n=0 below=0 above=0 nonfinite=0"
    with pytest.raises(AttributeError):
        counts.below = 3


def test_bounds_and_threads_must_make_sense():
    with pytest.raises(ValueError, match=r"^min must not exceed max, got: min 2 and max 1$"):
        ts.outside([], min=2, max=1)
    with pytest.raises(ValueError, match=r"^max must be a number, got: nan$"):
        ts.outside(np.ones(3), max=math.nan)
    with pytest.raises(ValueError, match=r"^threads must be in \[1, 1024\], got: 0$"):
        ts.outside(np.ones(3), threads=0)
    with pytest.raises(TypeError, match="got: str"):
        ts.outside(["text"])
