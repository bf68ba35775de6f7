"""The trainings that are watched: model, optimizer, batches, one step. Knows no way of watching them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SMALL", "TRAININGS", "Run", "Tools", "Training"]

# Batches are drawn once and used in turn, so that drawing them is no part of a step.
BATCHES = 8


class Tools(Protocol):
    """What a way of watching wants to be called for beside its hooks."""

    def after_backward(self, loss: float) -> None: ...


class Block(nn.Module):
    """One pre-norm transformer block with causal attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.act, self.down = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        samples, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(samples, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).reshape(samples, length, width))
        return x + self.down(self.act(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Predicts the next token: `[N, T]` integers to `[N * T, vocabulary]` logits."""

    def __init__(self, vocabulary: int, length: int, width: int, depth: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, width // 64 or 1) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        return self.head(self.norm(self.blocks(x))).flatten(0, 1)


def cnn(channels: int) -> nn.Sequential:
    """`[N, 3, 32, 32]` images to ten classes; six convolutions with batch norm and ReLU."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, stride in ((1, 1), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1)):
        outputs *= channels
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def mlp(width: int) -> nn.Sequential:
    """`[N, 256]` features to ten classes; four hidden layers."""
    layers: list[nn.Module] = []
    inputs = 256
    for _ in range(4):
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 10))


@dataclass(frozen=True)
class Training:
    """A recipe: `start` gives the same initial state whenever it is called."""

    name: str
    build: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    batch: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    words: str

    def start(self) -> Run:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.build()
            batches = [self.batch() for _ in range(BATCHES)]
        return Run(model, self.optimizer(model), batches)


class Run:
    """One model on its way; `losses` are those of all steps so far."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, batches: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        self.model, self.optimizer, self.batches = model, optimizer, batches
        self.losses: list[float] = []

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def step(self, tools: Tools | None) -> None:
        """One optimizer step, as a user would write it, the reading of the loss included."""
        inputs, targets = self.batches[len(self.losses) % BATCHES]
        loss = functional.cross_entropy(self.model(inputs), targets)
        self.optimizer.zero_grad()
        loss.backward()
        value = loss.item()
        if tools is not None:
            tools.after_backward(value)
        self.optimizer.step()
        self.losses.append(value)


def _images(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(samples, 3, 32, 32)
    return images, images[:, :, :16].mean((1, 2, 3)).mul(200).round().long() % 10


def _features(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.randn(samples, 256)
    return features, features[:, :10].argmax(1)


def _tokens(samples: int, length: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(vocabulary, (samples, length + 1)) // torch.randint(1, 9, (samples, 1))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].flatten()


def _transformer(vocabulary: int, length: int, width: int, depth: int, samples: int, words: str) -> Training:
    return Training(
        "transformer",
        lambda: Transformer(vocabulary, length, width, depth),
        lambda model: torch.optim.AdamW(model.parameters(), lr=3e-4),
        lambda: _tokens(samples, length, vocabulary),
        words,
    )


def _cnn(channels: int, samples: int, words: str) -> Training:
    return Training(
        "CNN",
        lambda: cnn(channels),
        lambda model: torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9),
        lambda: _images(samples),
        words,
    )


def _mlp(width: int, samples: int, words: str) -> Training:
    return Training(
        "MLP",
        lambda: mlp(width),
        lambda model: torch.optim.Adam(model.parameters(), lr=1e-4),
        lambda: _features(samples),
        words,
    )


TRAININGS = {
    training.name: training
    for training in (
        _transformer(1024, 128, 256, 4, 8, "4 blocks of width 256, 8 × 128 tokens, AdamW"),
        _cnn(32, 64, "6 convolutions of 32 to 128 channels with batch norm, 64 images of 32 × 32, SGD with momentum"),
        _mlp(1024, 512, "4 hidden layers of 1024, 512 samples, Adam"),
    )
}

# The same shapes of models, too small for times to mean anything.
SMALL = {
    training.name: training
    for training in (
        _transformer(64, 16, 64, 2, 2, "2 blocks of width 64, 2 × 16 tokens, AdamW"),
        _cnn(4, 4, "6 convolutions of 4 to 16 channels with batch norm, 4 images of 32 × 32, SGD with momentum"),
        _mlp(32, 16, "4 hidden layers of 32, 16 samples, Adam"),
    )
}
