"""Takes this rank's part of every tensor that is counted, and remembers what it is a part of; exchanges nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.sharded import arrived, is_distributed, local_part, offsets_of, summand_place
from tensorstats.torch.ranks.copies import Holding, Holdings, Synchronised
from tensorstats.torch.ranks.regions import Region, Regions

__all__ = ["Locator", "Shards", "Summand"]

Key = tuple[str, str]

_OF_MODULES = ("inputs", "outputs", "output_gradients")

# The largest summand that travels with the numbers of a step: the weight of a normalisation has a few thousand values.
_LARGEST_SUMMAND = 1 << 20


@dataclass(frozen=True, slots=True)
class Summand:
    """What a rank holds of a tensor whose values are the sum over ranks."""

    copy: int
    place: int  # those of one place add up
    tensor: torch.Tensor


@dataclass(slots=True)
class Shards:
    """Of one step, by signal and name: what the tensors are parts of. A part is not kept: it may be an activation."""

    # Of a DTensor, the number of the copy, and whether the part counts here.
    distributed: dict[Key, tuple[int, bool]] = field(default_factory=dict)
    offsets: dict[Key, tuple[int, ...]] = field(default_factory=dict)  # of those with units, by dimension
    regions: dict[Key, Region | None] = field(default_factory=dict)  # of plain tensors in a tensor-parallel model
    summands: dict[Key, Summand] = field(default_factory=dict)
    region: Region | None = None  # one of the step, if there was any
    kept: Synchronised = field(default_factory=dict)

    def is_part(self, key: Key) -> bool:
        """Whether this rank does not hold the whole."""
        region = self.regions.get(key)
        return key in self.distributed or (region is not None and region.sharded)

    def __bool__(self) -> bool:
        return bool(self.distributed or self.region)


class Locator:
    """Hands the recorders the values on this rank, while a step is recorded."""

    def __init__(self, guard: Guard, root: nn.Module, parameters: Mapping[str, torch.Tensor]) -> None:
        self._guard = guard
        self.holdings = Holdings(root)
        self.regions = Regions(guard)
        self._shards = Shards()
        # FSDP's first version fills the last shard up to the size of the others.
        padding = {name: int(getattr(p, "_shard_numel_padded", 0)) for name, p in parameters.items()}
        self._padding = {name: size for name, size in padding.items() if size}

    def locate(self, signal: str, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The part of a tensor on this rank; remembers whose part it is.

        Raises
        ------
        TypeError
            For an output that is not added up yet: each rank holds a summand.
        """
        if not is_distributed(tensor):
            if signal in _OF_MODULES:
                tensor = arrived(tensor)
                if self.regions.last is not None:
                    self._shards.regions[(signal, name)] = self._region(signal, name)
                return tensor
            padding = self._padding.get(name) if self._padding else None
            return tensor[: tensor.numel() - padding] if padding else tensor
        key, part = (signal, name), local_part(tensor)
        if part.partial:
            if signal in _OF_MODULES:
                raise TypeError(f"a DTensor of placements {_placements(tensor)}: its values are not added up yet")
            return self._hold_summand(key, tensor, part.local)
        self._shards.distributed[key] = (part.copy, part.counts)
        if signal in _OF_MODULES:
            self._shards.offsets[key] = offsets_of(tensor)
        return part.local

    def _region(self, signal: str, name: str) -> Region | None:
        if signal == "output_gradients":
            return self._shards.regions.get(("outputs", name), self.regions.current)
        return self.regions.current

    def _hold_summand(self, key: Key, tensor: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        """Keep a summand until the ranks exchange the step; there is nothing to count until then."""
        signal, name = key
        if local.numel() * local.element_size() > _LARGEST_SUMMAND or signal == "raw_gradients":
            self._guard.leave_out(
                f"{signal} of {name}",
                f"a DTensor of placements {_placements(tensor)} is not counted: its values are not added up yet",
            )
            return tensor
        copy = local_part(tensor).copy
        self._shards.summands[key] = Summand(copy, summand_place(tensor), local.clone())
        self._shards.distributed[key] = (copy, False)
        return local.flatten()[:0]

    def model_called(self, model: nn.Module) -> None:
        """A model runs."""
        self.holdings.model_called(model)
        self.regions.model_called()

    def take(self) -> Shards:
        """The parts of the step that ends."""
        taken, self._shards = self._shards, Shards()
        taken.region, taken.kept = self.regions.take(), self.holdings.take()
        return taken

    def holding(self, parameters: Mapping[str, torch.Tensor], shards: Shards) -> Mapping[str, Holding]:
        """What this rank holds of each parameter."""
        return self.holdings.of(parameters, shards.kept)


def _placements(tensor: torch.Tensor) -> str:
    return ", ".join(map(repr, tensor.placements))  # type: ignore[attr-defined]  # a DTensor has them
