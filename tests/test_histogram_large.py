"""Histograms of tensors big enough for the quicker tables, in every look of data, by exact comparison with edges."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import tensorstats as ts

SIZE = 300_001


def around(edges: np.ndarray) -> np.ndarray:
    """Every edge and its neighbours in float32, over and over: the values in doubt."""
    near = edges.astype(np.float32)
    up, down = np.float32(np.inf), np.float32(-np.inf)
    return np.resize(np.concatenate([near, np.nextafter(near, up), np.nextafter(near, down)]), SIZE)


def looks() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    normal = random.standard_normal(SIZE).astype(np.float32)
    rare = random.random(SIZE)
    with np.errstate(under="ignore", over="ignore"):
        octaves = np.exp2(random.uniform(-40, 40, SIZE)).astype(np.float32) * np.sign(normal)
    one_nan = normal.copy()
    one_nan[-1] = np.nan
    unusual = normal.copy()
    unusual[::5] = np.resize(np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40]), len(normal[::5]))
    return {
        "normal": normal,
        "nine-in-ten-zero": np.where(rare < 0.9, np.float32(0), normal),
        "nine-in-ten-equal": np.where(rare < 0.9, np.float32(1.2345), normal),
        "constant": np.full(SIZE, np.float32(1.2345)),
        "constant-on-an-edge": np.full(SIZE, np.float32(0.5)),
        "constant-last-edge": np.full(SIZE, np.float32(4)),
        "octaves": octaves,
        "one-nan": one_nan,
        "subnormal": np.where(rare < 0.05, np.float32(1e-40), normal),
        "unusual": unusual,
        "all-nan": np.full(SIZE, np.float32(np.nan)),
        "edges": around(np.linspace(-4, 4, 65)),
        "uneven-edges": around(np.linspace(-0.3, 0.1, 38)),
    }


LOOKS = looks()
POSITIVE = 1e-12 * 1.1 ** np.arange(774)
TENSORBOARD = np.concatenate([-POSITIVE[::-1], [0.0], POSITIVE])
AXES = {
    "1": ts.axis.Regular(1, -1.0, 1.0),
    "16": ts.axis.Regular(16, -4.0, 4.0),
    "37-uneven": ts.axis.Regular(37, -0.3, 0.1),
    "64": ts.axis.Regular(64, -4.0, 4.0),
    "64-last-edge-zero": ts.axis.Regular(64, -2.0, 0.0),
    "65": ts.axis.Regular(65, -4.0, 4.0),
    "4096": ts.axis.Regular(4096, -4.0, 4.0),
    "tensorboard": ts.axis.Variable(TENSORBOARD),
    "few-edges": ts.axis.Variable([-3.0, -0.1, 0.0, 0.2, 4.0]),
    "close-edges": ts.axis.Variable([-1.0, 0.5, np.nextafter(0.5, 1.0), np.nextafter(0.5, 1.0) + 1e-9, 1.0]),
}


def check(found: ts.Histogram, values: np.ndarray, edges: np.ndarray) -> None:
    numbers = np.sort(values[~np.isnan(values)])
    # How many values lie below each edge, and at the last one how many do not lie beyond it.
    below = np.searchsorted(numbers, edges, side="left")
    below[-1] = np.searchsorted(numbers, edges[-1], side="right")
    assert np.array_equal(found.values(), np.diff(below))
    assert (found.underflow, found.overflow) == (below[0], len(numbers) - below[-1])
    assert found.nan_count == len(values) - len(numbers)
    assert (found.posinf_count, found.neginf_count) == (np.sum(numbers == np.inf), np.sum(numbers == -np.inf))


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
@pytest.mark.parametrize("look", LOOKS)
def test_edge_tables(axis: ts.axis.Regular | ts.axis.Variable, look: str):
    array = LOOKS[look]
    check(ts.histogram(array, axis, threads=1), array.astype(np.float64), axis.edges)


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float64", "int16"])
def test_edge_tables_of_other_dtypes(axis: ts.axis.Regular | ts.axis.Variable, dtype: str):
    array = (LOOKS["normal"] * 3).astype(getattr(ml_dtypes, dtype, dtype))
    check(ts.histogram(array, axis, threads=2), array.astype(np.float64), axis.edges)


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_levels(axis: ts.axis.Regular | ts.axis.Variable, simd_level: str):
    array = np.concatenate([LOOKS["unusual"], LOOKS["edges"]])
    check(ts.histogram(array, axis), array.astype(np.float64), axis.edges)


@pytest.mark.parametrize("look", LOOKS)
def test_log_linear(look: str, simd_level: str):
    array = LOOKS[look]
    found = ts.histogram(array, ts.axis.LogLinear(6), threads=1)
    finite = array[np.isfinite(array)].astype(np.float64)
    counts, edges = found.values(), found.edges
    assert (found.nan_count, found.posinf_count, found.neginf_count) == (
        np.sum(np.isnan(array)),
        np.sum(array == np.inf),
        np.sum(array == -np.inf),
    )
    assert counts.sum() == len(finite)
    assert found.zero_count == np.sum(finite == 0)
    if len(finite) == 0:
        return
    # Bins of magnitudes are closed at the end nearer to zero.
    positive, negative = np.sort(finite[finite > 0]), np.sort(-finite[finite < 0])
    upper = edges >= 0
    if len(positive):
        expected = np.diff(np.searchsorted(positive, edges[upper]))
        assert np.array_equal(
            counts[len(counts) - len(expected) :][edges[upper][:-1] > 0], expected[edges[upper][:-1] > 0]
        )
    if len(negative):
        magnitudes = -edges[edges < 0][::-1]
        expected = np.diff(np.searchsorted(negative, magnitudes))[::-1]
        assert np.array_equal(counts[: len(expected)], expected)
