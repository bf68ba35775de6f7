"""Finds the OpenMP runtime that torch computes with, so that the core can work on its threads; knows no tensors."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

from tensorstats import _core

__all__ = ["parallel_address", "share_torch_threads"]

_LIBRARIES = {"linux": "libtorch_cpu.so", "darwin": "libtorch_cpu.dylib"}


def parallel_address() -> int | None:
    """The address of the ``GOMP_parallel`` that torch itself calls, or None where it has none.

    None without torch, for a torch that was built with another thread pool, and on systems where its OpenMP runtime
    lacks the function.
    """
    torch = sys.modules.get("torch")
    name = _LIBRARIES.get(sys.platform)
    folder = getattr(torch, "__file__", None)
    if name is None or folder is None:
        return None
    with contextlib.suppress(OSError, AttributeError):
        # A symbol of a library that is open already is looked up as the library itself does: in what it was linked to.
        library = ctypes.CDLL(str(Path(folder).parent / "lib" / name), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value
    return None


def share_torch_threads() -> None:
    """Let the core work on the threads of torch where that is possible: at the first count after torch was imported."""
    _core.use_openmp(parallel_address())
