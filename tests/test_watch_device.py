"""The path of accelerators: nothing waits inside hooks, one copy per step, and no float64 where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.device import fixed_point  # noqa: E402
from tensorstats.device import results as device  # noqa: E402
from tensorstats.device.arena import Arena  # noqa: E402
from tensorstats.device.kernels import INTEGERS  # noqa: E402

WAITS = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "unique", "index")
SIGNALS = ("outputs", "output_gradients", "parameters", "gradients", "updates", "raw_gradients")


class Spy(TorchDispatchMode):
    """Notes every operation, whether any input or result is float64, and copies to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.doubles: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in WAITS:
            self.waits.append(name)
        for value in (*args, result, *(kwargs or {}).values()):
            for tensor in value if isinstance(value, (list, tuple)) else (value,):
                if tensor is torch.float64 or (isinstance(tensor, torch.Tensor) and tensor.dtype is torch.float64):
                    self.doubles.add(name)
        return result


@pytest.fixture
def no_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The CPU plays a device without float64."""
    monkeypatch.setattr(fixed_point, "has_float64", lambda _device: False)
    return


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2), nn.Sigmoid())


def run(model: nn.Module, optimizer: Any, steps: int = 3) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(16, 6, generator=generator)).sum().backward()
        optimizer.step()


# --- nothing waits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("histograms", [False, True])
def test_hooks_read_nothing_back_from_the_device(histograms: bool, masked: bool) -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mask = torch.arange(16) < 5 if masked else None
    signals = (*SIGNALS, "inputs")
    with ts.watch(
        model, optimizer, backend="torch", signals=signals, histograms=histograms, units="all", mask=mask
    ) as monitor:
        with Spy() as spy:
            model(torch.randn(16, 6)).sum().backward()
        optimizer.step()
    assert spy.waits == []
    assert monitor.errors == []
    assert monitor.latest("outputs", "0").count == (5 if masked else 16) * 12


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("masked", [False, True])
def test_hooks_do_not_wait_for_the_gpu(masked: bool) -> None:
    model = build().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mask = torch.arange(16, device="cuda") < 5 if masked else None
    with ts.watch(model, optimizer, signals=SIGNALS, histograms=True, mask=mask) as monitor:
        torch.cuda.set_sync_debug_mode("error")
        try:
            model(torch.randn(16, 6, device="cuda")).sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        optimizer.step()
    assert monitor.errors == []


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("histograms", [False, True])
def test_whole_steps_do_not_wait_for_the_gpu(every: int, histograms: bool) -> None:
    model = build().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    signals = (*SIGNALS, "inputs", "optimizer_state")
    x = torch.randn(16, 6, device="cuda")
    told: list[Any] = []
    with ts.watch(
        model, optimizer, every=every, signals=signals, histograms=histograms, on_finding=told.append
    ) as monitor:

        def steps(count: int) -> None:
            for _ in range(count):
                optimizer.zero_grad()
                loss = model(x).square().mean()
                monitor.log_loss(loss)
                loss.backward()
                optimizer.step()

        steps(4)  # memory is asked for
        torch.cuda.set_sync_debug_mode("error")
        try:
            steps(4)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert monitor.errors == []
    assert told == monitor.findings
    assert monitor.series("losses", "loss")[0].tolist() == list(range(8))
    assert monitor.series("outputs", "0", "count")[0].tolist() == list(range(0, 8, every))


def test_a_recorded_step_is_one_copy_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    launches: list[int] = []
    launch = Arena.launch

    def counted(self: Arena) -> None:
        launches.append(1)
        launch(self)

    monkeypatch.setattr(Arena, "launch", counted)
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, backend="torch", signals=SIGNALS, histograms=True) as monitor:
        run(model, optimizer, steps=4)
    assert len(launches) == 4
    assert monitor.errors == []


def test_both_paths_record_the_same_run_in_all_signals() -> None:
    def recorded(backend: Any) -> dict[tuple[str, str], Any]:
        model = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with ts.watch(model, optimizer, backend=backend, signals=SIGNALS, histograms=True) as monitor:
            run(model, optimizer)
        assert monitor.errors == []
        return {
            (s, name): (monitor.total(s, name), monitor.histogram(s, name))
            for s in SIGNALS
            for name in monitor.names(s)
        }

    core, other = recorded("core"), recorded("torch")
    assert core.keys() == other.keys()
    for key, (summary, histogram) in core.items():
        total, counts = other[key]
        assert (total.count, total.min, total.max, total.zero_count) == (
            summary.count,
            summary.min,
            summary.max,
            summary.zero_count,
        ), key
        assert total.l2 == pytest.approx(summary.l2, rel=1e-12)
        assert counts == histogram, key


# --- the memory of a step ---------------------------------------------------------------------------------------------


def test_rows_survive_growing_memory_and_the_step_after_them() -> None:
    arena = Arena(torch.device("cpu"))
    first, second = [], []
    for value in range(3000):
        first.append((arena.put([torch.full((7,), value)], 7), arena.batch))
    arena.launch()
    for value in range(10):
        second.append((arena.put([torch.full((7,), -value)], 7), arena.batch))
    arena.launch()
    for sign, placed in ((1, first), (-1, second)):
        for value, (place, batch) in enumerate(placed):
            start = place.storage_offset()
            assert batch.land()[start : start + 7].tolist() == [sign * value] * 7


# --- devices without float64 ------------------------------------------------------------------------------------------


def test_no_operation_is_float64_where_there_is_none(no_float64: None) -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, backend="torch", signals=SIGNALS, histograms=True) as monitor, Spy() as spy:
        model(torch.randn(16, 6)).sum().backward()
        optimizer.step()
    assert spy.doubles == set()
    assert monitor.errors == []


SHAPES = {
    "normal": torch.randn(5000),
    "far from zero": torch.randn(5000) + 1000.0,
    "forty octaves": torch.exp2(torch.empty(5000).uniform_(-20, 20)),
    "one large": torch.cat([torch.ones(4000), torch.tensor([1e6])]),
    "constant": torch.full((5000,), 0.1),
    "huge": torch.randn(100) * 1e38,
    "tiny": torch.randn(100) * 1e-36,
    "special": torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -2.0, 1e-40]),
    "empty": torch.zeros(0),
    "zeros": torch.zeros(9),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", list(SHAPES))
def test_sums_in_fixed_point_keep_the_promise_of_devices(no_float64: None, kind: str, dtype: torch.dtype) -> None:
    x = SHAPES[kind].to(dtype)
    core, other = ts.summary(x), device.summary(x)
    for field in ("count", "nan_count", "posinf_count", "zero_count", "subnormal_count", "negative_count"):
        assert getattr(core, field) == getattr(other, field), field
    for field in ("min", "max", "absmin", "absmax"):
        want, got = getattr(core, field), getattr(other, field)
        assert want == got or (want != want and got != got), field
    if core.finite_count == 0:
        return
    for field in ("l1", "l2", "rms"):
        assert getattr(other, field) == pytest.approx(getattr(core, field), rel=1e-6), field
    assert other.sum == pytest.approx(core.sum, abs=1e-6 * core.l1)
    assert other.std() == pytest.approx(core.std(), rel=1e-5, abs=1e-6 * core.rms)
    assert device.histogram(x, ts.axis.LogLinear(5)) == ts.histogram(x, ts.axis.LogLinear(5))


@pytest.mark.parametrize("dtype", list(INTEGERS), ids=str)
def test_integers_without_float64(no_float64: None, dtype: torch.dtype) -> None:
    bits = torch.randint(-(1 << 63), (1 << 63) - 1, (3000,), generator=torch.Generator().manual_seed(2))
    x = bits > 0 if dtype is torch.bool else bits.to(dtype)
    core, other = ts.summary(x), device.summary(x)
    for field in ("count", "zero_count", "negative_count", "min", "max", "absmin", "absmax", "sum", "l1"):
        assert getattr(core, field) == getattr(other, field), field
    assert other.l2 == pytest.approx(core.l2, rel=1e-6)
    assert other.std() == pytest.approx(core.std(), rel=1e-6)
    assert device.histogram(x, ts.axis.LogLinear(5)) == ts.histogram(x, ts.axis.LogLinear(5))


def test_units_without_float64(no_float64: None) -> None:
    x = torch.randn(40, 6, 9) * torch.exp2(torch.arange(6.0))[None, :, None] * 100 + 5
    x[3, 1, 2], x[:, 2] = math.nan, 0.0
    core, other = ts.unit_activity(x, 1, saturation=(-50.0, 90.0)), device.unit_activity(x, 1, saturation=(-50.0, 90.0))
    for field in ("count", "active_count", "zero_count", "nonfinite_count", "low_count", "high_count", "min", "max"):
        np.testing.assert_array_equal(getattr(core, field), getattr(other, field), err_msg=field)
    np.testing.assert_allclose(other.mean, core.mean, rtol=1e-5, atol=1e-6 * 3200)
    np.testing.assert_allclose(other.std(), core.std(), rtol=1e-5)


def test_higher_moments_need_float64(no_float64: None) -> None:
    with pytest.raises(ValueError, match="moments must be 2 on cpu, which has no float64, got 4"):
        device.summary(torch.ones(3), moments=4)
