"""The door to other devices: all functions, and every `update`, count a torch tensor where it lies, as the core does.

Without a GPU the device is simulated: `Elsewhere` is a subclass of tensor that the package takes for memory it cannot
read, and that torch counts on the CPU. With one, the same tests run on it as well.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tensorstats as ts  # noqa: E402
from tensorstats import _arrays, _core  # noqa: E402
from tensorstats._checks import first_nonfinite  # noqa: E402
from tensorstats.device import door, kernels  # noqa: E402

DTYPES = [getattr(torch, dtype.name) for dtype in _core.DTYPES if hasattr(torch, dtype.name)]
Put = Callable[[Any], Any]


class Elsewhere(torch.Tensor):
    """Simulated: a tensor whose memory is taken to be out of reach, though torch has it on the CPU."""

    # What operations make of it is a plain tensor.
    __torch_function__ = torch._C._disabled_torch_function_impl


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.fixture(params=["simulated", pytest.param("cuda", marks=[pytest.mark.cuda, needs_cuda])])
def put(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Puts a tensor where the core cannot read it."""
    if request.param == "cuda":
        return lambda x: x.to("cuda")
    real = _arrays.lies_elsewhere
    monkeypatch.setattr(_arrays, "lies_elsewhere", lambda x: type(x) is Elsewhere or real(x))
    return lambda x: x.as_subclass(Elsewhere)


def mask_for(put: Put, mask: Any) -> Any:
    """A mask on the device of the tensors that `put` puts."""
    return put(mask)


def chosen(x: Any, places: Any) -> Any:
    """Elements by place, through their bits: torch 2.6 cannot index every dtype."""
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    return x.view(bits)[places].view(x.dtype)


def values_of(dtype: Any) -> Any:
    """Every bit pattern of 8 bits; of more the ends, numbers that float64 rounds, and a sample."""
    size = torch.empty(0, dtype=dtype).element_size()
    if dtype is torch.bool:
        return torch.tensor([False, True, True, False])
    if size == 1:
        return torch.arange(256).to(torch.uint8).view(dtype)
    if size == 2:
        # Beside the sample: zeros, infinities, the largest and the smallest numbers of float16 and bfloat16.
        ends = [0, 1, 0x3FF, 0x400, 0x7BFF, 0x7C00, 0x7C01, 0x7F, 0x80, 0x7F7F, 0x7F80, 0x7F81, 0x7FFF]
        places = torch.tensor(ends + [end | 0x8000 for end in ends])
        return chosen(patterns_of_16_bits(dtype), torch.cat([torch.arange(0, 1 << 16, 61), places]))
    integer = {4: torch.int32, 8: torch.int64}[size]
    generator = torch.Generator().manual_seed(size)
    ends = torch.iinfo(integer)
    bits = torch.randint(ends.min, ends.max, (3000,), dtype=integer, generator=generator)
    whole = torch.tensor([0, 1, -1, ends.min, ends.max, ends.min + 1, ends.max - 1], dtype=integer)
    near = [2**24 + 1, 2**30, 1 << 23] + ([2**53 + 1, 2**53, 2**62 + 1, 0x3FF << 52, 0x7FF << 52] if size == 8 else [])
    ordinary = (torch.randn(500, generator=generator) * 3).to(dtype) if dtype.is_floating_point else whole.view(dtype)
    return torch.cat([bits.view(dtype), whole.view(dtype), torch.tensor(near, dtype=integer).view(dtype), ordinary])


def patterns_of_16_bits(dtype: Any) -> Any:
    return torch.arange(1 << 16).to(torch.int32).to(torch.int16).view(dtype)


def numbers_of(x: Any) -> list[int | float]:
    """The values as Python has them, exactly."""
    if x.dtype is torch.uint64:
        return [int(value) for value in x.numpy()]
    if x.dtype.is_floating_point and x.element_size() == 1:
        x = x.to(torch.float32)
    return [int(value) if x.dtype is torch.bool else value for value in x.tolist()]


