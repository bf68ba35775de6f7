"""Results have the same bits at every SIMD level and for any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import tensorstats as ts
from conftest import LEVELS, THREADS
from expect import field_bits
from samples import DTYPES, LAYOUTS, block_of, mixed, random_bits
from tensorstats import _core

# Long enough for every thread to have several blocks, and no multiple of anything.
LONG = 2**20 + 37


@cache
def long_array(dtype: str) -> np.ndarray:
    return mixed(dtype, LONG)


@cache
def reference(dtype: str) -> tuple[bytes, dict[str, object]]:
    """The first level with one thread."""
    _core.set_simd_level(LEVELS[0])
    s = ts.summary(long_array(dtype), moments=4, threads=1)
    return s.to_bytes(), field_bits(s)


@pytest.mark.slow
@pytest.mark.usefixtures("restore_simd_level")
@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_arrays(dtype: str, level: str, threads: int):
    packed, fields = reference(dtype)
    _core.set_simd_level(level)
    s = ts.summary(long_array(dtype), moments=4, threads=threads)
    assert field_bits(s) == fields
    assert s.to_bytes() == packed


@pytest.mark.usefixtures("restore_simd_level")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts(dtype: str, layout: str):
    view = LAYOUTS[layout](block_of(dtype))
    found = set()
    for level in LEVELS:
        _core.set_simd_level(level)
        found |= {ts.summary(view, moments=4, threads=threads).to_bytes() for threads in (1, 2, 5)}
    assert len(found) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("restore_simd_level")
@pytest.mark.parametrize("layout", ["transposed", "step", "rows", "stride-0"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "float8_e4m3fn", "int32"])
def test_long_views(dtype: str, layout: str):
    block = long_array(dtype)[: 2**20].reshape(1024, 1024)
    view = {
        "transposed": block.T[:, ::-1],
        "step": block[:, ::3],
        "rows": block[:, 5:700],
        "stride-0": np.broadcast_to(block[:, None, :512], (1024, 3, 512)),
    }[layout]
    found = set()
    for level in LEVELS:
        _core.set_simd_level(level)
        found |= {ts.summary(view, moments=4, threads=threads).to_bytes() for threads in (1, 2, 3, 7)}
    assert len(found) == 1


@pytest.mark.usefixtures("restore_simd_level")
@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes_and_alignments(dtype: str):
    memory = random_bits(dtype, 600, seed=8)
    for size in (*range(70), 127, 128, 129, 255, 256, 257, 511, 513):
        for start in (0, 1, 3):
            piece = memory[start : start + size]
            found = set()
            for level in LEVELS:
                _core.set_simd_level(level)
                found.add(ts.summary(piece, moments=4).to_bytes())
            assert len(found) == 1, (size, start)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_layout_changes_no_exact_field(dtype: str):
    block = mixed(dtype, 2**18).reshape(64, 64, 64)
    exact = ("count", "nan_count", "zero_count", "negative_count", "subnormal_count", "min", "max", "absmax", "absmin")
    expected = field_bits(ts.summary(block))
    for view in (block.T, block[::-1], np.asfortranarray(block), block.transpose(2, 0, 1)):
        found = field_bits(ts.summary(view))
        assert {name: found[name] for name in exact} == {name: expected[name] for name in exact}


@pytest.mark.usefixtures("restore_thread_count")
def test_default_thread_count_changes_no_bit():
    found = set()
    for threads in (1, 2, 3, 8, None):
        _core.set_thread_count(threads)
        found.add(ts.summary(long_array("float32"), moments=4).to_bytes())
    assert len(found) == 1


# --- Which level and how many threads, and why ------------------------------------------------------------------------


def run_python(code: str, **environment: str) -> str:
    """Runs code in a fresh process, where the environment is read again."""
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return found.stdout + found.stderr


def test_the_choice_and_its_reason_are_reported():
    level = ts.simd_level()
    assert level.name in LEVELS
    assert level.reason
    threads = ts.thread_count()
    assert threads.threads >= 1
    assert threads.reason


@pytest.mark.parametrize("level", LEVELS)
def test_environment_forces_the_level(level: str):
    out = run_python("import tensorstats as ts; print(*ts.simd_level())", TENSORSTATS_SIMD=level)
    assert out.startswith(f"{level} ")
    assert "TENSORSTATS_SIMD" in out


def test_environment_sets_the_thread_count():
    out = run_python("import tensorstats as ts; print(*ts.thread_count())", TENSORSTATS_NUM_THREADS="3")
    assert out.startswith("3 ")
    assert "TENSORSTATS_NUM_THREADS" in out


@pytest.mark.usefixtures("restore_simd_level")
def test_a_forced_level_says_so():
    detected = _core.simd_level()
    assert detected[0] == LEVELS[-1] or "TENSORSTATS_SIMD" in os.environ
    for level in LEVELS:
        _core.set_simd_level(level)
        name, reason = _core.simd_level()
        assert name == level
        assert reason != detected[1]
    _core.set_simd_level(None)
    assert _core.simd_level() == detected


def test_a_level_that_this_machine_has_is_not_missed():
    """Tests per level pass in vain where detection finds none, so the system's list of CPU flags is the check."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    assert "portable" in LEVELS
    if {"avx2", "fma", "f16c", "bmi2"} <= flags:
        assert "avx2" in LEVELS
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"} <= flags:
        assert "avx512bw" in LEVELS
        assert ("avx512" in LEVELS) == ("avx512vbmi" in flags)
