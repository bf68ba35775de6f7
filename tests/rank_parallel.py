"""Two or four ranks that share the layers of a model: tensor and sequence parallel, replicas, groups of ranks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

import tensorstats as ts
from rank_processes import Facts, facts, serve, train

OF_MODULES = ("inputs", "outputs", "output_gradients")
OF_PARAMETERS = ("parameters", "gradients", "updates", "optimizer_state")


class Network(nn.Module):
    """Six of its hidden units are dead."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.act, self.down = nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 3)
        self.norm, self.head = nn.LayerNorm(3), nn.Linear(3, 2)
        with torch.no_grad():
            self.up.bias[:6] -= 100

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.norm(self.down(self.act(self.up(x)))))


def watched(model: nn.Module, **options: Any) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    signals = [*OF_MODULES, *OF_PARAMETERS]
    monitor = ts.watch(model, optimizer, signals=signals, histograms=True, units="all", **options)
    for step in range(3):
        output = model(torch.randn(64, 5, generator=torch.Generator().manual_seed(step)))
        optimizer.zero_grad()
        (output.full_tensor() if isinstance(output, DTensor) else output).square().mean().backward()
        optimizer.step()
    monitor.close()
    return monitor


def differences(monitor: Any, alone: Any, batches: int = 1) -> list[Any]:
    """What is not as one process has it; `batches` is how many times the data was seen."""
    found: list[Any] = []
    for signal in (*OF_MODULES, *OF_PARAMETERS):
        times = batches if signal in OF_MODULES else 1
        if sorted(monitor.names(signal)) != sorted(alone.names(signal)):
            found.append([signal, monitor.names(signal), alone.names(signal)])
            continue
        for name in alone.names(signal):
            got, want = monitor.total(signal, name), alone.total(signal, name)
            counts = [[s.count, s.zero_count, s.negative_count] for s in (got, want)]
            size = want.l2 * times**0.5
            if counts[0] != [count * times for count in counts[1]] or abs(got.l2 - size) > 1e-5 * size + 1e-9:
                found.append([signal, name, counts, got.l2, size])
            if monitor.histogram(signal, name).count != alone.histogram(signal, name).count * times:
                found.append(["histogram", signal, name])
    for name in ("up", "act", "down", "head"):
        got, want = monitor.units(name), alone.units(name)
        activity = [[u.units, list(u.count), u.inactive_units(u.updates).tolist()] for u in (got, want)]
        activity[1][1] = [count * batches for count in activity[1][1]]
        if activity[0] != activity[1]:
            found.append(["units", name, str(activity)])
    return found


def compared(model: nn.Module, alone: nn.Module, batches: int = 1) -> Facts:
    monitor, other = watched(model), watched(alone, ranks="local")
    told = [[[f.rule, f.where, f.value] for f in each.findings] for each in (monitor, other)]
    return {"differences": differences(monitor, other, batches), "errors": monitor.errors, "findings": told}


def parallel(plan: Mapping[str, Any], width: int = 8) -> Facts:
    model = Network(width)
    parallelize_module(model, init_device_mesh("cpu", (dist.get_world_size(),)), dict(plan))
    return compared(model, Network(width))


def columns_and_rows() -> Facts:
    return parallel({"up": ColwiseParallel(), "down": RowwiseParallel()})


def columns_put_together() -> Facts:
    whole = ColwiseParallel(output_layouts=Replicate())
    return parallel({"up": whole, "head": ColwiseParallel(output_layouts=Replicate())})


def distributed_outputs_and_uneven_columns() -> Facts:
    return parallel({"up": ColwiseParallel(use_local_output=False), "down": RowwiseParallel()}, width=9)


def sequence_parallel() -> Facts:
    """The batch plays the part of the sequence."""
    return parallel(
        {
            "up": ColwiseParallel(),
            "down": RowwiseParallel(output_layouts=Shard(0)),
            "norm": SequenceParallel(sequence_dim=0),
            "head": ColwiseParallel(input_layouts=Shard(0), output_layouts=Replicate()),
        }
    )


def sequence_gathered_for_an_ordinary_layer() -> Facts:
    return parallel(
        {
            "up": ColwiseParallel(),
            "down": RowwiseParallel(output_layouts=Shard(0)),
            "norm": SequenceParallel(sequence_dim=0),
            "head": PrepareModuleInput(
                input_layouts=Shard(0), desired_input_layouts=Replicate(), use_local_output=True
            ),
        }
    )


# --- four ranks -------------------------------------------------------------------------------------------------------


def columns_and_rows_of_two_copies() -> Facts:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    model = Network()
    parallelize_module(model, mesh["tensor"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    fully_shard(model, mesh=mesh["data"])
    return compared(model, Network(), batches=2)


def shards_of_two_copies() -> Facts:
    model = Network()
    fully_shard(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("copy", "shard")))
    return compared(model, Network(), batches=4)


def _group() -> tuple[int, Any]:
    groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    number = dist.get_rank() // 2
    return number, groups[number]


def two_groups() -> Facts:
    number, group = _group()
    torch.manual_seed(number)
    return facts(train(DistributedDataParallel(nn.Sequential(nn.Linear(5, 7), nn.ReLU()), process_group=group)))


def a_layer_of_each_group_and_one_of_all() -> Facts:
    number, group = _group()
    torch.manual_seed(number)
    first = nn.Linear(5, 7)
    torch.manual_seed(2)
    last = nn.Linear(7, 3)
    model = nn.Sequential(DistributedDataParallel(first, process_group=group), nn.ReLU(), DistributedDataParallel(last))
    return facts(train(model))


def stages() -> Facts:
    model = nn.Sequential()
    model.add_module(f"stage{dist.get_rank()}", nn.Linear(5, 5))
    return facts(train(model))


def stages_of_one_name() -> Facts:
    rank = dist.get_rank()
    return facts(train(nn.Sequential(nn.Linear(5, 4 + rank), nn.ReLU(), nn.Linear(4 + rank, 3))))


SCENARIOS: dict[int, tuple[Callable[[], Facts], ...]] = {
    2: (
        columns_and_rows,
        columns_put_together,
        distributed_outputs_and_uneven_columns,
        sequence_parallel,
        sequence_gathered_for_an_ordinary_layer,
    ),
    4: (
        columns_and_rows_of_two_copies,
        shards_of_two_copies,
        two_groups,
        a_layer_of_each_group_and_one_of_all,
        stages_of_one_name,
        stages,
    ),
}

if __name__ == "__main__":
    serve(SCENARIOS[int(sys.argv[2])])