BOUNDS: list[tuple[Any, Any]] = [
    (None, None),
    (0, 1),
    (-1, None),
    (None, 0.5),
    (-0.5, 0.5),
    (-math.inf, math.inf),
    (math.inf, math.inf),
    (-math.inf, -math.inf),
    (2**53, 2**53 + 1),
    (-(2**53) - 1, 2**53 + 1),
    (float(2**53), None),
    (-(2**63), 2**63 - 1),
    (-(2**63) + 1, 2**63 - 2),
    (1, 2**64 - 2),
    (2.0**63, 2.0**64),
    (-(10**30), 10**30),
    (10**400, None),
    (5e-324, 1e-310),
    (1e-45, 448),
    (-57344.0, 65504),
    (1.0000000001, 254.99),
]


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_out_of_range_is_exact_for_every_dtype(dtype: Any, allowed: bool, put: Put) -> None:
    x = values_of(dtype)
    there, numbers = put(x), numbers_of(x)
    for low, high in BOUNDS:
        report = _core.outside([there], low, high, allowed)[0]
        assert repr(report) == repr(_core.outside([x], low, high, allowed)[0]), (low, high)
        _, _, (nan, posinf, neginf, below, above), places = report
        compared = [(i, n) for i, n in enumerate(numbers) if math.isfinite(n) or (allowed and n == n)]
        low_ones = [i for i, n in compared if low is not None and n < low]
        high_ones = [i for i, n in compared if high is not None and n > high]
        assert (below, above) == (len(low_ones), len(high_ones)), (low, high)
        assert nan + posinf + neginf == sum(not math.isfinite(n) for n in numbers)
        for place, found in zip(places[1:], (low_ones, high_ones), strict=True):
            assert (place and place[0]) == (found[0] if found else None)
            assert place is None or place[2] == numbers[place[0]]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.itemsize == 2], ids=str)
def test_every_pattern_of_16_bits_is_as_the_core_has_it(dtype: Any, put: Put) -> None:
    x = patterns_of_16_bits(dtype)
    for low, high in BOUNDS:
        assert repr(ts.outside(put(x), min=low, max=high)) == repr(ts.outside(x, min=low, max=high)), (low, high)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_verdicts_are_those_of_the_core(dtype: Any, put: Put) -> None:
    everything = values_of(dtype)
    finite = everything
    if dtype.is_floating_point:
        finite = chosen(everything, torch.tensor([math.isfinite(n) for n in numbers_of(everything)]))
    for x in (everything, finite, everything[:0]):
        assert ts.is_finite(put(x)) is ts.is_finite(x)
        for low, high in BOUNDS:
            assert ts.all_between(put(x), low, high) is ts.all_between(x, low, high), (low, high)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_smallest_and_the_largest_value_are_within_bounds_that_are_themselves(dtype: Any, put: Put) -> None:
    x = values_of(dtype)
    s = ts.summary(x)
    counts = ts.outside(put(x), min=s.min, max=s.max)
    assert (counts.below, counts.above) == (0, 0)
    if s.min != s.max:
        strict = ts.outside(put(x), min=math.nextafter(s.min, math.inf) if isinstance(s.min, float) else s.min + 1)
        assert strict.below == numbers_of(x).count(s.min)


def test_the_first_is_found_over_many_blocks_and_in_any_layout(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "CPU_BLOCK", 100)
    monkeypatch.setattr(kernels, "DEVICE_BLOCK", 100)
    x = torch.zeros(7, 11, 13)
    x[4, 3, 2], x[5, 0, 0], x[6, 10, 12] = 9.0, -9.0, float("-inf")
    for view in (x, x.transpose(0, 2), x[::2, 1:], x[:, :1].expand(7, 40, 13), x[4, 3, 2], x[:0]):
        assert repr(ts.outside(put(view), min=-1, max=1)) == repr(ts.outside(view, min=-1, max=1))
        assert first_nonfinite(put(view)) == first_nonfinite(view)


def test_check_says_of_a_device_what_it_says_of_the_host(put: Put) -> None:
    x = torch.tensor([[0.5, float("nan")], [2.0, -3.0]])
    rules: dict[str, Any] = {"min": 0, "max": 1, "dtype": "float64", "shape": ("N", 3), "name": "image"}
    with pytest.raises(ts.CheckError) as host:
        ts.check(x, **rules)
    with pytest.raises(ts.CheckError) as device:
        ts.check(put(x), **rules)
    assert str(device.value) == str(host.value)
    ts.check(put(torch.tensor([2**53 + 1])), min=2**53 + 1, max=2**53 + 1)
    with pytest.raises(ts.CheckError, match=r"above the maximum; first: 9007199254740993 at \[0\]"):
        ts.check(put(torch.tensor([2**53 + 1])), max=float(2**53))


