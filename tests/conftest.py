"""Owns the fixtures that more than one file asks for, and the header line of a run."""

from __future__ import annotations

import ast
import gc
import os
import platform
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest

try:
    from tensorstats import _core
except ImportError as error:
    error.add_note("The native module is missing or out of date. Did you run `make develop`?")
    raise

from turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

# The same examples in every run by default, so that a failure can be looked at; HYPOTHESIS_PROFILE=thorough explores.
hypothesis.settings.register_profile("fast", max_examples=60, deadline=None, derandomize=True)
hypothesis.settings.register_profile("thorough", max_examples=2000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

THREADS = tuple(range(1, 8))


def _available_levels() -> tuple[str, ...]:
    """The SIMD levels of this machine, weakest first: those that the native module agrees to use."""
    found = []
    for name in ("portable", "neon", "avx2", "avx512bw", "avx512"):
        try:
            _core.set_simd_level(name)
        except ValueError:
            continue
        found.append(name)
    _core.set_simd_level(None)
    return tuple(found)


LEVELS = _available_levels()


def pytest_report_header() -> list[str]:
    level, reason = _core.simd_level()
    threads, thread_reason = _core.thread_count()
    free_threaded = not getattr(sys, "_is_gil_enabled", lambda: True)()
    return [
        f"tensorstats {_core.__version__} ({_core.build_profile} build), numpy {np.__version__}, {platform.machine()}, "
        f"{'no GIL' if free_threaded else 'GIL'}",
        f"SIMD levels tested: {', '.join(LEVELS)}; default {level} ({reason}); threads {threads} ({thread_reason})",
    ]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--installed", action="store_true", help="leave out the files that import what is not installed")


def _imports(path: Path) -> set[str]:
    """The packages that a file of tests cannot be imported without."""
    names = set()
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module is not None:
            names.add(statement.module)
    return {name.partition(".")[0] for name in names}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not config.getoption("installed") or collection_path.suffix != ".py":
        return None
    return any(find_spec(name) is None for name in _imports(collection_path)) or None


def pytest_collection_finish() -> None:
    """Thousands of tests and all of torch are there to stay: the garbage collector need not look at them each time."""
    gc.collect()
    gc.freeze()


TURNS = pytest.StashKey[Path]()


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_configure_node(node: Any) -> None:
    """Gives the processes that share the tests one folder to take turns by; see the marker `alone`."""
    config = node.config
    if TURNS not in config.stash:
        folder = tempfile.TemporaryDirectory(prefix="tensorstats-turns-")
        config.add_cleanup(folder.cleanup)
        config.stash[TURNS] = Path(folder.name)
    node.workerinput["turns"] = str(config.stash[TURNS])


def pytest_configure(config: pytest.Config) -> None:
    folder = getattr(config, "workerinput", {}).get("turns")
    if folder is not None:
        config.pluginmanager.register(Turns(Path(folder)), "turns")


@pytest.fixture(params=LEVELS)
def simd_level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once per SIMD level of the machine."""
    _core.set_simd_level(request.param)
    yield request.param
    _core.set_simd_level(None)


@pytest.fixture
def restore_simd_level() -> Iterator[None]:
    """For tests that walk over `LEVELS` themselves."""
    yield
    _core.set_simd_level(None)


@pytest.fixture
def restore_thread_count() -> Iterator[None]:
    """For tests that call `set_thread_count`."""
    yield
    _core.set_thread_count(None)


@pytest.fixture
def levels() -> tuple[str, ...]:
    """The SIMD levels of this machine, weakest first."""
    return LEVELS


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For trainings of layers so small that they only lose time to torch's threads."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits() -> tuple[Any, Any]:
    """scikit-learn's digits, ``float32[1797, 64]`` with mean 0 and standard deviation 1, and their labels."""
    torch = pytest.importorskip("torch")
    data = pytest.importorskip("sklearn.datasets").load_digits()
    x = torch.tensor(data.data, dtype=torch.float32)
    return (x - x.mean()) / x.std(), torch.tensor(data.target)
