"""What `loss_fn=` adds to a watched step: two copies of one training, with and without it, in turns.

    python benches/bench_loss_fn.py

Both copies must end with the same weights to the last bit. Printed is the median over blocks of the difference per step
in processor time, which other programs disturb least, every step recorded and none.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import tensorstats as ts


def classifier() -> tuple[nn.Module, nn.Module, Any, Any]:
    """A digits-sized classifier: 64 samples, 10 classes."""
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    return model, nn.CrossEntropyLoss(), torch.randn(64, 64), torch.randint(0, 10, (64,))


def regression() -> tuple[nn.Module, nn.Module, Any, Any]:
    """A regression of 64 samples and 8 targets."""
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 8))
    return model, nn.MSELoss(), torch.randn(64, 64), torch.randn(64, 8)


def language() -> tuple[nn.Module, nn.Module, Any, Any]:
    """A head over 8,192 words, 512 tokens."""
    model = nn.Sequential(nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 8192))
    return model, nn.CrossEntropyLoss(), torch.randn(512, 256), torch.randint(0, 8192, (512,))


def run(model: nn.Module, optimizer: Any, criterion: nn.Module, x: Any, y: Any, steps: int) -> float:
    start = time.process_time()
    for _ in range(steps):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    return (time.process_time() - start) / steps


def measure(make: Callable[[], tuple[nn.Module, nn.Module, Any, Any]], every: int, blocks: int, seconds: float) -> None:
    torch.manual_seed(0)
    model, criterion, x, y = make()
    loops = []
    for hears in (False, True):
        twin, loss = copy.deepcopy(model), copy.deepcopy(criterion)
        optimizer = torch.optim.Adam(twin.parameters())
        start = 0 if every == 1 else 10**9
        loops.append((twin, optimizer, loss, ts.watch(twin, optimizer, start=start, loss_fn=loss if hears else None)))
    steps = max(1, int(seconds / max(run(*loops[0][:3], x, y, 3), 1e-6)))
    run(*loops[1][:3], x, y, 3)
    times: list[list[float]] = [[], []]
    for block in range(blocks):
        for which in (0, 1) if block % 2 else (1, 0):
            times[which].append(run(*loops[which][:3], x, y, steps))
    for *_, monitor in loops:
        monitor.close()
        assert monitor.errors == []
    same = zip(loops[0][0].parameters(), loops[1][0].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same), "watching the loss has changed the training"
    without = statistics.median(times[0])
    added = statistics.median(b - a for a, b in zip(*times, strict=True))
    recorded = "every step" if every == 1 else "no step"
    print(f"{make.__name__:12} {recorded:10} {without * 1e6:9.0f} us {added * 1e6:+8.1f} us {added / without:+7.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.1, help="of one block")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for make in (classifier, regression, language):
        for every in (1, 0):
            measure(make, every, options.blocks, options.seconds)


if __name__ == "__main__":
    main()
