"""What a numpy user hands over: masks of every dtype, memory of other libraries, mappings, names of dtypes."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tensorstats as ts

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
    with pytest.raises(ts.DeviceError, match=r"OnDevice is on device: cuda:0, .*copy it to the host"):
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


@pytest.mark.parametrize(
    "dtype", ["f4", "<f4", "single", np.single, "torch.float32", ("int8", "float32"), A.dtype.type]
)
def test_dtypes_have_the_names_that_numpy_knows(dtype: Any) -> None:
    ts.check(A, dtype=dtype)


@pytest.mark.parametrize("dtype", ["flaot32", "Float32", ">f4", "complex64", object, 3.5, ("float32", None)])
def test_what_is_no_dtype_is_refused_with_one_error(dtype: Any) -> None:
    with pytest.raises(
        TypeError, match=r"unknown dtype: .*; accepted: bool, .*, as names or as dtypes of numpy or tor"
    ):
        ts.check(A, dtype=dtype)
    with pytest.raises(TypeError, match=r"unknown dtype: .*"):
        ts.summary(A, formats=dtype)


def test_the_dtype_that_was_meant_is_named() -> None:
    for wrong, meant in (("flaot32", "float32"), ("Float32", "float32"), ("bfloat", "bfloat16")):
        with pytest.raises(TypeError, match=rf"; did you mean '{meant}'\?$"):
            ts.check(A, dtype=wrong)


REFUSED = r"Series is not one piece of memory .* hint: np.asarray\(x\) makes a copy, with NaN for what is missing"


def test_columns_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    for dtype in ("float32", "Float32"):
        assert ts.summary(pandas.Series(A, dtype=dtype)) == ts.summary(A)
    assert ts.norm([pandas.Series(A), A]) == ts.norm([A, A])
    assert ts.norm(pandas.Series(A)) == ts.norm(A)
    assert ts.histogram(A, where=pandas.Series(A > 1)).count == 2
    assert ts.histogram(A, bins=pandas.Series([0, 1, 9])).values().tolist() == [1, 3]
    for missing in (pandas.Series([1, None, 2**60 + 1], dtype="Int64"), pandas.Series(["a", "b"])):
        with pytest.raises(TypeError, match=REFUSED):
            ts.summary(missing)


def test_columns_of_polars() -> None:
    polars = pytest.importorskip("polars")
    assert ts.summary(polars.Series(A)) == ts.summary(A)
    assert ts.summary(polars.Series([True, False])).zero_count == 1
    assert ts.histogram(A, where=polars.Series(A > 1)).count == 2
    for missing in (polars.Series([1, None, 2**60 + 1]), polars.Series([1.0, None]), polars.Series([True, None])):
        with pytest.raises(TypeError, match=REFUSED):
            ts.summary(missing)
    with pytest.raises(TypeError, match=r"got: LazyFrame; hint: x.collect\(\) reads it"):
        ts.summary(polars.LazyFrame({"a": A}))


def test_arrays_of_pyarrow() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    assert ts.summary(pyarrow.array(A)) == ts.summary(A)
    with pytest.raises(TypeError, match=r"^FloatArray does not hand over its memory: .*no nulls"):
        ts.summary(pyarrow.array([1.0, None], type="float32"))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_table_is_its_columns_where_many_tensors_are_taken(library: str) -> None:
    frame = pytest.importorskip(library).DataFrame({"a": A, "b": np.arange(4)})
    columns = {"a": A, "b": np.arange(4)}
    table = ts.summaries(frame)
    assert dict(table) == dict(ts.summaries(columns))
    assert table["b"].dtype == "int64"
    assert ts.norm(frame) == ts.norm(columns)
    assert ts.norms(frame).tolist() == ts.norms(columns).tolist()
    assert ts.outside(frame, max=2) == ts.outside(columns, max=2)
    assert ts.is_finite(frame)
    assert not ts.all_between(frame, max=2)
    with pytest.raises(TypeError, match=r"^tensor 'c': "):
        ts.norm(type(frame)({"a": A, "c": ["x"] * 4}))


@pytest.mark.parametrize(
    ("x", "hint"),
    [
        ([1.0, 2.0], r"got: list; hint: np.asarray\(x\) makes an array of it"),
        (range(3), r"got: range; hint: np.asarray\(x\) makes an array of it"),
        ({"a": A}, r"got: dict; hint: ts.summaries\(x\) counts each tensor of a mapping"),
    ],
)
def test_what_has_no_memory_is_refused_with_a_hint(x: Any, hint: str) -> None:
    with pytest.raises(TypeError, match=hint):
        ts.summary(x)


@pytest.mark.parametrize("x", [A, array.array("f", A), memoryview(A), np.float32(3.0), ArrayOnly()])
def test_one_tensor_is_taken_where_many_are(x: Any) -> None:
    one = ts.summary(x)
    assert ts.norm(x) == one.l2
    assert ts.norms(x).tolist() == [one.l2]
    assert ts.is_finite(x)
    assert ts.all_between(x, one.min, one.max)
    assert ts.outside(x).count == one.count
    assert ts.summaries(x)["0"] == one
