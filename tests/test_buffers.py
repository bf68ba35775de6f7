"""What is accepted as a tensor, whatever its container, and that nothing is copied or kept on the way."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest

import tensorstats as ts
from expect import assert_matches
from exporters import Exporter, OldExporter
from oracle import Oracle
from samples import DTYPES, FLOAT_DTYPES, block_of, mixed, numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

torch = pytest.importorskip("torch", reason="torch tensors are half of the containers")


def to_torch(array: np.ndarray) -> torch.Tensor:
    """A torch tensor of the same bits; its own memory."""
    bits = torch.from_numpy(np.ascontiguousarray(array).view(f"i{array.dtype.itemsize}").copy())
    return bits.view(getattr(torch, array.dtype.name))


# --- numpy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
def test_memmap(dtype: str, mode: str, tmp_path: Path):
    block = block_of(dtype)
    path = tmp_path / "block.bin"
    block.tofile(path)
    mapped = np.memmap(path, dtype=dtype, mode=mode, shape=block.shape)
    assert_matches(ts.summary(mapped), Oracle.of(block))
    assert_matches(ts.summary(mapped[:, ::2, 3:]), Oracle.of(block[:, ::2, 3:]))
    assert ts.summary(mapped).shape == block.shape


def test_memmap_of_an_ml_dtype(tmp_path: Path):
    block = block_of("bfloat16")
    path = tmp_path / "block.bin"
    path.write_bytes(block.tobytes())
    mapped = np.memmap(path, dtype=ml_dtypes.bfloat16, mode="r", shape=block.shape)
    assert_matches(ts.summary(mapped), Oracle.of(block))


@pytest.mark.parametrize("offset", range(1, 9))
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_alignment_and_read_only_memory(dtype: str, offset: int):
    block = mixed(dtype, 1001)
    view = np.frombuffer(b"\0" * offset + block.tobytes(), dtype=np.uint8)[offset:].view(block.dtype)
    assert not view.flags.writeable
    assert_matches(ts.summary(view), Oracle.of(block))


def test_numpy_subclasses_and_scalars():
    class Labelled(np.ndarray):
        pass

    assert ts.summary(np.array([[1.0, 2.0]]).view(Labelled)).sum == 3.0
    assert ts.summary(np.float32(2.5)).sum == 2.5
    assert ts.summary(np.int8(-3)).min == -3


def test_fields_of_records():
    records = np.zeros(5, dtype=[("a", "<i4"), ("b", "<f4"), ("c", "<f8")])
    records["b"] = 2.0
    assert ts.summary(records["b"]).sum == 10.0
    # Steps that are no multiple of the element cannot be said in DLPack; the error must name them.
    packed = np.zeros(5, dtype=[("a", "<i1"), ("b", "<f8")])
    with pytest.raises((TypeError, ValueError, BufferError), match="stride"):
        ts.summary(packed["b"])


def test_platform_integer_names():
    for name in ("long", "ulong", "longlong", "ulonglong", "intp", "intc"):
        array = np.ones(9, dtype=name)
        assert ts.summary(array).dtype == f"{'u' if array.dtype.kind == 'u' else ''}int{8 * array.dtype.itemsize}"


# --- torch ------------------------------------------------------------------------------------------------------------


TORCH_VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.permute(2, 1, 0),
    "step": lambda t: t[::2, :, 1::3],
    "narrow": lambda t: t.narrow(2, 4, 9),
    "expanded": lambda t: t[:, :1].expand(-1, 6, -1),
    "expanded-scalar": lambda t: t[0, 0, 0].expand(5, 40),
    "unfold": lambda t: t.unfold(2, 8, 3),
    "as-strided": lambda t: torch.as_strided(t, (5, 30), (1, 7), 3),
    "channels-last": lambda t: t[None].to(memory_format=torch.channels_last),
    "zero-dimensional": lambda t: t[3, 2, 1],
    "empty": lambda t: t[:0],
    "one-element": lambda t: t[:1, :1, :1],
    "detached": lambda t: t.detach(),
}


@pytest.mark.parametrize("view", TORCH_VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_views(dtype: str, view: str):
    block = block_of(dtype)
    tensor = TORCH_VIEWS[view](to_torch(block))
    # The same view of the positions tells which elements it holds; torch has no op on some dtypes.
    positions = TORCH_VIEWS[view](torch.arange(block.size).reshape(block.shape)).numpy()
    s = ts.summary(tensor, moments=4)
    assert (s.dtype, s.shape) == (dtype, tuple(tensor.shape))
    assert_matches(s, Oracle.of(block.reshape(-1)[positions]))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_parameters_and_tensors_of_a_graph(dtype: str):
    block = mixed(dtype, 501)
    parameter = torch.nn.Parameter(to_torch(block))
    assert_matches(ts.summary(parameter), Oracle.of(block))
    inside = parameter.view(3, -1)
    assert inside.requires_grad
    assert inside.grad_fn is not None
    assert_matches(ts.summary(inside), Oracle.of(block))
    assert parameter.requires_grad
    assert parameter.grad is None
    with torch.inference_mode():
        assert_matches(ts.summary(parameter * 1), Oracle.of(block))


def test_the_result_keeps_no_graph_and_no_tensor_alive():
    import weakref

    tensor = torch.ones(10, requires_grad=True) * 2
    alive = weakref.ref(tensor)
    s = ts.summary(tensor)
    del tensor
    gc.collect()
    assert alive() is None
    assert s.sum == 20.0


def test_lazy_negation_is_resolved():
    pair = torch.tensor([1 + 2j, -3 + 4j])
    imaginary = pair.conj().imag
    assert imaginary.is_neg()
    s = ts.summary(imaginary)
    assert (s.min, s.max, s.negative_count) == (-4.0, -2.0, 2)
    assert imaginary.is_neg()
    assert ts.summary(pair.imag).max == 4.0
    assert ts.summary(pair.conj().real).min == -3.0


def test_tensor_subclasses_and_buffers():
    class Labelled(torch.Tensor):
        pass

    assert ts.summary(torch.ones(4).as_subclass(Labelled)).sum == 4.0
    assert ts.summary(torch.nn.Buffer(torch.ones(4))).sum == 4.0


def test_shared_and_pickled_memory():
    assert ts.summary(torch.ones(100).share_memory_()).sum == 100.0


def test_inside_autograd_hooks_and_backward():
    seen = []
    x = torch.ones(5, requires_grad=True)
    x.register_hook(lambda gradient: seen.append(ts.summary(gradient).sum))
    (x * 3).sum().backward()
    assert seen == [15.0]


# --- anything else with __dlpack__ ------------------------------------------------------------------------------------


@pytest.mark.parametrize("exporter", [Exporter, OldExporter])
@pytest.mark.parametrize("dtype", [name for name in DTYPES if numpy_dtype(name).isbuiltin == 1])
def test_exporters(dtype: str, exporter: type[Exporter]):
    block = block_of(dtype)
    s = ts.summary(exporter(block.transpose(2, 0, 1)))
    assert (s.dtype, s.shape) == (dtype, (20, 12, 7))
    assert_matches(s, Oracle.of(block))


@pytest.mark.parametrize("exporter", [Exporter, OldExporter])
@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_exporters_of_narrow_floats(dtype: str, exporter: type[Exporter]):
    block = block_of(dtype)
    tensor = to_torch(block)
    try:
        tensor.__dlpack__()
    except RuntimeError as error:  # torch 2.6
        pytest.skip(str(error))
    s = ts.summary(exporter(tensor))
    assert s.dtype == dtype
    assert_matches(s, Oracle.of(block))


def test_an_exporter_of_read_only_memory():
    block = np.frombuffer(np.ones(10).tobytes())
    assert ts.summary(Exporter(block)).sum == 10.0


def test_the_exporters_own_error_comes_through():
    class Broken(Exporter):
        def __dlpack__(self, **_options: object) -> object:
            raise RuntimeError("the device is on fire")

    with pytest.raises(RuntimeError, match="the device is on fire"):
        ts.summary(Broken(np.ones(3)))


def test_an_exporter_that_returns_something_else_is_refused():
    class Wrong(Exporter):
        def __dlpack__(self, **_options: object) -> object:
            return 42

    with pytest.raises((TypeError, BufferError, ValueError)):
        ts.summary(Wrong(np.ones(3)))


# --- no copy, no leak -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["numpy", "torch", "exporter", "old-exporter", "ml_dtypes"])
def test_the_tensor_is_released(container: str):
    array = np.ones(1000, dtype=ml_dtypes.bfloat16 if container == "ml_dtypes" else np.float32)
    held: object = {
        "numpy": lambda: array,
        "ml_dtypes": lambda: array,
        "torch": lambda: torch.from_numpy(array),
        "exporter": lambda: Exporter(array),
        "old-exporter": lambda: OldExporter(array),
    }[container]()
    before = sys.getrefcount(array), sys.getrefcount(held)
    for _ in range(50):
        ts.summary(held)
    gc.collect()
    assert (sys.getrefcount(array), sys.getrefcount(held)) == before


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_the_data_is_not_written(dtype: str):
    block = mixed(dtype, 4001)
    before = block.tobytes()
    ts.summary(block, moments=4)
    ts.summary(to_torch(block))
    assert block.tobytes() == before
