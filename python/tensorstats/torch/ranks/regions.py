"""Follows how plain tensors lie between tensor-parallel modules: as shards or as copies; counts nothing.

A tensor-parallel plan turns the DTensor that a module computes into a plain tensor: a column's rank keeps its columns,
a row's rank gets the sum. What comes after it on the way (an activation, a dropout) is of the same kind, and only the
plan knew. So what plans put hooks on is looked at twice: before the plan's hook, which shows the shape of the whole or
the part as it was, and after it, which shows what is left on this rank.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from tensorstats.torch.attach.compiled import is_tracing
from tensorstats.torch.attach.guard import Guard, GuardedHook
from tensorstats.torch.attach.sharded import is_distributed

__all__ = ["Region", "Regions"]


@dataclass(frozen=True, slots=True)
class Region:
    """How the ranks of a mesh hold plain tensors.

    Attributes
    ----------
    among : int
        The lowest rank of the mesh.
    place : int
        Of this rank in the mesh.
    sharded : bool
        Whether each rank has values of its own; otherwise all have the same.
    features : bool
        Whether the shards are cut along the last dimension, so that each rank has units of its own.
    """

    among: int
    place: int
    sharded: bool
    features: bool


class Regions:
    """The region in which the model is right now, and whether there is any."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._whole: Any = None  # the DTensor's shape, mesh and place, between the two looks at a module
        self._given: list[torch.Tensor] = []  # arguments, between the two looks at a module's
        self.current: Region | None = None
        self.last: Region | None = None  # of this step: tells that there is a mesh on which all ranks see the same data

    def hooks(self, module: nn.Module) -> list[Any]:
        """Follow a module that a plan may be for. Returns the handles of its hooks, none for other modules."""
        handles: list[Any] = []
        if module._forward_pre_hooks:
            handles.append(module.register_forward_pre_hook(_BeforeCall(self._guard, self), prepend=True))
            handles.append(module.register_forward_pre_hook(_AtCall(self._guard, self)))
        if module._forward_hooks or any(map(is_distributed, module.parameters(recurse=False))):
            handles.append(module.register_forward_hook(_Before(self._guard, self), prepend=True))
            handles.append(module.register_forward_hook(_After(self._guard, self)))
        return handles

    def model_called(self) -> None:
        """A pass begins."""
        self.current = None

    def take(self) -> Region | None:
        """A region of the step that ends, if there was one."""
        last, self.last = self.last, None
        return last

    def enter(self, output: Any) -> None:
        """The module has computed this, or is given it."""
        mesh = output.device_mesh
        place = 0
        for size, at in zip(mesh.shape, mesh.get_coordinate() or (), strict=False):
            place = place * size + at
        self._whole = (tuple(output.shape), int(mesh.mesh.min()), place)

    def leave(self, output: object) -> None:
        """Its plan has made this of it."""
        whole, self._whole = self._whole, None
        if whole is None or not isinstance(output, torch.Tensor) or is_distributed(output):
            return
        shape, among, place = whole
        cut = [dim for dim, (size, mine) in enumerate(zip(shape, output.shape, strict=False)) if size != mine]
        self.current = self.last = Region(among, place, bool(cut), cut == [len(shape) - 1])

    def take_arguments(self, arguments: tuple[Any, ...]) -> None:
        """A module is called with these, before its plan has changed them."""
        self._given = [x for x in arguments if isinstance(x, torch.Tensor)][:1]
        self._whole = None
        if self._given and is_distributed(self._given[0]):
            self.enter(self._given[0])

    def compare_arguments(self, arguments: tuple[Any, ...]) -> None:
        """Its plan has made this of them."""
        given, self._given = self._given, []
        taken = next((x for x in arguments if isinstance(x, torch.Tensor)), None)
        if not given or taken is None or taken is given[0] or is_distributed(taken):
            self._whole = None
        elif self._whole is not None:
            self.leave(taken)
        elif self.current is not None and taken.shape != given[0].shape and taken.ndim == given[0].ndim:
            # A part was put together, or cut from the whole.
            cut = [dim for dim, (size, mine) in enumerate(zip(given[0].shape, taken.shape, strict=True)) if size > mine]
            self.current = self.last = replace(self.current, sharded=bool(cut), features=cut == [taken.ndim - 1])


class _BeforeCall(GuardedHook):
    """Looks at what a module is called with, before the hooks of a plan do."""

    __slots__ = ("_regions",)

    def __init__(self, guard: Guard, regions: Regions) -> None:
        super().__init__(guard, "the plan of a parallel module")
        self._regions = regions

    def run(self, _module: nn.Module, arguments: tuple[Any, ...]) -> None:
        """The module is called."""
        if not is_tracing():
            self._regions.take_arguments(arguments)


class _AtCall(_BeforeCall):
    """Looks at what the hooks of a plan have made of it."""

    __slots__ = ()

    def run(self, _module: nn.Module, arguments: tuple[Any, ...]) -> None:
        """All hooks of the plan have run."""
        if not is_tracing():
            self._regions.compare_arguments(arguments)


class _Before(GuardedHook):
    """Looks at what a module has computed, before the hooks of a plan do."""

    __slots__ = ("_regions",)

    def __init__(self, guard: Guard, regions: Regions) -> None:
        super().__init__(guard, "the plan of a parallel module")
        self._regions = regions

    def run(self, _module: nn.Module, _arguments: Any, output: object) -> None:
        """The module has returned."""
        if not is_tracing() and isinstance(output, torch.Tensor) and is_distributed(output):
            self._regions.enter(output)


class _After(_Before):
    """Looks at what the hooks of a plan have made of it."""

    __slots__ = ()

    def run(self, _module: nn.Module, _arguments: Any, output: object) -> None:
        """All hooks of the plan have run."""
        if not is_tracing():
            self._regions.leave(output)
