"""A summary and a histogram in one call have the bits of two calls, whatever the dtype, layout, threads or level."""

from __future__ import annotations

import numpy as np
import pytest

import tensorstats as ts
from conftest import LEVELS, THREADS
from samples import DTYPES, LAYOUTS, block_of, mixed, ordinary
from tensorstats import _core

AXES = {
    "regular": ts.axis.Regular(64, -4.0, 4.0),
    "variable": ts.axis.Variable([-3.0, -0.1, 0.0, 0.2, 5.0]),
    "log-linear": ts.axis.LogLinear(6),
}
axes = pytest.mark.parametrize("axis", AXES.values(), ids=AXES)


def bits(pair: tuple[ts.Summary, ts.Histogram]) -> tuple[bytes, bytes]:
    return pair[0].to_bytes(), pair[1].to_bytes()


def apart(x: object, axis: ts.axis.Axis, moments: int = 2) -> tuple[ts.Summary, ts.Histogram]:
    return ts.summary(x, moments=moments, threads=1), ts.histogram(x, axis, threads=1)


@axes
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 31, 4097, 70_001])
def test_equals_two_calls(axis: ts.axis.Axis, dtype: str, size: int):
    array = mixed(dtype, size)
    found = ts.summary_and_histogram(array, axis)
    expected = apart(array, axis)
    assert bits(found) == bits(expected)
    assert (found[0].count, found[1].count) == (size, size)
    assert repr(found[0]) == repr(expected[0])
    assert found[0].shape == expected[0].shape


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn", "int64"])
def test_layouts(dtype: str, layout: str):
    array = LAYOUTS[layout](block_of(dtype))
    assert bits(ts.summary_and_histogram(array)) == bits(apart(array, ts.axis.LogLinear(6)))


@pytest.mark.slow
@axes
@pytest.mark.parametrize("threads", THREADS)
def test_threads(axis: ts.axis.Axis, threads: int):
    array = mixed("float32", 3_300_001)
    assert bits(ts.summary_and_histogram(array, axis, moments=4, threads=threads)) == bits(apart(array, axis, 4))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.usefixtures("restore_simd_level")
@pytest.mark.parametrize("dtype", ["float16", "float64", "uint8"])
def test_levels(dtype: str, level: str):
    array = mixed(dtype, 70_001)
    expected = bits(apart(array, ts.axis.LogLinear(6)))
    _core.set_simd_level(level)
    assert bits(ts.summary_and_histogram(array)) == expected


@axes
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_many_tensors(axis: ts.axis.Axis, threads: int):
    torch = pytest.importorskip("torch")
    sizes = [0, 5, 2_200_000, 17, 0, 1_100_000, 70_001, 3]
    arrays: list[object] = [
        mixed(dtype, size, seed) for seed, (dtype, size) in enumerate(zip(DTYPES[:8], sizes, strict=True))
    ]
    arrays += [torch.arange(100.0), torch.zeros(3, 4, dtype=torch.bfloat16), torch.ones(5_000).to(torch.float8_e5m2)]
    pairs = _core.summaries_and_histograms(arrays, axis, 4, threads)
    assert [bits(pair) for pair in pairs] == [bits(apart(array, axis, 4)) for array in arrays]
    assert [pair[0].shape for pair in pairs] == [tuple(array.shape) for array in arrays]  # type: ignore[attr-defined]


def test_nothing_at_all():
    assert _core.summaries_and_histograms([], ts.axis.LogLinear(6)) == []


def test_states_of_one_call_are_apart():
    # The counters are used again from tensor to tensor: nothing of the first may be left in the next.
    wide, narrow = ordinary("float32", 5000) * 1e30, ordinary("float32", 100)
    ((_, first), (_, second), (_, third)) = _core.summaries_and_histograms(
        [wide, narrow, wide.astype(np.float64)], ts.axis.LogLinear(3)
    )
    for found, array in ((first, wide), (second, narrow), (third, wide.astype(np.float64))):
        assert found == ts.histogram(array, ts.axis.LogLinear(3))


def test_errors():
    with pytest.raises(TypeError, match="axis"):
        ts.summary_and_histogram(np.zeros(3), 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="moments must be 2 or 4"):
        ts.summary_and_histogram(np.zeros(3), moments=3)
    with pytest.raises(ValueError, match="threads must be in \\[1, 1024\\], got: 0"):
        ts.summary_and_histogram(np.zeros(3), threads=0)
    with pytest.raises(TypeError, match="complex"):
        ts.summary_and_histogram(np.zeros(3, dtype=np.complex64))
