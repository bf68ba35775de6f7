"""What was written once is read for ever: bytes and pickles of every state, and the same bytes written today.

`golden/states.json` holds the bytes of every state below and the numbers that they must read as; `golden/pickles.json`
holds pickles that versions before wrote. Entries are added, never changed.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorstats as ts
from tensorstats import _core

GOLDEN = Path(__file__).parent / "golden"

FLOATS = np.array([0.0, -0.0, 1.5, -2.25, 1e-40, 3e38, np.nan, np.inf, -np.inf, 0.1], dtype=np.float32)
WHOLE = np.array([0, 3, -7, 2**62, -(2**63), 2**63 - 1], dtype=np.int64)
SMALL = np.array([-4.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0, 9.0, np.nan, np.inf])
GRID = np.array([[0.0, 1.0, -2.0], [0.5, np.nan, -2.0], [0.0, 3.0, -2.0], [0.0, 0.25, np.inf]])

STATES: dict[str, Callable[[], Any]] = {
    "summary, empty": ts.Summary,
    "summary of float32": lambda: ts.summary(FLOATS),
    "summary of int64": lambda: ts.summary(WHOLE),
    "summary of several dtypes": lambda: ts.summary(FLOATS) + ts.summary(WHOLE),
    "summary with 4 moments": lambda: ts.summary(SMALL, moments=4),
    "summary with formats": lambda: ts.summary(SMALL, formats=("float16", "float8_e4m3fn"), scale=0.5),
    "histogram, Regular": lambda: ts.histogram(SMALL, ts.axis.Regular(4, -1.0, 1.0)),
    "histogram, Variable": lambda: ts.histogram(SMALL, ts.axis.Variable([-1.0, 0.0, 0.3, 5.0])),
    "histogram, LogLinear": lambda: ts.histogram(SMALL, ts.axis.LogLinear(2)),
    "histogram, LogLinear of int64": lambda: ts.histogram(WHOLE, ts.axis.LogLinear(6)),
    "histogram, Linear": lambda: ts.histogram(SMALL, ts.axis.Linear(16)),
    "histogram, empty": lambda: ts.Histogram(ts.axis.LogLinear(6)),
    "unit activity": lambda: ts.UnitActivity(1).update(GRID).update(GRID[:1]),
    "unit activity with bounds": lambda: ts.unit_activity(GRID, -1, saturation=(-1.0, math.inf)),
    "unit activity, empty": lambda: ts.UnitActivity(0),
}
OTHERS: dict[str, Callable[[], Any]] = {
    "Regular": lambda: ts.axis.Regular(4, -1.0, 1.0),
    "Variable": lambda: ts.axis.Variable([-1.0, 0.0, 0.3, 5.0]),
    "LogLinear": lambda: ts.axis.LogLinear(2),
    "Linear": lambda: ts.axis.Linear(16),
    "Bins": lambda: ts.histogram(SMALL, ts.axis.Regular(4, -1.0, 1.0)).axes[0],
    "FormatFit": lambda: ts.summary(SMALL, formats="float16").fits("float16"),
    "RangeCounts": lambda: ts.outside(SMALL, min=-1, max=1),
    "Offender": lambda: ts.outside(SMALL, min=-1).first_below,
    "CheckError": lambda: ts.CheckError("x breaks 1 rule"),
    "SummaryTable": lambda: ts.summaries({"a": FLOATS, "b": WHOLE}),
    "SimdLevel": lambda: type(ts.simd_level())("portable", "asked for"),
}
FIELDS = {
    "Summary": [
        *("dtype", "moments", "formats", "count", "nan_count", "posinf_count", "neginf_count", "zero_count"),
        *("negative_count", "positive_count", "subnormal_count", "min", "max", "absmax", "absmin"),
        *("sum", "mean", "l1", "l2", "rms"),
    ],
    "Histogram": [
        "count",
        "underflow",
        "overflow",
        "nan_count",
        "posinf_count",
        "neginf_count",
        "zero_count",
        "median",
    ],
    "UnitActivity": [
        *("dim", "saturation", "updates", "units", "count", "active_count", "zero_count", "nonfinite_count"),
        *("low_count", "high_count", "last_active", "mean", "min", "max"),
    ],
}


def numbers(state: Any) -> dict[str, Any]:
    """Numbers of a state in types that JSON keeps."""
    found = {name: getattr(state, name) for name in FIELDS[type(state).__name__]}
    if isinstance(state, ts.Histogram):
        form = state.to_dict()
        found |= {"axis": repr(state.axis), "places": form["places"], "counts": form["counts"]}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()}


def shown(x: Any) -> Any:
    """Something of an object that tells it from others of its kind."""
    if isinstance(x, ts.SummaryTable):
        return {name: row.to_bytes() for name, row in x.items()}
    return x.to_bytes() if hasattr(x, "to_bytes") else repr(x)


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", STATES)
def test_the_bytes_of_a_state_are_written_and_read_as_ever(name: str):
    state, golden = STATES[name](), load("states.json")[name]
    assert state.to_bytes().hex() == golden["bytes"]
    read = type(state).from_bytes(bytes.fromhex(golden["bytes"]))
    assert read == state
    # Through JSON, which turns tuples into lists and keeps the digits and the kind of every number.
    assert json.dumps(numbers(read)) == json.dumps(golden["numbers"])


@pytest.mark.parametrize("name", [*STATES, *OTHERS])
def test_pickles_of_versions_before_are_read(name: str):
    """Also those that name the private module a class was in."""
    expected = (STATES | OTHERS)[name]()
    read = pickle.loads(bytes.fromhex(load("pickles.json")[name]))
    assert type(read) is type(expected)
    assert shown(read) == shown(expected)


@pytest.mark.parametrize("name", [*STATES, *OTHERS])
def test_pickles_name_no_private_module_of_a_public_class(name: str):
    if name == "SummaryTable":
        pytest.skip("holds the native rows, which are not public")
    assert b"tensorstats._" not in pickle.dumps((STATES | OTHERS)[name]())


def test_public_classes_are_in_public_modules():
    for module in (ts, ts.axis):
        for name in module.__all__:
            thing = getattr(module, name)
            if isinstance(thing, type):
                assert thing.__module__ == module.__name__, name


def test_every_golden_entry_is_read():
    assert load("states.json").keys() == STATES.keys()
    assert load("pickles.json").keys() == STATES.keys() | OTHERS.keys()
    assert _core.Histogram is ts.Histogram
