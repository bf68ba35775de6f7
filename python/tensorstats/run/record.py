"""What a run has recorded so far, step by step, in bounded memory; counts and judges nothing, and knows no torch."""

from __future__ import annotations

from typing import Literal, TypeAlias

from tensorstats.run.choosing import SCALARS, SIGNALS
from tensorstats.run.series import ScalarLog, SignalLog
from tensorstats.run.step import Step

__all__ = ["Mode", "RunRecord"]

Mode: TypeAlias = Literal["train", "eval"]


class RunRecord:
    """The logs of one run.

    Attributes
    ----------
    logs : dict
        By mode and signal.
    scalars : dict
        Losses and learning rates, by signal and name.
    module_types : dict
        The class name of every module that was ever watched.
    """

    def __init__(self) -> None:
        self.logs: dict[Mode, dict[str, SignalLog]] = {
            mode: {signal: SignalLog() for signal in SIGNALS} for mode in ("train", "eval")
        }
        self.scalars: dict[str, dict[str, ScalarLog]] = {signal: {} for signal in SCALARS}
        self.module_types: dict[str, str] = {}

    def add_number(self, signal: str, name: str, step: int, value: float) -> None:
        """Append a loss or a learning rate."""
        self.scalars[signal].setdefault(name, ScalarLog()).add(step, value)

    def add(self, step: Step, mode: Mode = "train") -> None:
        """Append a recorded step, or a recorded call in eval mode."""
        for signal, rows in step.signals.items():
            self.logs[mode][signal].add(step.number, rows)
        for histograms in step.histograms.values():
            histograms.keep(step.number)
