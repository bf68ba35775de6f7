"""What `_core.pyi` and the annotations of the package say is what comes back, for floats, integers and bools alike."""

from __future__ import annotations

import ast
import builtins
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

import tensorstats as ts
from tensorstats import _core

STUB = ast.parse((Path(ts.__file__).parent / "_core.pyi").read_text(encoding="utf-8"))
STATES = ("Summary", "Histogram", "UnitActivity", "Regular", "Variable", "LogLinear", "Linear")
NAMES: dict[str, Any] = {
    **vars(builtins),
    **vars(_core),
    "Any": Any,
    "np": np,
    "npt": npt,
    "Bins": ts.axis.Bins,
    "FormatFit": ts.FormatFit,
    "_Axis": ts.axis.Axis,
}
DTYPES = ["float64", "float32", "float16", "bfloat16", "float8_e5m2", "int64", "uint64", "int8", "bool"]

# How every method is called; `s` is the state.
CALLS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "Summary": {
        "update": lambda s: s.copy().update(np.ones((2, 2))),
        "merge": lambda s: s.copy().merge(s),
        "reset": lambda s: s.copy().reset(),
        "copy": lambda s: s.copy(),
        "to_bytes": lambda s: s.to_bytes(),
        "from_bytes": lambda s: s.from_bytes(s.to_bytes()),
        "to_dict": lambda s: s.to_dict(),
        "from_dict": lambda s: s.from_dict(s.to_dict()),
        "var": lambda s: s.var(),
        "std": lambda s: s.std(1),
        "fits": lambda s: s.fits("float16"),
    },
    "Histogram": {
        **{name: lambda s, name=name: getattr(s, name)() for name in ("values", "view", "counts", "variances")},
        "to_numpy": lambda s: s.to_numpy(),
        "quantile": lambda s: s.quantile(0.5),
        "cdf": lambda s: s.cdf(0.5),
        "aligned": lambda s: s.aligned(s),
        "to_tensorboard": lambda s: None,  # Any: what tests/test_export.py looks at
        "to_wandb": lambda s: None,
        "plot": lambda s: None,
        "to_opentelemetry": lambda s: s.to_opentelemetry(),
        "lower_precision": lambda s: s.lower_precision(1),
    },
    "UnitActivity": {
        "dead_units": lambda s: s.dead_units(),
        "inactive_units": lambda s: s.inactive_units(1),
        "dead_fraction": lambda s: s.dead_fraction(0.5),
    },
}
"""Those of `Summary` that other states have too are called alike."""


def members(name: str) -> list[tuple[str, ast.FunctionDef, bool]]:
    """The public members of a class of the stub, and whether each is a property; of overloads, the first."""
    (node,) = (node for node in STUB.body if isinstance(node, ast.ClassDef) and node.name == name)
    found: dict[str, tuple[str, ast.FunctionDef, bool]] = {}
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
            decorators = [ast.unparse(decorator) for decorator in item.decorator_list]
            found.setdefault(item.name, (item.name, item, "property" in decorators))
    return list(found.values())