X = torch.tensor([[0.5, -2.0, 0.0], [4.0, float("nan"), 1.0], [float("inf"), 1.5, -0.25], [0.0, 8.0, 3.0]])
MASK = torch.tensor([[True, False, True], [True, True, False], [True, True, True], [False, True, True]])
AXES = [ts.axis.LogLinear(), ts.axis.Regular(4, 0.0, 2.0), ts.axis.Variable([0, 1, 5]), ts.axis.Linear(8)]


def same_summary(left: ts.Summary, right: ts.Summary) -> bool:
    """All but the moments, which are rounded in another order, is the same: sums of these values are exact."""
    exact = ("dtype", "shape", "count", "nan_count", "posinf_count", "neginf_count", "zero_count", "negative_count")
    exact += ("positive_count", "subnormal_count", "min", "max", "absmin", "absmax", "sum", "l1", "l2", "formats")
    assert left.mean == pytest.approx(right.mean, rel=1e-12)
    assert left.std() == pytest.approx(right.std(), rel=1e-12)
    assert [left.fits(name) for name in left.formats] == [right.fits(name) for name in right.formats]
    return all(getattr(left, field) == getattr(right, field) for field in exact)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_every_function_counts_where_the_tensor_lies(dtype: Any, masked: bool, put: Put) -> None:
    x = X.to(dtype)
    there = put(x)
    where, where_there = (MASK, mask_for(put, MASK)) if masked else (None, None)
    formats = {"formats": ("float8_e4m3fn",), "scale": 2.0}
    assert same_summary(ts.summary(there, where=where_there), ts.summary(x, where=where))
    assert same_summary(ts.summary(there, where=where_there, **formats), ts.summary(x, where=where, **formats))
    for axis in AXES:
        assert ts.histogram(there, axis, where=where_there) == ts.histogram(x, axis, where=where)
    assert ts.histogram(there, bins=5, where=where_there) == ts.histogram(x, bins=5, where=where)
    left = ts.unit_activity(there, -1, saturation=(0, 2), where=where_there)
    right = ts.unit_activity(x, -1, saturation=(0, 2), where=where)
    assert left.dim in (-1, 1)
    for field in ("count", "active_count", "zero_count", "nonfinite_count", "low_count", "high_count", "min", "max"):
        assert np.array_equal(getattr(left, field), getattr(right, field)), field
    assert left.mean == pytest.approx(right.mean, rel=1e-12)
    if not masked:
        assert np.array_equal(ts.quantile(there, [0.0, 0.3, 1.0]), ts.quantile(x, [0.0, 0.3, 1.0]))
        assert ts.quantile(there, 0.5) == ts.quantile(x, 0.5)
        s, h = ts.summary_and_histogram(there, AXES[1])
        assert same_summary(s, ts.summary(x))
        assert h == ts.histogram(x, AXES[1])
        pairs = _core.summaries_and_histograms([x, there, x], AXES[1])
        assert all(same_summary(s, ts.summary(x)) and h == ts.histogram(x, AXES[1]) for s, h in pairs)


def test_summaries_of_a_device_take_in_what_the_host_has_and_the_other_way_round(put: Put) -> None:
    for options in ({}, {"moments": 4}, {"formats": ("float16", "float8_e5m2"), "scale": 0.5}):
        host, mixed = ts.Summary(**options), ts.Summary(**options)
        host.update(X).update(X[:2], where=MASK[:2]).update(X[3])
        assert mixed.update(put(X)) is mixed
        mixed.update(put(X[:2]), where=mask_for(put, MASK[:2])).update(X[3])
        for field in ("count", "nan_count", "posinf_count", "zero_count", "min", "max", "absmin", "sum", "l1", "l2"):
            assert getattr(mixed, field) == getattr(host, field), (field, options)
        assert mixed.std() == pytest.approx(host.std(), rel=1e-12)
        for name in mixed.formats:
            assert mixed.fits(name) == host.fits(name)


