"""What people hand over beside plain arrays: one bad tensor of many, lists, huge bounds, memory that is gone."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorstats as ts
from tensorstats import _core

A = np.arange(4.0, dtype=np.float32)
BAD = A.astype(complex)

MANY: dict[str, Callable[[Any], object]] = {
    "summaries": ts.summaries,
    "norm": ts.norm,
    "norms": ts.norms,
    "outside": lambda x: ts.outside(x, min=0),
    "is_finite": ts.is_finite,
    "all_between": lambda x: ts.all_between(x, -9, 9),
}


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("size", [4, 100_000], ids=["small", "large"])
def test_the_one_that_is_refused_is_named(name: str, size: int):
    good, bad = np.ones(size, np.float32), np.ones(size, complex)
    with pytest.raises(TypeError, match=r"^tensor 'layer\.bias': unsupported dtype: complex128; accepted: "):
        MANY[name]({"layer.weight": good, "layer.bias": bad})
    with pytest.raises(TypeError, match=r"^tensor 2: unsupported dtype: complex128; accepted: "):
        MANY[name]([good, good, bad])
    with pytest.raises(TypeError, match=r"^tensor 'only': unsupported dtype"):
        MANY[name]({"only": bad})


@pytest.mark.parametrize("name", sorted(set(MANY) - {"summaries", "norms"}))
def test_one_tensor_alone_has_no_number(name: str):
    with pytest.raises(TypeError, match=r"^unsupported dtype: complex128"):
        MANY[name](BAD)


def test_a_parameter_of_a_module_is_named():
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(2, 2)
    module.bias = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(TypeError, match=r"^tensor 'bias': unsupported dtype: complex64"):
        ts.norm(module)
    assert ts.norm(torch.nn.Linear(2, 2).state_dict(), ord="inf") <= 1.0


PUBLIC: dict[str, Callable[[], Any]] = {
    "Summary": lambda: ts.summary(A),
    "Summary with formats": lambda: ts.summary(A, formats="float16", moments=4),
    "SummaryTable": lambda: ts.summaries({"a": A, "b": A[:2]}),
    "Histogram": lambda: ts.histogram(A),
    "UnitActivity": lambda: ts.unit_activity(A.reshape(2, 2), saturation=(-np.inf, 1.0)),
    "Regular": lambda: ts.axis.Regular(4, 0.0, 1.0),
    "Variable": lambda: ts.axis.Variable([0.0, 1.0, 3.0]),
    "LogLinear": lambda: ts.axis.LogLinear(3),
    "Linear": lambda: ts.axis.Linear(3),
    "Bins": lambda: ts.histogram(A).axes[0],
    "RangeCounts": lambda: ts.outside(A, min=1),
    "FormatFit": lambda: ts.summary(A, formats="float16").fits("float16"),
    "CheckError": lambda: ts.CheckError("x breaks 1 rule"),
}


def shown(x: Any) -> Any:
    if isinstance(x, ts.CheckError):
        return x.args
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return dataclasses.astuple(x)
    return x.to_bytes() if hasattr(x, "to_bytes") else repr(x)


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_copies_and_pickles(name: str):
    x = PUBLIC[name]()
    for other in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x)), pickle.loads(pickle.dumps(x, 2))):
        assert type(other) is type(x)
        assert shown(other) == shown(x)
    table = x
    if isinstance(table, ts.SummaryTable):
        other = copy.deepcopy(table)
        assert other["a"] == table["a"]
        assert other.column("l2").tolist() == table.column("l2").tolist()


def test_a_table_of_numbers_alone_pickles():
    rows = _core.summaries([A, A[:0]])
    rows.keep_numbers()
    other = pickle.loads(pickle.dumps(rows))
    assert (len(other), other[0], other[1]) == (2, rows[0], rows[1])


HUGE = 10**400


@pytest.mark.parametrize("x", [A, A.astype(np.int64), A.astype(np.float64), A.astype(bool)], ids=lambda x: x.dtype.name)
def test_a_bound_beyond_every_dtype_is_compared_exactly(x: np.ndarray):
    assert ts.outside(x, min=HUGE).below == ts.outside(x, max=-HUGE).above == x.size
    assert ts.outside(x, min=-HUGE, max=HUGE).outside == 0
    assert ts.all_between(x, -HUGE, HUGE)
    ts.check(x, min=-(10**5000), max=10**5000)
    with pytest.raises(ts.CheckError, match=r"allowed: at least 10\^400 or so$"):
        ts.check(x, min=HUGE)


def test_a_whole_bound_between_two_floats_is_compared_exactly():
    near = float(10**100)  # below 10^100 or above it, never equal
    others = np.array([np.nextafter(near, 0), near, np.nextafter(near, np.inf)])
    for bound in (10**100, 10**100 + 1, int(near), int(near) + 1, -(10**100)):
        assert ts.outside(others, min=bound).below == sum(int(v) < bound for v in others)
        assert ts.outside(others, max=bound).above == sum(int(v) > bound for v in others)
    with pytest.raises(ts.CheckError):
        ts.check(np.array([np.inf]), finite=False, max=HUGE)


@pytest.mark.parametrize("bound", ["1", None, [], 1j])
def test_what_is_no_bound_is_refused_by_name(bound: object):
    if bound is not None:
        with pytest.raises(TypeError, match=r"^min must be a number, got: "):
            ts.check(A, min=bound)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^max must be a number, got: "):
            ts.outside(A, max=bound)  # type: ignore[arg-type]


@pytest.mark.parametrize("q", [None, "0.5", [0.5, None], ["a"], object()])
def test_what_is_no_share_is_refused_in_words(q: object):
    h = ts.histogram(A)
    for call in (lambda: ts.quantile(A, q), lambda: h.quantile(q), lambda: h.cdf(q)):  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=r"^[qx] must be a number or an array of numbers, got: "):
            call()
    assert ts.quantile(A, np.float32(0.5)) == ts.quantile(A, [0.5])[0] == 1.5


def test_a_mask_may_be_a_list():
    mask = [True, False, True, True]
    for call in (ts.summary, ts.histogram):
        assert call(A, where=mask).to_bytes() == call(A, where=np.array(mask)).to_bytes()
    nested = [[True, False], [True, True]]
    assert ts.unit_activity(A.reshape(2, 2), where=nested).count.tolist() == [2, 1]
    assert ts.Summary().update(A, where=tuple(mask)).count == 3
    with pytest.raises(TypeError, match="where must be a mask of dtype: bool; got: int64"):
        ts.summary(A, where=[1, 0, 1, 1])


class Counted:
    """Hands over memory, and counts how often it was asked."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.asked = array, 0

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **options: Any) -> Any:
        self.asked += 1
        return self.array.__dlpack__(**options)


