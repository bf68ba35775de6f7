"""A mask gives what the chosen elements alone would give, bit for bit, whatever its form; units, each its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

import tensorstats as ts
from conftest import LEVELS
from samples import DTYPES, LAYOUTS, block_of, mixed, ordinary

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 65_536


def masks(shape: tuple[int, ...], seed: int = 0) -> dict[str, np.ndarray]:
    """Masks that broadcast to a shape, of every form."""
    random = np.random.default_rng(seed)
    some = np.asarray(random.random(shape) < 0.5)
    runs = np.broadcast_to(np.sin(np.arange(shape[-1]) / 9) > -0.4 if shape else np.array(True), shape)
    found = {
        "some": some,
        "few": np.asarray(random.random(shape) < 0.02),
        "most": np.asarray(random.random(shape) < 0.98),
        "none": np.zeros(shape, dtype=bool),
        "all": np.ones(shape, dtype=bool),
        "runs": runs.copy(),
        "one-value": np.array(True),
        "not-one-value": np.array(False),
        "fortran": some.copy(order="F"),
        "reversed": np.ascontiguousarray(some[..., ::-1])[..., ::-1] if shape else some,
        "steps": np.repeat(some, 2, axis=-1)[..., ::2] if shape else some,
        "misaligned": np.frombuffer(b"x" + some.tobytes(), dtype=bool)[1:].reshape(shape),
        "any-byte-is-true": (some * random.integers(1, 256, shape)).astype(np.uint8).view(bool),
    }
    for dim in range(len(shape)):
        found[f"repeated-along-{dim}"] = some.take([0], axis=dim) if shape[dim] else some
        found[f"varies-along-{dim}"] = random.random([n if i == dim else 1 for i, n in enumerate(shape)]) < 0.6
    if len(shape) > 1:
        found["of-the-last-dim"] = random.random(shape[-1]) < 0.5
    return found


def chosen(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The same by numpy: a copy. Bytes other than 1 are made true first."""
    return x[np.broadcast_to(mask.view(np.uint8) != 0, x.shape)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_summary_is_that_of_the_chosen_elements(dtype: str, simd_level: str):
    x = mixed(dtype, 6 * 7 * 50).reshape(6, 7, 50)
    for name, mask in masks(x.shape).items():
        want = ts.summary(chosen(x, mask), moments=4)
        assert ts.summary(x, where=mask, moments=4) == want, name
        state = ts.Summary(moments=4)
        assert state.update(x, where=mask) is state
        assert state == want, name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "float8_e4m3fn"])
def test_any_layout(dtype: str, layout: str):
    x = LAYOUTS[layout](block_of(dtype))
    for name, mask in masks(x.shape).items():
        assert ts.summary(x, where=mask) == ts.summary(chosen(x, mask)), name


# Around the parts that a mask is counted in and the chunks that chosen elements are gathered into.
@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, 31, 63, 64, 65, 4095, 4097, 8191, 8193, CHUNK, 3 * CHUNK + 77])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "float64"])
def test_sizes(dtype: str, size: int, simd_level: str):
    x = mixed(dtype, size)
    for name, mask in masks((size,)).items():
        assert ts.summary(x, where=mask) == ts.summary(chosen(x, mask)), name


@pytest.mark.slow
@pytest.mark.usefixtures("restore_simd_level")
@pytest.mark.parametrize("view", ["contiguous", "transposed"])
def test_any_thread_count_and_level(view: str):
    x = mixed("float32", 40 * CHUNK).reshape(40, 256, 256)
    x = x.T if view == "transposed" else x
    lengths = np.random.default_rng(1).integers(0, 257, x.shape[0])
    several = {
        "some": np.random.default_rng(0).random(x.shape) < 0.4,
        "padding": (np.arange(256) < lengths[:, None])[..., None] if view == "contiguous" else masks(x.shape)["runs"],
        "nearly-all": np.random.default_rng(0).random(x.shape) < 1 - 1e-6,
    }
    for name, mask in several.items():
        picked = chosen(x, mask)
        want, counts = ts.summary(picked, moments=4), ts.histogram(picked, bins=40, range=(-3, 3))
        for level in LEVELS:
            ts._core.set_simd_level(level)
            for threads in (1, 2, 3, 7):
                assert ts.summary(x, where=mask, moments=4, threads=threads) == want, name
            assert ts.histogram(x, bins=40, range=(-3, 3), where=mask, threads=3) == counts, name


