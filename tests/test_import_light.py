"""`import tensorstats` is light: no torch, no matplotlib, and no change to the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    *("torch", "matplotlib", "ml_dtypes", "sklearn", "scipy", "pandas", "hypothesis", "pytest"),
    *("uhi", "tensorboard", "wandb", "opentelemetry", "prometheus_client", "google"),
)
CALLBACKS = ("lightning", "transformers")


def run_python(code: str) -> str:
    """Runs code in a fresh process with warnings as errors and returns what it printed."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=True
    ).stdout


@pytest.mark.parametrize(
    "code",
    [
        "import tensorstats",
        "import tensorstats; dir(tensorstats); tensorstats.__version__",
        "import numpy as np, tensorstats as ts; ts.summary(np.ones(5)).mean; repr(ts.summary(np.ones(5)))",
        "import numpy as np, tensorstats as ts; ts.histogram(np.ones(5)); ts.norm([np.ones(5)]); ts.check(np.ones(5))",
        "from tensorstats import *",
        "import numpy as np, tensorstats as ts; x = np.ones(5); s = ts.summary(x); ts.export.to_uhi;"
        "h = ts.histogram(x, ts.axis.LogLinear(6)); h.to_tensorboard(s); h.to_opentelemetry(0, s); h.to_prometheus(s)",
    ],
    ids=["import", "dir", "summary", "others", "star", "export"],
)
def test_nothing_heavy_is_imported(code: str):
    out = run_python(f"{code}\nimport sys; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert out.strip() == "[]"


def test_what_a_first_count_needs_is_there_so_that_no_fork_meets_a_lock_on_imports():
    out = run_python(
        "import numpy as np, sys, tensorstats as ts\nbefore = set(sys.modules)\n"
        "x = np.ones(9)\nts.summary(x), ts.quantile(x, 0.5), ts.norm(x), ts.check(x, finite=True), ts.is_finite(x)\n"
        "ts.unit_activity(x, dim=0), ts.outside(x, min=0), ts.histogram(x, bins=2, range=(0, 2))\n"
        "print(sorted(name for name in set(sys.modules) - before if name.startswith('tensorstats')), "
        "'tensorstats._openmp' in sys.modules)"
    )
    assert out.strip() == "[] True"


def test_the_watcher_imports_no_training_library():
    pytest.importorskip("torch")
    out = run_python(f"import tensorstats.torch, sys; print([name for name in {CALLBACKS!r} if name in sys.modules])")
    assert out.strip() == "[]"


def test_import_starts_no_thread_and_no_signal_handler():
    out = run_python(
        "import pathlib, signal, threading, numpy\n"
        "tasks_folder = pathlib.Path('/proc/self/task')\n"
        "def tasks(): return len(list(tasks_folder.iterdir())) if tasks_folder.exists() else 0\n"
        "before = tasks(), signal.getsignal(signal.SIGINT), threading.active_count()\n"
        "import tensorstats\n"
        "print(before == (tasks(), signal.getsignal(signal.SIGINT), threading.active_count()))"
    )
    assert out.strip() == "True"


def test_public_names_exist_and_are_what_dir_shows():
    import tensorstats as ts

    for name in ts.__all__:
        assert getattr(ts, name) is not None
    assert set(ts.__all__) <= set(dir(ts))


def test_version_is_that_of_the_package():
    from importlib.metadata import version

    import tensorstats as ts

    assert ts.__version__ == version("tensorstats")


def test_parts_of_the_package_are_there_without_an_import_of_their_own():
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    code = (
        "import tensorstats as ts; print(ts.torch.Schedule(every=2).every, ts.rules.DeadUnits().id, ts.export, ts.plot)"
    )
    assert run_python(code).startswith("2 dead-units <module")
