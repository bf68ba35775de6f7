"""Results do not depend on the caller's flush-to-zero state, and that state is left as it was."""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

import tensorstats as ts
from conftest import LEVELS
from expect import field_bits
from samples import DTYPES, FLOAT_DTYPES, NARROW_FLOATS, all_patterns, mixed, random_bits
from tensorstats import _core

torch = pytest.importorskip("torch", reason="torch switches flush-to-zero on")

if TYPE_CHECKING:
    from collections.abc import Iterator


def flushes() -> bool:
    """Whether this thread computes with subnormals flushed to zero."""
    return float((torch.tensor([1e-310], dtype=torch.float64) * 1.0).item()) == 0.0


@pytest.fixture
def flush_to_zero() -> Iterator[None]:
    if not torch.set_flush_denormal(True):
        pytest.skip("this machine cannot flush subnormals to zero")
    assert flushes()
    yield
    torch.set_flush_denormal(False)
    assert not flushes()


def data(dtype: str) -> list[np.ndarray]:
    arrays = [random_bits(dtype, 3001), mixed(dtype, 2**18 + 5)]
    if dtype in NARROW_FLOATS:
        arrays.append(all_patterns(dtype))
    if dtype in FLOAT_DTYPES:
        smallest = np.ones(1001, dtype=f"u{arrays[0].dtype.itemsize}").view(arrays[0].dtype)
        arrays += [smallest, smallest[::3]]
    return arrays


@pytest.mark.usefixtures("restore_simd_level")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_with_flush_to_zero(dtype: str, level: str, request: pytest.FixtureRequest):
    _core.set_simd_level(level)
    arrays = data(dtype)
    calls = [(array, threads) for array in arrays for threads in (1, 4)]
    expected = [field_bits(ts.summary(array, moments=4, threads=threads)) for array, threads in calls]
    request.getfixturevalue("flush_to_zero")
    assert [field_bits(ts.summary(array, moments=4, threads=threads)) for array, threads in calls] == expected
    assert flushes()


def units(x: float) -> int:
    """The bits of a positive subnormal, read as a whole number."""
    return int.from_bytes(struct.pack("<d", x), "little")


@pytest.mark.usefixtures("flush_to_zero")
def test_results_read_and_merged_with_flush_to_zero():
    smallest = np.full(1000, 5e-324)
    s = ts.summary(smallest)
    assert (s.subnormal_count, s.zero_count) == (1000, 0)
    # Python's own float arithmetic flushes here too, `hex()` included: results are compared as units of the smallest
    # subnormal.
    assert units(s.min) == units(s.max) == units(s.absmin) == units(s.mean) == 1
    assert units(s.sum) == units(s.l1) == 1000
    assert units(s.l2) == 32  # the square root of 1000, rounded
    merged = s + ts.summary(smallest)
    assert units(merged.sum) == 2000
    assert units(merged.min) == 1
    assert flushes()


@pytest.mark.usefixtures("flush_to_zero")
def test_state_of_the_thread_is_left_alone_after_an_error():
    with pytest.raises(TypeError):
        ts.summary(np.zeros(3, dtype=np.complex64))
    assert flushes()


def test_a_thread_that_flushes_and_one_that_does_not_agree():
    array = mixed("float32", 100_001)
    expected = ts.summary(array, moments=4).to_bytes()
    found: list[bytes] = []

    def work() -> None:
        torch.set_flush_denormal(True)
        found.append(ts.summary(array, moments=4, threads=3).to_bytes())

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert found == [expected]
