"""Ranks that end in the middle, come late or skip steps; which scenarios are run is an argument."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel

import tensorstats as ts
from rank_processes import Facts, batch, build, facts, serve


def loop(model: Any, steps: int, before: Callable[[int], object] = lambda _: None) -> Facts:
    """A watched loop without collectives of its own."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    begun = time.monotonic()
    with ts.watch(model, optimizer) as monitor:
        for step in range(steps):
            before(step)
            optimizer.zero_grad()
            model(batch(dist.get_rank(), step)).square().mean().backward()
            optimizer.step()
    return {**facts(monitor), "loop": time.monotonic() - begun}


def dies() -> Facts:
    def before(step: int) -> None:
        if step == 2 and dist.get_rank() == 1:
            (Path(sys.argv[3]) / "rank1.json").write_text(json.dumps({}))
            os._exit(3)

    return loop(build(), 4, before)


def joins() -> Facts:
    """Uneven data, and a group that gives up after a few seconds."""
    parallel = DistributedDataParallel(build())
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    with ts.watch(parallel, optimizer) as monitor, Join([parallel]):
        for step in range(2 if dist.get_rank() == 0 else 6):
            optimizer.zero_grad()
            parallel(batch(dist.get_rank(), step)).square().mean().backward()
            optimizer.step()
    return facts(monitor)


def comes_late() -> Facts:
    def before(step: int) -> None:
        if step == 2 and dist.get_rank() == 1:
            time.sleep(5)

    return loop(build(), 4, before)


def raises() -> Facts:
    def before(step: int) -> None:
        if step == 2 and dist.get_rank() == 1:
            raise KeyError

    try:
        return loop(build(), 4, before)
    except KeyError:
        return {}


def skips_one_step() -> Facts:
    """The loop of rank 1 leaves out a bad batch, unlike that of the others."""
    return _skipping(build(), lambda step: step == 2, lambda loss, _: not loss.isfinite())


def all_skip_one_step() -> Facts:
    return _skipping(DistributedDataParallel(build()), lambda step: step == 2, _bad_gradients)


def all_skip_every_step() -> Facts:
    return _skipping(DistributedDataParallel(build()), lambda _: True, _bad_gradients)


def _bad_gradients(loss: torch.Tensor, model: nn.Module) -> bool:
    loss.backward()
    return not all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def _skipping(model: nn.Module, is_bad: Callable[[int], bool], skips: Callable[[Any, nn.Module], bool]) -> Facts:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        for step in range(5):
            x = batch(dist.get_rank(), step)
            if dist.get_rank() == 1 and is_bad(step):
                x[0, 0] = float("nan")
            optimizer.zero_grad()
            loss = model(x).square().mean()
            if skips(loss, model):
                continue
            if model.get_parameter(next(iter(model.state_dict()))).grad is None:
                loss.backward()
            optimizer.step()
    return facts(monitor)


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (dies, joins, comes_late, raises, skips_one_step, all_skip_one_step, all_skip_every_step)
}

if __name__ == "__main__":
    names = sys.argv[4].split(",")
    serve(
        [SCENARIOS[name] for name in names],
        waits=float(sys.argv[5]),
        timeout=float(sys.argv[6]),
        together=names != ["dies"],
    )