def test_a_long_run_may_begin_anywhere():
    x = mixed("float32", 9 * CHUNK)
    for first, last in [(0, 9), (1, 8), (0.5, 8.25), (0.125 + 1 / CHUNK, 7), (3 - 1 / CHUNK, 5 + 1 / CHUNK)]:
        mask = np.zeros(x.shape, dtype=bool)
        mask[int(first * CHUNK) : int(last * CHUNK)] = True
        assert ts.summary(x, where=mask) == ts.summary(x[mask])
        mask[::100_003] ^= True
        assert ts.summary(x, where=mask) == ts.summary(x[mask])


def test_formats_are_counted_under_a_mask():
    x = mixed("float32", 200_000)
    mask = np.random.default_rng(0).random(x.shape) < 0.3
    formats = ("float8_e4m3fn", "float16")
    assert ts.summary(x, where=mask, formats=formats) == ts.summary(x[mask], formats=formats)


def test_a_repr_keeps_the_shape_and_counts_the_chosen():
    s = ts.summary(np.arange(6.0).reshape(2, 3), where=np.array([True, False, True]))
    assert s.shape == (2, 3)
    assert repr(s).startswith("f64[2, 3] n=4 x∈[0 ")


# --- histograms -------------------------------------------------------------------------------------------------------

AXES: dict[str, Callable[[], Any]] = {
    "regular": lambda: ts.axis.Regular(30, -2.0, 2.0),
    "variable": lambda: ts.axis.Variable([-1.0, 0.0, 0.25, 7.0]),
    "log-linear": lambda: ts.axis.LogLinear(5),
}


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_histogram_is_that_of_the_chosen_elements(dtype: str, axis: str):
    x = mixed(dtype, 6 * 7 * 50).reshape(6, 7, 50)
    for name, mask in masks(x.shape).items():
        want = ts.histogram(chosen(x, mask), AXES[axis]())
        assert ts.histogram(x, AXES[axis](), where=mask) == want, name
        assert ts.Histogram(AXES[axis]()).update(x, where=mask) == want, name


def test_the_range_of_a_histogram_is_that_of_the_chosen_elements():
    x = np.array([-1e9, 0.0, 1.0, 4.0, 1e9])
    h = ts.histogram(x, bins=4, where=np.abs(x) < 10)
    assert h == ts.histogram(x[1:4], bins=4)
    assert (h.edges[0], h.edges[-1], h.count) == (0.0, 4.0, 3)


# --- units ------------------------------------------------------------------------------------------------------------


