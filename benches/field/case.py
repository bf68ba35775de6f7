"""What a run of the field is made of: a model of somebody else, data at hand, a loss; trains nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

__all__ = ["Batch", "Case", "Task", "classifies", "returns_loss"]

Batch = dict[str, Any]


def returns_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """The loss of a model that computes it itself, as those of transformers do."""
    return model(**batch)["loss"]


def classifies(model: nn.Module, batch: Batch) -> torch.Tensor:
    """The loss of a classifier of images; distilled ones answer twice."""
    answer = model(batch["images"])
    answers = answer if isinstance(answer, tuple) else (answer,)
    losses = [nn.functional.cross_entropy(each, batch["labels"]) for each in answers]
    return torch.stack(losses).mean()


@dataclass(frozen=True)
class Case:
    """One model. `rate` is a learning rate at which it learns, with a warm-up and without."""

    name: str
    family: str
    library: str
    build: Callable[[], nn.Module]
    batches: Callable[[], list[Batch]]
    loss: Callable[[nn.Module, Batch], torch.Tensor] = classifies
    rate: float = 1e-3
    sgd: bool = False
    slow_in_float16: bool = False  # its convolutions take minutes on a CPU: another loop takes the scaler's turn
    loops: tuple[str, ...] = ()  # the only loops it is for; none: all but the trainers of single libraries

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer its authors train it with, more or less."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if self.sgd:
            return torch.optim.SGD(trained, lr=self.rate, momentum=0.9, weight_decay=1e-4)
        return torch.optim.AdamW(trained, lr=self.rate, weight_decay=0.05)


class Task(nn.Module):
    """A model together with its loss, for trainers that want a module that returns a loss."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Batch], torch.Tensor]) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, **batch: Any) -> dict[str, torch.Tensor]:
        """What is wanted: a mapping with the loss."""
        return {"loss": self._loss(self.model, batch)}
