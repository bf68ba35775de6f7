"""What the callbacks of training libraries share: monitors for the optimizers of a run; knows none of the libraries."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tensorstats._core import Summary
from tensorstats.rules import Finding
from tensorstats.torch._watch import watch
from tensorstats.torch.modules import ROOT_NAME, choose_modules
from tensorstats.torch.monitor import Monitor

__all__ = ["Watching"]

logger = logging.getLogger("tensorstats")


class Watching:
    """The monitors of one run, one per optimizer.

    With several optimizers every module belongs to the one that holds its parameters; a module without parameters
    belongs to the one that holds those of the module around it; what no optimizer holds belongs to the first.

    Parameters
    ----------
    **options
        Those of :func:`tensorstats.watch`. Unless there is an ``on_finding``, every finding is written once, as a
        warning, to the logger ``"tensorstats"`` of the standard library.

    Attributes
    ----------
    monitors : list of Monitor
        Empty before the run begins; readable after it has ended.
    """

    def __init__(self, **options: Any) -> None:
        self.options = {"on_finding": log_finding, **options}
        self.monitors: list[Monitor] = []

    def attach(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Begin to watch, anew if this is not the first run."""
        self.close()
        if len(optimizers) < 2:
            self.monitors = [watch(model, next(iter(optimizers), None), **self.options)]
            return
        chosen = choose_modules(model, self.options.get("modules"))
        owners = {name: _owner(name, model, optimizers) for name in chosen}
        self.monitors = []
        for place, optimizer in enumerate(optimizers):
            mine = {name for name, owner in owners.items() if owner == place}
            if mine:
                options = {**self.options, "modules": lambda name, _, mine=mine: (name or ROOT_NAME) in mine}
                self.monitors.append(watch(model, optimizer, **options))

    def close(self) -> None:
        """Detach all monitors; what they recorded stays readable."""
        for monitor in self.monitors:
            monitor.close()

    @property
    def monitor(self) -> Monitor:
        """The monitor of a run with one optimizer.

        Raises
        ------
        AttributeError
            Before the run begins, or when it has several.
        """
        if len(self.monitors) != 1:
            raise AttributeError(f"there are {len(self.monitors)} monitors, not one; see monitors")
        return self.monitors[0]

    @property
    def findings(self) -> list[Finding]:
        """The findings of all monitors, earliest first."""
        findings = [finding for monitor in self.monitors for finding in monitor.findings]
        return sorted(findings, key=lambda finding: finding.step)

    def report(self) -> str:
        """The reports of all monitors in words."""
        return "\n\n".join(monitor.report() for monitor in self.monitors)

    def log_loss(self, loss: float | torch.Tensor) -> None:
        """Hand the loss to the monitor; with several optimizers nobody knows whose it is, so nothing is done."""
        if len(self.monitors) == 1:
            self.monitors[0].log_loss(loss)


def log_finding(finding: Finding) -> None:
    """Write a finding to the log."""
    logger.warning("%s", finding)


def scalars_of(monitor: Monitor, fields: Mapping[str, str]) -> dict[str, float]:
    """The latest numbers of every tensor of the chosen signals, as ``"signal/name/field"``.

    Parameters
    ----------
    fields : mapping of str to str
        Signal to the field of :class:`tensorstats.Summary` wanted of it, as in ``{"gradients": "l2"}``.
    """
    return {
        f"{signal}/{name}/{field}": read_number(monitor.latest(signal, name), field)
        for signal, field in fields.items()
        for name in monitor.names(signal)
    }


def read_number(summary: Summary, field: str) -> float:
    """One field of a summary; ``std`` and ``var`` are methods there.

    Raises
    ------
    ValueError
        If there is no such number.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstats as ts
    >>> read_number(ts.summary(np.array([1.0, 3.0])), "std")
    1.0
    """
    value = getattr(summary, field, None)
    value = value() if field in ("std", "var") and callable(value) else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(
            f"a field must be a number of tensorstats.Summary, such as 'l2', 'mean' or 'std', got {field!r}"
        )
    return float(value)


def _owner(name: str, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> int:
    """Which optimizer a module belongs to."""
    held = [
        {id(parameter) for group in optimizer.param_groups for parameter in group["params"]} for optimizer in optimizers
    ]
    path = "" if name == ROOT_NAME else name
    while True:
        ids = {id(parameter) for parameter in model.get_submodule(path).parameters()}
        for place, mine in enumerate(held):
            if ids & mine:
                return place
        if not path:
            return 0
        path = path.rpartition(".")[0]
