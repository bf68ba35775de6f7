"""Counts, ranges and quantiles on which others are or were wrong or give up; here they must come out right.

Where the other's answer follows from its contract, such as adding in the dtype of the data, it stands beside ours.
"""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

import tensorstats as ts

LINEAR = ts.axis.Linear(16)


def test_counts_in_the_dtype_of_the_data():
    """float16 stops counting at 2048 and bfloat16 at 256 (torch.histc counts in the dtype of the data)."""
    count = np.float16(0)
    for _ in range(3000):
        count += np.float16(1)
    assert count == 2048
    for dtype in (np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn):
        zeros = np.zeros(100_000, dtype)
        for axis in (ts.axis.Regular(1, -1.0, 1.0), ts.axis.LogLinear(2), LINEAR):
            assert ts.histogram(zeros, axis).values().tolist() == [100_000]


def test_counts_beyond_what_float32_can_count():
    """One more than 2^24 is 2^24 in float32, in which torch.histc counts on any device."""
    assert np.float32(2**24) + np.float32(1) == 2**24
    count = 3 * 2**24 + 1
    x = np.broadcast_to(np.float32(0.25), count)
    for axis in (ts.axis.Regular(2, 0.0, 1.0), ts.axis.LogLinear(2), LINEAR):
        assert ts.histogram(x, axis).values().max() == count


def test_three_bins_over_many_equidistant_values():
    x = np.arange(2**26, dtype=np.float32)
    places = np.searchsorted(x, np.linspace(0, 2**26, 4)[:3])
    right = np.diff([*places, x.size]).tolist()
    assert max(right) > 2**24
    assert ts.histogram(x, bins=3, range=(0, 2**26)).values().tolist() == right
    linear = ts.histogram(x, ts.axis.Linear(4))
    assert linear.values().tolist() == np.diff([*np.searchsorted(x, linear.edges[:-1]), x.size]).tolist()


def test_one_rule_for_edges_on_every_device():
    """torch multiplies and divides in another order on CPU and CUDA, which put other values on the wrong side."""
    torch = pytest.importorskip("torch", reason="a torch tensor is the input")
    from tensorstats.device import results as device

    x = torch.linspace(0, 0.99, 1001)
    h = ts.histogram(x, bins=10, range=(0, 0.99))
    assert h.values().tolist() == np.histogram(x.double().numpy(), 10, (0, 0.99))[0].tolist()
    assert device.histogram(x, h.axis) == h


def test_floating_edges_of_a_tenth():
    x, edges = np.arange(0, 1, 0.01), np.arange(0, 1.1, 0.1)
    right = [10, 10, 11, 9, 10, 11, 9, 10, 10, 10]
    assert np.histogram(x, edges)[0].tolist() == right
    assert ts.histogram(x, ts.axis.Variable(edges)).values().tolist() == right


def test_a_nan_does_not_end_a_histogram():
    x = np.array([1.0, 2.0, math.nan])
    with pytest.raises(ValueError, match="autodetected range"):
        np.histogram(x)
    for h in (ts.histogram(x, bins=2), ts.histogram(x, LINEAR), ts.histogram(x, ts.axis.LogLinear(4))):
        assert (h.values().sum(), h.nan_count, h.count) == (2, 1, 3)


def test_what_is_not_finite_is_counted_and_not_dropped():
    x = np.array([1.0, 2.0, math.nan, math.inf, -math.inf])
    assert np.histogram(x, 3, (0, 3))[0].sum() == 2
    h = ts.histogram(x, bins=3, range=(0, 3))
    assert (h.values().sum(), h.nan_count, h.posinf_count, h.neginf_count, h.count) == (2, 1, 1, 1, 5)
    # Nothing but infinities, on which torch.histc fails; NaN was once counted in the first bin.
    only = ts.histogram(np.array([math.inf]), bins=4)
    assert (only.values().sum(), only.overflow) == (0, 1)
    assert ts.histogram(np.array([math.nan, 0.5]), bins=2, range=(0, 1)).values().tolist() == [0, 1]


@pytest.mark.parametrize(
    "x",
    [
        np.array([2**53]),
        np.array([3e38, -3e38, 0], np.float32),
        np.array([1.7e308, -1.7e308, 0.0]),
        np.array([2.7771e38, -1.7855e38], np.float32),
    ],
    ids=["2^53", "float32-range", "float64-range", "torch-histc"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ranges_that_others_cannot_cut(x: np.ndarray):
    if x.size != 2:
        with pytest.raises((ValueError, IndexError), match=r"Too many bins|out of bounds"):
            np.histogram(x)
    for h in (ts.histogram(x, bins=10), ts.histogram(x, LINEAR), ts.histogram(x, ts.axis.LogLinear(6))):
        assert h.values().sum() == x.size
        assert (h.underflow, h.overflow, h.nan_count) == (0, 0, 0)
        assert np.isfinite(h.edges).all()
    values = x.astype(np.float64)
    linear = ts.histogram(x, LINEAR)
    places = [np.searchsorted(linear.edges, value, side="right") - 1 for value in values]
    assert np.flatnonzero(linear.values()).tolist() == sorted(set(places))


def test_an_edge_beside_a_rounded_value():
    """An edge compared in float32 once gave a negative index."""
    x = np.array([-24.35791367], np.float32)
    h = ts.histogram(x, bins=10, range=(-24.3579135, 0))
    assert float(x[0]) < -24.3579135
    assert (h.underflow, h.values().sum()) == (1, 0)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_sums_that_leave_their_dtype():
    assert np.isinf(np.ones(65_520, np.float16).sum())
    assert ts.summary(np.ones(65_520, np.float16)).sum == 65_520
    big = np.array([2**63, 2**63], np.uint64)
    assert big.sum() == 0
    assert ts.summary(big).sum == 2**64
    uniform = np.random.default_rng(0).random(10_000).astype(ml_dtypes.bfloat16)
    assert float(uniform.sum()) == 256
    assert ts.summary(uniform).sum == pytest.approx(math.fsum(uniform.astype(np.float64).tolist()), rel=1e-13)


def test_the_mean_of_a_long_column_of_ones():
    """numpy adds a strided column in float32, one by one: 2^24 and no more."""
    x = np.ones((20_000_000, 2), np.float32)
    assert x.mean(0)[1] == pytest.approx(2**24 / 20_000_000)
    assert ts.summary(x[:, 1]).mean == 1.0


def test_quantiles_of_more_values_than_2_24():
    """torch.quantile long refused tensors of more than 16 million elements."""
    x = np.random.default_rng(0).permutation(20_000_001).astype(np.int32)
    assert ts.quantile(x, [0.0, 0.25, 0.5, 0.9, 1.0]).tolist() == [0.0, 5e6, 1e7, 18e6, 2e7]
    spread = ts.histogram(x, ts.axis.Linear(1024))
    assert abs(spread.quantile(0.9) - 18e6) <= 2.0 ** spread.to_dict()["width_exponent"]
