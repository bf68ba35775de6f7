"""Unit activity against numpy, unit by unit."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tensorstats as ts
from conftest import LEVELS, THREADS
from samples import DTYPES, mixed
from tensorstats import _core

FIELDS = (
    "count",
    "active_count",
    "zero_count",
    "nonfinite_count",
    "low_count",
    "high_count",
    "last_active",
    "mean",
    "min",
    "max",
)


def assert_units(
    u: ts.UnitActivity, array: np.ndarray, dim: int, saturation: tuple[float, float] | None = None
) -> None:
    """Every field of every unit, counts and extremes exactly."""
    with np.errstate(invalid="ignore"):
        rows = np.moveaxis(array, dim, 0).astype(np.float64).reshape(array.shape[dim], -1)
    finite = np.isfinite(rows)
    low, high = saturation or (-np.inf, np.inf)
    assert u.units == len(rows)
    for name, expected in {
        "count": np.full(len(rows), rows.shape[1]),
        "active_count": (finite & (rows != 0)).sum(1),
        "zero_count": (rows == 0).sum(1),
        "nonfinite_count": (~finite).sum(1),
        "low_count": (finite & (rows < low)).sum(1),
        "high_count": (finite & (rows > high)).sum(1),
        "last_active": (finite & (rows != 0)).any(1).astype(int),
    }.items():
        found = getattr(u, name)
        assert found.dtype == np.int64
        assert np.array_equal(found, expected), name
    spread = u.std()
    for i, row in enumerate(rows):
        values = row[finite[i]]
        found = [u.mean[i], spread[i], u.min[i], u.max[i]]
        if values.size == 0:
            assert all(math.isnan(x) for x in found)
            continue
        assert found[2:] == [values.min(), values.max()]
        wide = values.astype(np.longdouble)
        mean, std = float(wide.mean()), float(wide.std())
        if values.min() == values.max():
            assert found[:2] == [values[0], 0.0]
        elif np.isfinite(std) and std > 1e-300 and abs(mean) <= 1e6 * std:
            assert abs(found[0] - mean) <= 1e-12 * max(abs(mean), std)
            assert abs(found[1] - std) <= 1e-9 * std


SHAPES = {
    "NCHW": ((4, 20, 6, 7), 1),
    "NHWC": ((4, 6, 7, 20), 3),
    "BTC": ((5, 12, 33), 2),
    "BTC-negative": ((5, 12, 33), -1),
    "NF": ((50, 37), 1),
    "NF-rows": ((50, 37), 0),
    "few-units": ((500, 3), 1),
    "few-values": ((2, 300), 1),
    "vector": ((40,), 0),
    "tiny-images": ((9, 40, 2, 2), 1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "dim"), SHAPES.values(), ids=SHAPES)
def test_against_numpy(dtype: str, shape: tuple[int, ...], dim: int):
    array = mixed(dtype, math.prod(shape)).reshape(shape)
    if array.dtype.itemsize == 8 and dtype != "float64":
        array = array >> 12  # numpy's float64 would round what is beyond 2^53
    assert_units(ts.unit_activity(array, dim), array, dim)
    assert_units(ts.unit_activity(array, dim, saturation=(-0.5, 1.0)), array, dim, (-0.5, 1.0))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "float64"])
def test_layouts(dtype: str):
    block = mixed(dtype, 24 * 20 * 36).reshape(24, 20, 36)
    for view in (
        block.transpose(2, 0, 1),
        block[::-1, :, ::-1],
        block[::2, 3:, ::3],
        np.asfortranarray(block),
        np.broadcast_to(block[0], (5, 20, 36)),
        np.broadcast_to(block[:, :1], (24, 9, 36)),
        block[:, :, :1],
        block[None, :, None],
    ):
        for dim in range(-view.ndim, view.ndim):
            assert_units(ts.unit_activity(view, dim), view, dim)


def test_channels_last_is_read_in_place():
    x = torch.randn(6, 24, 9, 9).relu_()
    last = x.to(memory_format=torch.channels_last)
    assert last.stride() != x.stride()
    assert_units(ts.unit_activity(last, 1), x.numpy(), 1)
    assert_units(ts.unit_activity(x, 1), x.numpy(), 1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "int8"])
@pytest.mark.parametrize(
    ("shape", "dim"), [((8, 48, 40, 40), 1), ((9000, 70), 1), ((70, 9000), 0), ((40_000, 3), 1)], ids=str
)
def test_levels_and_threads_do_not_show(dtype: str, shape: tuple[int, ...], dim: int, restore_simd_level: None):
    array = mixed(dtype, math.prod(shape)).reshape(shape)
    states = {ts.unit_activity(array, dim, saturation=(-1, 1), threads=threads).to_bytes() for threads in THREADS}
    for level in LEVELS:
        _core.set_simd_level(level)
        states.add(ts.unit_activity(array, dim, saturation=(-1, 1)).to_bytes())
    assert len(states) == 1


@pytest.mark.parametrize("offset", [0.0, 1.0, -1e3, 1e6])
@pytest.mark.parametrize("dim", [0, 1])
def test_a_mean_far_from_zero(offset: float, dim: int):
    array = np.random.default_rng(0).standard_normal((700, 700)) + offset
    assert_units(ts.unit_activity(array, dim), array, dim)
    # The first value of a unit is far from the others.
    array[0], array[:, 0] = 0.0, 0.0
    assert_units(ts.unit_activity(array, dim), array, dim)


@pytest.mark.parametrize("value", [0.1, 1e300, 5e-324, -3.3e-300, 1.7e308])
def test_constants_have_no_spread_after_any_merges(value: float):
    u = ts.UnitActivity(1)
    for n in (1, 3, 1000, 7):
        u.update(np.full((n, 5), value))
    u.merge(u.copy())
    assert u.std().tolist() == [0.0] * 5
    assert u.mean.tolist() == [value] * 5


def test_numbers_that_others_get_wrong():
    # numpy#22956, numpy#8869: float32 means of long columns.
    assert ts.unit_activity(np.ones((20_000_000, 2), np.float32), 1).mean.tolist() == [1.0, 1.0]
    assert ts.unit_activity(np.ones((100_000, 4, 15), np.float32), 2).mean.tolist() == [1.0] * 15
    # numpy: float16 overflows.
    big = ts.unit_activity(np.full((1000, 2), 60_000, np.float16), 1)
    assert (big.mean.tolist(), big.std().tolist()) == ([60_000.0] * 2, [0.0] * 2)


# --- across updates ---------------------------------------------------------------------------------------------------


def test_dead_units_across_updates():
    u = ts.UnitActivity(1)
    steps = [[0.0, 1.0, 0.0, np.nan], [0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, np.inf]]
    for step in steps:
        u.update(np.array([step, step]))
    assert (u.updates, u.units, u.dim) == (3, 4, 1)
    assert u.last_active.tolist() == [0, 1, 2, 0]
    assert u.dead_units().tolist() == [0, 3]
    assert u.dead_fraction() == 0.5
    assert u.dead_units(1 / 3).tolist() == [0, 1, 2, 3]
    assert u.active_fraction.tolist() == [0.0, 1 / 3, 1 / 3, 0.0]


def test_merging_shifts_the_updates_of_the_second():
    steps = [
        np.array([[1.0, 0.0, 0.0]]),
        np.array([[0.0, 1.0, 0.0]]),
        np.array([[0.0, 0.0, 0.0]]),
        np.array([[1.0, 0.0, 0.0]]),
    ]
    whole = ts.UnitActivity(1)
    for step in steps:
        whole.update(step)
    left, right = (
        ts.UnitActivity(1).update(steps[0]).update(steps[1]),
        ts.UnitActivity(1).update(steps[2]).update(steps[3]),
    )
    assert (left + right).last_active.tolist() == whole.last_active.tolist() == [4, 2, 0]
    assert (left + right).updates == 4
    assert (right + left).last_active.tolist() == [3, 4, 0]


@given(st.integers(0, 60), st.sampled_from([0.0, 10.0, -1e5]))
def test_pieces_merge_to_the_whole(cut: int, offset: float):
    array = mixed("float64", 60 * 9).reshape(60, 9)
    array[:, 4:] = np.random.default_rng(1).standard_normal((60, 5)) + offset
    u = ts.unit_activity(array[:cut], 1) + ts.unit_activity(array[cut:], 1)
    for name in FIELDS[:6]:
        assert np.array_equal(getattr(u, name), getattr(ts.unit_activity(array, 1), name))
    whole = ts.unit_activity(array[:, 4:], 1)
    assert np.allclose(u.mean[4:], whole.mean, rtol=1e-12, atol=1e-12)
    assert np.allclose(u.std()[4:], whole.std(), rtol=1e-9, atol=0)


def test_saturation():
    u = ts.unit_activity(np.array([[-1.0, 0.0, 1.0, 2.0], [-np.inf, 0.5, 1.0, np.nan]]), 1, saturation=(-0.5, 1.0))
    assert u.saturation == (-0.5, 1.0)
    assert u.low_count.tolist() == [1, 0, 0, 0]
    assert u.high_count.tolist() == [0, 0, 0, 1]
    assert u.saturated_fraction == 0.25
    assert u.saturated_fractions.tolist() == [0.5, 0.0, 0.0, 0.5]
    with pytest.raises(ValueError, match="without bounds; ask for them with saturation="):
        _ = ts.unit_activity(np.ones((2, 2))).saturated_fraction


# --- the edges of what is asked ---------------------------------------------------------------------------------------


def test_nothing_to_count():
    u = ts.unit_activity(np.zeros((0, 3)), 1)
    assert (u.units, u.updates, u.count.tolist(), u.dead_units().tolist()) == (3, 1, [0, 0, 0], [])
    assert np.isnan(u.mean).all()
    assert np.isnan(u.min).all()
    assert np.isnan(u.active_fraction).all()
    assert math.isnan(ts.unit_activity(np.zeros((3, 0)), 1).dead_fraction())
    fresh = ts.UnitActivity()
    assert (fresh.units, fresh.updates, fresh.dim, fresh.saturation) == (0, 0, 1, None)
    assert [getattr(fresh, name).tolist() for name in FIELDS] == [[]] * len(FIELDS)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: ts.unit_activity(np.ones((2, 3)), 2),
            IndexError,
            r"dim must be in \[-2, 1\] for a tensor of rank 2, got: 2",
        ),
        (lambda: ts.unit_activity(np.ones((2, 3)), -3), IndexError, "got: -3"),
        (lambda: ts.unit_activity(np.float64(1.0), 0), IndexError, "a 0-d tensor has no dim to choose, got dim: 0"),
        (
            lambda: ts.unit_activity(np.ones(3), 0, saturation=(1, 0)),
            ValueError,
            r"two bounds with low <= high, got: \(1, 0\)",
        ),
        (lambda: ts.UnitActivity(1, saturation=(math.nan, 0)), ValueError, r"got: \(NaN, 0\)"),
        (
            lambda: ts.unit_activity(np.ones((2, 2))).dead_units(1.5),
            ValueError,
            r"threshold must be in \[0, 1\], got: 1.5",
        ),
        (lambda: ts.unit_activity(np.ones((2, 2)), threads=0), ValueError, "threads must be in \\[1, 1024\\], got: 0"),
        (
            lambda: ts.unit_activity(np.ones((2, 2))) + ts.unit_activity(np.ones((2, 2)), saturation=(0, 1)),
            ValueError,
            r"different saturation: None and \(0, 1\)",
        ),
    ],
)
def test_what_cannot_be_is_refused(call: object, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        call()


def test_repr_is_one_line():
    u = ts.unit_activity(np.array([[0.0, 1.0, np.nan], [0.0, 3.0, 2.0]]), 1, saturation=(0, 2))
    assert repr(u) == (
        "UnitActivity dim=1 units=3 updates=1 n=6 active=50.000% [0% █▁▁▁▁█▁▁▁█ 100%] dead=1"
        " saturation=(0, 2) saturated=16.667% nonfinite=1!"
    )
    assert repr(ts.UnitActivity(-1)) == "UnitActivity dim=-1 units=0 updates=0 n=0"


def test_a_dict_of_another_shape_is_refused():
    state = ts.unit_activity(np.ones((2, 3))).to_dict()
    with pytest.raises(ValueError, match="fields of a UnitActivity must be equally long, got: 3 and 2"):
        ts.UnitActivity.from_dict({**state, "m2": [0.0, 0.0]})
    with pytest.raises(ValueError, match="expected kind unit_activity, version 1; got: summary"):
        ts.UnitActivity.from_dict({**state, "kind": "summary"})
    with pytest.raises(ValueError, match="lacks the key: mean"):
        ts.UnitActivity.from_dict({name: value for name, value in state.items() if name != "mean"})


def test_units_not_active_of_late():
    # Unit 0 always, unit 1 in every third update, unit 2 in the first only, unit 3 never, unit 4 only NaN.
    def rows(update: int) -> np.ndarray:
        return np.array([[1.0, float(update % 3 == 0), float(update == 0), 0.0, np.nan]])

    u = ts.UnitActivity(1)
    assert u.inactive_for.tolist() == []
    assert u.inactive_units(1).tolist() == []
    last: list[int | None] = [None] * 5
    for update in range(11):
        u.update(rows(update))
        for unit, value in enumerate(rows(update)[0]):
            if value != 0 and not math.isnan(value):
                last[unit] = update
        expected = [update + 1 if at is None else update - at for at in last]
        assert u.inactive_for.tolist() == expected
        for wanted in range(1, 14):
            # Of fewer updates than asked for nothing can be said.
            found = [unit for unit, updates in enumerate(expected) if updates >= wanted]
            assert u.inactive_units(wanted).tolist() == found
    with pytest.raises(ValueError, match="updates must be at least 1, got: 0"):
        u.inactive_units(0)


@given(
    st.lists(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=5), min_size=1, max_size=5), st.integers(1, 8)
)
def test_inactive_for_follows_the_order_of_merges(parts: list[list[tuple[bool, bool]]], wanted: int):
    merged = ts.UnitActivity(1)
    for part in parts:
        state = ts.UnitActivity(1)
        for row in part:
            state.update(np.array([row], dtype=np.float32))
        merged = merged + ts.UnitActivity.from_bytes(state.to_bytes())
    rows = [row for part in parts for row in part]
    expected = []
    for unit in range(2 if rows else 0):
        since = 0
        for row in reversed(rows):
            if row[unit]:
                break
            since += 1
        expected.append(since)
    for state in (merged, pickle.loads(pickle.dumps(merged)), ts.UnitActivity.from_dict(merged.to_dict())):
        assert state.inactive_for.tolist() == expected
        assert state.inactive_units(wanted).tolist() == [i for i, since in enumerate(expected) if since >= wanted]


def test_units_without_values_are_not_inactive():
    u = ts.UnitActivity(1).update(np.zeros((0, 3)))
    assert u.inactive_for.tolist() == [1, 1, 1]
    assert u.inactive_units(1).tolist() == []
