"""What a numpy user hands over: masks of every dtype, memory of other libraries, mappings, names of dtypes."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tensorstats as ts
from tensorstats._arrays import DeviceError

A = np.arange(4.0, dtype=np.float32)


class OnDevice:
    """As CuPy's and JAX' arrays present themselves."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, **_: Any) -> Any:
        return np.ones((3, 3)).__dlpack__()


class ArrayOnly:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return A


CALLS: dict[str, Callable[[Any], object]] = {
    "summary": ts.summary,
    "quantile": lambda x: ts.quantile(x, 0.5),
    "histogram": lambda x: ts.histogram(x, ts.axis.LogLinear()),
    "units": lambda x: ts.unit_activity(x, dim=1),
    "both": ts.summary_and_histogram,
    "check": lambda x: ts.check(x, finite=True),
    "norm": lambda x: ts.norm([x]),
    "summaries": lambda x: ts.summaries({"x": x}),
    "is_finite": lambda x: ts.is_finite([x]),
    "outside": lambda x: ts.outside(x, min=0),
}


@pytest.mark.parametrize("name", list(CALLS))
def test_memory_of_another_device_is_refused_with_one_error(name: str) -> None:
    with pytest.raises(DeviceError, match=r"DLPack device \(2, 0\).* move it to the CPU first"):
        CALLS[name](OnDevice())


@pytest.mark.parametrize("dtype", ["float32", "int8", "bool", "bfloat16", "float8_e4m3fn"])
@pytest.mark.parametrize("call", [ts.summary, lambda x: ts.norm([x])])
def test_a_masked_array_is_refused_whatever_its_dtype(dtype: str, call: Callable[[Any], object]) -> None:
    kind = getattr(ml_dtypes, dtype, None) or np.dtype(dtype)
    x = np.ma.array(np.array([1, 1, 0]).astype(kind), mask=[0, 0, 1])
    with pytest.raises(TypeError, match=r"MaskedArray.*pass x.compressed\(\)"):
        call(x)


@pytest.mark.parametrize("x", [ArrayOnly(), array.array("f", A), memoryview(A)])
def test_what_numpy_makes_an_array_of_is_taken(x: Any) -> None:
    assert ts.summary(x) == ts.summary(A)


def test_a_mapping_and_a_model_are_many_tensors() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    expected = ts.norm(list(model.parameters()))
    assert ts.norm(model) == ts.norm(model.state_dict()) == expected
    with pytest.raises(TypeError, match="expected a tensor, several of them, a mapping or a module, got: float"):
        ts.norm(3.0)  # type: ignore[arg-type]


def test_dtypes_have_the_names_that_numpy_knows() -> None:
    ts.check(A, dtype="f4")
    ts.check(A, dtype=("int8", "single"))
    with pytest.raises(TypeError, match=r"unknown dtype: 'flaot32'.*did you mean 'float32'"):
        ts.check(A, dtype="flaot32")
