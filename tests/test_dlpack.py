"""DLPack capsules built by hand: every field that an exporter may set, and the deleter called exactly once."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import tensorstats as ts
from capsules import BFLOAT, BOOL, COMPLEX, CPU, CUDA, CUDA_HOST, INT, Source


def ones(size: int = 12) -> np.ndarray:
    return np.arange(1, size + 1, dtype=np.float32)


both = pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "legacy"])


@both
def test_plain(versioned: bool):
    source = Source(ones(), versioned=versioned)
    s = ts.summary(source)
    assert (s.dtype, s.shape, s.sum) == ("float32", (12,), 78.0)
    gc.collect()
    assert source.deleted == 1


@both
def test_strides_byte_offset_and_missing_strides(versioned: bool):
    values = ones(24)
    options = {"versioned": versioned}
    assert ts.summary(Source(values, shape=(4, 6), **options)).sum == 300.0
    assert ts.summary(Source(values, shape=(3, 2), strides=(8, 2), **options)).max == 19.0
    assert ts.summary(Source(values, shape=(5,), byte_offset=40, **options)).min == 11.0
    assert ts.summary(Source(values, shape=(5,), strides=(-2,), byte_offset=40, **options)).min == 3.0
    assert ts.summary(Source(values, shape=(7, 4), strides=(0, 1), **options)).sum == 70.0
    assert ts.summary(Source(values, shape=(10,), byte_offset=3, **options)).count == 10


@both
def test_zero_dimensional_and_empty(versioned: bool):
    source = Source(ones(), versioned=versioned, shape=())
    assert (ts.summary(source).count, ts.summary(source).sum) == (1, 1.0)
    source = Source(ones(), versioned=versioned, shape=(0, 5), null_data=True)
    assert ts.summary(source).count == 0
    gc.collect()
    assert source.deleted == 1


@both
def test_a_source_without_a_deleter(versioned: bool):
    source = Source(ones(), versioned=versioned, has_deleter=False)
    assert ts.summary(source).sum == 78.0
    gc.collect()
    assert source.deleted == 0


@pytest.mark.parametrize("flags", [0, 1, 2, 3], ids=["plain", "read-only", "copied", "both"])
def test_flags(flags: int):
    source = Source(ones(), flags=flags)
    assert ts.summary(source).sum == 78.0
    gc.collect()
    assert source.deleted == 1


@pytest.mark.parametrize("minor", [0, 1, 3, 99])
def test_any_minor_version(minor: int):
    source = Source(ones(), version=(1, minor))
    assert ts.summary(source).sum == 78.0


@both
def test_host_memory_of_a_cuda_allocator_is_memory(versioned: bool):
    source = Source(ones(), versioned=versioned, device=CUDA_HOST)
    assert ts.summary(source).sum == 78.0


REFUSED = {
    "complex": {"code": COMPLEX, "bits": 64},
    "float-of-24-bits": {"bits": 24},
    "float-of-128-bits": {"bits": 128},
    "int-of-4-bits": {"code": INT, "bits": 4},
    "bool-of-1-bit": {"code": BOOL, "bits": 1},
    "bfloat-of-32-bits": {"code": BFLOAT, "bits": 32},
    "unknown-code": {"code": 99, "bits": 8},
    "opaque-handle": {"code": 3, "bits": 64},
    "lanes": {"lanes": 4},
    "cuda": {"device": CUDA},
    "unknown-device": {"device": 77},
    "null-data": {"null_data": True},
    "negative-length": {"shape": (-3,)},
    "negative-lengths": {"shape": (-3, -4)},
    "length-overflow": {"shape": (2**40, 2**40), "strides": (0, 0)},
}


@both
@pytest.mark.parametrize("case", REFUSED)
def test_refusals_call_the_deleter_once(case: str, versioned: bool):
    source = Source(ones(), versioned=versioned, **REFUSED[case])
    with pytest.raises((TypeError, ValueError, BufferError)):
        ts.summary(source)
    gc.collect()
    assert source.deleted in ((0, 1) if source.device != CPU else (1,)), "a device may be refused before any capsule"


def test_an_unknown_major_version_is_refused_without_reading_it():
    source = Source(ones(), version=(2, 0), code=COMPLEX)
    with pytest.raises((TypeError, ValueError, BufferError)) as caught:
        ts.summary(source)
    assert "2" in str(caught.value)
    gc.collect()
    assert source.deleted == 1


@both
def test_a_capsule_is_taken_only_once(versioned: bool):
    class Twice(Source):
        capsule: object = None

        def __dlpack__(self, **options: Any) -> object:
            if self.capsule is None:
                self.capsule = super().__dlpack__(**options)
            return self.capsule

    source = Twice(ones(), versioned=versioned)
    assert ts.summary(source).sum == 78.0
    with pytest.raises((TypeError, ValueError, BufferError)):
        ts.summary(source)
    source.capsule = None
    gc.collect()
    assert source.deleted == 1


def test_a_capsule_of_another_name_is_refused():
    class Other(Source):
        def __dlpack__(self, **_options: object) -> object:
            import datetime

            return datetime.datetime_CAPI  # type: ignore[attr-defined]

    with pytest.raises((TypeError, ValueError, BufferError)):
        ts.summary(Other(ones()))


@both
def test_the_deleter_may_run_python_and_release_the_source(versioned: bool):
    for _ in range(100):
        source = Source(ones(), versioned=versioned)
        ts.summary(source)
        assert source.deleted == 1
