"""Says which part of a distributed tensor this rank holds; communicates with nobody and counts nothing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Part", "is_distributed", "local_part", "local_tensor"]


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
    """

    local: torch.Tensor
    copy: int
    counts: bool


def is_distributed(x: torch.Tensor) -> bool:
    """Whether `x` is a DTensor, as the parameters of FSDP2 and of tensor parallelism are."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def local_part(x: torch.Tensor) -> Part:
    """The part of a DTensor on this rank.

    Sharded placements (even, uneven, strided) give every rank values of its own; of replicated ones the first rank of
    the mesh dimension counts.

    Raises
    ------
    TypeError
        For partial placements: each rank holds a summand, and the values exist only once they are added up.
    """
    tensor: Any = x
    mesh = tensor.device_mesh
    coordinate = mesh.get_coordinate()
    counts = coordinate is not None
    for dim, placement in enumerate(tensor.placements):
        if placement.is_partial():
            raise TypeError(f"a DTensor with placement {placement} is not counted: its values are not added up yet")
        if placement.is_replicate() and coordinate is not None and coordinate[dim] != 0:
            counts = False
    return Part(local_tensor(x), int(mesh.mesh.min()), counts)


def local_tensor(x: torch.Tensor) -> torch.Tensor:
    """The values of `x` on this rank; `x` itself unless it is a DTensor."""
    if not is_distributed(x):
        return x
    with torch.no_grad():
        tensor: Any = x.detach()
        local = tensor.to_local()
        # Tensor parallelism hands out results that are still on their way.
        waiting = getattr(local, "wait", None)
        local = local if waiting is None else waiting()
    assert isinstance(local, torch.Tensor)
    return local
