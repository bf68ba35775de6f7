"""What is refused as a tensor: one clear error that names what came and what is accepted."""

from __future__ import annotations

import gc
import sys
import warnings
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest

import tensorstats as ts
from exporters import Exporter, OldExporter

if TYPE_CHECKING:
    from collections.abc import Callable

torch = pytest.importorskip("torch", reason="torch tensors are half of what is refused")


def quantised() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


def sparse_csr() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.eye(3).to_sparse_csr()


def complex_half() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.zeros(3, dtype=torch.complex32)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "complex64": (lambda: np.zeros(3, np.complex64), "complex64"),
    "complex128": (lambda: np.zeros(3, np.complex128), "complex128"),
    "object": (lambda: np.array([1, None], dtype=object), "object"),
    "str-array": (lambda: np.array(["a", "bc"]), "str"),
    "bytes-array": (lambda: np.array([b"a"]), "bytes|S1|\\|S1"),
    "datetime": (lambda: np.array(["2026-01-01"], dtype="datetime64[D]"), "datetime64"),
    "structured": (lambda: np.zeros(2, dtype=[("a", "i4")]), "void|\\[\\('a'"),
    "big-endian-float": (lambda: np.zeros(3, ">f4"), "big-endian|byte order|byteorder"),
    "big-endian-int": (lambda: np.zeros(3, ">i8"), "big-endian|byte order|byteorder"),
    "other-float8": (lambda: np.zeros(3, ml_dtypes.float8_e4m3b11fnuz), "float8_e4m3b11fnuz"),
    "int4": (lambda: np.zeros(3, ml_dtypes.int4), "int4"),
    "float4": (lambda: np.zeros(3, ml_dtypes.float4_e2m1fn), "float4_e2m1fn"),
    "torch-complex64": (lambda: torch.zeros(3, dtype=torch.complex64), "complex64"),
    "torch-lazy-conjugate": (lambda: torch.zeros(3, dtype=torch.complex64).conj(), "complex64"),
    "torch-complex32": (complex_half, "complex"),
    "torch-float8-fnuz": (lambda: torch.zeros(3, dtype=torch.float8_e4m3fnuz), "float8_e4m3fnuz"),
    "torch-sparse": (lambda: torch.eye(3).to_sparse(), "sparse"),
    "torch-sparse-csr": (sparse_csr, "sparse"),
    "torch-quantised": (quantised, "qint8|quanti[sz]ed"),
    "torch-meta": (lambda: torch.empty(3, device="meta"), "meta"),
    "list": (lambda: [1.0, 2.0], "list"),
    "tuple": (lambda: (1.0, 2.0), "tuple"),
    "float": (lambda: 1.5, "float"),
    "str": (lambda: "abc", "str"),
    "bytes": (lambda: b"abc", "bytes"),
    "none": (lambda: None, "None"),
    "class": (lambda: np.ndarray, "type|ndarray"),
    "torch-dtype": (lambda: torch.float32, "dtype"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals(kind: str):
    make, name = REFUSED[kind]
    given = make()
    with pytest.raises((TypeError, ValueError, BufferError), match=name) as caught:
        ts.summary(given)
    text = str(caught.value)
    assert "\n" not in text or "hint:" in text
    assert len(text) > len("unsupported"), "an error says what to do"
    with pytest.raises(type(caught.value), match=name):
        ts.Summary().update(given)


@pytest.mark.parametrize("kind", ["complex64", "object", "other-float8", "torch-complex64", "torch-float8-fnuz"])
def test_a_refused_dtype_lists_what_is_accepted(kind: str):
    make, _ = REFUSED[kind]
    with pytest.raises((TypeError, ValueError, BufferError)) as caught:
        ts.summary(make())
    text = str(caught.value)
    for accepted in ("float32", "bfloat16", "float8_e4m3fn", "int64", "bool"):
        assert accepted in text


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is a double here")
def test_long_double_is_refused():
    with pytest.raises((TypeError, BufferError), match=r"longdouble|float128|float96"):
        ts.summary(np.zeros(3, np.longdouble))


def test_a_masked_array_is_refused_because_its_mask_would_be_ignored():
    masked = np.ma.masked_array([1.0, 2.0, 1e9], mask=[False, False, True])
    with pytest.raises((TypeError, ValueError), match="mask"):
        ts.summary(masked)


def test_a_refused_update_leaves_the_state_as_it_was():
    s = ts.summary(np.ones(3))
    before = s.to_bytes()
    for make, _ in REFUSED.values():
        with pytest.raises((TypeError, ValueError, BufferError)):
            s.update(make())
    assert s.to_bytes() == before


def test_refused_tensors_are_released():
    array = np.ones(10, dtype=np.complex64)
    tensor = torch.zeros(3, dtype=torch.complex64)
    before = sys.getrefcount(array), sys.getrefcount(tensor)
    for _ in range(50):
        for given in (array, tensor, Exporter(array), OldExporter(array)):
            with pytest.raises((TypeError, ValueError, BufferError)):
                ts.summary(given)
    del given
    gc.collect()
    assert (sys.getrefcount(array), sys.getrefcount(tensor)) == before
