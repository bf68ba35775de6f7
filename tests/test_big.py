"""More than 2^24, 2^31 and 2^32 elements, and no memory beyond that of the tensor."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import tensorstats as ts
from samples import numpy_dtype


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "bool"])
def test_more_ones_than_a_float32_can_count(dtype: str):
    x = np.ones(2**24 + 3, dtype=numpy_dtype(dtype))
    x[-1] = 0
    s = ts.summary(x)
    assert (s.count, s.positive_count, s.zero_count, s.sum, s.l1) == (2**24 + 3, 2**24 + 2, 1, 2**24 + 2, 2**24 + 2)


def test_more_than_2_31_elements():
    x = np.broadcast_to(np.array([1, 255, 0, 7], dtype=np.uint8), (2**29 + 1, 4))
    s = ts.summary(x)
    rows = 2**29 + 1
    assert (s.count, s.zero_count, s.positive_count) == (4 * rows, rows, 3 * rows)
    assert (s.sum, s.min, s.max) == (263 * rows, 0, 255)
    assert s.mean == pytest.approx(65.75, rel=1e-15)


def test_more_than_2_32_elements_of_one_value():
    x = np.broadcast_to(np.float32(-1.5), (2**16, 2**16 + 1))
    s = ts.summary(x)
    count = 2**16 * (2**16 + 1)
    assert (s.count, s.negative_count, s.sum, s.mean, s.var()) == (count, count, -1.5 * count, -1.5, 0.0)


MEASURE = """
import numpy as np, tensorstats as ts
from pathlib import Path

def peak():
    text = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM")))

block = np.ones((8192, 8192), dtype=np.{dtype})
ts.summary(np.ones((100, 100), dtype=np.{dtype}).T, moments=4)
for view in (block, block.T, block[:, ::2], block[::-1, 5:], block.reshape(-1)[1:]):
    before = peak()
    ts.summary(view, moments=4, threads=4)
    print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("dtype", ["float32", "uint8", "float16"])
def test_no_temporary_beside_the_tensor(dtype: str):
    """Every view of 64 MiB to 256 MiB, and less than 8 MiB of new memory."""
    out = subprocess.run(
        [sys.executable, "-c", MEASURE.format(dtype=dtype)], capture_output=True, text=True, check=True, timeout=100
    ).stdout
    assert len(out.split()) == 5
    assert max(map(int, out.split())) < 8 * 1024
