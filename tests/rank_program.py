"""One rank of a small distributed program, run by test_watch_distributed: each scenario leaves its facts as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

import tensorstats as ts
from rank_processes import SIGNALS, batch, build, everyone, facts, serve, train

# --- scenarios --------------------------------------------------------------------------------------------------------


def data_parallel() -> dict[str, Any]:
    model = build()
    parallel = DistributedDataParallel(model)
    seen: list[torch.Tensor] = []
    handle = model[0].register_forward_hook(lambda _m, _a, output: seen.append(output.detach().clone()))
    monitor = train(parallel, watched=model, histograms=True, signals=SIGNALS)
    handle.remove()
    outputs = torch.cat([torch.cat(part) for part in everyone(seen)])
    want = ts.summary(outputs)
    gradient = model[0].weight.grad
    axis = monitor.histogram("outputs", "0").axis
    return {
        **facts(monitor),
        "outputs": [want.count, want.min, want.max, want.l2],
        "histogram": monitor.histogram("outputs", "0") == ts.histogram(outputs, axis),
        "median": [float(monitor.histogram("outputs", "0").quantile(0.5)), float(outputs.double().median())],
        "units": [monitor.units("1").updates, int(monitor.units("1").count[0])],
        "gradient": monitor.latest("gradients", "0.weight").to_bytes() == ts.summary(gradient).to_bytes(),
        "ranks": [summary.count for summary in monitor.ranks("outputs", "0")],
    }


def out_of_sync() -> dict[str, Any]:
    parallel = DistributedDataParallel(build())
    if dist.get_rank() == 1:
        with torch.no_grad():
            parallel.module[2].weight[0, 0] += 1e-3
    return facts(train(parallel))


def odd_rank() -> dict[str, Any]:
    def change(_step: int, x: torch.Tensor) -> torch.Tensor:
        return x * 255 if dist.get_rank() == 1 else x

    return facts(train(DistributedDataParallel(build()), steps=4, rate=1e-9, change=change, signals=["outputs"]))


def bad_value_on_one_rank() -> dict[str, Any]:
    def change(step: int, x: torch.Tensor) -> torch.Tensor:
        if step == 1 and dist.get_rank() == 1:
            x[3, 2] = float("nan")
        return x

    return facts(train(DistributedDataParallel(build()), change=change))


def module_on_one_rank() -> dict[str, Any]:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first = nn.Linear(5, 3)
            self.extra = nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            y = self.first(x)
            return self.extra(y) if dist.get_rank() == 1 else y

    return facts(train(Sometimes()))


def build_sharded() -> Any:
    model = build()
    mesh = init_device_mesh("cpu", (2,))
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def sharded(backend: Any = "auto") -> dict[str, Any]:
    model = build_sharded()
    monitor = train(model, signals=SIGNALS, histograms=True, backend=backend)
    whole: dict[str, list[Any]] = {}
    for name, parameter in model.named_parameters():
        for signal, tensor in (("parameters", parameter), ("gradients", parameter.grad)):
            assert isinstance(tensor, DTensor)
            full = tensor.detach().full_tensor()
            got, want = monitor.latest(signal, name), ts.summary(full)
            whole[f"{signal} {name}"] = [
                [s.count, s.zero_count, s.negative_count, s.min, s.max, s.l2] for s in (got, want)
            ]
    ratio = monitor.series("updates", "0.weight", "update_ratio")[1][-1]
    update, value = monitor.latest("updates", "0.weight").l2, monitor.latest("parameters", "0.weight").l2
    shards = [None if s is None else s.count for s in monitor.ranks("parameters", "2.weight")]
    histogram = monitor.histogram("parameters", "0.weight").count
    return {**facts(monitor), "whole": whole, "ratio": [ratio, update / value], "shards": shards, "hist": histogram}


def sharded_but_local() -> dict[str, Any]:
    model = build()
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    return facts(train(model, ranks="local"))


def placements() -> dict[str, Any]:
    mesh = init_device_mesh("cpu", (2,))

    class Placed(nn.Module):
        def forward(self, x: Any, placement: Any) -> Any:
            if isinstance(placement, Partial):
                return DTensor.from_local(x, mesh, [placement])
            return distribute_tensor(x, mesh, [placement])

    found: dict[str, Any] = {}
    for placement in (Replicate(), Shard(0), Partial()):
        model = nn.Sequential(nn.Linear(1, 1))
        model.add_module("placed", Placed())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with ts.watch(model, optimizer, signals=["outputs"]) as monitor:
            model[1](torch.arange(12.0).reshape(3, 4), placement)
            optimizer.step()
        counts = [monitor.latest("outputs", name).count for name in monitor.names("outputs")]
        found[type(placement).__name__] = [counts, monitor.errors]
    return found


def another_schedule_on_one_rank() -> dict[str, Any]:
    return facts(train(DistributedDataParallel(build()), steps=3, stop=1 if dist.get_rank() == 1 else None))


def sharded_on_devices() -> dict[str, Any]:
    return sharded(backend="torch")


def data_parallel_on_devices() -> dict[str, Any]:
    options: dict[str, Any] = {"steps": 4, "histograms": True, "signals": SIGNALS}
    core, device = (
        train(DistributedDataParallel(build()), backend=backend, **options) for backend in ("core", "torch")
    )
    name = ("outputs", "module.1")
    fractions = [monitor.series(*name, "dead_fraction")[1].tolist() for monitor in (core, device)]
    units = [[u.updates, u.last_active.tolist()] for u in (core.units(name[1]), device.units(name[1]))]
    histograms = [monitor.histogram(*name) for monitor in (core, device)]
    return {
        "core": facts(core),
        "device": facts(device),
        "fractions": fractions,
        "units": units,
        "histograms": histograms[0] == histograms[1],
    }


def read_on_one_rank_of_devices() -> dict[str, Any]:
    """What reading after every step gives; only one rank reads, which must not wait for the other."""
    parallel = DistributedDataParallel(build())
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    seen: list[list[int]] = []
    with ts.watch(parallel, optimizer, backend="torch") as monitor:
        for step in range(4):
            optimizer.zero_grad()
            parallel(batch(dist.get_rank(), step)).square().mean().backward()
            optimizer.step()
            if dist.get_rank() == 0:
                assert monitor.findings == []
                seen.append(monitor.series("outputs", "module.0", "count")[0].tolist())
    return {**facts(monitor), "seen": seen}


def error_on_one_rank_of_devices() -> dict[str, Any]:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = ts.watch(model, optimizer, backend="torch")
    try:
        with monitor:
            for step in range(3):
                model(batch(dist.get_rank(), step)).square().mean().backward()
                optimizer.step()
                if step == 1 and dist.get_rank() == 0:
                    raise KeyError
    except KeyError:
        pass
    return facts(monitor)


def shards_after_the_other_rank_has_left() -> dict[str, Any]:
    stop = 1 if dist.get_rank() == 1 else None
    monitor = train(build_sharded(), steps=4, stop=stop, backend="torch", signals=SIGNALS, histograms=True)
    counts = [monitor.histogram("parameters", "0.weight").count, monitor.histogram("outputs", "0").count]
    weights = {signal: monitor.series(signal, "0.weight", "count") for signal in ("parameters", "gradients", "updates")}
    return {
        **facts(monitor),
        "weights": {signal: [a.tolist() for a in series] for signal, series in weights.items()},
        "hist": counts,
    }


def watched_on_one_rank() -> dict[str, Any]:
    parallel = DistributedDataParallel(build())
    if dist.get_rank() == 0:
        return facts(train(parallel))
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1, momentum=0.9)
    for step in range(2):
        optimizer.zero_grad()
        parallel(batch(1, step)).square().mean().backward()
        optimizer.step()
    return {}


class Sparse(torch.nn.Module):
    """The values as a sparse tensor, which nobody counts."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to_sparse()


def uncountable_output() -> dict[str, Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(7, 4), Sparse())
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    with ts.watch(parallel, optimizer, signals=["outputs", "raw_gradients"]) as monitor:
        for _ in range(3):
            optimizer.zero_grad()
            torch.manual_seed(dist.get_rank())
            parallel(torch.randn(5, 7)).to_dense().abs().mean().backward()
            optimizer.step()
    return {**facts(monitor), "names": monitor.names("outputs")}


SCENARIOS: tuple[Callable[[], dict[str, Any]], ...] = (
    data_parallel,
    out_of_sync,
    odd_rank,
    bad_value_on_one_rank,
    module_on_one_rank,
    sharded,
    sharded_but_local,
    placements,
    another_schedule_on_one_rank,
    data_parallel_on_devices,
    sharded_on_devices,
    read_on_one_rank_of_devices,
    error_on_one_rank_of_devices,
    uncountable_output,
    shards_after_the_other_rank_has_left,
    # Last: from here on the ranks have made different numbers of watchers.
    watched_on_one_rank,
)


if __name__ == "__main__":
    serve(SCENARIOS)
