"""The demo, ``python -m tensorstats demo``: one healthy training, one with a planted bug; needs torch only to run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["BUG_NAMES", "DEFAULT_BUG", "DEFAULT_STEPS", "MINIMUM_STEPS", "MissingDependencyError", "run"]

# In the order in which --help tells them; bugs.py plants them.
BUG_NAMES = ("dead-relu", "vanishing", "exploding", "nan-input", "frozen", "no-zero-grad", "none")
DEFAULT_BUG = "dead-relu"
DEFAULT_STEPS = 200

# The rules wait for ten steps of evidence, and nan-input shows up only half way.
MINIMUM_STEPS = 40

# What is imported, and the name under which it is installed.
_NEEDED = {"torch": "torch", "sklearn": "scikit-learn", "matplotlib": "matplotlib"}


class MissingDependencyError(ImportError):
    """A package that the demo needs is not installed; the message says what to type."""


def run(
    bug: str = DEFAULT_BUG,
    *,
    steps: int = DEFAULT_STEPS,
    seed: int = 0,
    out: Path | None = None,
    amp: bool = False,
    compiled: bool = False,
) -> int:
    """The exit code of the demo: 0 when the watcher said what it should, 1 when it did not.

    Trains the same small network on scikit-learn's digits with and without the bug, prints a table and the findings to
    stdout and progress to stderr, and writes one picture.

    Parameters
    ----------
    bug : str
        One of ``BUG_NAMES``; ``"none"`` trains the healthy network alone.
    steps : int
        Optimizer steps of each training, at least ``MINIMUM_STEPS``.
    seed : int
        Of the initial weights, the split of the data and the batches.
    out : Path, optional
        The PNG to write; ``tensorstats-demo-<bug>.png`` in the current folder by default.
    amp : bool
        Train in mixed precision: the forward pass under autocast in bfloat16.
    compiled : bool
        Train through `torch.compile`, which needs a C++ compiler.

    Returns
    -------
    int
        0 when the healthy run ended without a finding and the first finding of the buggy run names the planted bug, 1
        otherwise.

    Raises
    ------
    MissingDependencyError
        If torch, scikit-learn or matplotlib is not installed.
    FileNotFoundError
        If the folder of `out` does not exist.
    ValueError
        For an unknown bug or too few steps.
    """
    if bug not in BUG_NAMES:
        raise ValueError(f"bug must be one of {', '.join(BUG_NAMES)}, got {bug!r}")
    if steps < MINIMUM_STEPS:
        raise ValueError(f"steps must be at least {MINIMUM_STEPS}, for the rules wait for evidence, got {steps}")
    path = out or Path(f"tensorstats-demo-{bug}.png")
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"the picture needs a folder that exists, got {str(path)!r}")
    _require_dependencies()
    from tensorstats.demo.play import play

    return play(bug, steps=steps, seed=seed, out=path, amp=amp, compiled=compiled)


def _require_dependencies() -> None:
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        names = " and ".join([", ".join(missing[:-1]), missing[-1]]) if len(missing) > 1 else missing[0]
        raise MissingDependencyError(f"the demo needs {names}\nhint: pip install 'tensorstats[demo]'")
