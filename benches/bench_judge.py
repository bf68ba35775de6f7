"""What judging a recorded step costs, and what is saved where rules measure only what is out of bounds or was.

    python benches/bench_judge.py

Two judges look at every step of the same training, in random order: one as it is, one whose rules measure everything.
Both must find the same.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path

import torch

import tensorstats as ts
from tensorstats.rules import Finding, Judge, Rule, StepView

sys.path.insert(0, str(Path(__file__).resolve().parent))

# Found only through the path set above, hence not at the top.
from watching.trainings import SMALL, Training

STEPS = 60
WARM_UP = 10


class Exhaustive(Judge):
    """A judge whose rules measure everything."""

    def _may_select(self, _rule: Rule) -> bool:
        return False


def seconds_to_judge(training: Training) -> dict[str, list[float]]:
    """The time that each judge takes for each step of a training, after a warm-up."""
    judges = {"as it is": Judge(), "measuring everything": Exhaustive()}
    seconds: dict[str, list[float]] = {name: [] for name in judges}
    run = training.start()
    monitor = ts.watch(run.model, run.optimizer, rules=[])

    def judge_with_both(view: StepView) -> list[Finding]:
        for name in random.sample(list(judges), len(judges)):
            begin = time.perf_counter()
            judges[name].judge(view)
            seconds[name].append(time.perf_counter() - begin)
        return []

    monitor._reading._judge.judge = judge_with_both  # type: ignore[method-assign]  # sees what a monitor's judge sees
    with monitor:
        for _ in range(STEPS):
            run.step(None)
    found = [[(finding.rule, finding.where) for finding in judge.findings] for judge in judges.values()]
    assert len(seconds["as it is"]) == STEPS
    assert found[0] == found[1], found
    return {name: of_judge[WARM_UP:] for name, of_judge in seconds.items()}


def bench_judge() -> None:
    """Prints microseconds of a step, medians."""
    torch.manual_seed(0)
    print("| training | judge as it is | measuring everything |\n| --- | --- | --- |")
    for name, training in SMALL.items():
        medians = [statistics.median(of_judge) * 1e6 for of_judge in seconds_to_judge(training).values()]
        print(f"| {name} | {medians[0]:.0f} µs | {medians[1]:.0f} µs |")


if __name__ == "__main__":
    bench_judge()
