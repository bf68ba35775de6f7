"""Histograms, units and checks do not depend on whether the caller flushes subnormals to zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import tensorstats as ts
from conftest import LEVELS
from samples import FLOAT_DTYPES, mixed, random_bits
from tensorstats import _core

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def flush_to_zero() -> Iterator[None]:
    if not torch.set_flush_denormal(True):
        pytest.skip("this machine cannot flush subnormals to zero")
    yield
    torch.set_flush_denormal(False)


def answers(array: np.ndarray, edges: list[float]) -> list[object]:
    """Everything that is counted, from new axes, so that what is worked out for them is worked out again."""
    rows = array.reshape(-1, 20)
    return [
        *(ts.histogram(array, axis).to_bytes() for axis in (ts.axis.LogLinear(6), ts.axis.Variable(edges))),
        ts.histogram(array, bins=16, range=(-3e-40, 3e-40)).values().tolist(),
        ts.histogram(array, bins=10, range=(-3, 3)).values().tolist(),
        ts.unit_activity(rows, 0, saturation=(-1e-40, 1e-40)).to_bytes(),
        ts.unit_activity(rows, 1, saturation=(-1e-40, 1e-40)).to_bytes(),
        repr(_core.outside([array], -1e-40, 1e-40)[0]),
    ]


@pytest.mark.usefixtures("restore_simd_level")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_same_answers(dtype: str, level: str, request: pytest.FixtureRequest):
    _core.set_simd_level(level)
    tiny = np.arange(200, dtype=f"u{mixed(dtype, 1).dtype.itemsize}").view(mixed(dtype, 1).dtype)
    array = np.concatenate([mixed(dtype, 5000), random_bits(dtype, 5000), tiny])
    edges = [-1e-30, -1e-310, 0.0, 5e-324, 1e-320, 1e-310, 1e-45, 1e-40, 1.0]
    expected = answers(array, edges)
    request.getfixturevalue("flush_to_zero")
    assert answers(array, edges) == expected