def check_units(x: np.ndarray, dim: int, mask: np.ndarray, **options: Any) -> None:
    """Every unit against the summary of its own chosen elements."""
    u = ts.unit_activity(x, dim, where=mask, **options)
    repeated = np.broadcast_to(mask.view(np.uint8) != 0, x.shape)
    assert u.units == x.shape[dim]
    for unit in range(u.units):
        place = [slice(None)] * x.ndim
        place[dim] = unit
        own = ts.summary(x[tuple(place)][repeated[tuple(place)]])
        assert u.count[unit] == own.count
        assert u.zero_count[unit] == own.zero_count
        assert u.nonfinite_count[unit] == own.nonfinite_count
        assert u.active_count[unit] == own.finite_count - own.zero_count
        for name, want in (("min", own.min), ("max", own.max)):
            np.testing.assert_equal(float(getattr(u, name)[unit]), float(want))
        np.testing.assert_allclose(u.mean[unit], own.mean, rtol=1e-12, atol=1e-12 * own.l1 / max(own.count, 1))
        np.testing.assert_allclose(u.std()[unit], own.std(), rtol=1e-9)


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "int32", "float8_e5m2", "bool"])
def test_units_count_their_chosen_elements(dtype: str, dim: int):
    # Magnitudes whose squares are beyond float64 are for the tests of units; here the mask is what matters.
    source = ordinary(dtype, 12 * 7 * 33) if dtype == "float64" else mixed(dtype, 12 * 7 * 33)
    x = source.reshape(12, 7, 33)
    for mask in masks(x.shape).values():
        check_units(x, dim, mask)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_units_of_any_layout(layout: str):
    # Few enough units to look at each.
    x = LAYOUTS[layout](block_of("float32"))
    x = x[..., :200] if x.ndim else x.reshape(1, 1)
    for mask in masks(x.shape).values():
        check_units(x, x.ndim - 1, mask)
        check_units(x, 0, mask)


def test_units_of_padded_batches_and_pictures():
    random = np.random.default_rng(3)
    tokens = random.standard_normal((9, 70, 96), dtype=np.float32) + 5
    tokens[2, 3, 4] = np.nan
    kept = (np.arange(70) < random.integers(1, 71, 9)[:, None])[..., None]
    check_units(tokens, -1 + 3, kept)
    pictures = random.standard_normal((5, 8, 40, 90), dtype=np.float32)
    for mask in (kept[:5, :1, :, None], random.random((5, 1, 40, 90)) < 0.3, random.random((5, 8, 1, 1)) < 0.5):
        check_units(pictures, 1, mask)
        check_units(np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), 1, mask)
    # Longer runs than fit a block.
    check_units(random.standard_normal((2, 3, 10_001)), 1, random.random((2, 3, 10_001)) < 0.5)


def test_units_do_not_depend_on_threads_levels_or_what_is_left_out(simd_level: str):
    random = np.random.default_rng(0)
    for shape, dim in (((40, 300, 128), 2), ((6, 16, 20_000), 1)):
        x = random.standard_normal(shape, dtype=np.float32)
        mask = random.random(shape) < 0.7
        want = ts.unit_activity(x, dim, where=mask, threads=1).to_bytes()
        garbage = np.where(mask, x, random.choice([np.nan, np.inf, 3e38, 0.0], shape).astype(np.float32))
        for threads in (2, 3, 7):
            assert ts.unit_activity(x, dim, where=mask, threads=threads).to_bytes() == want
            assert ts.unit_activity(garbage, dim, where=mask, threads=threads).to_bytes() == want


def test_units_with_saturation_and_far_from_zero():
    random = np.random.default_rng(0)
    x = 1e6 + random.standard_normal((500, 40))
    x[:, 7] = 1e6
    mask = random.random((500, 1)) < 0.5
    u = ts.unit_activity(x, 1, saturation=(1e6 - 1, 1e6 + 1), where=mask)
    picked = x[mask[:, 0]]
    assert u.low_count.tolist() == (picked < 1e6 - 1).sum(0).tolist()
    assert u.high_count.tolist() == (picked > 1e6 + 1).sum(0).tolist()
    np.testing.assert_allclose(u.std(), picked.std(0), rtol=1e-8)
    assert u.std()[7] == 0
    state = ts.UnitActivity(1, saturation=(1e6 - 1, 1e6 + 1))
    assert state.update(x, where=mask) == u
    assert state.update(x, where=np.array(False)).last_active.tolist() == [1] * 40
    wide = np.array([[1e200, 5.0], [3e200, 7.0], [-1e300, 9.0]])
    u = ts.unit_activity(wide, 1, where=np.array([[True], [True], [False]]))
    np.testing.assert_allclose(u.std(), [1e200, 1.0], rtol=1e-9)


