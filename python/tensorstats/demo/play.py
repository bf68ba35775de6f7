"""The course of the demo: train, tell, draw, judge; leaves how to the modules it calls."""

from __future__ import annotations

from pathlib import Path

import torch

from tensorstats.demo import show
from tensorstats.demo.bugs import BUGS, HEALTHY, Bug
from tensorstats.demo.data import Digits, load
from tensorstats.demo.picture import draw
from tensorstats.demo.train import Run, train

__all__ = ["play"]


def play(bug_name: str, *, steps: int, seed: int, out: Path, amp: bool = False, compiled: bool = False) -> int:
    """The exit code: 0 when every training ended as it should, 1 otherwise."""
    digits = load(seed)
    bug = BUGS[bug_name]
    show.introduction(steps=steps, seed=seed, amp=amp, compiled=compiled)
    runs = [_train(digits, HEALTHY, steps, seed, amp, compiled)]
    if bug is not HEALTHY:
        runs.append(_train(digits, bug, steps, seed, amp, compiled))
    show.details(runs[-1])
    draw(runs, out)
    show.ending(runs, out)
    return 0 if all(run.as_expected for run in runs) else 1


def _train(digits: Digits, bug: Bug, steps: int, seed: int, amp: bool, compiled: bool) -> Run:
    # On layers this small a second torch thread only waits, many times over on a busy machine.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with show.Progress(show.run_name(bug), steps) as progress:
            run = train(digits, bug, steps=steps, seed=seed, amp=amp, compiled=compiled, progress=progress)
    finally:
        torch.set_num_threads(threads)
    show.outcome(run)
    return run