@pytest.mark.parametrize(
    "call",
    [ts.summary, ts.histogram, lambda x: ts.histogram(x, ts.axis.LogLinear()), lambda x: ts.quantile(x, 0.5)],
)
def test_an_object_is_asked_for_its_memory_once(call: Callable[[Any], Any]):
    x = Counted(A)
    result = call(x)
    assert x.asked == 1
    expected = call(A)
    assert result == expected


def test_a_mask_is_asked_for_its_memory_once():
    mask = Counted(np.array([True, False, True, True]))
    assert ts.histogram(A, where=mask).count == 3
    assert mask.asked == 1


class Deleted:
    """As an array of JAX after donation: what asks it for its memory fails somewhere inside."""

    def __init__(self, says_so: bool) -> None:
        self.says_so = says_so

    def is_deleted(self) -> bool:
        return self.says_so

    def __dlpack_device__(self) -> tuple[int, int]:
        if not self.says_so:
            len(None)  # type: ignore[arg-type]
        return (1, 0)

    def __dlpack__(self, **_: Any) -> Any:
        raise RuntimeError("INTERNAL: nothing here")


class Broken(Deleted):
    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def test_an_array_without_memory_is_refused_in_words():
    for call in (ts.summary, ts.histogram, ts.norm, lambda x: ts.check(x, finite=True)):
        with pytest.raises(ValueError, match=r"^Deleted was deleted or donated, and has no values any more$"):
            call(Deleted(True))
        with pytest.raises(
            TypeError, match=r"^Deleted does not hand over its memory: object of type 'NoneType' has no"
        ):
            call(Deleted(False))
        with pytest.raises(RuntimeError, match=r"^Broken does not hand over its memory: INTERNAL: nothing here$"):
            call(Broken(False))


def test_integers_of_less_than_a_byte_are_refused_by_name():
    torch = pytest.importorskip("torch")
    names = [f"{sign}int{bits}" for bits in range(1, 8) for sign in ("u", "")]
    known = [name for name in names if hasattr(torch, name)]
    if not known:
        pytest.skip("this torch has none")
    for name in known:
        x = torch.empty(3, dtype=getattr(torch, name))
        calls = [ts.summary, ts.histogram, ts.norm, lambda x: ts.quantile(x, 0.5), lambda x: ts.unit_activity(x, dim=0)]
        for call in [*calls, lambda x: ts.check(x, finite=True), lambda x: ts.summary(torch.ones(3), where=x)]:
            with pytest.raises(TypeError, match=f"unsupported dtype: {name}; accepted: "):
                call(x)
        assert ts.summary(x.view(torch.uint8)).count == 3


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_the_hint_for_sparse_tensors_works():
    torch = pytest.importorskip("torch")
    x = torch.sparse_coo_tensor([[0, 0]], [1.0, 2.0], (3,))
    with pytest.raises(TypeError, match=r"x\.coalesce\(\)\.values\(\) holds the stored elements"):
        ts.summary(x)
    assert ts.summary(x.coalesce().values()).sum == 3.0


TYPED = """
import numpy as np, tensorstats as ts
from uhi.typing.plottable import PlottableHistogram
h: PlottableHistogram = ts.histogram(np.ones(3))
s: ts.Summary | int = sum([ts.summary(np.ones(3))])
u: ts.UnitActivity | int = sum([ts.UnitActivity(1)])
"""


@pytest.mark.slow
def test_types_say_that_a_histogram_is_plottable(tmp_path: Any, request: pytest.FixtureRequest):
    pytest.importorskip("mypy")
    (tmp_path / "typed.py").write_text(TYPED)
    # What mypy found out about numpy serves the next run.
    cache = request.config.cache.mkdir("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), str(tmp_path / "typed.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("axis", [ts.axis.LogLinear(6), ts.axis.Linear(4)], ids=repr)
@pytest.mark.parametrize("values", [[], [np.nan], [0.0], [1.0, 2.0]], ids=str)
def test_a_histogram_of_nothing_can_be_drawn_by_others(axis: ts.axis.Axis, values: list[float]):
    hep = pytest.importorskip("mplhep")
    from matplotlib.figure import Figure

    h = ts.histogram(np.array(values), axis)
    hep.histplot(h, ax=Figure().subplots())
    if not np.isfinite(values).any():
        assert (h.values().tolist(), h.edges.tolist(), h.axes[0][0]) == ([0], [0.0, 1.0], (0.0, 1.0))
