"""The core's tables of fields and of dtypes: they say what is there, and Python keeps no second list of either."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tensorstats as ts
from tensorstats import _arrays, _core, _table
from tensorstats.run import series

PACKAGE = Path(ts.__file__).parent
STUB = ast.parse((PACKAGE / "_core.pyi").read_text(encoding="utf-8"))
FIELDS = {field.name: field for field in _core.FIELDS}
DTYPES = {dtype.name: dtype for dtype in _core.DTYPES}
# Of a Summary: numbers that are settings of it, not of its values.
SETTINGS = {"moments"}


def stub_fields() -> dict[str, tuple[str, bool]]:
    """The members of `Summary` in the stub that give a number: its type, and whether it is a property."""
    (summary,) = (node for node in STUB.body if isinstance(node, ast.ClassDef) and node.name == "Summary")
    found = {}
    for node in summary.body:
        if isinstance(node, ast.FunctionDef) and node.returns is not None and not node.name.startswith("_"):
            is_property = any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)
            found[node.name] = (ast.unparse(node.returns), is_property)
    return {name: found[name] for name in found if found[name][0] in ("int", "float", "int | float")}


def test_every_number_of_a_summary_is_in_the_table_as_the_stub_has_it():
    types = {"count": "int", "value": "int | float", "real": "float"}
    expected = {name: (types[field.kind], not field.corrected) for name, field in FIELDS.items()}
    assert {name: of_stub for name, of_stub in stub_fields().items() if name not in SETTINGS} == expected
    assert len(_core.FIELDS) == len(FIELDS)


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_the_table_says_what_the_members_are(dtype: str):
    x = np.array([-3, 0, 2, 2], dtype=dtype)
    s, two = ts.summary(x, moments=4), ts.summary(x)
    numbers: dict[str, Any] = {}
    for name, field in FIELDS.items():
        value = getattr(s, name)
        assert callable(value) == field.corrected
        numbers[name] = value() if field.corrected else value
        exact = field.kind == "count" or (field.kind == "value" and dtype == "int16")
        assert type(numbers[name]) is (int if exact else float), name
        if field.moments == 4:
            with pytest.raises(ValueError, match="moments=4"):
                getattr(two, name)
    public = {name for name in dir(s) if not name.startswith("_")} - SETTINGS
    assert {name for name in public if isinstance(getattr(s, name), int | float)} <= FIELDS.keys()
    table = ts.summaries([x], moments=4)
    for name, field in FIELDS.items():
        column = table.column(name)
        assert column.dtype == (np.uint64 if field.kind == "count" else np.float64)
        assert column.tolist() == [numbers[name]]


def test_tables_and_series_have_the_columns_that_the_table_gives_them():
    assert list(ts.summaries([np.ones(2)]).columns()) == [name for name, field in FIELDS.items() if field.usual]
    assert list(_table.COLUMNS) == [name for name, field in FIELDS.items() if field.usual]
    assert set(series._FIELDS) == {name for name, field in FIELDS.items() if field.moments == 2}


def test_an_unknown_column_is_told_what_there_is():
    with pytest.raises(KeyError, match=f"unknown column: median; accepted: {', '.join(FIELDS)}"):
        ts.summaries([np.ones(2)]).column("median")


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes_are_what_their_libraries_say(name: str):
    dtype, of_numpy = DTYPES[name], np.dtype(getattr(ml_dtypes, name, name))
    assert dtype.itemsize == of_numpy.itemsize
    assert ts.summary(np.zeros(2, dtype=of_numpy)).dtype == _arrays.dtype_name(name) == name
    assert repr(ts.summary(np.zeros(2, dtype=of_numpy))).startswith(dtype.short)
    if dtype.kind == "float":
        info = ml_dtypes.finfo(of_numpy)
        unsigned = f"uint{8 * dtype.itemsize}"
        assert dtype.mantissa == info.nmant
        assert np.array(dtype.largest, dtype=unsigned).view(of_numpy) == info.max
        infinite = np.array(np.inf, dtype=np.float64).astype(of_numpy)
        bits = int(infinite.view(unsigned)) if np.isinf(infinite.astype(np.float64)) else None
        assert dtype.infinity == bits
    else:
        assert dtype.kind == {"b": "bool", "i": "signed", "u": "unsigned"}[of_numpy.kind]
        limits = None if dtype.kind == "bool" else np.iinfo(of_numpy)
        assert dtype.largest == (1 if limits is None else max(-int(limits.min), int(limits.max)))
        assert (dtype.mantissa, dtype.infinity) == (0, None)


def test_accepted_dtypes_are_those_of_the_table():
    assert ", ".join(DTYPES) == _arrays.ACCEPTED
    assert {name for name in DTYPES if name in dir(ml_dtypes)} == _arrays._ML_DTYPES.keys()


def test_torch_operations_count_those_of_the_table():
    torch = pytest.importorskip("torch")
    from tensorstats.device import backend, kernels

    counted = {getattr(torch, name) for name in DTYPES}
    assert kernels.FLOATS.keys() | kernels.INTEGERS.keys() == counted == backend._REAL_DTYPES
    for dtype, form in kernels.FLOATS.items():
        info = torch.finfo(dtype)
        pattern = torch.tensor([info.max, info.tiny], dtype=dtype).view(form.integer).tolist()
        assert pattern == [form.infinity - form.has_infinity, form.smallest_normal]


def written_lists() -> dict[str, list[set[str]]]:
    """By file, the strings of every list, tuple, set and dict that is written out in the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        lists = []
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List | ast.Tuple | ast.Set):
                items: list[Any] = node.elts
            elif isinstance(node, ast.Dict):
                items = [*node.keys, *node.values]
            else:
                continue
            lists.append({item.value for item in items if isinstance(item, ast.Constant) and type(item.value) is str})
        found[str(path.relative_to(PACKAGE))] = lists
    return found


@pytest.mark.parametrize(("names", "most"), [(FIELDS.keys(), 5), (DTYPES.keys(), 2)], ids=["fields", "dtypes"])
def test_nobody_keeps_a_second_list(names: set[str], most: int):
    """A choice of a few is none: what a report shows of a tensor."""
    seconds = [
        (path, written & names)
        for path, lists in written_lists().items()
        for written in lists
        if len(written & names) > most
    ]
    assert seconds == []
