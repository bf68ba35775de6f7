"""Starts the ranks of a small distributed program and collects the facts that each scenario leaves, as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import tensorstats as ts
from tensorstats.torch.ranks import group as rank_group

Facts = dict[str, Any]

SIGNALS = ("outputs", "parameters", "gradients", "updates", "optimizer_state")


def answers(program: str, size: int, folder: Path, *arguments: str) -> list[Facts]:
    """What every rank of a program in this folder found, by scenario."""
    path = Path(__file__).with_name(program)
    running = [
        subprocess.Popen(
            [sys.executable, str(path), str(rank), str(size), str(folder), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        said = [process.communicate(timeout=110)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    found = [folder / f"rank{rank}.json" for rank in range(size)]
    assert all(path.exists() for path in found), "\n".join(said)
    return [json.loads(path.read_text()) for path in found]


def serve(
    scenarios: Sequence[Callable[[], Facts]], *, waits: float = 3.0, timeout: float = 60.0, together: bool = True
) -> None:
    """Run as one rank: every scenario in turn; `waits` is how long watchers wait, `timeout` that of the group."""
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rank_group.TIMEOUT = timedelta(seconds=waits)
    store = dist.FileStore(str(folder / "store"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=timeout))
    results = {}
    for scenario in scenarios:
        begun = time.monotonic()
        results[scenario.__name__] = {**scenario(), "seconds": time.monotonic() - begun}
        if together:
            dist.barrier()
        (folder / f"rank{rank}.json").write_text(json.dumps(results))
    if together:
        dist.destroy_process_group()


def both(ranks: Sequence[Facts], scenario: str) -> Facts:
    """The facts of a scenario, which must be the same on all ranks."""
    first, *others = ({name: fact for name, fact in facts[scenario].items() if name != "seconds"} for facts in ranks)
    assert all(json.dumps(other) == json.dumps(first) for other in others)
    return first


# --- what scenarios are made of ---------------------------------------------------------------------------------------


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))


def batch(rank: int, step: int) -> torch.Tensor:
    return torch.randn(4 + rank, 5, generator=torch.Generator().manual_seed(10 * step + rank))


def train(
    model: Any, *, steps: int = 2, rate: float = 0.1, change: Any = None, watched: Any = None, **options: Any
) -> Any:
    """A watched run; `change(step)` may do something before each step's batch is used."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    monitor = ts.watch(model if watched is None else watched, optimizer, **options)
    for step in range(steps):
        x = batch(dist.get_rank(), step)
        if change is not None:
            x = change(step, x)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    monitor.close()
    return monitor


def facts(monitor: Any) -> Facts:
    """What a test looks at."""
    return {
        "errors": monitor.errors,
        "findings": [[f.rule, f.where, f.step, f.why] for f in monitor.findings],
        "totals": {
            f"{signal} {name}": [s.count, s.min, s.max, s.l2]
            for signal in SIGNALS
            for name in monitor.names(signal)
            for s in [monitor.total(signal, name)]
        },
        "steps": {name: monitor.series("outputs", name, "count")[0].tolist() for name in monitor.names("outputs")},
    }


def everyone(value: Any) -> list[Any]:
    """The value of every rank."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
