"""The training loop of the demo, as a user would write it, with `ts.watch` around it; prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

import tensorstats as ts
from tensorstats.demo.bugs import Bug, with_nan
from tensorstats.demo.data import Digits, batches
from tensorstats.demo.models import network
from tensorstats.torch import Finding, Monitor

__all__ = ["Run", "silent_shares", "train"]

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Run:
    """One finished training: its monitor, the loss of every step, and the share of test images recognised."""

    bug: Bug
    monitor: Monitor
    layers: dict[str, str]  # name and type of every module, in the order in which they run
    losses: list[float]
    accuracy: float

    @property
    def findings(self) -> list[Finding]:
        """What the watcher found, causes first."""
        return self.monitor.findings

    @property
    def as_expected(self) -> bool:
        """Whether the first finding names the planted bug, or nothing was found where nothing was planted."""
        if not self.bug.rule or not self.findings:
            return not self.bug.rule and not self.findings
        first = self.findings[0]
        return first.rule == self.bug.rule and first.where in self.bug.where


def silent_shares(run: Run, output: str) -> npt.NDArray[np.float64]:
    """The share of an output's units without activity in the batch of each step; NaN where the output is not finite."""
    shares = run.monitor.series("outputs", output, "dead_fraction")[1].copy()
    shares[run.monitor.series("outputs", output, "nonfinite_count")[1] > 0] = np.nan
    return shares


def train(
    digits: Digits,
    bug: Bug,
    *,
    steps: int,
    seed: int,
    amp: bool = False,
    compiled: bool = False,
    progress: Callable[[int, float], None] | None = None,
) -> Run:
    """Train the network for `steps` batches with `bug` planted in it; the global random state is left as it was.

    With `amp` the forward pass runs under autocast in bfloat16, with float32 weights, as mixed precision does. With
    `compiled` it runs through `torch.compile`, hooks attached first.
    `progress` is called after every step with the number of steps done and the loss.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network(bug.activation)
        bug.spoil_model(model)
    handed_over = [parameter for name, parameter in model.named_parameters() if name.partition(".")[0] != bug.left_out]
    optimizer = torch.optim.Adam(handed_over, lr=LEARNING_RATE)
    losses: list[float] = []

    with ts.watch(model, optimizer, histograms=True) as monitor:
        forward = torch.compile(model) if compiled else model
        for step, (images, labels) in enumerate(batches(digits, steps, seed)):
            if bug.nan_at_half and step == steps // 2:
                images = with_nan(images)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
                loss = nn.functional.cross_entropy(forward(images), labels)
            if bug.zero_grad:
                optimizer.zero_grad()
            loss.backward()
            monitor.log_loss(loss)
            optimizer.step()
            losses.append(loss.item())
            if progress is not None:
                progress(step + 1, losses[-1])

    layers = {name: type(module).__name__ for name, module in model.named_children()}
    return Run(bug, monitor, layers, losses, accuracy=_accuracy(model, digits))


def _accuracy(model: nn.Module, digits: Digits) -> float:
    model.eval()
    with torch.no_grad():
        return float((model(digits.test_images).argmax(1) == digits.test_labels).float().mean())
