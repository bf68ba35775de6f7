"""Times watched steps against bare ones in one process, and checks what came of both. Knows no report.

Run as ``python -m watching.measure``: one training, one way of watching, one JSON file.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from watching.trainings import SMALL, TRAININGS, Run, Tools
from watching.ways import WAYS, MissingError, Way, make

# Steps before the first timed one: allocators, thread pools and optimizer state settle.
WARM_UP = 3
FEWEST_PAIRS = 5

# Of a normal distribution, 95 % lie within this many standard deviations.
NORMAL_95 = 1.96


def _timed(run: Run, tools: Tools | None, steps: int) -> int:
    begin = time.perf_counter_ns()
    for _ in range(steps):
        run.step(tools)
    return time.perf_counter_ns() - begin


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """The median and the ends of its 95 % confidence interval: order statistics, whatever the distribution.

    The number of values below the median is binomial; its normal approximation gives the ranks.
    """
    ordered = sorted(values)
    reach = NORMAL_95 * math.sqrt(len(ordered)) / 2
    low = max(math.floor(len(ordered) / 2 - reach), 0)
    return statistics.median(ordered), ordered[low], ordered[len(ordered) - 1 - low]


def inside(run: Run, way: Way, blocks: int) -> float:
    """Nanoseconds of a block that are spent inside the hooks: far less noisy than two whole blocks, but without what
    torch does to call hooks, and what the caches have lost by them.
    """
    hook = way.hook
    assert hook is not None
    original, spent = hook.__call__, 0

    def timed(self: Any, *arguments: Any) -> None:
        nonlocal spent
        begin = time.perf_counter_ns()
        try:
            original(self, *arguments)
        finally:
            spent += time.perf_counter_ns() - begin

    each = []
    hook.__call__ = timed
    try:
        for _ in range(blocks):
            spent = 0
            _timed(run, way, way.block)
            each.append(spent)
    finally:
        hook.__call__ = original
    return statistics.median(each)


def cost(training_name: str, way_name: str, *, seconds: float, quick: bool, seed: int) -> dict[str, Any]:
    """The cost of a way of watching: pairs of a bare and a watched block, in random order, one ratio per pair."""
    training = (SMALL if quick else TRAININGS)[training_name]
    way = make(way_name)
    bare, watched = training.start(), training.start()
    way.attach(watched)
    for run, tools in ((bare, None), (watched, way)):
        _timed(run, tools, max(WARM_UP, way.block))
    order = random.Random(seed)
    bare_times: list[int] = []
    watched_times: list[int] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(bare_times) < FEWEST_PAIRS:
        turns = [(bare, None, bare_times), (watched, way, watched_times)]
        order.shuffle(turns)
        for run, tools, times in turns:
            times.append(_timed(run, tools, way.block))
    problem = way.check(len(watched.losses))
    same = bare.losses == watched.losses
    bare_time = statistics.median(bare_times)
    within = None if way.hook is None else inside(watched, way, max(FEWEST_PAIRS, 30 // way.block)) / bare_time
    way.close()
    if not all(0 < loss < 1e3 for loss in bare.losses):
        problem = problem or "the training itself goes wrong"
    ratio, low, high = median_interval([w / b for w, b in zip(watched_times, bare_times, strict=True)])
    return {
        "training": training_name,
        "way": way_name,
        "version": way.version(),
        "words": training.words,
        "parameters": bare.parameters,
        "pairs": len(bare_times),
        "block": way.block,
        "bare_ms": bare_time / way.block / 1e6,
        "inside": within,
        "cost": ratio - 1,
        "low": low - 1,
        "high": high - 1,
        "problem": problem,
        "same_losses": same,
        "quick": quick,
    }


def memory(way_name: str, *, steps: int, marks: int = 10) -> dict[str, Any]:
    """Resident memory over a long run of the small transformer, in `marks` equal parts."""
    torch.set_num_threads(1)
    run = SMALL["transformer"].start()
    way = make(way_name)
    way.attach(run)
    resident = []
    for step in range(1, steps + 1):
        run.step(way)
        if step % (steps // marks) == 0:
            resident.append((step, _resident()))
    problem = way.check(steps)
    way.close()
    return {"training": "memory", "way": way_name, "version": way.version(), "resident": resident, "problem": problem}


def _resident() -> float:
    """Resident memory now, in MiB."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description="one measurement; bench_watch.py runs them all")
    parser.add_argument("training", choices=[*TRAININGS, "memory"])
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # those of the peers; ours would be among the monitor's errors
    try:
        if options.training == "memory":
            result = memory(options.way, steps=options.steps)
        else:
            result = cost(
                options.training, options.way, seconds=options.seconds, quick=options.quick, seed=options.seed
            )
    except MissingError as error:
        result = {"training": options.training, "way": options.way, "missing": str(error)}
    options.out.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
