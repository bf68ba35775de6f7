"""The histograms of single steps: each is that of its step, thinning is even and loses nothing of the totals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tensorstats as ts  # noqa: E402
from tensorstats.run import histograms as histogram_series  # noqa: E402
from tensorstats.run.choosing import SIGNALS  # noqa: E402
from watched import small_model, train, watched  # noqa: E402

AXIS = ts.axis.LogLinear(6)


def of_step(x: Any) -> ts.Histogram:
    return ts.histogram(x.detach().clone(), AXIS).lower_precision(histogram_series.SERIES_PRECISION)


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("every", [1, 3])
def test_each_step_has_the_histogram_of_its_own_values(backend: Any, every: int) -> None:
    model = small_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    wanted: dict[tuple[str, str], list[ts.Histogram]] = {}

    def note(signal: str, name: str, x: Any) -> None:
        wanted.setdefault((signal, name), []).append(of_step(x))

    handle = model[1].register_forward_hook(lambda _module, _inputs, output: note("outputs", "1", output))
    with ts.watch(model, optimizer, every=every, histograms=True, signals=SIGNALS, backend=backend) as monitor:
        for _ in range(9):
            train(model, optimizer, 1)
            note("parameters", "0.weight", model[0].weight)
            note("gradients", "2.bias", model[2].bias.grad)
            note("raw_gradients", "2.bias", model[2].bias.grad)
            note("optimizer_state", "0.weight.exp_avg", optimizer.state[model[0].weight]["exp_avg"])
    handle.remove()
    assert monitor.errors == []
    due = list(range(0, 9, every))
    for (signal, name), histograms in wanted.items():
        steps, series = monitor.histograms(signal, name)
        assert steps.tolist() == due
        assert series == [histograms[step] for step in due], (signal, name)
        total = monitor.histogram(signal, name)
        assert total.axis == AXIS
        assert total.lower_precision(histogram_series.SERIES_PRECISION) == sum(series[1:], series[0])


def test_every_signal_has_histograms_of_its_steps() -> None:
    for backend in ("auto", "torch"):
        monitor = watched(small_model(), 3, histograms=True, signals=SIGNALS, backend=backend)
        for signal in SIGNALS:
            for name in monitor.names(signal):
                steps, series = monitor.histograms(signal, name)
                counts = [histogram.count for histogram in series]
                assert steps.tolist() == [0, 1, 2], (backend, signal, name)
                assert sum(counts) == monitor.total(signal, name).count == monitor.histogram(signal, name).count


def test_a_long_series_is_thinned_evenly_and_the_total_keeps_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram_series, "MAX_BYTES", 20_000)
    monitor = watched(small_model(), 100, histograms=True)
    log = monitor._reading._record.logs["train"]["parameters"].histograms
    held = sum(len(data) for _, page in log._steps for data in page.values())
    assert held == log._bytes <= 20_000
    steps, series = monitor.histograms("parameters", "0.weight")
    assert histogram_series.MIN_STEPS <= len(steps) < 50
    assert len(set(np.diff(steps))) == 1
    assert steps[0] == 0
    assert all(histogram.count == 32 for histogram in series)
    assert monitor.histogram("parameters", "0.weight").count == 100 * 32


def test_a_series_of_huge_steps_keeps_eight_of_them_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram_series, "MAX_BYTES", 1)
    steps, _ = watched(small_model(), 40, histograms=True).histograms("outputs", "2")
    assert histogram_series.MIN_STEPS // 2 <= len(steps) <= histogram_series.MIN_STEPS
    assert len(set(np.diff(steps))) == 1


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_calls_in_eval_mode_have_their_own_series(backend: Any) -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    batches = [torch.full((4, 4), float(value)) for value in (1, 2, 4)]
    with ts.watch(
        model, optimizer, histograms=True, signals=["inputs"], eval_schedule=ts.torch.Schedule(), backend=backend
    ) as monitor:
        train(model, optimizer, 2)
        model.eval()
        for batch in batches:
            model(batch)
        model.train()
        train(model, optimizer, 1)
    steps, series = monitor.histograms("inputs", "0.input", mode="eval")
    assert steps.tolist() == [0, 1, 2]
    assert series == [of_step(batch) for batch in batches]
    assert monitor.histograms("inputs", "0.input")[0].tolist() == [0, 1, 2]


def test_gradient_accumulation_merges_the_micro_batches_of_a_step() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with ts.watch(model, optimizer, histograms=True, signals=["inputs", "raw_gradients"]) as monitor:
        for _ in range(2):
            optimizer.zero_grad()
            for _ in range(3):
                model(torch.randn(5, 4)).sum().backward()
            optimizer.step()
    assert [histogram.count for histogram in monitor.histograms("inputs", "0.input")[1]] == [60, 60]
    # Of several backward passes the last one counts: it left the whole gradient of the step.
    steps, series = monitor.histograms("raw_gradients", "2.bias")
    assert steps.tolist() == [0, 1]
    assert [histogram.count for histogram in series] == [3, 3]


def test_without_histograms_the_error_says_how_to_get_them() -> None:
    monitor = watched(small_model(), 1)
    with pytest.raises(KeyError, match="watch with histograms=True"):
        monitor.histograms("outputs", "0")
