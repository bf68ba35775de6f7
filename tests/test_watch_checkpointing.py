"""Activation checkpointing runs modules twice; the watcher counts them once, whatever the kind and the nesting."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint, checkpoint_sequential  # noqa: E402

import tensorstats as ts  # noqa: E402

SIGNALS = ("outputs", "parameters", "gradients", "updates", "raw_gradients")


class Deep(nn.Module):
    """Three blocks, each perhaps checkpointed, the last one nested inside a checkpoint of its own."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.stem = nn.Linear(4, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3), nn.ReLU()) for _ in range(3))
        self.shared = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            x = self.run(lambda y, block=block: self.shared(block(y)), x)
        return x

    def run(self, body: Any, x: Any) -> Any:
        return body(x) if self.reentrant is None else checkpoint(body, x, use_reentrant=self.reentrant)


def totals(model: nn.Module, *, every: int = 1, **options: Any) -> dict[tuple[str, str], Any]:
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, every=every, signals=SIGNALS, histograms=True, units="all", **options) as monitor:
        for _ in range(4):
            optimizer.zero_grad()
            for _ in range(2):  # two micro-batches
                model(torch.randn(6, 4)).square().sum().backward()
            optimizer.step()
    assert monitor.errors == []
    found: dict[tuple[str, str], Any] = {(s, n): monitor.total(s, n) for s in SIGNALS for n in monitor.names(s)}
    found |= {("histogram", name): monitor.histogram("outputs", name) for name in monitor.names("outputs")}
    found |= {("units", name): monitor.units(name) for name in monitor.names("outputs")}
    return found


def assert_same(left: dict[tuple[str, str], Any], right: dict[tuple[str, str], Any], *, bits: bool) -> None:
    assert left.keys() == right.keys()
    for key, state in left.items():
        other = right[key]
        if bits:
            assert state == other, key
        elif key[0] == "units":
            assert (state.updates, state.count.tolist()) == (other.updates, other.count.tolist()), key
        elif key[0] == "histogram":
            assert state.count == other.count, key
        else:
            assert (state.count, state.nan_count) == (other.count, other.nan_count), key
            assert state.l2 == pytest.approx(other.l2, rel=1e-5), key


def build(reentrant: bool | None) -> nn.Module:
    torch.manual_seed(0)
    return Deep(reentrant)


@pytest.mark.parametrize("backend", ["core", "torch"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_outputs_gradients_and_updates_are_those_without_checkpointing(reentrant: bool, backend: Any) -> None:
    # A reentrant pass adds up the gradients of a shared module in another order.
    assert_same(totals(build(reentrant), backend=backend), totals(build(None), backend=backend), bits=not reentrant)


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputation_in_a_step_that_is_not_recorded_is_not_counted_either(reentrant: bool) -> None:
    assert_same(totals(build(reentrant), every=3), totals(build(None), every=3), bits=not reentrant)


def test_checkpoint_sequential_is_counted_once() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        checkpoint_sequential(model, 2, torch.randn(5, 4), use_reentrant=False).sum().backward()
        optimizer.step()
    assert [monitor.latest("outputs", name).count for name in monitor.names("outputs")] == [20] * 4


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_with_respect_to_outputs_under_checkpointing_are_those_the_pass_delivers(reentrant: bool) -> None:
    """Without reentrance the hooks of the first pass fire; a reentrant one builds its graph when it runs once more."""
    torch.manual_seed(0)
    model = build(reentrant)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings(), ts.watch(model, optimizer, signals=["outputs", "output_gradients"]) as monitor:
        warnings.simplefilter("ignore", ts.torch.WatchWarning)
        model(torch.randn(6, 4)).sum().backward()
        optimizer.step()
    names = monitor.names("output_gradients")
    assert "stem" in names
    inner = {name for name in names if name.startswith("blocks")}
    assert inner == {name for name in monitor.names("outputs") if name.startswith("blocks")}
    assert all(monitor.latest("output_gradients", name).count == 48 for name in names)
    # The shared module is called three times: which of them runs once more cannot be told.
    assert ["shared" in error for error in monitor.errors] == [True] * reentrant


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradients_of_outputs_inside_a_checkpoint_are_those_without_one(reentrant: bool) -> None:
    def gradients(how: str) -> dict[str, list[float]]:
        torch.manual_seed(0)
        inner = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        model = nn.ModuleList([inner, nn.Linear(8, 2)])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with ts.watch(model, optimizer, signals=["outputs", "output_gradients"]) as monitor:
            for _ in range(3):
                x = torch.randn(4, 8, requires_grad=True)
                h = inner(x) if how == "plain" else checkpoint(inner, x, use_reentrant=reentrant)
                model[1](h).square().sum().backward()
                optimizer.step()
                optimizer.zero_grad()
        assert monitor.errors == []
        assert monitor.latest("outputs", "0.0").count == 32
        return {
            name: monitor.series("output_gradients", name, "l2")[1].tolist()
            for name in sorted(monitor.names("output_gradients"))
        }

    assert gradients("checkpoint") == gradients("plain")
    assert len(gradients("plain")) == 4


def test_a_module_called_twice_under_reentrant_checkpointing_is_told() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, signals=["outputs", "output_gradients"]) as monitor:
        loss = checkpoint(
            lambda x: model[0](model[0](x)), torch.randn(4, 8, requires_grad=True), use_reentrant=True
        ).sum()
        with pytest.warns(ts.torch.WatchWarning, match="reentrant checkpointing"):
            loss.backward()
        optimizer.step()
    assert len(monitor.errors) == 1
