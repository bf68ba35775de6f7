"""A Lightning callback that watches ``trainer.fit``; importing it needs ``lightning`` or ``pytorch_lightning``."""

# ruff: noqa: ARG002 - a callback takes what the library hands over

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from tensorstats.integrations.callbacks import Watching, check_scalars, scalars_of
from tensorstats.rules import Finding
from tensorstats.torch.monitor import Monitor

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    # The same library goes by two names. A program uses one of them: the one that it has imported.
    names = ["lightning.pytorch", "pytorch_lightning"]
    names.sort(key=lambda name: name not in sys.modules)
    try:
        library = importlib.import_module(names[0])
    except ModuleNotFoundError:
        library = importlib.import_module(names[1])
    Callback, LightningModule, Trainer = library.Callback, library.LightningModule, library.Trainer

__all__ = ["WatchCallback"]


class WatchCallback(Callback):
    """Watches the training of a LightningModule: ``Trainer(callbacks=[WatchCallback()])``.

    It attaches when training starts and detaches when it ends or raises. Gradient accumulation, clipping, validation
    and manual optimization with several optimizers need nothing from you.

    Parameters
    ----------
    scalars : mapping of str to str, optional
        Numbers to send to the trainer's loggers every ``trainer.log_every_n_steps`` steps: signal to field, one of
        those of ``Monitor.series``, as in ``{"gradients": "l2", "updates": "update_ratio"}``. None by default.
    **options
        Those of :func:`tensorstats.watch`. Unless there is an ``on_finding``, every finding is written once to the
        logger ``"tensorstats"`` of the standard library, as a warning.

    Examples
    --------
    >>> callback = WatchCallback(every=10, scalars={"gradients": "l2"})
    >>> callback.findings
    []
    """

    def __init__(self, *, scalars: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__()
        self.scalars = dict(scalars or {})
        check_scalars(self.scalars)
        self._watching = Watching(**options)
        self._sent: int | None = None

    @property
    def monitor(self) -> Monitor:
        """The monitor of the training, or of the last one; there is none before."""
        return self._watching.monitor

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, earliest first."""
        return self._watching.findings

    def report(self) -> str:
        """The tables and the findings in words."""
        return self._watching.report()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach to the module and its optimizers."""
        self._sent = None
        if trainer.optimizers:
            self._watching.attach(pl_module, trainer.optimizers)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Tell the monitor that a micro-batch begins: ``training_step`` need not call the module itself."""
        self._watching.begin_batch(batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """Take the loss of the micro-batch, as ``training_step`` gave it."""
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            # Lightning has divided it so that the sum over the accumulated batches is a mean.
            parts = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
            self._watching.log_loss(loss.detach() * parts)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Send the scalars that were asked for."""
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            # on_before_backward sees it multiplied by the loss scale, which is on the device.
            loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
            if isinstance(loss, torch.Tensor):
                self._watching.log_loss(loss)
        step = trainer.global_step
        # The trainer gets this attribute from its logger connector; it declares it nowhere.
        every = getattr(trainer, "log_every_n_steps", 0)
        if (
            self.scalars
            and trainer.loggers
            and trainer.optimizers
            and every
            and step % every == 0
            and step != self._sent
        ):
            self._sent = step
            numbers = scalars_of(self.monitor, self.scalars)
            for logger in trainer.loggers:
                logger.log_metrics(numbers, step=step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Detach."""
        self._watching.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Detach."""
        self._watching.close(exception)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Detach."""
        self._watching.close()