def test_no_picture_is_drawn_of_the_part_that_the_host_counted(put: Put) -> None:
    assert "█" in repr(ts.Summary().update(X).update(X))
    assert "█" in repr(ts.summary(X, where=MASK))
    assert "█" not in repr(ts.Summary().update(X).update(put(X)))
    assert "█" not in repr(ts.Summary().update(put(X)).update(X))


@pytest.mark.parametrize("axis", AXES, ids=repr)
def test_a_histogram_takes_in_tensors_of_any_device(axis: Any, put: Put) -> None:
    host = ts.Histogram(axis).update(X).update(100 * X, where=MASK)
    mixed = ts.Histogram(axis)
    assert mixed.update(put(X)) is mixed
    assert mixed.update(put(100 * X), where=mask_for(put, MASK)) == host
    assert ts.Histogram(axis).update(X).update(put(100 * X), where=mask_for(put, MASK)) == host


def test_unit_activity_takes_in_tensors_of_any_device(put: Put) -> None:
    host, mixed = ts.UnitActivity(-1, saturation=(0, 2)), ts.UnitActivity(-1, saturation=(0, 2))
    host.update(X).update(0 * X[:1]).update(X, where=MASK)
    assert mixed.update(put(X)) is mixed
    mixed.update(0 * X[:1]).update(put(X), where=mask_for(put, MASK))
    assert (mixed.updates, mixed.dim) == (host.updates, host.dim) == (3, -1)
    for field in ("active_count", "nonfinite_count", "low_count", "high_count", "inactive_for", "min", "max"):
        assert np.array_equal(getattr(mixed, field), getattr(host, field)), field
    with pytest.raises(ValueError, match="units"):
        mixed.update(put(X[:, :2]))


def test_an_update_that_fails_leaves_the_state_as_it_was(put: Put) -> None:
    for state in (ts.Summary(), ts.Histogram(), ts.UnitActivity()):
        state.update(X)
        before = state.copy()
        with pytest.raises(ValueError, match="cannot be broadcast"):
            state.update(put(X), where=mask_for(put, MASK[:2]))
        with pytest.raises(TypeError, match="must be a mask of dtype: bool"):
            state.update(put(X), where=mask_for(put, MASK.to(torch.int32)))
        assert state == before


def many() -> list[Any]:
    """Small tensors, big ones for which other threads may run, and empty ones."""
    big = torch.arange(40_000, dtype=torch.float32) - 7
    return [X, big, torch.tensor([3], dtype=torch.int64), X[:0], 2 * big, torch.tensor(2.0), big.to(torch.float64)]


@pytest.mark.parametrize("which", [0b1, 0b10, 0b1010101, 0b0101010, 0b1000000, 0b1111111], ids=bin)
def test_of_many_tensors_each_is_counted_where_it_lies(which: int, put: Put) -> None:
    host = many()
    mixed = [put(x) if which >> i & 1 else x for i, x in enumerate(host)]
    left, right = ts.summaries(mixed), ts.summaries(host)
    assert left.names == right.names
    for name in right.names:
        for field in ("dtype", "shape", "count", "nan_count", "posinf_count", "zero_count"):
            assert getattr(left[name], field) == getattr(right[name], field)
        for field in ("min", "max", "l1"):
            assert repr(getattr(left[name], field)) == repr(getattr(right[name], field))
    assert repr(ts.outside(mixed, min=0, max=39_000)) == repr(ts.outside(host, min=0, max=39_000))
    assert ts.norms(mixed[1:]) == pytest.approx(ts.norms(host[1:]), rel=1e-12)
    for order in (1, 2, math.inf):
        assert ts.norm(mixed[1:], ord=order) == pytest.approx(ts.norm(host[1:], ord=order), rel=1e-12)
    assert ts.is_finite(mixed) is False
    assert ts.is_finite(mixed[1:]) is True
    assert ts.all_between(mixed[1:], -14, 80_000) is True
    assert ts.all_between(mixed[1:], -13, 80_000) is False


def test_many_tensors_of_a_device_come_to_the_host_in_one_copy(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []
    real = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda x: copies.append(x.numel()) or real(x))
    tensors = [put(x) for x in many()]
    for call in (ts.summaries, ts.norms, ts.norm, ts.is_finite, lambda x: ts.outside(x, min=0)):
        copies.clear()
        call(tensors)
        assert len(copies) == 1
    copies.clear()
    ts.check(put(X), finite=False)
    assert len(copies) == 1