def fits(value: Any, wanted: Any) -> bool:
    """Whether a value is exactly of a type: no int for a float, no bool for an int."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if hasattr(origin, "__value__"):  # a name for a type, as the newest numpy's NDArray
        return fits(value, origin.__value__[arguments])
    if wanted is Any:
        return True
    if wanted is None or wanted is type(None):
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is np.ndarray:
        (kind,) = typing.get_args(arguments[1]) or (Any,)
        return isinstance(value, np.ndarray) and (kind is Any or value.dtype.type is kind)
    if origin is tuple:
        if arguments[-1:] == (...,):
            return type(value) is tuple and all(fits(each, arguments[0]) for each in value)
        return type(value) is tuple and len(value) == len(arguments) and all(map(fits, value, arguments))
    if origin is list:
        return type(value) is list and all(fits(each, arguments[0]) for each in value)
    if origin is dict:
        return type(value) is dict and all(fits(k, arguments[0]) and fits(v, arguments[1]) for k, v in value.items())
    if wanted in (int, float, str, bytes, bool):
        return type(value) is wanted
    assert isinstance(wanted, type), wanted
    return isinstance(value, wanted)


def states(dtype: str) -> dict[str, Any]:
    x = np.array([[0, 1], [2, 1]]).astype(getattr(ml_dtypes, dtype, dtype))
    return {
        "Summary": ts.summary(x, moments=4, formats=("float16",)),
        "Histogram": ts.histogram(x, ts.axis.LogLinear(3)),
        "UnitActivity": ts.unit_activity(x, saturation=(0.0, 1.0)),
        **{axis_name: getattr(ts.axis, axis_name)(*arguments) for axis_name, arguments in AXES.items()},
    }


AXES: dict[str, tuple[Any, ...]] = {"Regular": (2, 0, 1), "Variable": ([0, 1],), "LogLinear": (), "Linear": (4,)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STATES)
def test_every_member_returns_what_the_stub_says(name: str, dtype: str):
    state = states(dtype)[name]
    calls = (
        CALLS["Summary"] | CALLS.get(name, {}) | {"to_prometheus": lambda h: h.to_prometheus(states(dtype)["Summary"])}
    )
    seen = 0
    for member, node, is_property in members(name):
        value = getattr(state, member) if is_property else calls[member](state)
        assert node.returns is not None
        wanted = eval(ast.unparse(node.returns), NAMES)
        assert fits(value, wanted), (member, value, ast.unparse(node.returns))
        seen += 1
    assert seen > 0


@pytest.mark.parametrize("name", ["Summary", "Histogram", "UnitActivity"])
def test_empty_states_return_it_too(name: str):
    state = {"Summary": ts.Summary(moments=4), "Histogram": ts.Histogram(), "UnitActivity": ts.UnitActivity()}[name]
    for member, node, is_property in members(name):
        if is_property and member not in ("saturated_fraction", "saturated_fractions"):  # need bounds
            assert node.returns is not None
            value, wanted = getattr(state, member), ast.unparse(node.returns)
            assert fits(value, eval(wanted, NAMES)), (member, value, wanted)


X = np.array([[0.0, 1.0], [2.0, 1.0]])
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "all_between": lambda x: ts.all_between(x, 0, 9),
    "check": ts.check,
    "distance": lambda x: ts.distance(ts.histogram(x), ts.histogram(x)),
    "histogram": lambda x: ts.histogram(x, bins=3),
    "is_finite": ts.is_finite,
    "norm": ts.norm,
    "norms": lambda x: ts.norms([x]),
    "outside": ts.outside,
    "quantile": lambda x: ts.quantile(x, 0.5),
    "simd_level": lambda x: ts.simd_level(),
    "summaries": lambda x: ts.summaries([x]),
    "summary": ts.summary,
    "summary_and_histogram": ts.summary_and_histogram,
    "thread_count": lambda x: ts.thread_count(),
    "unit_activity": ts.unit_activity,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_returns_what_it_says(name: str, dtype: str):
    value = FUNCTIONS[name](X.astype(getattr(ml_dtypes, dtype, dtype)))
    names = {**vars(ts), **NAMES, "SimdLevel": ts.SimdLevel, "ThreadCount": ts.ThreadCount}
    assert fits(value, eval(getattr(ts, name).__annotations__["return"], names)), (name, value)


def test_all_functions_are_looked_at():
    assert {name for name in ts.__all__ if isinstance(getattr(ts, name), types.FunctionType)} == FUNCTIONS.keys()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_fields_of_plain_results_are_of_their_types(dtype: str):
    x = X.astype(getattr(ml_dtypes, dtype, dtype))
    counts = ts.outside(x, min=0.5, max=1)
    found: list[Any] = [counts, counts.first_below, ts.summary(x, formats="float16").fits("float16")]
    for result in found:
        hints: Mapping[str, Any] = typing.get_type_hints(type(result))
        for name, wanted in hints.items():
            assert fits(getattr(result, name), wanted), (type(result), name)


def test_the_stub_imports_nothing_above_the_native_module():
    """What it takes from the package takes nothing from it in turn."""
    package = Path(ts.__file__).parent
    imported = {node.module or "" for node in ast.walk(STUB) if isinstance(node, ast.ImportFrom)}
    below = {module for module in imported if module.startswith("tensorstats")}
    assert below == {"tensorstats._bins", "tensorstats._formats"}
    for module in below:
        source = ast.parse((package / f"{module.removeprefix('tensorstats.')}.py").read_text(encoding="utf-8"))
        for node in ast.walk(source):
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "tensorstats" not in ast.unparse(node), module
