"""Owns the quirks of array libraries: what an object needs before its memory can be read. Knows no statistics.

The native module reads plain numpy arrays, torch tensors and parameters by itself and comes here for everything else:
this module hands itself over to it, below.
"""

from __future__ import annotations

import array
import contextlib
import difflib
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from tensorstats import _core

# Now, for the native module: a fork while another thread imports it would leave its lock behind.
from tensorstats._openmp import share_torch_threads

__all__ = [
    "REFUSALS",
    "DeviceError",
    "as_list",
    "dtype_name",
    "export",
    "float_beside",
    "format_names",
    "is_one",
    "is_torch_tensor",
    "lies_elsewhere",
    "named",
    "numbers",
    "of_named",
    "refuse_device",
    "refuse_export",
    "share_torch_threads",
]

_NAMES = tuple(dtype.name for dtype in _core.DTYPES)
ACCEPTED = ", ".join(_NAMES)

# numpy has no such types of its own; ml_dtypes registers them under these names, and DLPack refuses them. Each with the
# integer type that has as many bits.
_ML_DTYPES = {dtype.name: f"int{8 * dtype.itemsize}" for dtype in _core.DTYPES if not hasattr(np, dtype.name)}

# What hands out its memory without a name of a dtype that could differ from numpy's.
_BUFFERS = (memoryview, bytearray, array.array)
_WITHOUT_DLPACK = (np.generic, _core.Held, *_BUFFERS)

# Of DLPack: memory of the host, plain, pinned by CUDA or ROCm, or managed; and what others are called.
_HOST_DEVICES = (1, 3, 11, 13)
_DEVICE_NAMES = {2: "cuda", 4: "opencl", 7: "vulkan", 8: "metal", 10: "rocm", 14: "oneapi"}

# What a tensor is refused with.
REFUSALS = (TypeError, ValueError, BufferError)


class DeviceError(TypeError):
    """Memory is on a device that the host cannot read, and no torch tensor, whose operations could count it there."""


