"""What each field of a summary means, on inputs small enough to check by eye."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tensorstats as ts
from expect import COUNTS, EXTREMES, REALS, field_bits
from samples import DTYPES, FLOAT_DTYPES, INTEGER_DTYPES, mixed, numpy_dtype


def test_every_class_is_counted_apart():
    x = np.array([1.5, -2.0, 0.0, -0.0, math.nan, math.nan, math.inf, -math.inf, -math.inf, 1e-45], dtype=np.float32)
    s = ts.summary(x)
    assert {name: getattr(s, name) for name in COUNTS} == {
        "count": 10,
        "nan_count": 2,
        "posinf_count": 1,
        "neginf_count": 2,
        "nonfinite_count": 5,
        "finite_count": 5,
        "zero_count": 2,
        "negative_count": 1,
        "positive_count": 2,
        "subnormal_count": 1,
    }


def test_non_finite_values_take_no_part_in_the_results():
    s = ts.summary(np.array([3.0, -4.0, math.nan, math.inf, -math.inf]))
    assert (s.min, s.max, s.absmax, s.absmin) == (-4.0, 3.0, 4.0, 3.0)
    assert (s.sum, s.mean, s.l1, s.l2) == (-1.0, -0.5, 7.0, 5.0)
    assert s.rms == pytest.approx(math.sqrt(12.5), rel=1e-15)
    assert (s.var(), s.std()) == (12.25, 3.5)
    assert (s.var(correction=1), s.std(correction=1)) == (24.5, math.sqrt(24.5))


def test_correction_may_be_positional_as_in_the_signature():
    s = ts.summary(np.array([1.0, 2.0, 4.0]))
    assert s.var(1) == s.var(correction=1)
    assert s.std(1) == s.std(correction=1)


def test_skewness_and_kurtosis_are_scipys_defaults():
    stats = pytest.importorskip("scipy.stats", reason="scipy comes with scikit-learn")
    x = np.random.default_rng(3).gamma(2.0, size=2000)
    s = ts.summary(x, moments=4)
    assert s.skewness == pytest.approx(stats.skew(x), rel=1e-12)
    assert s.kurtosis == pytest.approx(stats.kurtosis(x), rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (3, 0, 5)], ids=str)
def test_empty_has_zero_counts_and_nan_results(dtype: str, shape: tuple[int, ...]):
    s = ts.summary(np.zeros(shape, dtype=numpy_dtype(dtype)), moments=4)
    assert [getattr(s, name) for name in COUNTS] == [0] * len(COUNTS)
    assert all(math.isnan(getattr(s, name)) for name in (*EXTREMES, "mean", "rms", "skewness", "kurtosis"))
    assert math.isnan(s.var())
    assert math.isnan(s.std())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "float8_e5m2"])
def test_all_non_finite_has_counts_and_nan_results(dtype: str):
    s = ts.summary(np.array([math.nan, math.inf, -math.inf, math.nan]).astype(numpy_dtype(dtype)), moments=4)
    assert (s.count, s.finite_count, s.nan_count, s.posinf_count, s.neginf_count) == (4, 0, 2, 1, 1)
    assert all(math.isnan(getattr(s, name)) for name in (*EXTREMES, *REALS, "skewness", "kurtosis"))
    assert math.isnan(s.var())
    assert math.isnan(s.std(correction=1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_zero_has_no_smallest_magnitude(dtype: str):
    s = ts.summary(np.zeros(100, dtype=numpy_dtype(dtype)))
    assert (s.zero_count, s.min, s.max, s.absmax, s.sum, s.l2) == (100, 0, 0, 0, 0, 0.0)
    assert math.isnan(s.absmin)


def test_one_value_has_no_variance_after_correction():
    s = ts.summary(np.array([2.5]))
    assert (s.var(), s.std()) == (0.0, 0.0)
    assert math.isnan(s.var(correction=1))
    assert math.isnan(s.std(correction=1))


@pytest.mark.parametrize("dtype", INTEGER_DTYPES)
def test_integer_results_are_python_ints(dtype: str):
    s = ts.summary(np.ones(3, dtype=numpy_dtype(dtype)))
    for name in (*EXTREMES, "sum", "l1"):
        assert type(getattr(s, name)) is int, name
    assert type(s.mean) is float
    assert (s.min, s.max, s.sum, s.mean) == (1, 1, 3, 1.0)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_float_results_are_floats(dtype: str):
    s = ts.summary(np.ones(3, dtype=numpy_dtype(dtype)))
    for name in (*EXTREMES, *REALS):
        assert type(getattr(s, name)) is float, name


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_and_shape_are_those_of_the_tensor(dtype: str):
    s = ts.summary(np.zeros((4, 3, 2), dtype=numpy_dtype(dtype)))
    assert (s.dtype, s.shape) == (dtype, (4, 3, 2))


def test_shape_is_kept_of_views():
    x = np.zeros((4, 3, 2))
    assert ts.summary(x.T).shape == (2, 3, 4)
    assert ts.summary(np.broadcast_to(x, (5, 4, 3, 2))).shape == (5, 4, 3, 2)
    assert ts.summary(x[0, 0, 0, ...]).shape == ()


def test_shape_is_gone_after_a_second_update_and_dtype_when_mixed():
    s = ts.Summary()
    assert (s.dtype, s.shape, s.count) == (None, None, 0)
    s.update(np.zeros((2, 3), dtype=np.float32))
    assert (s.dtype, s.shape) == ("float32", (2, 3))
    s.update(np.zeros(5, dtype=np.float32))
    assert (s.dtype, s.shape, s.count) == ("float32", None, 11)
    s.update(np.zeros(5, dtype=np.float64))
    assert (s.dtype, s.count) == (None, 16)


def test_mixed_dtypes_add_up():
    s = ts.Summary().update(np.array([1.5], np.float32)).update(np.array([2], np.int8)).update(np.array([True]))
    assert (s.count, s.min, s.max, s.sum, s.mean) == (3, 1, 2, 4.5, 1.5)


def test_function_is_one_update_on_a_new_state():
    x = mixed("float32", 5000)
    assert field_bits(ts.summary(x, moments=4)) == field_bits(ts.Summary(moments=4).update(x))
    assert ts.summary(x).to_bytes() == ts.Summary().update(x).to_bytes()


def test_moments_do_not_change_what_is_exact():
    x = mixed("float32", 70_001)
    two, four = field_bits(ts.summary(x)), field_bits(ts.summary(x, moments=4))
    exact = (*COUNTS, *EXTREMES, "dtype")
    assert {name: two[name] for name in exact} == {name: four[name] for name in exact}


@pytest.mark.parametrize("order", [(0.0, -0.0), (-0.0, 0.0)], ids=["plus-first", "minus-first"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2"])
def test_order_of_signed_zeros_changes_no_bit(dtype: str, order: tuple[float, float]):
    x = np.tile(np.array(order), 40).astype(numpy_dtype(dtype))
    s = ts.summary(x)
    assert (s.zero_count, s.negative_count, s.positive_count, s.min, s.max) == (80, 0, 0, 0.0, 0.0)
    assert field_bits(s) == field_bits(ts.summary(x[::-1]))
    for zero in (0.0, -0.0):
        one_sided = ts.summary(np.array([zero, 1.0, zero, -1.0]).astype(numpy_dtype(dtype)))
        assert (one_sided.zero_count, one_sided.absmin, one_sided.min, one_sided.max) == (2, 1.0, -1.0, 1.0)


def test_data_is_positional_and_options_are_keywords():
    with pytest.raises(TypeError):
        ts.summary(x=np.zeros(3))  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        ts.summary(np.zeros(3), 4)  # type: ignore[misc]


def test_update_and_merge_return_the_state_itself():
    a, b = ts.Summary(), ts.Summary()
    assert a.update(np.zeros(2)) is a
    assert a.merge(b) is a


def test_fields_are_read_only():
    s = ts.summary(np.zeros(3))
    for name in (*COUNTS, *EXTREMES, *REALS, "dtype", "shape", "moments"):
        with pytest.raises(AttributeError):
            setattr(s, name, 1)


def test_repr_is_one_line_with_the_main_facts():
    x = np.random.default_rng(0).standard_normal((64, 128)).astype(np.float32)
    text = repr(ts.summary(x))
    assert "\n" not in text
    assert text.startswith("f32[64, 128] n=8192 ")
    assert "μ=" in text
    assert "σ=" in text
    assert "nan" not in text.lower()
    x[0, :2] = math.nan
    x[1, 0] = math.inf
    loud = repr(ts.summary(x))
    assert "nan=2" in loud.lower()
    assert "inf" in loud.lower()


@pytest.mark.parametrize("dtype", DTYPES)
def test_repr_of_every_dtype_and_of_nothing(dtype: str):
    for size in (0, 1, 100):
        text = repr(ts.summary(np.zeros(size, dtype=numpy_dtype(dtype))))
        assert "\n" not in text
        assert f"n={size}" in text
    assert "\n" not in repr(ts.Summary())
