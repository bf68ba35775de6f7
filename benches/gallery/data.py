"""The data of the gallery: what scikit-learn ships and generates, and text at hand. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor

__all__ = ["Table", "batches", "blobs", "cancer", "circles", "diabetes", "digits", "images", "iris", "sorted_tokens"]
__all__ += ["split", "standardised", "text", "text_windows", "waves", "wine"]


@dataclass
class Table:
    """Samples to train on and samples to validate on."""

    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor

    @property
    def train(self) -> tuple[Tensor, Tensor]:
        """What to train on."""
        return self.inputs, self.targets

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        """What to validate on."""
        return self.test_inputs, self.test_targets


def split(inputs: Tensor, targets: Tensor, share: float = 0.2) -> Table:
    """A random part to validate on, the rest to train on."""
    order = torch.randperm(len(inputs))
    cut = int(len(order) * share)
    test, train = order[:cut], order[cut:]
    return Table(inputs[train], targets[train], inputs[test], targets[test])


def batches(data: tuple[Tensor, ...], size: int, steps: int) -> Iterator[tuple[Tensor, ...]]:
    """So many batches, in a new order each epoch."""
    order = torch.randperm(len(data[0]))
    place = 0
    for _ in range(steps):
        if place + size > len(order):
            order, place = torch.randperm(len(data[0])), 0
        chosen = order[place : place + size]
        place += size
        yield tuple(part[chosen] for part in data)


def standardised(inputs: Tensor) -> Tensor:
    """Every feature with mean 0 and spread 1; a constant one stays at 0."""
    spread = inputs.std(0, keepdim=True)
    return (inputs - inputs.mean(0, keepdim=True)) / torch.where(spread > 0, spread, 1.0)


@cache
def _bundled(name: str) -> tuple[Tensor, Tensor]:
    inputs, targets = getattr(datasets, f"load_{name}")(return_X_y=True)
    kind = torch.float32 if name == "diabetes" else torch.int64
    return torch.tensor(np.asarray(inputs), dtype=torch.float32), torch.tensor(np.asarray(targets), dtype=kind)


def digits(*, raw: bool = False) -> Table:
    """Handwritten digits, 64 pixels, ten classes; standardised as a whole unless `raw` (0 to 16)."""
    inputs, targets = _bundled("digits")
    return split(inputs if raw else (inputs - inputs.mean()) / inputs.std(), targets)


def images() -> Table:
    """The digits as images ``[N, 1, 8, 8]``."""
    table = digits()
    table.inputs, table.test_inputs = table.inputs.view(-1, 1, 8, 8), table.test_inputs.view(-1, 1, 8, 8)
    return table


def cancer(*, raw: bool = False) -> Table:
    """Breast cancer: 30 features, two classes."""
    inputs, targets = _bundled("breast_cancer")
    return split(inputs if raw else standardised(inputs), targets)


def wine(*, raw: bool = False) -> Table:
    """Wines: 13 features, three classes."""
    inputs, targets = _bundled("wine")
    return split(inputs if raw else standardised(inputs), targets)


def iris() -> Table:
    """Irises: four features, three classes."""
    inputs, targets = _bundled("iris")
    return split(standardised(inputs), targets)


def diabetes(*, raw_targets: bool = False) -> Table:
    """Ten features and one number ``[N, 1]``: standardised, or as it is (25 to 346)."""
    inputs, targets = _bundled("diabetes")
    column = targets.view(-1, 1)
    return split(standardised(inputs), column if raw_targets else standardised(column))


def blobs(classes: int = 3, spread: float = 2.0, count: int = 1000, features: int = 2) -> Table:
    """Clouds of points, a class each."""
    inputs, targets = datasets.make_blobs(
        count, features, centers=classes, cluster_std=spread, random_state=_seed(), center_box=(-6, 6)
    )
    return split(standardised(torch.tensor(inputs, dtype=torch.float32)), torch.tensor(targets))


def circles(noise: float = 0.1, count: int = 1000) -> Table:
    """A ring within a ring."""
    inputs, targets = datasets.make_circles(count, noise=noise, factor=0.5, random_state=_seed())
    return split(torch.tensor(inputs, dtype=torch.float32), torch.tensor(targets))


def _seed() -> int:
    return int(torch.randint(2**31, ()).item())


@cache
def text() -> tuple[Tensor, int]:
    """The descriptions that scikit-learn ships with its data, as characters, and how many different ones there are."""
    words = "".join(getattr(datasets, f"load_{name}")().DESCR for name in ("digits", "iris", "wine", "diabetes"))
    letters = sorted(set(words.lower()))
    place = {letter: number for number, letter in enumerate(letters)}
    return torch.tensor([place[letter] for letter in words.lower()]), len(letters)


def text_windows(length: int = 24, count: int = 2000) -> tuple[Tensor, Tensor, int]:
    """Windows of characters ``[N, length]``, the same one character later, and the size of the vocabulary."""
    letters, size = text()
    starts = torch.randint(0, len(letters) - length - 1, (count,))
    windows = letters[starts[:, None] + torch.arange(length + 1)]
    return windows[:, :-1], windows[:, 1:], size


def sorted_tokens(length: int = 8, vocabulary: int = 12, count: int = 2000) -> Table:
    """Sequences of tokens from 1 up; 0 is padding. The class is whether 1 comes more often than 2."""
    tokens = torch.randint(1, vocabulary, (count, length))
    tokens[torch.arange(length) >= torch.randint(length // 2, length + 1, (count, 1))] = 0
    few = torch.rand(tokens.shape) < 0.4
    tokens = torch.where(few & (tokens > 0), torch.randint(1, 3, tokens.shape), tokens)
    return split(tokens, ((tokens == 1).sum(1) > (tokens == 2).sum(1)).long())


def waves(length: int = 20, count: int = 1500, noise: float = 0.1) -> Table:
    """Noisy waves ``[N, length, 1]`` and the next value ``[N, 1]``."""
    start, speed = torch.rand(count, 1) * 6.28, 0.2 + 0.5 * torch.rand(count, 1)
    values = torch.sin(start + speed * torch.arange(length + 1)) + noise * torch.randn(count, length + 1)
    return split(values[:, :-1, None], values[:, -1:])
