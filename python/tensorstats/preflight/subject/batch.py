"""Owns what a batch is: inputs and targets of any nesting, and other batches made of them; knows no model."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Batch", "InseparableError", "NoTargets", "leaves", "map_tensors"]

# How the targets of a batch that is a mapping are called, by those who hand one to `step(model, batch)`.
_TARGET_NAMES = ("labels", "label", "targets", "target", "y")


class InseparableError(ValueError):
    """The samples of a batch are not known, or cannot be taken apart."""


class NoTargets:
    """Stands for targets that a batch does not name."""

    def __repr__(self) -> str:
        return "no targets"


def map_tensors(function: Callable[[torch.Tensor], Any], tree: Any) -> Any:
    """The same nesting of tuples, lists, mappings and dataclasses, every tensor replaced."""
    if isinstance(tree, torch.Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        return {key: map_tensors(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tensors(function, value) for value in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(map_tensors(function, value) for value in tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {f.name: map_tensors(function, getattr(tree, f.name)) for f in dataclasses.fields(tree) if f.init}
        return dataclasses.replace(tree, **fields)
    return tree


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of a nesting, with where it is: ``("image", ...)``, ``("1.mask", ...)``."""
    if isinstance(tree, torch.Tensor):
        yield name, tree
        return
    items: Any = ()
    if isinstance(tree, Mapping):
        items = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        items = ((field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree))
    for key, value in items:
        yield from leaves(value, f"{name}.{key}" if name else str(key))


@dataclass(frozen=True)
class Batch:
    """Inputs and targets; `whole` is the batch as it was given, for callables that take it apart themselves.

    The samples lie along the dimension whose length is that of the targets: the first, or the second where sequences
    come first.
    """

    inputs: Any
    targets: Any
    size: int
    rebuild: Callable[[Any, Any], Any]

    @classmethod
    def of(cls, given: Any) -> Batch:
        """Take a batch apart.

        An object that is no nesting of tensors is a batch whose samples are not known.

        Raises
        ------
        TypeError
            If it can hold no tensor.
        """
        if isinstance(given, list | tuple) and len(given) == 2 and not hasattr(given, "_fields"):
            kind: Callable[[Any], Any] = type(given)
            inputs, targets = given
            rebuild: Callable[[Any, Any], Any] = lambda x, y: kind((x, y))  # noqa: E731 - one of two, chosen here
        elif isinstance(given, Mapping):
            name = next((name for name in _TARGET_NAMES if name in given), None)
            order = list(given)
            inputs = {key: value for key, value in given.items() if key != name}
            targets = NoTargets() if name is None else given[name]
            rebuild = lambda x, y: {key: y if key == name else x[key] for key in order}  # noqa: E731 - one of two, chosen here
        else:
            inputs, targets, rebuild = given, NoTargets(), lambda x, _: x
        found = [tensor for _, tensor in leaves(targets) if tensor.ndim]
        found = found or [tensor for _, tensor in leaves(inputs) if tensor.ndim]
        if not found and isinstance(inputs, str | bytes | int | float | None | list | tuple | Mapping):
            raise TypeError(
                f"ts.preflight needs a batch with tensors in it, (inputs, targets) or what your step takes, got "
                f"{type(given).__name__}"
            )
        return cls(inputs, targets, int(found[0].shape[0]) if found else 0, rebuild)

    @property
    def linked(self) -> str:
        """The name of an input that points to samples by their numbers, as the edges of a graph do; empty if none."""
        for name, tensor in leaves(self.inputs, "inputs"):
            whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
            pairs = tensor.ndim == 2 and tensor.shape[0] == 2 != self.size and tensor.numel() > 0
            if whole and pairs and int(tensor.min()) >= 0 and int(tensor.max()) < self.size:
                return name
        return ""

    @property
    def whole(self) -> Any:
        """The batch in the form in which it was given."""
        return self.rebuild(self.inputs, self.targets)

    @property
    def has_targets(self) -> bool:
        """Whether any tensor is known to be a target."""
        return any(True for _ in leaves(self.targets))

    def dim_of(self, tensor: torch.Tensor) -> int | None:
        """Along which dimension the samples of a tensor lie; None for what is no sample, as a mask for all."""
        for dim in range(min(tensor.ndim, 2)):
            if tensor.shape[dim] == self.size:
                return dim
        return None

    def copied(self) -> Batch:
        """The same values in memory of their own, for models that write into their input."""
        if self.size == 0:
            return dataclasses.replace(self, inputs=copy.deepcopy(self.inputs))
        return self._mapped(lambda tensor: tensor.detach().clone())

    def take(self, samples: torch.Tensor) -> Batch:
        """Some of the samples, in this order.

        Raises
        ------
        InseparableError
            Where samples cannot be taken apart.
        """
        self._refuse_links()
        return dataclasses.replace(self._mapped(lambda t: self._taken(t, samples)), size=len(samples))

    def with_targets_of(self, samples: torch.Tensor) -> Batch:
        """Sample i with the targets of sample ``samples[i]``, and its own input."""
        return dataclasses.replace(self, targets=map_tensors(lambda t: self._taken(t, samples), self.targets))

    def without_input(self) -> Batch:
        """Inputs that say nothing: zeros for numbers, those of the first sample for tokens; masks stay."""

        def emptied(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.is_floating_point():
                return torch.zeros_like(tensor)
            if tensor.dtype == torch.bool or self.dim_of(tensor) is None:
                return tensor
            return self._taken(tensor, torch.zeros(self.size, dtype=torch.long))

        return dataclasses.replace(self, inputs=map_tensors(emptied, self.inputs))

    def tensors(self) -> list[tuple[str, torch.Tensor]]:
        """All tensors by name: ``inputs``, ``inputs.image``, ``targets``."""
        return [*leaves(self.inputs, "inputs"), *leaves(self.targets, "targets")]

    def _refuse_links(self) -> None:
        if self.size == 0:
            raise InseparableError(f"the batch is a {type(self.inputs).__name__}, whose samples are not known")
        if self.linked:
            raise InseparableError(f"{self.linked} links samples by their numbers, so that none can be taken out")

    def _taken(self, tensor: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        dim = self.dim_of(tensor)
        return tensor if dim is None else tensor.index_select(dim, samples.to(tensor.device))

    def _mapped(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        inputs, targets = map_tensors(function, self.inputs), map_tensors(function, self.targets)
        return dataclasses.replace(self, inputs=inputs, targets=targets)