# --- what is refused --------------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "summary": lambda x, where: ts.summary(x, where=where),
    "histogram": lambda x, where: ts.histogram(x, ts.axis.LogLinear(3), where=where),
    "unit_activity": lambda x, where: ts.unit_activity(x, 0, where=where),
    "update": lambda x, where: ts.Summary().update(x, where=where),
}
calls = pytest.mark.parametrize("call", CALLS)


@calls
def test_a_mask_must_be_of_bool(call: str):
    for dtype in ("uint8", "float32", "int64"):
        with pytest.raises(
            TypeError, match=f"^where must be a mask of dtype: bool; got: {dtype}; hint: where=mask != 0$"
        ):
            CALLS[call](np.ones((2, 3)), np.ones((2, 3), dtype=dtype))
    CALLS[call](np.ones((2, 3)), [True, False, True])
    with pytest.raises(TypeError, match=r"^where must be a mask of dtype: bool; got: int64"):
        CALLS[call](np.ones((2, 3)), [1, 0, 1])


@calls
def test_a_mask_must_broadcast(call: str):
    x = np.ones((4, 5, 6))
    text = r"^where of shape \[4, 5\] cannot be broadcast to the shape \[4, 5, 6\] of the tensor; "
    with pytest.raises(ValueError, match=text + r"hint: where=mask\[..., None\]$"):
        CALLS[call](x, np.ones((4, 5), dtype=bool))
    with pytest.raises(ValueError, match=r"hint: where=mask\[..., None, None\]$"):
        CALLS[call](x, np.ones(4, dtype=bool))
    for shape in ((3,), (4, 1, 1, 1), (1, 4, 5, 6), (0,), (2, 5, 6)):
        with pytest.raises(ValueError, match=r"of the tensor$"):
            CALLS[call](x, np.ones(shape, dtype=bool))


@calls
def test_errors_of_the_tensor_come_through(call: str):
    with pytest.raises(TypeError, match="complex128"):
        CALLS[call](np.ones(3, dtype=complex), np.ones(3, dtype=bool))


# --- torch ------------------------------------------------------------------------------------------------------------


def test_torch_masks_and_tensors():
    torch = pytest.importorskip("torch")
    x = torch.randn(64, 50, 33)
    keep = torch.rand(64, 50, 1) < 0.5
    want = ts.summary(x[keep.expand_as(x)])
    for tensor in (x, x.numpy(), torch.nn.Parameter(x), x.transpose(0, 1).contiguous().transpose(0, 1)):
        for mask in (keep, keep.numpy(), keep.expand_as(x)):
            assert ts.summary(tensor, where=mask) == want
    small, few = x[:2, :3, :4], keep[:2, :3]
    assert ts.summary(small, where=few) == ts.summary(small[few.expand_as(small)])
    for dtype in (torch.bfloat16, torch.float8_e4m3fn):
        narrow = x.to(dtype)
        bits = narrow.view(torch.int16 if dtype is torch.bfloat16 else torch.uint8)[keep.expand_as(x)].view(dtype)
        assert ts.summary(narrow, where=keep) == ts.summary(bits)


def test_ml_dtypes_tensors():
    x = np.linspace(-3, 3, 500).astype(ml_dtypes.bfloat16).reshape(20, 25)
    mask = np.arange(25) % 3 > 0
    assert ts.summary(x, where=mask) == ts.summary(np.ascontiguousarray(x[:, mask]))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "bool"])
def test_the_torch_path_gives_the_same(dtype: str, monkeypatch: pytest.MonkeyPatch):
    check_torch_path(dtype, "cpu", monkeypatch)


