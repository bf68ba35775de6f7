"""The digits of scikit-learn as tensors, and their batches; knows no model and no bug."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits

__all__ = ["BATCH_SIZE", "Digits", "batches", "load"]

BATCH_SIZE = 64

_WHITE = 16.0  # the pixels of the data set are counts from 0 to 16
_TRAINING_IMAGES = 1500  # of 1797


@dataclass(frozen=True)
class Digits:
    """Images ``float32[N, 1, 8, 8]``, mean 0 and standard deviation 1 in the training set, and labels ``int64[N]``."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


def load(seed: int) -> Digits:
    """The data set that comes with scikit-learn, shuffled by `seed`, split into 1500 training and 297 test images."""
    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / _WHITE
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, test = order[:_TRAINING_IMAGES], order[_TRAINING_IMAGES:]
    std, mean = torch.std_mean(images[train])
    images = (images - mean) / std
    return Digits(images[train], labels[train], images[test], labels[test])


def batches(digits: Digits, steps: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """`steps` batches of 64 training images and labels; every epoch in a new order, the rest of it left out."""
    generator = torch.Generator().manual_seed(seed)
    chunks: list[torch.Tensor] = []
    for _ in range(steps):
        if not chunks:
            order = torch.randperm(len(digits.train_images), generator=generator)
            chunks = [chunk for chunk in order.split(BATCH_SIZE) if len(chunk) == BATCH_SIZE]
        chosen = chunks.pop()
        yield digits.train_images[chosen], digits.train_labels[chosen]
