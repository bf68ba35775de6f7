"""The loops people train with, each around the same model, data, optimizer and schedule; judges nothing."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from case import Batch, Case, Task, returns_loss
from torch import nn

import tensorstats as ts

__all__ = ["LOOPS", "Run"]

# What a loop gives back: the losses of its steps and the monitor, if there was one.
Run = tuple[list[float], Any]

# How the trainers of Hugging Face are asked to do nothing but train.
_QUIET: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "report_to": [],
    "save_strategy": "no",
    "logging_strategy": "steps",
    "logging_steps": 1,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}


def _schedule(optimizer: torch.optim.Optimizer, warm_up: int) -> torch.optim.lr_scheduler.LambdaLR:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (warm_up + 1)))


def _watch(watched: bool, model: nn.Module, optimizer: Any, **options: Any) -> Any:
    return ts.watch(model, optimizer, **options) if watched else contextlib.nullcontext()


def _stream(case: Case, steps: int) -> Iterator[Batch]:
    return itertools.islice(itertools.cycle(case.batches()), steps)


def plain(case: Case, model: nn.Module, steps: int, warm_up: int, watched: bool) -> Run:
    """Forward, backward, step."""
    optimizer = case.optimizer(model.parameters())
    schedule = _schedule(optimizer, warm_up)
    losses = []
    with _watch(watched, model, optimizer) as monitor:
        for batch in _stream(case, steps):
            optimizer.zero_grad()
            loss = case.loss(model, batch)
            if watched:
                monitor.log_loss(loss)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss))
    return losses, monitor


def scaled(case: Case, model: nn.Module, steps: int, warm_up: int, watched: bool) -> Run:
    """float16 under autocast with a gradient scaler, on the CPU."""
    optimizer = case.optimizer(model.parameters())
    schedule = _schedule(optimizer, warm_up)
    scaler = torch.amp.GradScaler("cpu")
    losses = []
    with _watch(watched, model, optimizer, scaler=scaler) as monitor:
        for batch in _stream(case, steps):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                loss = case.loss(model, batch)
            if watched:
                monitor.log_loss(loss)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            losses.append(float(loss))
    return losses, monitor


def accelerated(case: Case, model: nn.Module, steps: int, warm_up: int, watched: bool) -> Run:
    """Accelerate, two micro-batches per step."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    optimizer = case.optimizer(model.parameters())
    model, optimizer, schedule = accelerator.prepare(model, optimizer, _schedule(optimizer, warm_up))
    losses = []
    with _watch(watched, model, optimizer) as monitor:
        for batch in _stream(case, steps):
            with accelerator.accumulate(model):
                loss = case.loss(model, batch)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                if watched:
                    monitor.log_loss(loss)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            losses.append(float(loss))
    return losses, monitor


def lightning(case: Case, model: nn.Module, steps: int, warm_up: int, watched: bool) -> Run:
    """Lightning, with this project's callback."""
    from lightning.pytorch import LightningModule, Trainer
    from torch.utils.data import DataLoader

    from tensorstats.integrations.lightning import WatchCallback

    losses: list[float] = []

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Batch, _number: int) -> torch.Tensor:
            loss = case.loss(self.model, batch)
            losses.append(float(loss))
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = case.optimizer(self.model.parameters())
            return [optimizer], [{"scheduler": _schedule(optimizer, warm_up), "interval": "step"}]

    callback = WatchCallback()
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback] if watched else [],
        gradient_clip_val=1.0,
    )
    trainer.fit(Module(), DataLoader(list(_stream(case, steps)), batch_size=None, shuffle=False))
    return losses, callback.monitor if watched else None


def transformers_trainer(case: Case, model: nn.Module, steps: int, warm_up: int, watched: bool) -> Run:
    """The Trainer of transformers, with this project's callback."""
    from transformers import Trainer, TrainingArguments

    from tensorstats.integrations.transformers import WatchCallback

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    native = case.loss is returns_loss
    task = model if native else Task(model, case.loss)
    optimizer = case.optimizer(task.parameters())
    callback = WatchCallback()
    with tempfile.TemporaryDirectory() as folder:
        trainer = InOrder(
            model=task,
            args=TrainingArguments(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=1,
                remove_unused_columns=False,
                **_QUIET,
            ),
            train_dataset=list(_stream(case, steps)),
            data_collator=lambda batches: batches[0],
            optimizers=(optimizer, _schedule(optimizer, warm_up)),
            callbacks=[callback] if watched else [],
        )
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses, callback.monitor if watched else None


def fine_tuning(case: Case, model: nn.Module, steps: int, warm_up: int, watched: bool) -> Run:
    """The SFTTrainer of trl, which tokenises and batches by itself."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    from tensorstats.integrations.transformers import WatchCallback

    words = Tokenizer(models.WordLevel({f"t{number}": number for number in range(128)}, unk_token="t0"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="t0", unk_token="t0", bos_token="t2", eos_token="t3"
    )
    batches = list(_stream(case, steps))
    rows = [{"input_ids": row.tolist()} for batch in batches for row in batch["input_ids"]]
    optimizer = case.optimizer(model.parameters())
    callback = WatchCallback()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=len(batches[0]["input_ids"]),
                max_length=batches[0]["input_ids"].shape[1],
                **_QUIET,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            optimizers=(optimizer, _schedule(optimizer, warm_up)),
            callbacks=[callback] if watched else [],
        )
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses, callback.monitor if watched else None


LOOPS: dict[str, Callable[[Case, nn.Module, int, int, bool], Run]] = {
    "plain": plain,
    "GradScaler": scaled,
    "Accelerate": accelerated,
    "Lightning": lightning,
    "Trainer": transformers_trainer,
    "SFTTrainer": fine_tuning,
}
