"""The models that programs share; a bug's own model stands beside the bug."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Attention", "Classifier", "Language", "Recurrent", "cnn", "mlp", "scaled"]


def mlp(*widths: int, act: Callable[[], nn.Module] = nn.ReLU, norm: Any = None, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with an activation between, and perhaps a normalisation before and a dropout after it."""
    layers: list[nn.Module] = []
    for place, (one, other) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(one, other))
        if place < len(widths) - 2:
            layers += [norm(other)] if norm else []
            layers.append(act())
            layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers)


def cnn(classes: int = 10, width: int = 16, *, norm: bool = True) -> nn.Sequential:
    """Two convolutions and a linear layer for images of 8 times 8."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=not norm),
        nn.BatchNorm2d(width) if norm else nn.Identity(),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=not norm),
        nn.BatchNorm2d(2 * width) if norm else nn.Identity(),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, classes),
    )


def scaled(model: nn.Module, draw: Callable[[Tensor], Any]) -> nn.Module:
    """The model with all weight matrices drawn anew."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            draw(parameter.data)
    return model


class Attention(nn.Module):
    """A pre-norm block: attention and a small network, each added to what came in."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.between = nn.LayerNorm(width)
        self.feed = mlp(width, 2 * width, width, act=nn.GELU)

    def forward(self, x: Tensor, padding: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        normed = self.before(x)
        x = x + self.attention(normed, normed, normed, key_padding_mask=padding, attn_mask=mask, need_weights=False)[0]
        return x + self.feed(self.between(x))


class Classifier(nn.Module):
    """A transformer that classifies sequences of tokens, of which 0 is padding."""

    def __init__(
        self, vocabulary: int = 12, length: int = 8, classes: int = 2, width: int = 32, depth: int = 2
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width, padding_idx=0)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Attention(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def padding(self, tokens: Tensor) -> Tensor:
        """True where attention must not look."""
        return tokens == 0

    def forward(self, tokens: Tensor) -> Tensor:
        padding = self.padding(tokens)
        x = self.tokens(tokens) + self.places
        for block in self.blocks:
            x = block(x, padding)
        kept = (tokens != 0).unsqueeze(-1)
        return self.head((self.norm(x) * kept).sum(1) / kept.sum(1).clamp(min=1))


class Language(nn.Module):
    """A causal transformer over characters; its scores are ``[N, vocabulary, length]`` as cross-entropy takes them."""

    def __init__(
        self, vocabulary: int, length: int = 24, width: int = 32, depth: int = 2, *, causal: bool = True
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Attention(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        self.causal = causal

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool).triu(1) if self.causal else None
        x = self.tokens(tokens) + self.places[:length]
        for block in self.blocks:
            x = block(x, mask=mask)
        return self.head(self.norm(x)).transpose(1, 2)


class Recurrent(nn.Module):
    """A GRU or LSTM over ``[N, time, features]`` whose last state is read out."""

    def __init__(self, cell: Any = nn.GRU, features: int = 1, width: int = 32, out: int = 1, **options: Any) -> None:
        super().__init__()
        self.cell = cell(features, width, batch_first=options.pop("batch_first", True), **options)
        self.head = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])
