"""Says which part of a distributed tensor this rank holds; communicates with nobody and counts nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

__all__ = [
    "Part",
    "arrived",
    "is_distributed",
    "local_part",
    "local_tensor",
    "offsets_of",
    "ranks_of_mesh",
    "summand_place",
]


@dataclass(frozen=True, slots=True)
class Part:
    """What a rank holds of a tensor.

    Attributes
    ----------
    local : torch.Tensor
        The values on this rank.
    copy : int
        The lowest rank of the device mesh: ranks with parts of the same copy have the same number.
    counts : bool
        False where the same values count on another rank: all but the first of replicated placements.
    partial : bool
        Whether each rank holds a summand, of which the values are the sum.
    """

    local: torch.Tensor
    copy: int
    counts: bool
    partial: bool


def is_distributed(x: torch.Tensor) -> bool:
    """Whether `x` is a DTensor, as the parameters of FSDP2 and of tensor parallelism are."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def arrived(x: torch.Tensor) -> torch.Tensor:
    """The values of a result that a collective hands out while they are on their way; `x` itself for all others."""
    if type(x) is torch.Tensor:
        return x
    waiting: Callable[[], torch.Tensor] | None = getattr(x, "trigger_wait", None)
    return x if waiting is None else waiting()


def local_part(x: torch.Tensor) -> Part:
    """The part of a DTensor on this rank.

    Sharded placements (even, uneven, strided) give every rank values of its own; of replicated ones the first rank of
    the mesh dimension counts. Of partial ones every rank has a summand.
    """
    tensor: Any = x
    mesh = tensor.device_mesh
    coordinate = mesh.get_coordinate()
    placements = tensor.placements
    counts = coordinate is not None
    for dim, placement in enumerate(placements):
        if placement.is_replicate() and coordinate is not None and coordinate[dim] != 0:
            counts = False
    partial = any(placement.is_partial() for placement in placements)
    return Part(local_tensor(x), int(mesh.mesh.min()), counts, partial)


def offsets_of(x: torch.Tensor) -> tuple[int, ...]:
    """Where the part of a DTensor on this rank begins in the whole, by dimension."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    tensor: Any = x
    if not any(placement.is_shard() for placement in tensor.placements):
        return (0,) * x.ndim
    _, offsets = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return tuple(map(int, offsets))


def summand_place(x: torch.Tensor) -> int:
    """Which summands of a partial DTensor add up: those with the same place along all other mesh dimensions."""
    tensor: Any = x
    place = 0
    for size, at, placement in zip(
        tensor.device_mesh.shape, tensor.device_mesh.get_coordinate() or (), tensor.placements, strict=False
    ):
        place = place * size + (0 if placement.is_partial() else at)
    return place


def local_tensor(x: torch.Tensor) -> torch.Tensor:
    """The values of `x` on this rank; `x` itself unless it is a DTensor."""
    if not is_distributed(x):
        return x
    with torch.no_grad():
        tensor: Any = x.detach()
        # Tensor parallelism hands out results that are still on their way.
        local = arrived(tensor.to_local())
    assert isinstance(local, torch.Tensor)
    return local


def ranks_of_mesh(x: torch.Tensor) -> list[int]:
    """All ranks of the mesh that a DTensor's mesh is a part of."""
    tensor: Any = x
    mesh = tensor.device_mesh
    root = getattr(mesh, "_get_root_mesh", lambda: mesh)()
    return sorted({*root.mesh.flatten().tolist(), *mesh.mesh.flatten().tolist()})