@pytest.mark.cuda
def test_a_gpu_gives_the_same(monkeypatch: pytest.MonkeyPatch):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    for dtype in DTYPES:
        if dtype != "bool":
            check_torch_path(dtype, "cuda", monkeypatch)
    x = torch.ones(3, device="cuda")
    with pytest.raises(TypeError, match=r"where must be on the device of the tensor, cuda:0; got: cpu; hint"):
        ts.summary(x, where=torch.ones(3, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"where must be on the device of the tensor, cpu; got: cuda:0; hint"):
        ts.summary(x.cpu(), where=torch.ones(3, dtype=torch.bool, device="cuda"))


def check_torch_path(dtype: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from tensorstats.device import kernels
    from tensorstats.device import results as device

    monkeypatch.setattr(kernels, "CPU_BLOCK", 1000)
    monkeypatch.setattr(kernels, "DEVICE_BLOCK", 1000)
    array = mixed(dtype, 6 * 7 * 50)
    x = torch.from_numpy(array.view(np.uint8)).view(getattr(torch, dtype)).reshape(6, 7, 50)
    # Ordinary values: means of others cancel, and their squares may be beyond float64.
    bits = ordinary(dtype, 6 * 7 * 50).view(np.uint8)
    y = torch.from_numpy(bits).view(getattr(torch, dtype)).reshape(6, 7, 50)
    for name, mask in masks((6, 7, 50)).items():
        if name == "any-byte-is-true":
            continue  # torch says that such a tensor is undefined
        where = torch.from_numpy(mask.copy()).to(place)
        theirs, ours = device.summary(x.to(place), where=where), ts.summary(x, where=where.cpu())
        for field in ("shape", "count", "nan_count", "posinf_count", "zero_count", "positive_count", "absmin", "max"):
            np.testing.assert_equal(getattr(theirs, field), getattr(ours, field))
        np.testing.assert_allclose(float(theirs.l1), float(ours.l1), rtol=1e-9)
        edges = ts.axis.Regular(5, -2.0, 3.0)
        for tensor, axis in ((x, ts.axis.LogLinear(4)), (x, edges), (y, ts.axis.Linear(16))):
            found = device.histogram(tensor.to(place), axis, where=where)
            assert found == ts.histogram(tensor, axis, where=where.cpu()), (name, axis)
        theirs, ours = device.unit_activity(y.to(place), 1, where=where), ts.unit_activity(y, 1, where=where.cpu())
        for field in ("count", "active_count", "zero_count", "nonfinite_count", "min", "max"):
            np.testing.assert_array_equal(getattr(theirs, field), getattr(ours, field))
        np.testing.assert_allclose(theirs.mean, ours.mean, rtol=1e-6, atol=1e-6)


def test_the_torch_path_refuses_what_the_core_refuses():
    torch = pytest.importorskip("torch")
    from tensorstats.device import results as device

    x = torch.ones(4, 5, 6)
    with pytest.raises(TypeError, match=r"^where must be a mask of dtype: bool; got: uint8; hint: where=mask != 0$"):
        device.summary(x, where=torch.ones(6, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\[4, 5\] cannot be broadcast to the shape \[4, 5, 6\] .*mask\[..., None\]$"):
        device.summary(x, where=torch.ones(4, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"of the tensor$"):
        device.histogram(x, ts.axis.LogLinear(2), where=torch.ones(3, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"where must be on the device of the tensor, cpu; got: meta; hint"):
        device.unit_activity(x, 1, where=torch.ones(6, dtype=torch.bool, device="meta"))


# --- memory -----------------------------------------------------------------------------------------------------------

PROGRAM = """
import numpy as np
import tensorstats as ts

def high_water():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])

x = np.ones((64, 1 << 20), dtype=np.float32)[:, ::2]
masks = [np.arange(64)[:, None] % 3 > 0, np.random.default_rng(0).random(x.shape, dtype=np.float32) < 0.5]
ts.summary(x[:1], where=masks[0][:1])
before = high_water()
for mask in masks:
    ts.summary(x, where=mask)
    ts.histogram(x, bins=10, range=(0, 2), where=mask)
    ts.unit_activity(x, 0, where=mask)
print(high_water() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_tensor():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    # KiB. A copy of the chosen elements would be 64 MiB, of a mask repeated to the shape 32 MiB.
    assert int(done.stdout) < 8 << 10
