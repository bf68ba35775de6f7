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


def _is_forked() -> bool:
    """Whether this process is a copy of another one, so that threads its libraries believe to have were left behind."""
    if sys.platform != "linux":
        return _forked
    with contextlib.suppress(OSError, ValueError, IndexError):
        # Field 9 of proc(5)'s stat; the name before it may hold spaces and brackets. PF_FORKNOEXEC of the kernel's
        # sched.h: forked, and no other program started since.
        flags = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[6]
        return bool(int(flags) & 0x40)
    return _forked


_forked = False


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def share_torch_threads() -> None:
    """Let the core work on the threads of torch where that is possible: at the first count after torch was imported."""
    # A pool of threads belongs to the process that made it: in a forked child its work would wait for ever.
    _core.use_openmp(None if _is_forked() else parallel_address())