def is_torch_tensor(x: object) -> bool:
    """Whether `x` is a `torch.Tensor`, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def dtype_name(dtype: Any, /) -> str:
    """The name that numpy, torch and ml_dtypes share, of a name, a dtype of numpy or torch, or a type such as `float`.

    Raises
    ------
    TypeError
        It is none of these; the message lists the names accepted.
    """
    name = str(dtype).removeprefix("torch.") if isinstance(dtype, str) or type(dtype).__module__ == "torch" else dtype
    if isinstance(name, str) and name in _NAMES:
        return name
    with contextlib.suppress(TypeError, ValueError):
        found = np.dtype(name)
        # None is float64 to numpy.
        if found.name in _NAMES and found.isnative and name is not None:
            return str(found.name)
    close = difflib.get_close_matches(str(name).lower(), _NAMES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise TypeError(f"unknown dtype: {dtype!r}; accepted: {ACCEPTED}, as names or as dtypes of numpy or torch{hint}")


def format_names(formats: Any, /) -> list[str]:
    """The names of one format or of any iterable of them, each as `dtype_name` takes it."""
    if isinstance(formats, str) or not isinstance(formats, Iterable):
        formats = (formats,)
    return [dtype_name(format) for format in formats]


def is_one(tensors: Any, /) -> bool:
    """Whether an object is a tensor of its own, not several."""
    return (
        hasattr(tensors, "__dlpack__")
        or isinstance(tensors, _WITHOUT_DLPACK)
        or (hasattr(tensors, "__array__") and not hasattr(tensors, "columns"))
        or hasattr(tensors, "__cuda_array_interface__")
    )


def named(tensors: Any, /) -> Mapping[Any, Any] | None:
    """The tensors of a mapping, a module (its parameters) or a table (its columns) by name; None for anything else."""
    if isinstance(tensors, Mapping):
        return tensors
    if hasattr(tensors, "named_parameters"):
        return dict(tensors.named_parameters())
    if hasattr(tensors, "columns") and hasattr(tensors, "__array__"):
        # pandas and polars have names for columns, pyarrow has them beside.
        return {name: tensors[name] for name in getattr(tensors, "column_names", tensors.columns)}
    return None


def as_list(tensors: Any, /) -> tuple[list[Any], list[Any] | None]:
    """The tensors of what is one or several, without those that are None; one tensor is a list of one.

    Returns
    -------
    tensors, names
        No names where there are none: of one tensor, and of an iterable that `named` knows no names of.

    Raises
    ------
    TypeError
        For anything else.
    """
    if type(tensors) is not list:  # which is asked for most, and needs no questions
        if hasattr(tensors, "__dlpack__") or is_one(tensors):
            return [tensors], None
        by_name = named(tensors)
        if by_name is not None:
            kept = {name: tensor for name, tensor in by_name.items() if tensor is not None}
            return list(kept.values()), list(kept)
        if not isinstance(tensors, Iterable):
            raise TypeError(f"expected a tensor, several of them, a mapping or a module, got: {type(tensors).__name__}")
    return [tensor for tensor in tensors if tensor is not None], None


def export(x: Any, /) -> tuple[Any, str | None] | None:
    """Turn an array-like object into one that exports its memory over DLPack; None for a torch tensor elsewhere.

    Such a tensor the native module hands to `tensorstats.device.door`: where one is counted is decided here alone.

    Parameters
    ----------
    x
        A numpy array or scalar, an ml_dtypes array, a torch tensor, or any object with `__dlpack__`, `__array__` or a
        buffer.

    Returns
    -------
    exporter, dtype
        An object whose `__dlpack__` works on the host, sharing memory with `x`, and the dtype's name where the
        exported integers
        stand for something else (None otherwise). Only a tensor with torch's lazy negation is copied, to resolve it.

    Raises
    ------
    DeviceError
        The memory is on another device, and no torch tensor.
    TypeError
        The dtype or layout is not supported; the message names it and what is accepted.
    """
    if is_torch_tensor(x):
        return _export_torch(x)
    if isinstance(x, np.generic):
        x = np.asarray(x)
    if isinstance(x, np.ndarray):
        return _export_numpy(x)
    if hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__"):
        kind, index = _device_of(x)
        if int(kind) not in _HOST_DEVICES:
            name = _DEVICE_NAMES.get(int(kind), f"DLPack device {int(kind)}")
            raise _foreign(x, f"{name}:{index}", "torch.from_dlpack(x)")
        return x, None
    if hasattr(x, "__cuda_array_interface__"):
        raise _foreign(x, "cuda", "torch.as_tensor(x, device='cuda')")
    if isinstance(x, _BUFFERS):
        return _export_numpy(np.asarray(x))
    if hasattr(x, "__array__"):
        return _export_numpy(_shared(x))
    if isinstance(x, Mapping):
        hint = "; hint: ts.summaries(x) counts each tensor of a mapping"
    elif isinstance(x, list | tuple | range | int | float) or hasattr(x, "__array_interface__"):
        hint = "; hint: np.asarray(x) makes an array of it"
    else:
        hint = "; hint: x.collect() reads it" if hasattr(x, "collect") else ""
    raise TypeError(
        "expected a numpy array, a torch tensor or another object with __dlpack__, __array__ or a buffer, "
        f"got: {type(x).__name__}{hint}"
    )


def _foreign(x: Any, device: str, as_tensor: str) -> DeviceError:
    """The error about memory of another device that is no torch tensor."""
    return DeviceError(
        f"{type(x).__name__} is on device: {device}, whose memory the host cannot read; hint: copy it to the host, or "
        f"pass {as_tensor}, which is counted on its device"
    )


def lies_elsewhere(x: Any, /) -> bool:
    """Whether the memory of a torch tensor is on another device."""
    return bool(x.device.type != "cpu")


def refuse_device(x: Any, /) -> NoReturn:
    """Say of a torch tensor of another device that the call reads host memory alone."""
    raise DeviceError(
        f"{type(x).__name__} is on device: {x.device}, and this call reads host memory; hint: pass x.cpu()"
    )


def _shared(x: Any) -> np.ndarray[Any, Any]:
    """The array that an object with `__array__` is, in its own memory; an object that cannot say so may copy."""
    try:
        return np.asarray(x.__array__(copy=False))
    except TypeError:  # knows no such word
        return np.asarray(x)
    except (ValueError, RuntimeError):
        copied = np.asarray(x)
    if copied.dtype == bool:  # was bits, as in polars and pyarrow
        return copied
    raise TypeError(
        f"{type(x).__name__} is not one piece of memory that can be read as it is (missing values, several chunks or "
        "several dtypes); hint: np.asarray(x) makes a copy, with NaN for what is missing"
    )


def _device_of(x: Any) -> tuple[int, int]:
    """Where an object says that its memory is."""
    deleted = getattr(x, "is_deleted", None)
    if callable(deleted) and deleted():
        raise ValueError(f"{type(x).__name__} was deleted or donated, and has no values any more")
    try:
        kind, index = x.__dlpack_device__()
    except Exception as error:  # whatever another library raises
        refuse_export(x, error)
    return kind, index


def refuse_export(x: Any, error: Exception, /) -> NoReturn:
    """Say which object does not hand over its memory, and what its own library says about it."""
    reason = str(error) or type(error).__name__
    text = f"{type(x).__name__} does not hand over its memory: {reason}"
    if type(error) in (BufferError, RuntimeError, ValueError):
        raise type(error)(text) from error
    if isinstance(error, TypeError | AttributeError):
        raise TypeError(text) from error
    raise error


def numbers(x: Any, name: str, /) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The float64 array of what numpy takes for numbers; `name` is that of the argument."""
    array = np.asarray(x)
    refused = array.dtype.kind in "SUMm" or (array.dtype.kind == "O" and None in array.ravel().tolist())
    try:
        if not refused:
            return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{name} must be a number or an array of numbers, got: {x!r}")


