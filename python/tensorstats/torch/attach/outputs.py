"""Finds the tensors in what a module returns, however it is nested; keeps none of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch

__all__ = ["tensors_in"]

# Deeper than any output we know of; the limit is there for structures that contain themselves.
MAX_DEPTH = 8


def tensors_in(value: object, path: str = "", depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor in `value` with its place: ``""``, ``"[0]"``, ``"['logits']"``, ``".logits"``, ``"[1][0]"``.

    Tuples, lists, mappings, named tuples and dataclasses (which includes the outputs of the transformers library) are
    walked; anything else that is not a tensor is passed over.

    Examples
    --------
    >>> [place for place, _ in tensors_in((torch.zeros(1), {"mask": torch.zeros(1)}, "text"))]
    ['[0]', "[1]['mask']"]
    """
    if isinstance(value, torch.Tensor):
        yield path, value
    elif depth >= MAX_DEPTH:
        return
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name, None), f"{path}.{field.name}", depth + 1)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors_in(item, f"{path}[{key!r}]", depth + 1)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for name, item in zip(value._fields, value, strict=True):
            yield from tensors_in(item, f"{path}.{name}", depth + 1)
    elif isinstance(value, (tuple, list)):
        for place, item in enumerate(value):
            yield from tensors_in(item, f"{path}[{place}]", depth + 1)
