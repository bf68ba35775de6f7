"""States that no data can give are refused where they come in; those that data gives never are."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tensorstats as ts

X = np.random.default_rng(0).standard_normal(500).astype(np.float32)
WITH_HOLES = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -3.0, 2.0], np.float32)
COUNTED = np.array([-3, -1, 0, 5, 5], np.int32)


def summary(**changes: Any) -> Callable[[], object]:
    return lambda: ts.Summary.from_dict(ts.summary(WITH_HOLES, formats="float16").to_dict() | changes)


def whole(**changes: Any) -> Callable[[], object]:
    return lambda: ts.Summary.from_dict(ts.summary(COUNTED).to_dict() | changes)


def normal(**changes: Any) -> Callable[[], object]:
    return lambda: ts.Summary.from_dict(ts.summary(X, moments=4).to_dict() | changes)


def log(**changes: Any) -> Callable[[], object]:
    return lambda: ts.Histogram.from_dict(ts.histogram(WITH_HOLES, ts.axis.LogLinear(4)).to_dict() | changes)


def linear(**changes: Any) -> Callable[[], object]:
    return lambda: ts.Histogram.from_dict(ts.histogram(X, ts.axis.Linear(64)).to_dict() | changes)


def regular(**changes: Any) -> Callable[[], object]:
    return lambda: ts.Histogram.from_dict(ts.histogram(WITH_HOLES, bins=4, range=(-1, 1)).to_dict() | changes)


def units(**changes: Any) -> Callable[[], object]:
    u = ts.unit_activity(np.array([[0.0, 1.0, np.nan], [0.0, 3.0, np.inf]]), saturation=(-1.0, 2.0))
    return lambda: ts.UnitActivity.from_dict(u.to_dict() | changes)


IMPOSSIBLE: dict[str, Callable[[], object]] = {
    "fewer values than classes have": summary(positive_count=1),
    "more subnormal values than values": summary(subnormal_count=4),
    "no subnormal value, and a subnormal magnitude": summary(subnormal_count=0),
    "min above max": summary(min=3.0),
    "min of another sign": summary(min=-0.0),
    "negative values, and none below zero": summary(min=0.5),
    "an extreme that float32 does not have": summary(max=2.1),
    "the smallest magnitude above an extreme": summary(absmin=2.5),
    "a negative magnitude": summary(absmin=-1e-40),
    "no smallest magnitude": summary(absmin=None),
    "no extremes of finite values": summary(min=None, max=None, absmin=None),
    "a sum beyond what the extremes allow": summary(sum=[1e9, 0.0]),
    "a sum that is no number": summary(sum=[float("nan"), 0.0]),
    "a sum of magnitudes below the sum": normal(l1=[1.0, 0.0]),
    "squares below the largest square": summary(squares=[1.0, 0.0]),
    "a negative variance": normal(m2=[-1.0, 0.0]),
    "a variance beyond the range": normal(m2=[1e6, 0.0]),
    "no variance of different values": normal(m2=[0.0, 0.0]),
    "a fourth moment below the variance": normal(m4=1.0),
    "a third moment beyond the fourth": normal(m3=1e6),
    "another scale": summary(scale=40),
    "more values than can be counted": summary(nan_count=2**63 - 1, posinf_count=2**63 - 1),
    "a shape of fewer elements": summary(shape=[3]),
    "a sample beyond the extremes": summary(sample=[9.0]),
    "values of no dtype": summary(dtype=None),
    "an integer sum of floats": summary(int_sum=1, int_l1=1),
    "integers that are not finite": whole(nan_count=1),
    "infinite integers": whole(posinf_count=1),
    "subnormal integers": whole(subnormal_count=1),
    "an integer beyond its dtype": whole(max=2**31),
    "negative values of an unsigned dtype": whole(dtype="uint32"),
    "an integer sum of the wrong parity": whole(int_sum=12),
    "an integer sum beyond count and extremes": whole(int_sum=15, int_l1=23),
    "a float sum of integers": whole(sum=[11.0, 0.0]),
    "infinities of float8_e4m3fn": summary(dtype="float8_e4m3fn"),
    "overflow in a format that holds the largest value": summary(
        formats={"scale": 1.0, "counts": {"float16": {"overflow": 1, "subnormal": 0, "flushed": 1}}}
    ),
    "nothing flushed, and a magnitude that is": summary(
        formats={"scale": 1.0, "counts": {"float16": {"overflow": 0, "subnormal": 0, "flushed": 0}}}
    ),
    "a bin twice": log(places=[1, 1], counts=[1, 2]),
    "a bin beyond the axis": log(places=[(2098 << 4) + 1], counts=[1]),
    "bins without their counts": log(places=[1, 2], counts=[1]),
    "a bin of float64 that holds no number": log(places=[2], counts=[1]),
    "more values than bins can hold": log(places=[5, 6], counts=[2**63 - 1, 2**63 - 1]),
    "digits that no dtype has": log(value_bits=9),
    "digits of no value": log(places=[], counts=[], nan_count=0, posinf_count=0, neginf_count=0),
    "a bin for more digits than the dtypes have": log(value_bits=2, places=[(1074 << 4) + 2], counts=[1]),
    "more infinities than values beyond the edges": regular(posinf_count=7),
    "edges that are not equal": regular(edges=[-1.0, -0.5, 0.25, 0.5, 1.0]),
    "edges that fall": regular(edges=[-1.0, -0.5, 0.25, 0.0, 1.0]),
    "an unknown axis": regular(axis="radial"),
    "a place that is no bin": regular(places=[6], counts=[1]),
    "bins wider than the values need": linear(width_exponent=4, places=[0, 1], counts=[250, 250]),
    "more bins than the axis has": linear(places=[0, 64], counts=[250, 250]),
    "a width of nothing": linear(places=[], counts=[], value_bits=0),
    "values of a unit beyond its counts": units(active_count=[1, 2, 0]),
    "more saturated values than values": units(low_count=[0, 2, 0], high_count=[0, 1, 0]),
    "saturated values within the bounds": units(high_count=[0, 2, 0]),
    "saturated values without bounds": units(saturation=None),
    "no saturated value beyond the bounds": units(high_count=[0, 0, 0]),
    "active after the last update": units(last_active=[0, 2, 0]),
    "active and never active": units(last_active=[0, 0, 0]),
    "units before any update": units(updates=0),
    "a mean beyond the extremes": units(mean=[0.0, 1e9, 0.0]),
    "a spread beyond the extremes": units(m2=[0.0, 1e9, 0.0]),
    "no spread of different values": units(m2=[0.0, 0.0, 0.0]),
    "a spread of zeros": units(m2=[1.0, 2.0, 0.0]),
    "min above max of a unit": units(min=[0.0, 4.0, None]),
    "extremes of zeros": units(max=[1.0, 3.0, None]),
    "extremes of no finite value": units(min=[0.0, 1.0, 1.0], max=[0.0, 3.0, 1.0]),
    "a scale beyond float64": units(scale=[0, 5000, 0]),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_a_state_that_no_data_gives_is_refused(case: str):
    with pytest.raises((ValueError, TypeError)):
        IMPOSSIBLE[case]()


@pytest.mark.parametrize("make", [summary, whole, normal, log, linear, regular, units])
def test_the_same_state_unchanged_is_taken(make: Callable[[], Callable[[], object]]):
    make()()


def damaged(state: Any, random: np.random.Generator) -> Any:
    packed = bytearray(state.to_bytes())
    for _ in range(int(random.integers(1, 3))):
        packed[int(random.integers(len(packed)))] ^= 1 << int(random.integers(8))
    return type(state).from_bytes(bytes(packed))


def makes_sense(s: Any) -> bool:
    if isinstance(s, ts.Histogram):
        values = s.view(flow=True)
        counts_add_up = int(values.sum()) + s.nan_count == s.count < 2**63
        return bool((values >= 0).all()) and counts_add_up and bool((np.diff(s.edges) > 0).all())
    if isinstance(s, ts.UnitActivity):
        seen = s.active_count + s.zero_count > 0
        off = 1e-4 * np.maximum(np.abs(s.min), np.abs(s.max))[seen]
        between = (s.mean[seen] >= s.min[seen] - off) & (s.mean[seen] <= s.max[seen] + off)
        whole = bool((s.low_count + s.high_count <= s.active_count + s.zero_count).all())
        return bool(between.all()) and whole and bool((s.last_active <= s.updates).all())
    off = 1e-4 * s.absmax
    integer = s.dtype is not None and "int" in s.dtype
    classes = s.nan_count + s.posinf_count + s.neginf_count + s.zero_count + s.negative_count + s.positive_count
    return bool(
        classes == s.count
        and s.min <= s.max
        and s.min - off <= s.mean <= s.max + off
        and 0 <= s.std() <= s.max - s.min
        and not (integer and s.nonfinite_count)
    )


@pytest.mark.parametrize(
    "state",
    [
        ts.histogram(X, bins=8, range=(-2, 2)),
        ts.histogram(X, ts.axis.LogLinear(precision=4)),
        ts.histogram(X, ts.axis.Linear(32)),
        ts.unit_activity(X.reshape(50, 10), dim=1, saturation=(-1.0, 1.0)),
        ts.summary(X),
        ts.summary((X * 1000).astype(np.int32)),
        ts.summary((X * 1000).astype(np.int64), moments=4),
        ts.summary(X.astype(ml_dtypes.bfloat16), formats=("float16", "float8_e5m2")),
    ],
    ids=repr,
)
def test_damage_is_refused_or_leaves_a_state_that_makes_sense(state: Any):
    random = np.random.default_rng(1)
    refused = 0
    for _ in range(3000):
        try:
            other = damaged(state, random)
        except ValueError:
            refused += 1
            continue
        assert makes_sense(other), other
    assert refused > 300, "damage is found"


DTYPES = [
    *(
        "bool",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
    ),
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
]


def looks(dtype: Any) -> list[np.ndarray]:
    """Every kind of trouble that a dtype has."""
    kind = np.dtype(dtype)
    random = np.random.default_rng(2)
    bits = random.integers(0, 256, 4096, np.uint8)
    every = bits.astype(bool) if kind.kind == "b" else bits.view(kind)
    if kind.kind in "biu":
        ends = [0, 1] if kind.kind == "b" else [np.iinfo(kind).min, 0, 1, np.iinfo(kind).max]
        small = random.integers(0, 2, 50).astype(kind)
        return [
            every,
            every[:0],
            every[:1],
            np.array(ends, kind),
            np.full(9, ends[-1], kind),
            np.full(9, ends[0], kind),
            small,
        ]
    info = ml_dtypes.finfo(kind)
    tiny, large = float(info.smallest_subnormal), float(info.max)
    values = [
        *([], [np.nan], [np.nan] * 5, [0.0], [-0.0, 0.0], [1.5] * 7, [tiny, -tiny], [tiny, 0.0, 3 * tiny]),
        *(
            [large, -large],
            [large] * 9,
            [large, tiny],
            [1.0, np.nan],
            [-2.0],
            [1000.0, 1001.0] * 40,
            [np.inf, -np.inf, np.nan],
        ),
    ]
    with np.errstate(all="ignore"):
        return [
            every,
            random.standard_normal(300).astype(kind),
            *(np.array(x, np.float64).astype(kind) for x in values),
        ]


def taken(state: Any) -> None:
    cls = type(state)
    assert cls.from_bytes(state.to_bytes()) == state
    assert cls.from_dict(json.loads(json.dumps(state.to_dict(), allow_nan=False))) == state
    assert pickle.loads(pickle.dumps(state)) == state


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_what_data_gives_is_taken_alone_and_merged(dtype: Any):
    makers: list[Callable[[], Any]] = [
        ts.Summary,
        lambda: ts.Summary(moments=4),
        lambda: ts.Summary(formats=("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16"), scale=3.0),
        lambda: ts.Histogram(ts.axis.Regular(7, -1.0, 3.0)),
        lambda: ts.Histogram(ts.axis.Variable([-1e300, -1.0, 0.0, 1e-310, 7.0])),
        *(lambda p=p: ts.Histogram(ts.axis.LogLinear(p)) for p in (0, 6, 10)),
        *(lambda b=b: ts.Histogram(ts.axis.Linear(b)) for b in (2, 3, 100)),
        lambda: ts.UnitActivity(0),
        lambda: ts.UnitActivity(-1, saturation=(-1.0, 0.5)),
        lambda: ts.UnitActivity(-1, saturation=(-np.inf, np.inf)),
    ]
    for make in makers:
        total = make()
        for x in looks(dtype):
            column = x.reshape(-1, 1) if isinstance(total, ts.UnitActivity) and total.dim == -1 else x.reshape(1, -1)
            alone = make().update(column)
            taken(alone)
            taken(make().update(column, where=np.arange(column.size).reshape(column.shape) % 2 == 0))
            if not isinstance(total, ts.UnitActivity) or total.dim == -1:
                total.merge(alone)
                taken(total)
        if not isinstance(total, ts.UnitActivity):
            total.update(np.array([2**64 - 1], np.uint64)).update(X).update(np.array([1e300, -1e-300]))
            taken(total)


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "int64", "uint8"])
def test_what_devices_give_is_taken(name: str):
    torch = pytest.importorskip("torch")
    from tensorstats.device import results as device

    dtype = getattr(torch, name)
    for values in ([], [0.0], [3.0] * 5, [1e-40, 1.0], [100.0, 101.0, 99.0], [1e30, 1.0], [-1e-30, 1e-45]):
        wide = (
            torch.tensor(values, dtype=torch.float64).clamp(-1e18, 1e18)
            if dtype in (torch.int64, torch.uint8)
            else None
        )
        x = (torch.tensor(values, dtype=torch.float64) if wide is None else wide).to(dtype)
        for four in (2, 4):
            taken(device.summary(x, moments=four))
        taken(device.unit_activity(x.reshape(-1, 1), 1, saturation=(-1.0, 2.5)))
        for axis in (ts.axis.LogLinear(6), ts.axis.Linear(10), ts.axis.Regular(5, -1.0, 4.0)):
            taken(device.histogram(x, axis))


def test_extremes_of_states_of_several_dtypes_stay_what_they_were():
    state = ts.summary(np.array([2**63 + 1], np.uint64)) + ts.summary(np.array([0.5], np.float32))
    assert ts.Summary.from_dict(json.loads(json.dumps(state.to_dict()))).to_bytes() == state.to_bytes()


def test_extremes_are_right_where_the_process_flushes_subnormals():
    torch = pytest.importorskip("torch")
    from tensorstats.device import results as device

    single, double = torch.tensor([1e-40, -1e-41, 0.0]), torch.tensor([5e-324, -5e-324], dtype=torch.float64)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        s, f = device.summary(single), device.summary(double)
    finally:
        torch.set_flush_denormal(False)
    assert (s.min, s.max, s.absmin) == (float(np.float32(-1e-41)), float(np.float32(1e-40)), float(np.float32(1e-41)))
    assert (f.min, f.max) == (-5e-324, 5e-324)
