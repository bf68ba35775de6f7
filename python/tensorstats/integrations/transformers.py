"""A callback for the Trainer of Hugging Face transformers; importing it needs the package ``transformers``."""

# ruff: noqa: ARG002 - a callback takes what the library hands over

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tensorstats.integrations.callbacks import Watching
from tensorstats.rules import Finding
from tensorstats.torch.monitor import Monitor

__all__ = ["WatchCallback"]


class WatchCallback(TrainerCallback):
    """Watches a transformers Trainer: ``Trainer(..., callbacks=[WatchCallback()])``.

    It attaches when training begins and detaches when it ends. The Trainer tells no callback when training raises:
    then call ``close()``, or use the callback as a context manager around ``trainer.train()``.

    Parameters
    ----------
    **options
        Those of :func:`tensorstats.watch`. Unless there is an ``on_finding``, every finding is written once to the
        logger ``"tensorstats"`` of the standard library, as a warning.

    Examples
    --------
    >>> with WatchCallback(every=10) as callback:
    ...     callback.findings  # trainer.train() stands here
    []
    """

    def __init__(self, **options: Any) -> None:
        self._watching = Watching(**options)
        self._loss_hook: Any = None

    @property
    def monitor(self) -> Monitor:
        """The monitor; there is none before training begins."""
        return self._watching.monitor

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, earliest first."""
        return self._watching.findings

    def report(self) -> str:
        """The table and the findings in words."""
        return self._watching.report()

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        **others: Any,
    ) -> None:
        """Attach to the model and its optimizer."""
        if model is None or optimizer is None:
            return
        # accelerate hands out a wrapper whose own step hooks never run.
        while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
            optimizer = inner
        self.close()
        self._watching.attach(model, [optimizer])
        self._loss_hook = model.register_forward_hook(self._returned)

    def _returned(self, model: nn.Module, _arguments: Any, output: object) -> None:
        """Take the loss from what the model returns."""
        loss = output.get("loss") if isinstance(output, Mapping) else None
        if model.training and isinstance(loss, torch.Tensor) and loss.numel() == 1:
            self._watching.log_loss(loss)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """Detach."""
        self.close()

    def close(self, error: BaseException | None = None) -> None:
        """Detach, because of an `error` of the run or at its end; what was recorded stays readable."""
        if self._loss_hook is not None:
            self._loss_hook.remove()
            self._loss_hook = None
        self._watching.close(error)

    def __enter__(self) -> WatchCallback:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(error)
