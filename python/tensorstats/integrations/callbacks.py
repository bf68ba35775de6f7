"""What the callbacks of training libraries share: one monitor per run; knows none of the libraries."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tensorstats._core import Summary
from tensorstats.rules import Finding
from tensorstats.run.choosing import SIGNALS
from tensorstats.run.series import EXTRA_FIELDS, read_number
from tensorstats.torch._watch import DEFAULTS, watch
from tensorstats.torch.monitor import Monitor
from tensorstats.torch.options import check_options

__all__ = ["Watching", "check_scalars", "log_finding", "scalars_of"]

logger = logging.getLogger("tensorstats")


class Watching:
    """The monitor of one run after the other.

    Parameters
    ----------
    **options
        Those of :func:`tensorstats.watch`. Unless there is an ``on_finding``, every finding is written once, as a
        warning, to the logger ``"tensorstats"`` of the standard library.

    Raises
    ------
    TypeError, ValueError
        For options that ``ts.watch`` does not take: now, not when training begins.
    """

    def __init__(self, **options: Any) -> None:
        self.options = {"on_finding": log_finding, **check_options(options, DEFAULTS)}
        self._monitor: Monitor | None = None
        self._optimizers = 0

    def attach(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Begin to watch, anew if this is not the first run."""
        self.close()
        self._optimizers = len(optimizers)
        self._monitor = watch(model, list(optimizers) if len(optimizers) > 1 else optimizers[0], **self.options)

    def close(self, error: BaseException | None = None) -> None:
        """Detach, because of an `error` of the run or at its end; what was recorded stays readable."""
        if self._monitor is not None:
            self._monitor.__exit__(None if error is None else type(error), error, None)

    @property
    def monitor(self) -> Monitor:
        """The monitor of the run, or of the last one.

        Raises
        ------
        AttributeError
            Before training has begun.
        """
        if self._monitor is None:
            raise AttributeError("there is no monitor before training has begun")
        return self._monitor

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, earliest first; nothing before training has begun."""
        return [] if self._monitor is None else self._monitor.findings

    def report(self) -> str:
        """The table and the findings in words; empty before training has begun."""
        return "" if self._monitor is None else self._monitor.report()

    def begin_batch(self, batch: object) -> None:
        """Say that a micro-batch begins."""
        if self._monitor is not None:
            self._monitor.begin_batch(batch=batch)

    def log_loss(self, loss: float | torch.Tensor) -> None:
        """Hand on the loss; with several optimizers it is not one series, so nothing is done."""
        if self._monitor is not None and self._optimizers == 1:
            self._monitor.log_loss(loss)


def log_finding(finding: Finding) -> None:
    """Write a finding to the log."""
    logger.warning("%s", finding)


def scalars_of(monitor: Monitor, fields: Mapping[str, str]) -> dict[str, float]:
    """The latest numbers of every tensor of the chosen signals, as ``"signal/name/field"``.

    Parameters
    ----------
    fields : mapping of str to str
        Signal to the field wanted of it, one of those of ``Monitor.series``, as in ``{"gradients": "l2"}``.
    """
    return {
        f"{signal}/{name}/{field}": monitor.latest_number(signal, name, field)
        for signal, field in fields.items()
        for name in monitor.names(signal)
    }


def check_scalars(fields: Mapping[str, str]) -> None:
    """Refuse numbers that no monitor has.

    Raises
    ------
    ValueError
        For an unknown signal, or a field that it does not have.
    """
    for signal, field in fields.items():
        if signal not in SIGNALS:
            raise ValueError(f"scalars must be of {', '.join(SIGNALS)}, got {signal!r}")
        if EXTRA_FIELDS.get(field) != signal:
            read_number(Summary(), field)
