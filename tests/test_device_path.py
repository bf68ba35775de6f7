"""The torch-op path gives what the core gives: forced on the CPU always, and on a GPU where there is one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tensorstats as ts  # noqa: E402
from tensorstats import _core  # noqa: E402
from tensorstats.device import kernels  # noqa: E402
from tensorstats.device import results as device  # noqa: E402

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2, torch.float8_e4m3fn]
UNSIGNED = [torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64]
SIGNED = [torch.int8, torch.int16, torch.int32, torch.int64]
SUMS = ("sum", "l1")
EXACT = (
    "dtype",
    "shape",
    *(field.name for field in _core.FIELDS if field.kind != "real" and field.name not in SUMS),
)
ROUNDED = (*SUMS, *(f.name for f in _core.FIELDS if f.kind == "real" and not f.corrected and f.moments == 2))
PATTERNS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

cuda = pytest.param(
    "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
)
on_devices = pytest.mark.parametrize("place", ["cpu", cuda])


def same(left: Any, right: Any) -> bool:
    return bool(left == right or (left != left and right != right))


def assert_agrees(x: torch.Tensor, *, place: str = "cpu", moments: int = 4) -> None:
    """The torch path agrees with the core: counts, extremes and integers exactly, the rest to 1e-9."""
    core = ts.summary(x, moments=moments)
    torch_path = device.summary(x.to(place), moments=moments)
    for field in EXACT:
        assert same(getattr(core, field), getattr(torch_path, field)), field
    sums = float(core.l1) if core.finite_count else 0.0
    for field in ROUNDED:
        want, got = getattr(core, field), getattr(torch_path, field)
        if isinstance(want, int):
            assert got == want, field
        elif not same(want, got):
            assert got == pytest.approx(want, rel=1e-9, abs=1e-13 * sums), field
    spread = core.std()
    if not same(spread, torch_path.std()):
        assert torch_path.std() == pytest.approx(spread, rel=1e-8, abs=1e-12 * abs(core.mean))
    if moments == 4 and spread > 1e-6 * abs(core.mean):
        for field in ("skewness", "kurtosis"):
            want = getattr(core, field)
            assert same(want, getattr(torch_path, field)) or getattr(torch_path, field) == pytest.approx(
                want, rel=1e-6, abs=1e-6
            )


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, 7, 1000, 3 * kernels.CPU_BLOCK + 5])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_floats(dtype: torch.dtype, size: int) -> None:
    check_floats(dtype, size)


def check_floats(dtype: torch.dtype, size: int, place: str = "cpu") -> None:
    generator = torch.Generator().manual_seed(size)
    assert_agrees((torch.randn(size, generator=generator) * 3).to(dtype), place=place)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_bit_pattern_of_the_small_formats_and_a_sample_of_the_large(dtype: torch.dtype) -> None:
    check_bit_patterns(dtype)


def check_bit_patterns(dtype: torch.dtype, place: str = "cpu") -> None:
    integer = PATTERNS[torch.empty(0, dtype=dtype).element_size()]
    if integer is torch.uint8:
        bits = torch.arange(256).to(torch.uint8)
    elif integer is torch.int16:
        bits = torch.arange(-(1 << 15), 1 << 15).to(torch.int16)
    else:
        limits = torch.iinfo(integer)
        bits = torch.randint(
            limits.min, limits.max, (50_000,), dtype=integer, generator=torch.Generator().manual_seed(0)
        )
    assert_agrees(bits.view(dtype), place=place, moments=2)


@pytest.mark.parametrize("size", [0, 1, 5, kernels.CPU_BLOCK + 3])
@pytest.mark.parametrize("dtype", UNSIGNED + SIGNED, ids=str)
def test_integers(dtype: torch.dtype, size: int) -> None:
    check_integers(dtype, size)


def check_integers(dtype: torch.dtype, size: int, place: str = "cpu") -> None:
    generator = torch.Generator().manual_seed(size)
    bits = torch.randint(-(1 << 63), (1 << 63) - 1, (size,), generator=generator)
    assert_agrees(bits > 0 if dtype is torch.bool else bits.to(dtype), place=place)


@pytest.mark.parametrize(
    "values",
    [
        [-(1 << 63)],
        [(1 << 63) - 1, (1 << 63) - 1, (1 << 63) - 1],
        [-(1 << 63), (1 << 63) - 1, 0],
        [0, 0],
    ],
)
def test_integers_at_the_ends_of_the_range_are_exact(values: list[int]) -> None:
    x = torch.tensor(values)
    assert_agrees(x)
    assert device.summary(x).sum == sum(values)
    assert device.summary(x).l1 == sum(abs(value) for value in values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int16], ids=str)
def test_layouts(dtype: torch.dtype) -> None:
    check_layouts(dtype)


def check_layouts(dtype: torch.dtype, place: str = "cpu") -> None:
    x = (torch.randn(30, 20, 50) * 50).to(dtype)
    for view in (x.permute(2, 0, 1), x[::2, 1:, ::3], x[:1].expand(9, 20, 50), x[0, 0, 0], x[:, :0]):
        assert_agrees(view, place=place, moments=2)


def test_a_strided_tensor_of_many_blocks_is_never_copied_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "CPU_BLOCK", 1000)
    x = torch.randn(70, 90, 11).transpose(0, 2)
    blocks = [block for block, _ in kernels.blocks(x)]
    assert max(block.numel() for block in blocks) <= 1000
    assert torch.equal(torch.cat(blocks), x.reshape(-1))
    assert_agrees(x)


@pytest.mark.parametrize(
    "values",
    [
        [1e300, -1e300, 1e308],
        [5e-324, 1e-310, 0.0],
        [1e200, 1e-200],
        [0.0, -0.0],
        [math.nan],
        [math.inf, -1.0, 3.0],
        [-math.inf, math.inf, math.nan],
        [4.0, 4.0, 4.0],
    ],
)
def test_extreme_doubles(values: list[float]) -> None:
    assert_agrees(torch.tensor(values, dtype=torch.float64), moments=2)
    assert_agrees(torch.tensor(values, dtype=torch.float32), moments=2)


def test_a_large_mean_does_not_eat_the_variance() -> None:
    assert_agrees(torch.randn(1 << 19, dtype=torch.float64) + 1e6)


def test_subnormals_are_counted_when_the_cpu_flushes_them() -> None:
    x = torch.tensor([1e-40, -1e-41, 0.0, 1.0])
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        s = device.summary(x)
    finally:
        torch.set_flush_denormal(False)
    assert (s.subnormal_count, s.zero_count, s.negative_count) == (2, 1, 1)


def test_the_first_non_finite_value_is_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "CPU_BLOCK", 64)
    x = torch.zeros(10, 100)
    x[6, 17] = math.inf
    x[7, 3] = math.nan
    strided = torch.stack([x, x], -1)[..., 1]
    settled = device.resolve([device.start_summary(x), device.start_summary(strided), device.start_summary(x.T)])
    assert [first for _, first in settled] == [617, 617, 3 * 10 + 7]


def test_states_of_both_paths_merge() -> None:
    x = torch.randn(1000)
    merged = ts.summary(x[:300]) + device.summary(x[300:])
    whole = ts.summary(x)
    assert (merged.min, merged.max, merged.count) == (whole.min, whole.max, whole.count)
    assert merged.std() == pytest.approx(whole.std(), rel=1e-12)


def test_many_pending_states_are_settled_together_in_order() -> None:
    tensors = [torch.full((5,), 1.0), torch.arange(4), torch.zeros(0), torch.full((2, 3), -2.0, dtype=torch.float64)]
    settled = device.resolve([device.start_summary(x) for x in tensors])
    summaries = [state for state, _ in settled if isinstance(state, ts.Summary)]
    assert [s.count for s in summaries] == [5, 4, 0, 6]
    assert [summaries[i].mean for i in (0, 1, 3)] == [1.0, 1.5, -2.0]


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_dtypes_without_order_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=r"unsupported dtype: complex\d+; accepted: bool, .*float64"):
        device.summary(torch.zeros(3, dtype=dtype))


def test_moments_are_checked() -> None:
    with pytest.raises(ValueError, match="moments must be 2 or 4, got 3"):
        device.summary(torch.zeros(3), moments=3)


# --- histograms -------------------------------------------------------------------------------------------------------


def some_values(dtype: torch.dtype, size: int = 5000) -> torch.Tensor:
    """Values of every kind: ordinary, zero, subnormal, extreme, and what is not finite where the dtype has it."""
    generator = torch.Generator().manual_seed(1)
    integer = PATTERNS[torch.empty(0, dtype=dtype).element_size()] if dtype is not torch.bool else torch.uint8
    bits = torch.randint(-(1 << 63), (1 << 63) - 1, (size,), generator=generator)
    if dtype is torch.bool:
        return bits > 0
    patterns = bits.to(integer).view(dtype)
    ordinary = (torch.randn(size, generator=generator) * 3).to(dtype)
    return torch.cat([patterns, ordinary, torch.zeros(3).to(dtype)])


@on_devices
@pytest.mark.parametrize(
    "axis",
    [
        ts.axis.LogLinear(6),
        ts.axis.LogLinear(0),
        ts.axis.LogLinear(10),
        ts.axis.Regular(7, -3.0, 4.0),
        ts.axis.Regular(5, 0.05, 1e19),
        ts.axis.Variable([-1e300, -2.5, 0.0, 1e-40, 3.0, 1e30]),
        ts.axis.Variable([-7.0, 5.0, 1e6]),
    ],
    ids=str,
)
def test_histograms_are_equal_to_those_of_the_core(axis: Any, place: str) -> None:
    for dtype in FLOATS + UNSIGNED + SIGNED:
        x = some_values(dtype)
        assert device.histogram(x.to(place), axis).to_dict() == ts.histogram(x, axis).to_dict(), dtype


def test_histograms_of_edge_values_empty_and_strided_tensors() -> None:
    axis = ts.axis.Regular(4, 0.0, 1.0)
    for x in (
        torch.tensor([0.0, 0.25, 0.5, 1.0, -0.0, 1.0000001]),
        torch.zeros(0),
        torch.rand(9, 8).T[::2],
        torch.tensor(0.5),
    ):
        assert device.histogram(x, axis) == ts.histogram(x, axis)
        assert device.histogram(x, ts.axis.LogLinear(3)) == ts.histogram(x, ts.axis.LogLinear(3))


# --- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("shape", "dim"), [((64, 10), 1), ((8, 5, 6, 7), 1), ((4, 9, 12), -1), ((7,), 0), ((0, 3), 1)])
def test_units(dtype: torch.dtype, shape: tuple[int, ...], dim: int) -> None:
    check_units(dtype, shape, dim)


def check_units(dtype: torch.dtype, shape: tuple[int, ...], dim: int, place: str = "cpu") -> None:
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 2).to(dtype)
    x = torch.where(x.float() < -1, 0.0, x.float()).to(dtype)
    core = ts.unit_activity(x, dim, saturation=(-0.5, 1.5))
    other = device.unit_activity(x.to(place), dim, saturation=(-0.5, 1.5))
    for field in (
        "count",
        "active_count",
        "zero_count",
        "nonfinite_count",
        "low_count",
        "high_count",
        "min",
        "max",
        "last_active",
    ):
        np.testing.assert_array_equal(getattr(core, field), getattr(other, field), err_msg=field)
    np.testing.assert_allclose(other.mean, core.mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(other.std(), core.std(), rtol=1e-8, atol=1e-12)
    assert other.updates == core.updates == 1


def test_units_over_many_blocks_and_non_finite_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "CPU_BLOCK", 50)
    x = torch.randn(30, 4, 9)
    x[3, 1, 2], x[9, 1, 0], x[:, 2] = math.nan, math.inf, 0.0
    core, other = ts.unit_activity(x, 1), device.unit_activity(x, 1)
    np.testing.assert_array_equal(core.nonfinite_count, other.nonfinite_count)
    np.testing.assert_array_equal(core.active_count, other.active_count)
    np.testing.assert_array_equal(core.min, other.min)
    np.testing.assert_allclose(core.std(), other.std(), rtol=1e-9)
    assert other.dead_units().tolist() == [2]


def test_units_accumulate_over_both_paths() -> None:
    first, second = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
    total = ts.unit_activity(first, 1).merge(device.unit_activity(second, 1))
    assert total.updates == 2
    assert total.last_active.tolist() == [1, 2, 0]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_all_of_the_above_on_a_gpu() -> None:
    for dtype in FLOATS:
        check_bit_patterns(dtype, place="cuda")
        check_layouts(dtype, place="cuda")
        check_units(dtype, (8, 5, 6, 7), 1, place="cuda")
        for size in (0, 1, 1000, kernels.DEVICE_BLOCK + 5):
            check_floats(dtype, size, place="cuda")
    for dtype in UNSIGNED + SIGNED:
        check_integers(dtype, 100_000, place="cuda")


# --- the watcher on this path -----------------------------------------------------------------------------------------


def watched(backend: Any, place: str = "cpu", bad: bool = False) -> ts.torch.Monitor:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.ReLU(), torch.nn.Linear(12, 2), torch.nn.Sigmoid()).to(
        place
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    with ts.watch(model, optimizer, backend=backend) as monitor:
        for step in range(5):
            x = torch.randn(32, 6, generator=generator)
            if bad and step == 3:
                x[4, 2] = math.inf
            optimizer.zero_grad()
            loss = model(x.to(place)).sum()
            monitor.log_loss(loss)
            loss.backward()
            optimizer.step()
    assert monitor.errors == []
    return monitor


@on_devices
def test_both_paths_record_the_same_run(place: str) -> None:
    core, other = watched("core"), watched("auto" if place == "cuda" else "torch", place)
    close = {"rtol": 1e-9} if place == "cpu" else {"rtol": 1e-3, "atol": 1e-4}  # a GPU multiplies in another order
    for signal in ("outputs", "parameters", "gradients", "updates"):
        assert core.names(signal) == other.names(signal)
        for name in core.names(signal):
            for field in ("count", "max", "l2", "std"):
                np.testing.assert_allclose(
                    other.series(signal, name, field)[1], core.series(signal, name, field)[1], **close
                )
    for field in ("dead_fraction", "saturated_fraction"):
        np.testing.assert_allclose(
            other.series("outputs", "3", field)[1], core.series("outputs", "3", field)[1], **close
        )
    assert core.findings == other.findings == []


@on_devices
def test_both_paths_name_the_model_input(place: str) -> None:
    for monitor in (watched("core", bad=True), watched("auto" if place == "cuda" else "torch", place, bad=True)):
        (finding,) = monitor.findings
        assert (finding.rule, finding.where, finding.step, finding.value) == ("non-finite", "input", 3, 1.0)
        assert "the first at index [4, 2] (inf)" in finding.why


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_hooks_never_wait_for_the_gpu() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.ReLU()).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        torch.cuda.set_sync_debug_mode("error")
        try:
            model(torch.randn(4, 6, device="cuda")).sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        optimizer.step()
    assert monitor.errors == []
