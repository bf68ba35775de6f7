"""The rules to ask for: variance, inputs, tokens, initialisation, two runs, a loop that stalls."""

from __future__ import annotations

import time
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.rules import (  # noqa: E402
    InputMean,
    PoorInitialization,
    Rule,
    SimilarAcrossRuns,
    StalledTraining,
    TensorVariance,
    TokenShare,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def run(*rules: Rule, scale: float = 1.0, shift: float = 0.0, seed: int = 0, pause: float = 0.0, **options: Any) -> Any:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        model[2].weight.mul_(scale)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with ts.watch(model, optimizer, rules=list(rules), **options) as monitor:
        for step in range(12):
            inputs = torch.randn(64, 8) + shift
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), inputs[:, :3].argmax(1)).backward()
            if step == 9:
                time.sleep(pause)
            optimizer.step()
    assert monitor.errors == []
    return monitor


def places(monitor: Any) -> list[str]:
    return [each.where for each in monitor.findings]


def test_a_variance_is_told_with_the_bound_it_broke():
    monitor = run(TensorVariance(limit=50.0, minimum=1e-3), scale=1e3)
    assert places(monitor) == ["2", "3", "4"]
    assert (monitor.findings[0].limit, monitor.findings[0].value > 50) == (50.0, True)
    assert "above what is allowed" in monitor.findings[0].why
    low = run(TensorVariance(minimum=1.0, match="^2$"))
    assert (places(low), low.findings[0].limit) == (["2"], 1.0)
    assert "below what is allowed" in low.findings[0].why
    assert places(run(TensorVariance(minimum=0.0, signal="gradients"))) == []


def test_inputs_that_lie_on_one_side_are_told_once_enough_were_seen():
    monitor = run(InputMean(), shift=1.0, signals=["inputs"])
    assert places(monitor) == ["0.input"]
    assert monitor.findings[0].step == 7  # 8 x 64 samples are the first 500
    assert "The mean of 512 samples is" in monitor.findings[0].why
    assert places(run(InputMean(), signals=["inputs"])) == []
    assert places(run(InputMean(samples=5000), shift=1.0, signals=["inputs"])) == []


def test_padding_is_told_by_its_share():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(10, 4), nn.Linear(4, 2)

        def forward(self, tokens: Any) -> Any:
            return self.head(self.embedding(tokens).mean(1))

    def padded(real: int) -> Any:
        model = Tokens()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with ts.watch(model, optimizer, signals=["inputs"], rules=[TokenShare()]) as monitor:
            tokens = torch.zeros(4, 10, dtype=torch.long)
            tokens[:, :real] = 3
            model(tokens).sum().backward()
            optimizer.step()
        return monitor

    assert places(padded(3)) == ["embedding.input"]
    assert padded(3).findings[0].value == 0.7
    assert places(padded(5)) == []


def test_layers_on_scales_far_apart_at_the_start_are_told():
    monitor = run(PoorInitialization(), scale=100.0)
    assert len(places(monitor)) == 1
    assert monitor.findings[0].value > 10
    assert places(run(PoorInitialization(steps=3), scale=100.0)) == []  # patience is longer


def test_the_first_tensor_that_differs_from_another_run_is_told():
    first = run()
    assert places(run(SimilarAcrossRuns(first))) == []
    other = run(SimilarAcrossRuns(first), scale=1.0 + 1e-6)
    assert (places(other), other.findings[0].step) == (["2"], 0)
    assert places(run(SimilarAcrossRuns(first, limit=1e-2), scale=1.0 + 1e-6)) == []
    assert places(run(SimilarAcrossRuns(first), seed=1)) == ["0"]


def test_a_step_that_takes_long_is_told_when_it_has_ended():
    monitor = run(StalledTraining(limit=0.3), pause=0.4)
    assert [(each.where, each.step) for each in monitor.findings] == [("the loop", 9)]
    assert places(run(StalledTraining())) == []
