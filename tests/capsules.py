"""DLPack exporters built by hand with ctypes: every field can be chosen, and the calls of the deleter are counted."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np


class Tensor(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
CapsuleDestructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Legacy(ctypes.Structure):
    _fields_: ClassVar[Any] = [("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", Deleter)]


class Versioned(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    ]


new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, CapsuleDestructor]
is_valid = ctypes.pythonapi.PyCapsule_IsValid
is_valid.restype = ctypes.c_int
is_valid.argtypes = [ctypes.c_void_p, ctypes.c_char_p]

FLOAT, INT, UINT, BFLOAT, COMPLEX, BOOL = 2, 0, 1, 4, 5, 6
CPU, CUDA, CUDA_HOST, MANAGED = 1, 2, 3, 13


@dataclass
class Source:
    """An exporter whose every field can be chosen, and that counts the calls of its deleter."""

    values: np.ndarray
    versioned: bool = True
    shape: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    code: int = FLOAT
    bits: int = 32
    lanes: int = 1
    device: int = CPU
    byte_offset: int = 0
    flags: int = 0
    version: tuple[int, int] = (1, 0)
    null_data: bool = False
    has_deleter: bool = True
    deleted: int = 0
    kept: list[object] = field(default_factory=list)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, *, max_version: tuple[int, int] | None = None, **_options: object) -> object:
        if max_version is None and self.versioned:
            raise BufferError("this source is versioned only")
        shape = self.values.shape if self.shape is None else self.shape
        shape_array = (ctypes.c_int64 * max(1, len(shape)))(*shape)
        strides = None if self.strides is None else (ctypes.c_int64 * max(1, len(self.strides)))(*self.strides)
        tensor = Tensor(
            None if self.null_data else self.values.ctypes.data,
            self.device,
            0,
            len(shape),
            self.code,
            self.bits,
            self.lanes,
            shape_array,
            strides,
            self.byte_offset,
        )

        def delete(_address: int) -> None:
            self.deleted += 1

        deleter = Deleter(delete) if self.has_deleter else Deleter()
        name = b"dltensor_versioned" if self.versioned else b"dltensor"
        if self.versioned:
            managed: ctypes.Structure = Versioned(*self.version, None, deleter, self.flags, tensor)
        else:
            managed = Legacy(tensor, None, deleter)

        # As every exporter does: a capsule that nobody took is freed by its destructor, a taken one was renamed.
        def destroy(capsule: int) -> None:
            if is_valid(capsule, name):
                delete(0)

        destructor = CapsuleDestructor(destroy)
        self.kept += [shape_array, strides, deleter, managed, destructor, name]
        return new_capsule(ctypes.addressof(managed), name, destructor)
