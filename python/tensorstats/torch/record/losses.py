"""Losses on their way to the log: at once where that is possible, in their order always; judges none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tensorstats.device.backend import Statistics
from tensorstats.device.numbers import Numbers

__all__ = ["LossQueue", "StepLosses"]

# Losses on a device wait for the next recorded step. Where that is far away, so many of them are read at once.
_MANY = 1000

Add = Callable[[int, str, float], None]  # step, name, value


class StepLosses:
    """Losses that belong to a step and what was logged before it; `deliver` hands them on."""

    def __init__(self, statistics: Statistics, entries: Sequence[tuple[int, str, float | torch.Tensor]] = ()) -> None:
        self._entries = [(step, name, None if isinstance(loss, torch.Tensor) else loss) for step, name, loss in entries]
        tensors = [loss for _, _, loss in entries if isinstance(loss, torch.Tensor)]
        self._numbers: Numbers | None = statistics.numbers(tensors) if tensors else None

    @property
    def on_devices(self) -> bool:
        """Whether some of them must be copied first."""
        return self._numbers is not None

    def deliver(self, add: Add) -> None:
        """Hand them to the log, after the copy was launched."""
        arrived = iter(() if self._numbers is None else self._numbers.read())
        for step, name, value in self._entries:
            add(step, name, next(arrived) if value is None else value)


class LossQueue:
    """Takes in losses; what a device holds, and what comes after it, waits for the next copy to the host.

    Attributes
    ----------
    waits : bool
        While a step is not closed yet, numbers wait too: it is judged with the losses up to its own.
    """

    def __init__(self, statistics: Statistics, add: Add) -> None:
        self._statistics = statistics
        self._add = add
        self._entries: list[tuple[int, str, float | torch.Tensor]] = []
        self.waits = False
        self._none = StepLosses(statistics)

    def log(self, step: int, name: str, loss: float | torch.Tensor) -> None:
        """One loss of a step.

        Raises
        ------
        ValueError
            For a tensor of several numbers.
        """
        if isinstance(loss, torch.Tensor) and not self._statistics.uses_core(loss):
            if loss.numel() != 1:
                raise ValueError(f"a loss must be one number, got a tensor of shape {list(loss.shape)}")
            self._entries.append((step, name, loss.detach().clone()))
            if len(self._entries) >= _MANY and not self.waits:
                self.flush()
            return
        value = float(loss.detach() if isinstance(loss, torch.Tensor) else loss)
        if self._entries or self.waits:
            self._entries.append((step, name, value))
        else:
            self._add(step, name, value)

    def take(self) -> StepLosses:
        """Everything so far."""
        if not self._entries:
            return self._none
        entries, self._entries = self._entries, []
        return StepLosses(self._statistics, entries)

    def release(self) -> None:
        """No step is open any more: hand on the numbers that only waited for it."""
        self.waits = False
        if any(isinstance(loss, torch.Tensor) for _, _, loss in self._entries):
            return
        self.take().deliver(self._add)

    def flush(self) -> None:
        """Hand on everything, waiting for devices."""
        if not self._entries:
            return
        losses = self.take()
        if losses.on_devices:
            self._statistics.launch()
        losses.deliver(self._add)
