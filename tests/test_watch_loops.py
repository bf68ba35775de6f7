"""The loops and optimizers that can be watched: accumulation, clipping, scaling, closures, shared parameters."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from watched import small_model, train  # noqa: E402


def test_without_an_optimizer_a_step_is_a_call_in_training_mode() -> None:
    model = small_model()
    with ts.watch(model, every=2) as monitor:
        for step in range(4):
            model.zero_grad()
            model(torch.full((2, 4), float(step))).sum().backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad
            model.eval()
            model(torch.zeros(7, 4))
            model.train()
    assert monitor.errors == []
    assert monitor.step == 4
    assert monitor.series("outputs", "0", "count")[0].tolist() == [0, 2]
    assert monitor.latest("outputs", "0").count == 16
    assert monitor.latest("gradients", "0.weight").l2 > 0
    assert monitor.latest("updates", "0.weight").l2 == pytest.approx(0.1 * monitor.latest("gradients", "0.weight").l2)


def test_gradients_are_read_after_accumulation_and_after_clipping() -> None:
    model = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(3):
            model(torch.ones(1, 4)).sum().backward()
        assert monitor.names("gradients") == []
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    assert monitor.latest("gradients", "weight").l2 == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_are_read_unscaled_and_a_skipped_step_is_no_step(fused: bool) -> None:
    model = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with ts.watch(model, optimizer) as monitor:
        for factor in (1.0, float("inf"), 1.0):
            optimizer.zero_grad()
            loss = model(torch.ones(1, 4)).sum()
            scaler.scale(loss * factor).backward()
            scaler.step(optimizer)
            scaler.update()
    assert monitor.errors == []
    norms = monitor.series("gradients", "weight", "l2")[1]
    assert norms[0] == pytest.approx(2.0)
    assert norms[-1] == pytest.approx(2.0)
    assert monitor.findings == []


def test_lbfgs_closures_are_followed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    x = torch.randn(8, 4)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True) - 1).square().mean()
        loss.backward()
        return loss

    with ts.watch(model, optimizer) as monitor:
        for _ in range(3):
            optimizer.step(closure)
    assert monitor.errors == []
    assert monitor.findings == []
    assert len(monitor.series("gradients", "0.weight", "l2")[0]) == 3
    assert monitor.series("updates", "0.weight", "l2")[1][0] > 0


def test_several_groups_frozen_and_shared_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    model[1].weight = model[0].weight
    model[2].bias.requires_grad_(False)
    groups = [{"params": [model[0].weight]}, {"params": [model[0].bias, model[1].bias, model[2].weight], "lr": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        train(model, optimizer, 6)
    assert monitor.errors == []
    assert monitor.findings == []
    assert monitor.names("parameters") == ["0.weight", "0.bias", "1.bias", "2.weight", "2.bias"]
    assert "2.bias" not in monitor.names("gradients")
    assert "2.bias" not in monitor.names("updates")


def test_lazy_modules_are_watched_once_they_have_values() -> None:
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))
    with ts.watch(model) as monitor:
        for _ in range(3):
            model.zero_grad()
            model(torch.randn(5, 4)).sum().backward()
    assert monitor.errors == []
    assert monitor.names("outputs") == ["0", "1", "2"]
    assert "0.weight" in monitor.names("parameters")