@pytest.mark.cuda
@needs_cuda
def test_nothing_is_waited_for_before_all_is_begun() -> None:
    tensors = [x.cuda() for x in many()]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        begun = [door.start_summary(x, 2) for x in tensors]
        begun += [door.start_outside(x, 0, 1, False) for x in tensors]
        begun += [door.start_verdict(x, None) for x in tensors]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(door.finish(begun)) == 3 * len(tensors)


CALLS_OF_MANY: dict[str, Callable[[Any], object]] = {
    "summaries": ts.summaries,
    "norm": ts.norm,
    "norms": ts.norms,
    "is_finite": ts.is_finite,
    "all_between": lambda x: ts.all_between(x, -1e9, 1e9),
    "outside": lambda x: ts.outside(x, min=0),
}


@pytest.mark.parametrize("name", list(CALLS_OF_MANY))
def test_an_error_names_the_tensor_beside_those_of_a_device(name: str, put: Put) -> None:
    call = CALLS_OF_MANY[name]
    fine = put(torch.ones(3))
    with pytest.raises(TypeError, match=r"^tensor 'bad': unsupported dtype: complex64"):
        call({"a": fine, "b": torch.ones(2), "bad": put(torch.ones(3, dtype=torch.complex64)), "c": fine})
    with pytest.raises(TypeError, match=r"^tensor 2: unsupported dtype: complex64"):
        call([fine, torch.ones(2), torch.ones(3, dtype=torch.complex64), fine])


def test_a_mask_lies_where_its_tensor_lies(put: Put) -> None:
    mask = mask_for(put, MASK)
    for call in (ts.summary, ts.histogram, ts.unit_activity, ts.Summary().update, ts.Histogram().update):
        with pytest.raises(TypeError, match=r"where must be in the host's memory.*hint: where=mask.cpu\(\)"):
            call(X.numpy(), where=mask)
    if mask.is_cuda:
        with pytest.raises(TypeError, match=r"where must be on the device of the tensor, cpu; got: cuda:0"):
            ts.summary(X, where=mask)
        with pytest.raises(TypeError, match=r"where must be on the device of the tensor, cuda:0; got: cpu"):
            ts.summary(X.cuda(), where=MASK.numpy())


def test_arguments_are_checked_as_for_the_host(put: Put) -> None:
    there = put(X)
    for call, error, match in (
        (lambda: ts.summary(there, moments=3), ValueError, "moments must be 2 or 4"),
        (lambda: ts.summary(there, threads=0), ValueError, "threads must be in"),
        (lambda: ts.quantile(there, 1.5), ValueError, r"\[0, 1\]"),
        (lambda: ts.quantile(there, 0.5, threads=0), ValueError, "threads must be in"),
        (lambda: first_nonfinite(put(X.to(torch.complex64))), TypeError, "complex64"),
        (lambda: ts.unit_activity(there, 2), IndexError, "dim"),
        (lambda: ts.unit_activity(put(torch.tensor(1.0)), 0), IndexError, "dim"),
        (lambda: ts.unit_activity(there, 1, saturation=(2, 1)), ValueError, "saturation"),
        (lambda: ts.outside(there, min=2, max=1), ValueError, "min must not exceed max"),
        (lambda: ts.all_between(there, math.nan), ValueError, "bounds must be numbers"),
        (lambda: ts.histogram(there, "axis"), TypeError, "axis must be"),  # type: ignore[arg-type]
    ):
        with pytest.raises(error, match=match):
            call()


def test_graphs_inference_and_lazy_negation_are_no_obstacle(put: Put) -> None:
    z = torch.tensor([1 + 2j, 3 - 4j])
    lazy = z.cuda().conj().imag if put(z).is_cuda else put(z.conj().imag)
    assert lazy.is_neg()
    assert ts.summary(lazy).sum == 2.0
    assert ts.outside(lazy, min=0).below == 1
    assert ts.quantile(lazy, 0.0) == -2.0
    assert ts.histogram(lazy).count == 2
    graph = put(torch.ones(3).requires_grad_() * 2)
    assert ts.summary(graph).sum == 6.0
    assert ts.outside(graph, max=1).above == 3
    with torch.inference_mode():
        assert ts.outside(put(X), min=0).below == 2
        assert ts.Summary().update(put(X)).count == 12


