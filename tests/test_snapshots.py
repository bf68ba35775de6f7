"""The native count of many tensors and of what has changed in them since they were copied."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tensorstats as ts
from tensorstats._core import Histogram, Snapshots, summaries
from tensorstats.axis import LogLinear, Regular

FLOATS = ("float16", "float32", "float64")


def pair(dtype: str, shape: tuple[int, ...] = (513, 37), seed: int = 0) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    old = generator.standard_normal(shape)
    new = old + 1e-3 * generator.standard_normal(shape)
    return old.astype(dtype), new.astype(dtype)


def wide(x: Any) -> Any:
    return x.astype(np.float64 if x.dtype == np.float64 or x.dtype.itemsize == 8 else np.float32)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_values_and_differences_are_those_of_separate_calls(dtype: str, threads: int) -> None:
    shapes = [(513, 37), (), (1,), (0, 3), (300_000,), (70_001,)]
    olds, news = zip(*(pair(dtype, shape, seed) for seed, shape in enumerate(shapes)), strict=True)
    axis = LogLinear()
    snapshots = Snapshots(len(shapes))
    places = list(range(len(shapes)))
    snapshots.take(list(olds), places)
    kept = [old.copy() for old in olds]
    values_in = [Histogram(axis) for _ in shapes]
    updates_in = [Histogram(axis) for _ in shapes]
    values, updates = snapshots.count(list(news), list(places), values_in, updates_in, threads=threads)
    for i, (old, new) in enumerate(zip(kept, news, strict=True)):
        difference = wide(new) - wide(old)
        assert values[i] == ts.summary(new)
        assert updates[i] == ts.summary(difference)
        assert values[i].shape == updates[i].shape == new.shape
        assert values_in[i] == ts.Histogram(axis).update(new)
        assert updates_in[i] == ts.Histogram(axis).update(difference)


def test_a_difference_is_the_true_one_rounded_once() -> None:
    generator = np.random.default_rng(3)
    bits = generator.integers(0, 2**32, size=(2, 3000), dtype=np.uint32)
    old, new = (row.view(np.float32) for row in bits)
    finite = np.isfinite(old) & np.isfinite(new)
    old, new = old[finite].copy(), new[finite].copy()
    snapshots = Snapshots(1)
    for a, b in zip(old, new, strict=True):
        before, after = np.array([a]), np.array([b])
        exact = Fraction(float(b)) - Fraction(float(a))
        snapshots.take([before], [0])
        _, updates = snapshots.count([after], [0])
        if abs(exact) > Fraction(float(np.finfo(np.float32).max)):
            continue
        found = updates[0].min
        spacing = Fraction(float(np.spacing(np.abs(np.float32(found)))))
        assert abs(Fraction(float(found)) - exact) <= spacing / 2
        close = exact != 0 and Fraction(1, 2) <= Fraction(float(b)) / Fraction(float(a) or 1) <= 2
        if close:
            assert Fraction(float(found)) == exact  # Sterbenz


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[::-1],
        lambda x: x[:, ::3],
        lambda x: x[1:, 2:],
        lambda x: np.broadcast_to(x[0], x.shape),
    ],
)
def test_layouts_are_walked_in_place(view: Any) -> None:
    old, new = pair("float32")
    snapshots = Snapshots(1)
    snapshots.take([view(old)], [0])
    values, updates = snapshots.count([view(new)], [0])
    assert values[0] == ts.summary(view(new))
    # A sum of differences does not depend on the order beyond its bound; everything else not at all.
    difference = view(new) - view(old)
    assert updates[0].l2 == pytest.approx(ts.summary(difference).l2, rel=1e-12)
    assert (updates[0].min, updates[0].max) == (difference.min(), difference.max())


def test_nothing_special_is_lost_between_old_and_new() -> None:
    inf, nan = float("inf"), float("nan")
    old = np.array([0.0, 1.0, inf, nan, 1.0, -0.0, 1e-45], dtype=np.float32)
    new = np.array([-0.0, inf, inf, 1.0, nan, 0.0, 2.8e-45], dtype=np.float32)
    snapshots = Snapshots(1)
    snapshots.take([old], [0])
    _, updates = snapshots.count([new], [0])
    # inf - inf and everything with a NaN is NaN; the difference of two subnormals is one.
    assert (updates[0].nan_count, updates[0].posinf_count, updates[0].zero_count) == (3, 1, 2)
    assert updates[0].subnormal_count == 1


def test_the_copy_stays_until_it_is_taken_again() -> None:
    old, new = pair("float32")
    snapshots = Snapshots(2)
    snapshots.take([old], [1])
    for _ in range(2):
        _, updates = snapshots.count([new], [1])
        assert updates[0] == ts.summary(new - old)
    snapshots.take([new], [1])
    _, updates = snapshots.count([new], [1])
    assert updates[0].zero_count == new.size
    snapshots.forget([1])
    _, updates = snapshots.count([new], [1])
    assert updates[0].count == 0


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_copies_are_whole_whatever_thread_made_them(threads: int) -> None:
    generator = np.random.default_rng(1)
    big = generator.standard_normal(1_000_003)
    views = [
        big,
        big[:5],
        big[1:].astype(np.float32)[1:],
        big[:999_990].reshape(30, -1).T,
        big[::-2],
        np.broadcast_to(big[:7, None], (7, 70_000)),
        big.astype(np.float16),
        (100 * big).astype(np.int8)[3:],
        (100 * big).astype(np.int64),
        np.zeros((0, 3)),
    ]
    places = list(range(len(views)))
    snapshots = Snapshots(len(views))
    for _ in range(2):  # into new memory and into that of a copy of another tensor
        snapshots.take(views, places, threads=threads)
        _, updates = snapshots.count(views, places)
        for view, place in zip(views, places, strict=True):
            assert (updates[place].count, updates[place].zero_count) == (view.size, view.size)
        snapshots.take([view + view.dtype.type(1) for view in views], places, threads=threads)


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_take_that_fails_leaves_no_copies_in_its_places(size: int) -> None:
    old, new = pair("float32", (size,))
    snapshots = Snapshots(3)
    snapshots.take([old] * 3, [0, 1, 2])
    with pytest.raises(TypeError):
        snapshots.take([new, object()], [0, 1])
    _, updates = snapshots.count([new] * 3, [0, 1, 2])
    assert [updates[place].count for place in range(3)] == [0, 0, size]
    snapshots.take([old], [0])
    _, updates = snapshots.count([new], [0])
    assert updates[0] == ts.summary(new - old)
    with pytest.raises(ValueError, match="threads must be in \\[1, 1024\\], got: 0"):
        snapshots.take([old], [0], threads=0)


def test_a_call_leaves_the_places_alone_that_it_does_not_name() -> None:
    old, new = pair("float32")
    snapshots = Snapshots(3)
    snapshots.take([old], [0])
    seen: list[Any] = []

    class Exporter:
        """Uses the snapshots while a call is on its way."""

        def __dlpack__(self, **options: Any) -> Any:
            seen.append(len(snapshots))
            snapshots.take([old], [1])
            seen.extend(table[0].count for table in snapshots.count([new], [1]))
            seen.extend(table[0].count for table in snapshots.count([new], [0]))
            return new.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    snapshots.count([Exporter()], [None])
    # Nothing is named: the copy in place 0 can be used meanwhile.
    assert seen == [3] + [new.size] * 4
    seen.clear()
    _, updates = snapshots.count([Exporter()], [0])
    assert seen == [3] + [new.size] * 3 + [0]
    assert updates[0] == ts.summary(new - old)
    _, updates = snapshots.count([new, new], [0, 1])
    assert (updates[0], updates[1]) == (ts.summary(new - old), ts.summary(new - old))


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_rows_show_the_samples_of_a_single_summary(threads: int) -> None:
    big, _ = pair("float64", (1_000_001,))
    arrays = [big[:9], big, big[:70_000].reshape(7, -1).T, big[::3], big[:65_536], big[:200].astype(np.float16)]
    values, _ = Snapshots(0).count(arrays, [None] * len(arrays), threads=threads)
    table = summaries(arrays, threads=threads)
    for row, array in enumerate(arrays):
        assert repr(values[row]) == repr(table[row]) == repr(ts.summary(array))


def test_a_copy_of_another_shape_layout_or_dtype_gives_no_difference() -> None:
    old, new = pair("float32")
    snapshots = Snapshots(1)
    snapshots.take([old], [0])
    for other in (new.T, new[:-1], new.astype(np.float64), np.asfortranarray(new)):
        values, updates = snapshots.count([other], [0])
        assert values[0].count == other.size
        assert updates[0].count == 0
    _, updates = snapshots.count([new], [None])
    assert updates[0].count == 0


def test_integers_and_one_byte_dtypes_have_differences() -> None:
    old = np.array([0, 250, 7], dtype=np.uint8)
    new = np.array([255, 0, 7], dtype=np.uint8)
    snapshots = Snapshots(1)
    snapshots.take([old], [0])
    values, updates = snapshots.count([new], [0])
    assert values[0].max == 255
    assert (updates[0].min, updates[0].max, updates[0].zero_count) == (-250.0, 255.0, 1)


def test_tables_merge_row_by_row() -> None:
    old, new = pair("float32")
    first, second = ts._core.summaries([old, new]), ts._core.summaries([new, old])
    total = first.copy().merge(second)
    assert total[0] == ts.summary(old) + ts.summary(new)
    assert first[0] == ts.summary(old)
    with pytest.raises(ValueError, match="a table of 2 rows cannot take in one of 1"):
        first.merge(ts._core.summaries([old]))


def test_wrong_arguments_are_refused_and_leave_the_copies() -> None:
    old, new = pair("float32")
    snapshots = Snapshots(1)
    snapshots.take([old], [0])
    with pytest.raises(ValueError, match="a place must be below 1, got: 1"):
        snapshots.take([new], [1])
    with pytest.raises(ValueError, match="a place may be named once, got twice: 0"):
        snapshots.count([new, new], [0, 0])
    with pytest.raises(ValueError, match="places must have one entry for each of 1 tensors, got 2"):
        snapshots.count([new], [0, None])
    with pytest.raises(ValueError, match="value_histograms must have one entry for each of 1 tensors, got 2"):
        snapshots.count([new], [0], [Histogram(LogLinear())] * 2)
    with pytest.raises(ValueError, match="histograms must be of one axis"):
        snapshots.count([new], [0], [Histogram(LogLinear())], [Histogram(Regular(4, 0.0, 1.0))])
    with pytest.raises(TypeError):
        snapshots.count([object()], [0])
    _, updates = snapshots.count([new], [0])
    assert updates[0] == ts.summary(new - old)
    assert len(snapshots) == 1


def test_a_table_that_keeps_its_numbers_alone_gives_and_merges_the_same() -> None:
    arrays = [np.arange(5.0), np.array([np.nan, -1.0]), np.zeros((2, 3), np.int8)]
    whole, numbers = (summaries(arrays) for _ in range(2))
    numbers.keep_numbers()
    numbers.keep_numbers()
    assert numbers.dtypes() == whole.dtypes()
    assert (whole.shapes(), numbers.shapes()) == ([[5], [2], [2, 3]], [None, None, None])
    for name in ("count", "nan_count", "min", "sum", "l2"):
        assert numbers.column(name) == whole.column(name)
    for row, array in enumerate(arrays):
        assert (numbers[row].shape, whole[row].shape) == (None, array.shape)
        assert numbers[row].to_bytes() == ts.summary(array).to_bytes()
    with pytest.raises(IndexError, match="row must be below 3, got: 3"):
        numbers[3]
    expected = whole.copy().merge(whole).column("sum")
    assert numbers.copy().merge(numbers).column("sum") == expected
    assert whole.copy().merge(numbers).column("sum") == expected
    assert numbers.copy().merge(whole).column("sum") == expected
