"""Owns what the package tells about its own choices: SIMD level, thread count. Knows no tensors."""

from __future__ import annotations

from typing import NamedTuple

from tensorstats import _core

__all__ = ["SimdLevel", "ThreadCount", "simd_level", "thread_count"]


class SimdLevel(NamedTuple):
    """The SIMD level in force and why."""

    name: str
    reason: str


class ThreadCount(NamedTuple):
    """The number of threads a call may use and why."""

    threads: int
    reason: str


def simd_level() -> SimdLevel:
    """SIMD level that kernels run at, with the reason.

    It changes speed, never a bit of a result. The environment variable `TENSORSTATS_SIMD` (portable, avx2, avx512bw,
    avx512 or neon), read at import, forces one. Level avx512bw is AVX-512 without VBMI, which only 8-bit floats make
    use of: Skylake-X and Cascade Lake have it.

    Examples
    --------
    >>> import tensorstats as ts
    >>> ts.simd_level().name in ("portable", "avx2", "avx512bw", "avx512", "neon")
    True
    """
    return SimdLevel(*_core.simd_level())


def thread_count() -> ThreadCount:
    """Most threads that one call uses on a big tensor, with the reason.

    It changes speed, never a bit of a result. By default it is the number of CPUs the process may use (affinity mask
    and cgroup
    counted); the environment variable `TENSORSTATS_NUM_THREADS`, read at import, or the argument `threads=` of a call
    overrides it. Once torch was imported, they are the threads of torch's OpenMP runtime where it has one.

    Examples
    --------
    >>> import tensorstats as ts
    >>> ts.thread_count().threads >= 1
    True
    """
    return ThreadCount(*_core.thread_count())