def test_what_has_no_door_refuses_with_what_to_do(put: Put) -> None:
    for call in (
        lambda: _core.Held(put(X)),
        lambda: _core.Snapshots(1).take([put(X)], [0]),
    ):
        with pytest.raises(
            ts.DeviceError, match=r"is on device: \w+(:0)?, and this call reads host memory; hint: pass"
        ):
            call()


def test_tensors_without_values_are_refused_before_any_door() -> None:
    fake = pytest.importorskip("torch._subclasses.fake_tensor")
    with fake.FakeTensorMode():
        x = torch.empty(3, device="cuda")
    for call in (ts.summary, ts.is_finite, ts.check, ts.Summary().update):
        with pytest.raises(TypeError, match="FakeTensor inside a trace"):
            call(x)
        with pytest.raises(TypeError, match="unsupported device: meta"):
            call(torch.empty(3, device="meta"))


def test_tensors_of_the_cpu_load_nothing_of_the_door() -> None:
    code = (
        "import sys, torch, tensorstats as ts\n"
        "x = torch.ones(2, 3)\n"
        "ts.summary(x), ts.summary(x, where=x > 0), ts.histogram(x), ts.quantile(x, 0.5), ts.check(x)\n"
        "ts.Summary().update(x), ts.unit_activity(x), ts.outside(x, min=0), ts.norm([x, x]), ts.is_finite(x)\n"
        "print([name for name in sys.modules if name.startswith('tensorstats.device')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "[]"


class _Cupy:
    """Simulated: as an array of CuPy, and of JAX on a GPU, presents itself."""

    __cuda_array_interface__ = {"shape": (3,), "typestr": "<f4", "data": (1 << 40, False), "version": 3}  # noqa: RUF012

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 1)

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("memory of a device must not be asked for")


class _Numba:
    """Simulated: as a device array of Numba presents itself; its `__array__` would copy."""

    __cuda_array_interface__ = _Cupy.__cuda_array_interface__

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is copied unasked")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> float:
        raise AssertionError("a tensor is not several")


class _Other:
    """Simulated: an array on a kind of device that nobody here knows."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (77, 0)

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("memory of a device must not be asked for")


HOST = np.ones((2, 3))
CALLS: dict[str, Callable[[Any], object]] = {
    "summary": ts.summary,
    "where": lambda x: ts.summary(x, where=np.array([True])),
    "as a mask": lambda x: ts.summary(HOST, where=x),
    "quantile": lambda x: ts.quantile(x, 0.5),
    "histogram": ts.histogram,
    "bins": lambda x: ts.histogram(x, bins=3),
    "units": ts.unit_activity,
    "both": ts.summary_and_histogram,
    "check": ts.check,
    "first_nonfinite": first_nonfinite,
    "Summary": ts.Summary().update,
    "Histogram": ts.Histogram().update,
    "UnitActivity": ts.UnitActivity().update,
    **{f"one: {name}": call for name, call in CALLS_OF_MANY.items() if name != "norms"},
    **{f"many: {name}": lambda x, call=call: call({"w": HOST, "x": x}) for name, call in CALLS_OF_MANY.items()},
}


@pytest.mark.parametrize("name", list(CALLS))
@pytest.mark.parametrize(
    ("array", "device"),
    [
        (_Cupy(), r"cuda:1, .*torch\.from_dlpack\(x\)"),
        (_Numba(), r"cuda, .*torch\.as_tensor"),
        (_Other(), "DLPack dev"),
    ],
    ids=["CuPy and JAX", "Numba", "unknown"],
)
def test_a_foreign_array_is_refused_in_the_same_words_everywhere(name: str, array: Any, device: str) -> None:
    begins = {"many": "tensor 'x': ", "one": "(tensor 0: )?"}.get(name.partition(":")[0], "")
    with pytest.raises(ts.DeviceError, match=rf"^{begins}{type(array).__name__} is on device: {device}") as raised:
        CALLS[name](array)
    assert "hint: copy it to the host, or pass torch." in str(raised.value)