def float_beside(bound: Any, name: str, /) -> float:
    """A bound as the float that values of any float dtype are compared with as with the bound itself.

    An integer beyond float64, or between two floats, becomes the next one inside: at least the `"min"`, at most the
    `"max"`.
    """
    if not isinstance(bound, int):
        try:
            if not isinstance(bound, str | bytes):
                return float(bound)
        except (TypeError, ValueError):
            pass
        raise TypeError(f"{name} must be a number, got: {bound!r}")
    inside = math.inf if name == "min" else -math.inf
    try:
        nearest = float(bound)
    except OverflowError:
        beyond = math.inf if bound > 0 else -math.inf
        return beyond if beyond == inside else math.copysign(sys.float_info.max, beyond)
    outside = nearest < bound if name == "min" else nearest > bound
    return math.nextafter(nearest, inside) if outside else nearest


def of_named(error: Exception, names: Sequence[Any] | None, /) -> Exception:
    """The same error about one of many tensors, by its name instead of its place, where it has one."""
    index = getattr(error, "index", None)
    if names is None or not isinstance(index, int):
        return error
    return type(error)(f"tensor {names[index]!r}: {str(error).removeprefix(f'tensor {index}: ')}")


def _export_numpy(x: np.ndarray[Any, Any]) -> tuple[Any, str | None]:
    name = x.dtype.name
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError("unsupported array: MaskedArray, whose mask would be ignored; hint: pass x.compressed()")
    if name in _ML_DTYPES:
        return np.asarray(x).view(_ML_DTYPES[name]), name
    if not x.dtype.isnative:
        raise TypeError(
            f"unsupported dtype: {x.dtype.newbyteorder('=').name} in {_foreign_byte_order()} byte order; "
            f"hint: x.astype(x.dtype.newbyteorder('=')) makes a native copy"
        )
    if x.dtype.kind not in "biuf" or x.dtype.itemsize > 8:
        raise TypeError(f"unsupported dtype: {name}; accepted: {ACCEPTED}" + _numpy_hint(x))
    # A subclass such as memmap exports the memory below it.
    return np.asarray(x), None


def _foreign_byte_order() -> str:
    return "big-endian" if sys.byteorder == "little" else "little-endian"


def _numpy_hint(x: np.ndarray[Any, Any]) -> str:
    if x.dtype.kind == "c":
        return "; hint: look at x.real and x.imag, or np.abs(x)"
    if x.dtype.kind == "O":
        return "; hint: np.asarray(x, dtype=np.float64) makes numbers of it"
    return ""


def _export_torch(x: Any) -> tuple[Any, str | None] | None:
    torch = sys.modules["torch"]
    name = str(x.dtype).removeprefix("torch.")
    if x.is_quantized:
        raise TypeError(
            f"unsupported dtype: {name} (quantised); hint: x.int_repr() shows the codes, x.dequantize() the values"
        )
    if x.layout != torch.strided:
        layout = str(x.layout).removeprefix("torch.")
        values = "x.coalesce().values()" if x.layout == torch.sparse_coo else "x.values()"
        raise TypeError(f"unsupported layout: {layout}; accepted: strided; hint: {values} holds the stored elements")
    if x.device.type == "meta":
        raise TypeError("unsupported device: meta, a tensor without memory; accepted: any device that holds values")
    if x.dtype.is_complex:
        raise TypeError(f"unsupported dtype: {name}; accepted: {ACCEPTED}; hint: look at x.real and x.imag, or x.abs()")
    if name not in _NAMES:
        # Integers of less than a byte have no arithmetic in torch.
        hint = "; hint: x.view(torch.uint8) shows the bytes" if name.startswith(("int", "uint")) else ""
        raise TypeError(f"unsupported dtype: {name}; accepted: {ACCEPTED}{hint}")
    if hasattr(x, "full_tensor"):
        raise TypeError(
            "unsupported tensor: DTensor, whose local values are not its values; hint: pass x.full_tensor() or "
            "x.to_local()"
        )
    if type(x).__name__ == "FakeTensor" or torch._C._functorch.is_functorch_wrapped_tensor(x):
        raise TypeError(f"unsupported tensor: {type(x).__name__} inside a trace, which has no values yet")
    if lies_elsewhere(x):
        return None
    x = x.detach().resolve_neg()
    if name not in _ML_DTYPES:
        return x, None
    # Older exporters know no bf16 or fp8: hand over integers of the same width and the name.
    return x.view(getattr(torch, _ML_DTYPES[name])), name


_core.connect(sys.modules[__name__])
