"""The units and histograms of what the watcher records."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from watched import Returns, small_model, watched  # noqa: E402


def test_units_are_channels_of_images_and_features_of_rows() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)),
        nn.Conv2d(1, 5, 1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20, 3),
        nn.Tanh(),
    )
    assert watched(copy.deepcopy(model)).units("3").units == 5
    with pytest.raises(KeyError, match="not that of an activation"):
        watched(copy.deepcopy(model)).units("1")
    monitor = watched(model, units="all")
    assert [monitor.units(name).units for name in ("1", "2", "3", "4", "5", "6")] == [5, 5, 5, 20, 3, 3]


def test_the_units_of_an_activation_after_a_linear_layer_on_sequences_are_features() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Linear(4, 6)
            self.act = nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.act(self.up(x[:, None, :].expand(-1, 9, -1)))

    assert watched(Tokens()).units("act").units == 6


def test_dead_and_saturated_fractions_are_those_of_the_step() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.Tanh())
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([-100.0, 100.0, 100.0, 100.0]))
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([50.0, 0.0]))
    monitor = watched(model, steps=2)
    assert monitor.series("outputs", "1", "dead_fraction")[1].tolist() == [0.25, 0.25]
    assert monitor.series("outputs", "3", "saturated_fraction")[1].tolist() == [0.5, 0.5]
    assert np.isnan(monitor.series("outputs", "1", "saturated_fraction")[1]).all()
    assert monitor.units("1").dead_units().tolist() == [0]
    assert monitor.units("1").updates == 2


def test_outputs_whose_unit_count_changes_are_summarised_without_units() -> None:
    class Ragged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = Returns(lambda x: x)

        def forward(self, x: Any) -> Any:
            return self.scale(x)

    model = Ragged()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, units="all") as monitor:
        for width in (3, 5, 4):
            optimizer.zero_grad()
            model(torch.ones(2, width)).sum().backward()
            optimizer.step()
    assert monitor.errors == []
    assert monitor.total("outputs", "scale").count == 24
    with pytest.raises(KeyError, match="their number changes"):
        monitor.units("scale")


def test_integer_outputs_are_summarised() -> None:
    model = nn.ModuleDict({"m": Returns(lambda x: (x, x.argmax(1)))})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        model["m"](torch.eye(3))[0].sum().backward()
        optimizer.step()
    assert monitor.latest("outputs", "m[1]").max == 2
    assert isinstance(monitor.latest("outputs", "m[1]").max, int)


# --- histograms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["core", "torch"])
def test_histograms_are_those_of_everything_recorded(backend: Any) -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    axis = ts.axis.LogLinear()
    outputs, weights = ts.Histogram(axis), ts.Histogram(axis)
    with ts.watch(model, optimizer, histograms=True, every=2, backend=backend) as monitor:
        for step in range(4):
            x = torch.randn(16, 4)
            optimizer.zero_grad()
            model(x).square().mean().backward()
            if step % 2 == 0:
                outputs.update(nn.functional.linear(x, model[0].weight, model[0].bias).detach())
            optimizer.step()
            if step % 2 == 0:
                weights.update(model[0].weight.detach())
    assert monitor.errors == []
    assert monitor.histogram("outputs", "0") == outputs
    assert monitor.histogram("parameters", "0.weight") == weights
    assert monitor.histogram("gradients", "2.bias").count == 2 * 3
    assert monitor.histogram("updates", "2.bias").count == 2 * 3


def test_without_histograms_asking_for_one_says_how() -> None:
    with pytest.raises(KeyError, match="watch with histograms=True"):
        watched(small_model()).histogram("outputs", "0")
