"""What errors say: what came, and what is accepted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

import tensorstats as ts
from conftest import LEVELS
from tensorstats import _core


@pytest.mark.parametrize("moments", [0, 1, 3, 5, 100])
def test_moments_are_two_or_four(moments: int):
    for call in (lambda: ts.summary(np.ones(3), moments=moments), lambda: ts.Summary(moments=moments)):
        with pytest.raises(ValueError, match=rf"moments must be 2 or 4.*{moments}"):
            call()


@pytest.mark.parametrize("moments", ["four", 2.5, None])
def test_moments_of_another_type(moments: object):
    with pytest.raises(TypeError):
        ts.summary(np.ones(3), moments=moments)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["skewness", "kurtosis"])
def test_moments_that_were_not_kept(field: str):
    with pytest.raises(ValueError, match=rf"{field}.*moments=4"):
        getattr(ts.summary(np.ones(3)), field)


@pytest.mark.parametrize("threads", [0, -1])
def test_a_thread_count_is_at_least_one(threads: int):
    with pytest.raises((ValueError, OverflowError)):
        _core.set_thread_count(threads)


@pytest.mark.parametrize("threads", ["two", 2.5, [1]])
@pytest.mark.parametrize(
    "function", [ts.summary, ts.histogram, ts.norm, ts.summaries, ts.is_finite, ts.Summary().update]
)
def test_threads_of_another_type(function: Callable[..., object], threads: object):
    with pytest.raises(TypeError) as caught:
        function(np.ones(3), threads=threads)
    assert str(caught.value) == f"threads must be a whole number in [1, 1024] or None, got: {threads!r}"


@pytest.mark.parametrize("threads", [0, -1, 1025, 2**80])
def test_threads_that_no_machine_has(threads: int):
    with pytest.raises(ValueError, match=rf"threads must be in \[1, 1024\], got: {threads}$"):
        ts.summary(np.ones(3), threads=threads)


def test_merging_different_moments_says_which():
    with pytest.raises(ValueError, match=r"moments.*(2.*4|4.*2)"):
        ts.Summary().merge(ts.Summary(moments=4))


def test_an_unknown_level_lists_those_of_the_machine():
    with pytest.raises(ValueError, match="pentium") as caught:
        _core.set_simd_level("pentium")
    for level in LEVELS:
        assert level in str(caught.value)


def test_a_level_that_the_machine_lacks_says_so():
    missing = "neon" if "neon" not in LEVELS else "avx512"
    with pytest.raises(ValueError, match=rf"cannot run.*{missing}"):
        _core.set_simd_level(missing)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TENSORSTATS_SIMD", "pentium"),
        ("TENSORSTATS_SIMD", "neon" if "neon" not in LEVELS else "avx512"),
        ("TENSORSTATS_NUM_THREADS", "many"),
        ("TENSORSTATS_NUM_THREADS", "0"),
        ("TENSORSTATS_NUM_THREADS", "-3"),
        ("TENSORSTATS_NUM_THREADS", "2.5"),
    ],
)
def test_a_wrong_environment_variable_is_named_and_nothing_crashes(variable: str, value: str):
    """Whether it is an error or a reported fallback, the user reads which variable and which value."""
    code = "import numpy as np, tensorstats as ts; print(*ts.simd_level(), *ts.thread_count()); ts.summary(np.ones(9))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, variable: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert variable in found.stdout + found.stderr
    assert value in found.stdout + found.stderr
    assert "panicked" not in found.stderr


@pytest.mark.parametrize("correction", ["one", None, 1j])
def test_correction_is_a_number(correction: object):
    with pytest.raises(TypeError):
        ts.summary(np.ones(3)).var(correction=correction)  # type: ignore[arg-type]


def test_bytes_of_something_else_say_so():
    with pytest.raises(ValueError) as caught:
        ts.Summary.from_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    text = str(caught.value)
    assert len(text) > 20
    assert "Summary" in text or "tensorstats" in text or "serialised" in text


def test_bytes_of_another_version_name_the_version():
    packed = bytearray(ts.summary(np.ones(3)).to_bytes())
    texts = []
    for at in range(min(12, len(packed))):
        damaged = packed.copy()
        damaged[at] = 250
        try:
            ts.Summary.from_bytes(bytes(damaged))
        except ValueError as error:
            texts.append(str(error))
    assert any("version" in text and "250" in text for text in texts), texts


def test_no_message_ends_in_a_full_stop_or_begins_in_capitals():
    calls = [
        lambda: ts.summary(np.ones(3), moments=3),
        lambda: ts.summary(np.ones(3), threads=0),
        lambda: ts.summary(np.ones(3, complex)),
        lambda: ts.summary([1, 2]),
        lambda: ts.summary(np.ones(3)).skewness,
        lambda: ts.Summary.from_bytes(b""),
        lambda: _core.set_simd_level("pentium"),
        lambda: ts.Summary().merge(ts.Summary(moments=4)),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError, BufferError)) as caught:
            call()
        text = str(caught.value)
        assert not text.endswith("."), text
        assert not text[:1].isupper() or text.split()[0] in ("None", "Summary"), text
