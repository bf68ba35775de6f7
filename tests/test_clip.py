"""Owns the tests of gradient clipping against torch, and of the norms that torch gets wrong."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
from torch import nn

import tensorstats as ts
from tensorstats.torch import clip_grad_norm_


def model_with_gradients(scale: float) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4), nn.Linear(4, 4))
    (model[2](model[:2](torch.randn(32, 8))) * scale).square().sum().backward()  # the last layer gets no gradient
    return model


@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e6])
def test_same_as_torch(norm_type: float, max_norm: float):
    ours, theirs = model_with_gradients(1.0), model_with_gradients(1.0)
    total = clip_grad_norm_(ours.parameters(), max_norm, norm_type)
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), max_norm, norm_type)
    torch.testing.assert_close(total, expected)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        if mine.grad is None:
            assert other.grad is None
        else:
            torch.testing.assert_close(mine.grad, other.grad)


def test_half_precision_does_not_overflow():
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float16))
    weight.grad = torch.tensor([300.0], dtype=torch.float16)
    assert clip_grad_norm_(weight, 1.0).item() == 300.0
    assert weight.grad.item() == 1.0


def test_bfloat16_norm_keeps_its_digits():
    weights = [nn.Parameter(torch.zeros(1000, dtype=torch.bfloat16)) for _ in range(50)]
    for weight in weights:
        weight.grad = torch.full_like(weight, 0.1)
    value = float(torch.tensor(0.1, dtype=torch.bfloat16))
    expected = math.sqrt(50_000 * value**2)
    assert clip_grad_norm_(weights, math.inf).item() == pytest.approx(expected, rel=1e-7)


def test_nothing_to_clip():
    assert clip_grad_norm_([], 1.0).item() == 0.0
    assert clip_grad_norm_(nn.Parameter(torch.zeros(2)), 1.0).item() == 0.0


def test_nonfinite_norm_raises_before_anything_changes():
    model = model_with_gradients(1.0)
    model[0].weight.grad[0, 0] = math.inf
    before = copy.deepcopy([p.grad for p in model.parameters()])
    with pytest.raises(RuntimeError, match="must be finite to clip them, got: inf"):
        clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        assert (parameter.grad is None) if gradient is None else torch.equal(parameter.grad, gradient)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nonfinite_norm_scales_as_torch_does(bad: float):
    ours, theirs = model_with_gradients(1.0), model_with_gradients(1.0)
    for model in (ours, theirs):
        model[0].weight.grad[0, 0] = bad
    clip_grad_norm_(ours.parameters(), 1.0)
    nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad, equal_nan=True)


@pytest.mark.parametrize("norm_type", [0.5, 3.14, 3, "inf", "2", 0.0, -1.0, -math.inf])
@pytest.mark.parametrize("max_norm", [1e-3, 1e6])
def test_every_order_is_that_of_torch(norm_type: float | str, max_norm: float):
    ours, theirs = model_with_gradients(1.0), model_with_gradients(1.0)
    total = clip_grad_norm_(ours.parameters(), max_norm, norm_type)
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), max_norm, float(norm_type))
    torch.testing.assert_close(total, expected)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad)


@pytest.mark.parametrize("norm_type", ["two", None, math.nan, []])
def test_what_is_no_order_is_refused_by_name(norm_type: object):
    with pytest.raises(ValueError, match=r"^norm_type must be a number or 'inf', got: "):
        clip_grad_norm_(model_with_gradients(1.0).parameters(), 1.0, norm_type)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm_type", [2.0, 3.0, 0.5])
def test_a_norm_beyond_float32_is_told_in_float64(norm_type: float):
    weight = nn.Parameter(torch.zeros(4))
    weight.grad = torch.full((4,), 3e38)
    total = clip_grad_norm_(weight, 1.0, norm_type)
    assert total.dtype == torch.float64
    largest = float(torch.tensor(3e38))
    assert total.item() == pytest.approx(largest * 4 ** (1 / norm_type), rel=1e-12)
    assert weight.grad.tolist() == pytest.approx([4 ** (-1 / norm_type)] * 4, rel=1e-5)


def test_orders_of_gradients_whose_powers_overflow():
    weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    weight.grad = torch.tensor([1e200, 1e200], dtype=torch.float64)
    assert clip_grad_norm_(weight, math.inf, 3.0).item() == pytest.approx(1e200 * 2 ** (1 / 3), rel=1e-12)
    weight.grad = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert clip_grad_norm_(weight, math.inf, 200.0).item() == pytest.approx(4.0, rel=1e-12)
    weight.grad = torch.tensor([math.nan, 1.0], dtype=torch.float64)
    assert math.isnan(clip_grad_norm_(weight, 1.0, 3.0).item())


def test_an_exhausted_generator_is_told():
    model = model_with_gradients(1.0)
    parameters = model.parameters()
    clip_grad_norm_(parameters, 1.0)
    with pytest.warns(UserWarning, match="`parameters` is an empty generator") as caught:
        assert clip_grad_norm_(parameters, 1.0).item() == 0.0
    assert caught[0].filename == __file__
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        nn.utils.clip_grad_norm_(parameters, 1.0)  # as torch does, but for its oldest versions
    old = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 8)
    assert old or "empty generator" in str(told[0].message)


@pytest.mark.parametrize("foreach", [None, True, False])
def test_torchs_other_argument_is_taken(foreach: bool | None):
    assert clip_grad_norm_(model_with_gradients(1.0).parameters(), 1.0, foreach=foreach).item() > 0


def test_a_gradient_that_is_refused_is_named():
    weights = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    for weight in weights:
        weight.grad = torch.ones(2)
    weights[1].grad = torch.ones(2).to_sparse()
    for norm_type in (2.0, 3.0):
        with pytest.raises(TypeError, match=r"^tensor 1: unsupported layout: sparse_coo.*x\.coalesce\(\)\.values\(\)"):
            clip_grad_norm_(weights, 1.0, norm_type)


def test_norm_of_many_small_values_is_right_where_float32_sums_stall():
    x = torch.cat([torch.full((16,), 4096.0), torch.ones(1_600_000)])
    assert ts.norm(x) == pytest.approx(math.sqrt(2**28 + 1_600_000), rel=1e-13)
    assert ts.norm([x, torch.zeros(0)], ord=math.inf) == 4096.0
    assert ts.norms([x, torch.ones(4)]).tolist() == [ts.norm(x), 2.0]
