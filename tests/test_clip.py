"""Owns the tests of gradient clipping against torch, and of the norms that torch gets wrong."""

from __future__ import annotations

import copy
import math

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


def test_other_orders_are_refused():
    with pytest.raises(ValueError, match=r"ord must be 1, 2 or inf, got: 3\.0"):
        clip_grad_norm_(model_with_gradients(1.0).parameters(), 1.0, 3.0)


def test_norm_of_many_small_values_is_right_where_float32_sums_stall():
    x = torch.cat([torch.full((16,), 4096.0), torch.ones(1_600_000)])
    assert ts.norm(x) == pytest.approx(math.sqrt(2**28 + 1_600_000), rel=1e-13)
    assert ts.norm([x, torch.zeros(0)], ord=math.inf) == 4096.0
    assert ts.norms([x, torch.ones(4)]).tolist() == [ts.norm(x), 2.0]
