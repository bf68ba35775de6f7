"""Data that is at hand wherever the extra `field` is installed; nothing is downloaded."""

from __future__ import annotations

import functools
import math
import sysconfig
from pathlib import Path

import torch
from case import Batch
from sklearn.datasets import load_digits
from torch import nn

__all__ = ["boxed_digits", "digits", "digits_as", "masked_digits", "text", "text_with_classes", "tones"]

BATCHES = 40


@functools.cache
def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    return images, torch.tensor(data.target)


def digits(size: int = 32, batch: int = 8, channels: int = 3) -> list[Batch]:
    """Handwritten digits of scikit-learn, made larger and brought to mean 0 and variance 1."""
    images, labels = _digits()
    images = (images - images.mean()) / images.std()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    made = []
    for number in range(BATCHES):
        chosen = order[number * batch : (number + 1) * batch]
        large = nn.functional.interpolate(images[chosen], size=(size, size), mode="bilinear")
        made.append({"images": large.expand(-1, channels, -1, -1).contiguous(), "labels": labels[chosen]})
    return made


def digits_as(key: str, size: int = 32, batch: int = 16, channels: int = 3) -> list[Batch]:
    """The same with the images under the name that a model wants."""
    return [{key: each["images"], "labels": each["labels"]} for each in digits(size, batch, channels)]


def boxed_digits(size: int = 64, batch: int = 2) -> list[Batch]:
    """One digit somewhere in every image, with its box and its class, as torchvision's detectors take them."""
    generator = torch.Generator().manual_seed(0)
    images, labels = _digits()
    made = []
    for number in range(BATCHES):
        pictures, targets = [], []
        for place in range(batch):
            which = number * batch + place
            large = nn.functional.interpolate(images[which : which + 1], size=(24, 24), mode="bilinear")[0, 0]
            top, left = (int(torch.randint(0, size - 24, (), generator=generator)) for _ in range(2))
            picture = torch.zeros(3, size, size)
            picture[:, top : top + 24, left : left + 24] = large
            pictures.append(picture)
            box = torch.tensor([[left, top, left + 24, top + 24]], dtype=torch.float32)
            targets.append({"boxes": box, "labels": labels[which : which + 1] + 1})
        made.append({"images": pictures, "targets": targets})
    return made


def masked_digits(size: int = 32, batch: int = 4, key: str = "images") -> list[Batch]:
    """Digits, and which pixels are ink."""
    made = []
    for each in digits(size, batch):
        made.append({key: each["images"], "labels": (each["images"][:, 0] > 0).long()})
    return made


@functools.cache
def _bytes() -> bytes:
    library = Path(sysconfig.get_paths()["stdlib"])
    return b"".join((library / name).read_bytes() for name in ("argparse.py", "textwrap.py", "statistics.py"))


def text(length: int = 32, batch: int = 8, *, masked: bool = False, shift: int = 0) -> list[Batch]:
    """Sources of the standard library, byte by byte; `masked` hides an eighth of it (token 1) for masked models."""
    generator = torch.Generator().manual_seed(0)
    data = torch.frombuffer(bytearray(_bytes()), dtype=torch.uint8).long() % 120 + 4
    made = []
    for _ in range(BATCHES):
        starts = torch.randint(0, len(data) - length, (batch,), generator=generator)
        tokens = torch.stack([data[start : start + length] for start in starts])
        made.append({"input_ids": tokens, "labels": tokens.roll(shift, 1) if shift else tokens.clone()})
        if masked:
            hidden = torch.rand(tokens.shape, generator=generator) < 0.125
            made[-1]["labels"] = tokens.masked_fill(~hidden, -100)
            made[-1]["input_ids"] = tokens.masked_fill(hidden, 1)
            made[-1]["attention_mask"] = torch.ones_like(tokens)
    return made


def text_with_classes(length: int = 32, batch: int = 8) -> list[Batch]:
    """The same, padded at the end, with a question about it: does the piece hold more spaces than usual?"""
    made = text(length, batch)
    for number, each in enumerate(made):
        tokens = each["input_ids"]
        spaces = (tokens == 32 + 4).sum(1)
        each["labels"] = (spaces > length // 5).long()
        mask = torch.ones_like(tokens)
        for row in range(0, batch, 2):
            mask[row, length - 1 - (number + row) % (length // 2) :] = 0
        each["input_ids"] = tokens * mask
        each["attention_mask"] = mask
    return made


def tones(length: int = 2000, batch: int = 4, classes: int = 4) -> list[Batch]:
    """Tones in noise; the pitch is the class."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(length) / 8000
    made = []
    for _ in range(BATCHES):
        labels = torch.randint(0, classes, (batch,), generator=generator)
        pitch = 200.0 * 2.0 ** labels.float()
        phase = torch.rand(batch, generator=generator) * 2 * math.pi
        wave = torch.sin(2 * math.pi * pitch[:, None] * time + phase[:, None])
        made.append({"input_values": wave + 0.3 * torch.randn(wave.shape, generator=generator), "labels": labels})
    return made
