"""Owns the quirks of array libraries: what an object needs before its memory can be read. Knows no statistics.

The native module reads plain numpy arrays, torch tensors and parameters by itself and comes here for everything else.
"""

from __future__ import annotations

import array
import contextlib
import difflib
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

__all__ = ["DeviceError", "as_list", "dtype_name", "export", "host_rows", "is_torch_tensor"]

ACCEPTED = (
    "bool, uint8, uint16, uint32, uint64, int8, int16, int32, int64, float16, bfloat16, float32, float64, "
    "float8_e4m3fn, float8_e5m2"
)

# numpy has no such types of its own; ml_dtypes registers them under these names, and DLPack refuses them.
_ML_DTYPES: dict[str, Any] = {"bfloat16": np.uint16, "float8_e4m3fn": np.uint8, "float8_e5m2": np.uint8}


class DeviceError(TypeError):
    """A tensor lives on a device whose memory the host cannot read."""


def is_torch_tensor(x: object) -> bool:
    """Whether `x` is a `torch.Tensor`, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def dtype_name(dtype: Any, /) -> str:
    """The name that numpy, torch and ml_dtypes share."""
    if isinstance(dtype, str):
        return _known_name(dtype.removeprefix("torch."))
    if type(dtype).__module__ == "torch":
        return str(dtype).removeprefix("torch.")
    try:
        return str(np.dtype(dtype).name)
    except TypeError:
        raise TypeError(f"dtype must be a name, a numpy dtype or a torch dtype, got: {dtype!r}") from None


def _known_name(name: str) -> str:
    """A dtype's name from what numpy takes for one, such as ``"f4"``."""
    accepted = ACCEPTED.split(", ")
    if name in accepted:
        return name
    with contextlib.suppress(TypeError):
        return str(np.dtype(name).name)
    close = difflib.get_close_matches(name, accepted, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown dtype: {name!r}; accepted: {ACCEPTED}{hint}")


def as_list(tensors: Any, /) -> list[Any]:
    """The tensors of an iterable, a mapping or a module, without those that are None; one tensor is a list of one.

    Raises
    ------
    TypeError
        For anything else.
    """
    if hasattr(tensors, "__dlpack__") or isinstance(tensors, np.ndarray | np.generic):
        return [tensors]
    if isinstance(tensors, Mapping):
        tensors = tensors.values()
    elif hasattr(tensors, "named_parameters"):
        tensors = tensors.parameters()
    if not isinstance(tensors, Iterable):
        raise TypeError(f"expected a tensor, several of them, a mapping or a module, got: {type(tensors).__name__}")
    return [tensor for tensor in tensors if tensor is not None]


def host_rows(tensors: list[Any], /, *, moments: int = 2) -> list[Any]:
    """Summaries of tensors of which some live on a device, each computed where its tensor is."""
    from tensorstats._summary import summary

    return [summary(tensor, moments=moments) for tensor in tensors]


def export(x: Any, /) -> tuple[Any, str | None]:
    """Turn an array-like object into one that exports its memory over DLPack.

    Parameters
    ----------
    x
        A numpy array or scalar, an ml_dtypes array, a torch tensor, or any object with `__dlpack__`.

    Returns
    -------
    exporter, dtype
        An object whose `__dlpack__` works on the host, sharing memory with `x`, and the dtype's name where the
        exported integers
        stand for something else (None otherwise). Only a tensor with torch's lazy negation is copied, to resolve it.

    Raises
    ------
    DeviceError
        The tensor is on another device.
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
        kind, index = x.__dlpack_device__()
        if int(kind) not in (1, 3, 11, 13):
            raise DeviceError(
                f"tensor memory is on DLPack device ({int(kind)}, {index}), which the host cannot read; "
                "move it to the CPU first"
            )
        return x, None
    kind = type(x).__name__
    hint = "; hint: np.asarray(x) makes an array of it" if isinstance(x, (list, tuple, int, float, bool)) else ""
    if isinstance(x, (memoryview, bytearray, array.array)) or hasattr(x, "__array__"):
        return _export_numpy(np.asarray(x))  # shares the memory where the object lets it
    raise TypeError(f"expected a numpy array, a torch tensor or another object with __dlpack__, got: {kind}{hint}")


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


def _export_torch(x: Any) -> tuple[Any, str | None]:
    torch = sys.modules["torch"]
    name = str(x.dtype).removeprefix("torch.")
    if x.is_quantized:
        raise TypeError(
            f"unsupported dtype: {name} (quantised); hint: x.int_repr() shows the codes, x.dequantize() the values"
        )
    if x.layout != torch.strided:
        layout = str(x.layout).removeprefix("torch.")
        raise TypeError(f"unsupported layout: {layout}; accepted: strided; hint: x.values() holds the stored elements")
    if x.device.type == "meta":
        raise TypeError("unsupported device: meta, a tensor without memory; accepted: any device that holds values")
    if x.dtype.is_complex:
        raise TypeError(f"unsupported dtype: {name}; accepted: {ACCEPTED}; hint: look at x.real and x.imag, or x.abs()")
    if name not in ACCEPTED.split(", "):
        raise TypeError(f"unsupported dtype: {name}; accepted: {ACCEPTED}")
    if hasattr(x, "full_tensor"):
        raise TypeError(
            "unsupported tensor: DTensor, whose local values are not its values; hint: pass x.full_tensor() or "
            "x.to_local()"
        )
    if x.device.type != "cpu":
        raise DeviceError(f"tensor is on device: {x.device}; the native core reads host memory")
    if type(x).__name__ == "FakeTensor" or torch._C._functorch.is_functorch_wrapped_tensor(x):
        raise TypeError(f"unsupported tensor: {type(x).__name__} inside a trace, which has no values yet")
    x = x.detach().resolve_neg()
    if name == "bool" or not name.startswith(("bfloat", "float8")):
        return x, None
    # Older exporters know no bf16 or fp8: hand over integers of the same width and the name.
    return x.view(torch.int16 if name == "bfloat16" else torch.uint8), name
