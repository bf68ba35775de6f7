"""Mixed precision: gradients are read unscaled, skipped steps are no steps, accumulation counts every micro-batch."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_outputs_keep_their_dtype_and_their_exact_counts(dtype: torch.dtype) -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(8, 6)
    with ts.watch(model, optimizer) as monitor:
        with torch.autocast("cpu", dtype):
            want = ts.summary(nn.functional.linear(x, model[0].weight, model[0].bias))
            model(x).float().sum().backward()
        optimizer.step()
    recorded = monitor.latest("outputs", "0")
    assert recorded.dtype == str(dtype).removeprefix("torch.")
    assert (recorded.count, recorded.min, recorded.max, recorded.sum) == (want.count, want.min, want.max, want.sum)
    assert monitor.latest("gradients", "0.weight").dtype == "float32"


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscale", [False, True])
def test_gradients_are_those_of_a_run_without_a_scaler(fused: bool, unscale: bool) -> None:
    def gradients(scaled: bool) -> dict[str, list[float]]:
        model = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        generator = torch.Generator().manual_seed(1)
        with ts.watch(model, optimizer) as monitor:
            for _ in range(3):
                optimizer.zero_grad()
                loss = model(torch.randn(8, 6, generator=generator)).square().mean()
                scaler.scale(loss).backward()
                if unscale:
                    scaler.unscale_(optimizer)
                    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                scaler.step(optimizer)
                scaler.update()
        assert (monitor.step, monitor.errors) == (3, [])
        return {name: monitor.series("gradients", name, "l2")[1].tolist() for name in monitor.names("gradients")}

    plain, scaled = gradients(scaled=False), gradients(scaled=True)
    assert plain.keys() == scaled.keys()
    for name, values in plain.items():
        assert scaled[name] == pytest.approx(values, rel=1e-5), name


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_scaler_skips_is_not_counted_and_updates_nothing(fused: bool) -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with ts.watch(model, optimizer) as monitor:
        for batch in range(4):
            optimizer.zero_grad()
            loss = model(torch.ones(2, 6)).sum()
            if batch == 1:
                loss = loss * float("inf")  # as an overflow in the backward pass
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert monitor.step == 3
    assert monitor.series("updates", "0.weight", "l2")[0].tolist() == [0, 1, 2]
    assert all(value > 0 for value in monitor.series("updates", "0.weight", "l2")[1])
    assert all(count == 0 for count in monitor.series("gradients", "0.weight", "nonfinite_count")[1])
    # The forward pass of the skipped batch did happen: it is one more micro-batch of the step that followed.
    assert monitor.series("outputs", "0", "count")[1].tolist() == [32, 64, 32]
    assert monitor.findings == []
    assert monitor.errors == []


def test_gradient_accumulation_reads_the_sum_and_counts_every_micro_batch() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    parts = torch.randn(4, 8, 6)
    with ts.watch(model, optimizer) as monitor:
        for part in parts:
            (model(part).square().mean() / 4).backward()
        gradient = model[0].weight.grad.clone()
        optimizer.step()
    assert monitor.latest("outputs", "0").count == 4 * 8 * 16
    assert monitor.units("1").updates == 4
    assert monitor.latest("gradients", "0.weight").to_dict() == ts.summary(gradient).to_dict()


def test_accumulation_with_a_scaler_and_autocast_together() -> None:
    def run(mixed: bool) -> Any:
        model = build()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0, enabled=mixed)
        generator = torch.Generator().manual_seed(2)
        with ts.watch(model, optimizer, every=2) as monitor:
            for _ in range(4):
                optimizer.zero_grad()
                for _ in range(3):
                    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                        loss = model(torch.randn(8, 6, generator=generator)).float().square().mean() / 3
                    scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
        assert monitor.errors == []
        return monitor

    plain, mixed = run(mixed=False), run(mixed=True)
    for name in plain.names("gradients"):
        want, got = (monitor.series("gradients", name, "l2")[1] for monitor in (plain, mixed))
        assert got == pytest.approx(want, rel=0.05), name
    assert mixed.series("outputs", "0", "count")[1].tolist() == [3 * 8 * 16] * 2


def test_raw_gradients_are_unscaled_when_the_scaler_is_known() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with ts.watch(model, optimizer, signals=["raw_gradients", "gradients"], scaler=scaler) as monitor:
        scaler.scale(model(torch.ones(4, 6)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    raw, read = monitor.latest("raw_gradients", "0.weight"), monitor.latest("gradients", "0.weight")
    assert raw.l2 == pytest.approx(read.l2, rel=1e-6)
