"""Two ranks that hold the same names and not always the same tensors: copies, shards, experts, other widths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.post_localSGD_hook import PostLocalSGDState, post_localSGD_hook
from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.optim import PostLocalSGDOptimizer, ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

import tensorstats as ts
from rank_processes import SIGNALS, Facts, batch, build, facts, serve, train


def other_width_on_one_rank() -> Facts:
    width = 6 + 2 * dist.get_rank()
    model = nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 3))
    monitor = train(model, histograms=True, signals=SIGNALS)
    shapes = [None if s is None else s.count for s in monitor.ranks("parameters", "0.weight")]
    latest = [monitor.latest("outputs", "1").count, monitor.histogram("outputs", "1").count, monitor.units("1").units]
    return {**facts(monitor), "latest": latest, "ranks": shapes}


def other_dtype_of_one_layer() -> Facts:
    model = build()
    if dist.get_rank() == 1:
        model[2].double()
        model.insert(2, Double())
    else:
        model.insert(2, nn.Identity())
    return facts(train(model))


class Double(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.double()


def ignored_by_data_parallel() -> Facts:
    model = build()
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, ["2.weight", "2.bias"])
    with torch.no_grad():
        model[2].weight += dist.get_rank()
    return facts(train(DistributedDataParallel(model), steps=3))


class Experts(nn.Module):
    """A body that all ranks share, and an expert of each rank."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body: nn.Module = nn.Linear(5, 7)
        torch.manual_seed(1 + dist.get_rank())
        self.expert = nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> Any:
        return self.expert(self.body(x).relu())


def local_experts() -> Facts:
    model = Experts()
    model.body = DistributedDataParallel(model.body)
    return facts(train(model, steps=3))


def local_sgd() -> Facts:
    parallel = DistributedDataParallel(build())
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    with ts.watch(parallel, optimizer) as monitor:
        for step in range(8):
            optimizer.zero_grad()
            with parallel.no_sync():
                parallel(batch(dist.get_rank(), step)).square().mean().backward()
            optimizer.step()
            if step % 4 == 3:
                for parameter in parallel.parameters():
                    dist.all_reduce(parameter.data)
                    parameter.data /= 2
    return facts(monitor)


def post_local_sgd() -> Facts:
    parallel = DistributedDataParallel(build())
    alone, _ = dist.new_subgroups(1)
    parallel.register_comm_hook(PostLocalSGDState(None, alone, start_localSGD_iter=2), post_localSGD_hook)
    inner = torch.optim.SGD(parallel.parameters(), lr=0.1)
    optimizer = PostLocalSGDOptimizer(inner, PeriodicModelAverager(period=3, warmup_steps=2))
    return facts(_steps(parallel, optimizer, 9))


def _steps(model: Any, optimizer: Any, steps: int) -> Any:
    with ts.watch(model, optimizer, signals=SIGNALS) as monitor:
        for step in range(steps):
            optimizer.zero_grad()
            model(batch(dist.get_rank(), step)).square().mean().backward()
            optimizer.step()
    return monitor


def optimizer_in_parts() -> Facts:
    parallel = DistributedDataParallel(build())
    return facts(_steps(parallel, ZeroRedundancyOptimizer(parallel.parameters(), torch.optim.Adam, lr=0.1), 8))


def equal_halves() -> Facts:
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.LayerNorm(4))
    nn.init.ones_(model[0].weight)
    sharded = FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))
    return facts(train(sharded, rate=0.0))


def copied_target() -> Facts:
    model = nn.ModuleDict({"online": build(), "target": build()})
    optimizer = torch.optim.SGD(model["online"].parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        for step in range(24):
            x = batch(0, step)
            with torch.no_grad():
                goal = model["target"](x) + 1
            optimizer.zero_grad()
            (model["online"](x) - goal).square().mean().backward()
            optimizer.step()
            if step % 12 == 11:
                model["target"].load_state_dict(model["online"].state_dict())
    return facts(monitor)


def evaluation() -> Facts:
    parallel = DistributedDataParallel(build())
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    with ts.watch(parallel, optimizer, eval_schedule=ts.torch.Schedule()) as monitor:
        for step in range(2):
            parallel.train()
            optimizer.zero_grad()
            parallel(batch(dist.get_rank(), step)).square().mean().backward()
            optimizer.step()
            parallel.eval()
            with torch.no_grad():
                parallel(batch(dist.get_rank(), step))
                parallel.module(batch(dist.get_rank(), step))
    calls = [monitor.series("outputs", name, "count", mode="eval") for name in monitor.names("outputs", mode="eval")]
    return {**facts(monitor), "calls": [[part.tolist() for part in series] for series in calls]}


def evaluation_on_one_rank() -> Facts:
    parallel = DistributedDataParallel(build())
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    with ts.watch(parallel, optimizer, eval_schedule=ts.torch.Schedule()) as monitor:
        for step in range(2):
            parallel.train()
            optimizer.zero_grad()
            parallel(batch(dist.get_rank(), step)).square().mean().backward()
            optimizer.step()
            if dist.get_rank() == 0:
                parallel.eval()
                with torch.no_grad():
                    parallel.module(batch(0, step))
    return {**facts(monitor), "names": monitor.names("outputs", mode="eval")}


SCENARIOS: tuple[Callable[[], Facts], ...] = (
    other_width_on_one_rank,
    other_dtype_of_one_layer,
    ignored_by_data_parallel,
    local_experts,
    local_sgd,
    post_local_sgd,
    optimizer_in_parts,
    equal_halves,
    copied_target,
    evaluation,
    evaluation_on_one_rank,
)


if __name__ == "__main__":
    serve(SCENARIOS)
