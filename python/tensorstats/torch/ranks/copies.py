"""Says what a rank holds of each parameter: a shard, a copy kept equal, or its own; exchanges and counts nothing.

It is asked of what holds the parameters (DistributedDataParallel, FSDP, DTensor), never taken from their values.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tensorstats.torch.attach.sharded import is_distributed, ranks_of_mesh
from tensorstats.torch.ranks.merge import Copies

__all__ = ["Holding", "Holdings", "Synchronised"]

# By the identity of a DistributedDataParallel: whether it has made the gradients of the step equal.
Synchronised = Mapping[int, bool]

_KEEPING_HOOKS = "torch.distributed.algorithms.ddp_comm_hooks."
_NOT_KEEPING_HOOKS = ("post_localSGD_hook", "noop_hook")


@dataclass(frozen=True, slots=True)
class Holding:
    """What this rank holds of one parameter, its gradient, its update and its moments."""

    copies: Copies = Copies.ALIKE
    among: int = 0
    copy: int | None = None  # None: a whole copy of its own


_UNKNOWN = Holding()


class Holdings:
    """The holdings of one watched model, as it is wrapped now."""

    def __init__(self, root: nn.Module) -> None:
        self._root = root
        self._called: dict[int, weakref.ref[DistributedDataParallel]] = {}  # those that the model ran in
        self._synchronised: dict[int, bool] = {}  # in the step that is being recorded
        self._before: dict[int, bool] = {}  # in the recorded step before
        self._has_skipped: set[int] = set()
        self._known_for: tuple[Any, ...] = ()
        self._known: dict[str, Holding] = {}

    def model_called(self, model: nn.Module) -> None:
        """A model runs, perhaps in a DistributedDataParallel, which may leave the gradients of this pass alone."""
        parallel = (
            model
            if isinstance(model, DistributedDataParallel)
            else getattr(DistributedDataParallel, "_active_ddp_module", None)
        )
        if parallel is None or not torch.is_grad_enabled():
            return
        if id(parallel) not in self._called:
            self._called[id(parallel)] = weakref.ref(parallel)
        self._synchronised[id(parallel)] = parallel.require_backward_grad_sync

    def take(self) -> Synchronised:
        """By the identity of a DistributedDataParallel, whether what it wraps is equal on all ranks after this step.

        A step taken without synchronisation makes copies differ, on purpose where they are averaged later (local SGD):
        they are said to be kept equal again after two synchronised steps in a row.
        """
        now, self._synchronised = self._synchronised, {}
        self._has_skipped.update(which for which, done in now.items() if not done)
        kept = {
            which: done and (which not in self._has_skipped or self._before.get(which, False))
            for which, done in now.items()
        }
        self._before.update(now)
        return kept

    def ranks(self, parameters: Iterable[torch.Tensor], world: int) -> list[int]:
        """The ranks that train this model together, as far as its wrappers know; else all."""
        meshes = {id(p.device_mesh): p for p in parameters if is_distributed(p)}  # type: ignore[attr-defined]  # DTensor
        groups = [parallel.process_group for parallel in self._data_parallel()]
        sharded = self._fully_sharded()
        if (meshes and (groups or sharded)) or not (meshes or groups or sharded):
            return list(range(world))
        found = {rank for tensor in meshes.values() for rank in ranks_of_mesh(tensor)}
        for group in [*groups, *(group for module in sharded for group in _groups_of(module))]:
            found.update(torch.distributed.get_process_group_ranks(group))
        return sorted(found)

    def of(self, parameters: Mapping[str, torch.Tensor], kept: Synchronised) -> Mapping[str, Holding]:
        """The holding of every parameter, by name; the same object as long as nothing changes."""
        now = (tuple(map(id, parameters.values())), tuple(parameters), tuple(self._called), tuple(kept.items()))
        if now != self._known_for:
            by_identity = self._by_identity(kept)
            self._known = {name: by_identity.get(id(p), _UNKNOWN) for name, p in parameters.items()}
            self._known_for = now
        return self._known

    def _by_identity(self, kept: Synchronised) -> dict[int, Holding]:
        found: dict[int, Holding] = {}
        for parallel in self._data_parallel():
            if not kept.get(id(parallel), True) or not _keeps_equal(parallel):
                continue
            among = min(torch.distributed.get_process_group_ranks(parallel.process_group))
            ignored = parallel.parameters_to_ignore
            for name, parameter in parallel.module.named_parameters():
                if name not in ignored:
                    found[id(parameter)] = Holding(Copies.EQUAL, among)
        for module in self._fully_sharded():
            holding = _sharded_holding(module)
            for parameter in module.parameters():
                if getattr(parameter, "_fsdp_flattened", False):
                    found[id(parameter)] = holding
        return found

    def _data_parallel(self) -> list[DistributedDataParallel]:
        inside = [module for module in self._root.modules() if isinstance(module, DistributedDataParallel)]
        around = [parallel for reference in self._called.values() if (parallel := reference()) is not None]
        return list({id(parallel): parallel for parallel in [*inside, *around]}.values())

    def _fully_sharded(self) -> list[nn.Module]:
        """The modules of FSDP's first version, inner ones last."""
        loaded: Any = sys.modules.get("torch.distributed.fsdp")
        kind = getattr(loaded, "FullyShardedDataParallel", None)
        return [] if kind is None else [module for module in self._root.modules() if isinstance(module, kind)]


def _keeps_equal(parallel: DistributedDataParallel) -> bool:
    """Whether gradients are the same on all ranks after the hooks that were put in the place of the all-reduce."""
    hooks = [hook for hook, _ in getattr(parallel, "_comm_hooks", ())]
    return all(
        str(getattr(hook, "__module__", "")).startswith(_KEEPING_HOOKS)
        and getattr(hook, "__name__", "") not in _NOT_KEEPING_HOOKS
        for hook in hooks
    )


def _groups_of(module: Any) -> list[Any]:
    """The process groups of an FSDP module: that of the shards, and that of the copies where there are several."""
    return [group for group in (module.process_group, getattr(module, "_inter_node_pg", None)) if group is not None]


def _sharded_holding(module: Any) -> Holding:
    shards, *copies = (torch.distributed.get_process_group_ranks(group) for group in _groups_of(module))
    if module.sharding_strategy.name == "NO_SHARD":
        return Holding(Copies.EQUAL, min(shards))
    # Copies of one shard are on ranks that differ by whole groups, so the first group of all has the smallest rank.
    among = min(shards) if not copies else min(copies[0]) - (torch.distributed.get_rank() - min(shards))
    return Holding(Copies.EQUAL, among, min(shards))
