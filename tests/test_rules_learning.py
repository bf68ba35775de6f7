"""Runs held against the best constant and the validation curve: what stands still is told, what is slow is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from digit_runs import mlp  # noqa: E402

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


def same(x: Any) -> Any:
    return x


def train(
    digits: tuple[Any, Any],
    model: nn.Module,
    optimizer: Any,
    *,
    steps: int = 260,
    scale: float = 1.0,
    batch: int = 64,
    inputs: Callable[[Any], Any] = same,
    labels: Callable[[Any], Any] = same,
    few: int | None = None,
    schedule: Any = None,
    validate: bool = True,
    rules: Any = None,
) -> Any:
    x, y = digits
    held, (x, y) = (x[1400:], y[1400:]), (x[:1400][:few], y[:1400][:few])
    criterion = nn.CrossEntropyLoss()
    generator = torch.Generator().manual_seed(1)
    with ts.watch(model, optimizer, loss_fn=criterion, rules=rules) as monitor:
        for step in range(steps):
            chosen = torch.randint(0, len(x), (batch,), generator=generator)
            model.train()
            optimizer.zero_grad()
            (criterion(model(inputs(x[chosen])), labels(y[chosen])) * scale).backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            if validate and step % 30 == 29:
                model.eval()
                with torch.no_grad():
                    criterion(model(held[0]), held[1])
    assert monitor.errors == []
    return monitor


def adam(model: nn.Module, rate: float = 1e-3) -> Any:
    return torch.optim.Adam(model.parameters(), lr=rate)


def told(monitor: Any) -> list[tuple[str, str]]:
    return [(finding.rule, finding.status) for finding in monitor.findings]


def shuffled(y: Any) -> Any:
    return y[torch.randperm(len(y))]


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("batch", [16, 256])
@pytest.mark.parametrize("width", [16, 256])
def test_labels_that_do_not_belong_to_their_inputs_are_told(
    width: int, batch: int, scale: float, digits: tuple[Any, Any]
) -> None:
    torch.manual_seed(0)
    model = mlp(width=width)
    monitor = train(digits, model, adam(model), labels=shuffled, scale=scale, batch=batch)
    assert told(monitor) == [("not-learning", "failure")], [str(finding) for finding in monitor.findings]


def test_it_is_a_warning_before_it_is_a_failure_and_both_are_told(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    heard: list[Any] = []
    x, y = digits
    criterion, optimizer = nn.CrossEntropyLoss(), adam(model)
    with ts.watch(model, optimizer, loss_fn=criterion, on_finding=heard.append):
        for _ in range(260):
            chosen = torch.randint(0, len(x), (64,))
            optimizer.zero_grad()
            criterion(model(x[chosen]), shuffled(y[chosen])).backward()
            optimizer.step()
    assert [(finding.rule, finding.status) for finding in heard] == [
        ("not-learning", "warning"),
        ("not-learning", "failure"),
    ]
    assert heard[0].step == heard[1].step


def test_slow_runs_are_silent(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp()
    assert told(train(digits, model, torch.optim.SGD(model.parameters(), lr=0.03))) == []
    model = mlp(nn.Tanh, depth=6)
    optimizer = adam(model)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 250))
    assert told(train(digits, model, optimizer, schedule=warm_up)) == []


def test_weights_that_are_born_large_are_told_and_large_inputs_that_pass_are_not(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = mlp(width=128, depth=4)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    monitor = train(digits, model, torch.optim.SGD(model.parameters(), lr=1e-3), validate=False)
    assert [rule for rule, _ in told(monitor)] == ["wild-start"], [str(finding) for finding in monitor.findings]
    model = mlp()
    assert told(train(digits, model, adam(model), inputs=lambda x: x * 16, validate=False)) == []


class Far(nn.Module):
    """Adds nothing that depends on its input."""

    def forward(self, x: Any) -> Any:
        return x * 0.0


def test_an_output_that_does_not_depend_on_the_input_is_told(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Far(), nn.Linear(64, 10))
    monitor = train(digits, model, adam(model), steps=60)
    assert [rule for rule, _ in told(monitor)] == ["all-zero"], [str(finding) for finding in monitor.findings]
    assert any(line.startswith("constant-output") for line in monitor.findings[0].consequences)


def test_one_class_for_all_is_told_once_it_stands_still(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    model[2].bias.data[3] = 3.0
    model[2].weight.data *= 1e-3
    model[2].requires_grad_(False)
    optimizer = torch.optim.SGD(model[0].parameters(), lr=1e-3)
    rules = [ts.rules.OneClassPredicted(), ts.rules.NotLearning()]
    monitor = train(digits, model, optimizer, steps=240, validate=False, rules=rules)
    assert told(monitor) == [("one-class-predicted", "failure")]
    assert "Class 3 was predicted for 100%" in monitor.findings[0].why


def test_overfitting_is_told_and_a_validation_that_stays_is_not(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    x, y = digits
    wrong = torch.where(torch.rand(len(y)) < 0.5, torch.randint(0, 10, (len(y),)), y)
    wrong[1400:] = y[1400:]
    model = mlp(width=256)
    monitor = train((x, wrong), model, adam(model, 3e-3), steps=600, few=300)
    assert told(monitor) == [("overfit", "warning")], [str(finding) for finding in monitor.findings]
    model = mlp(width=64)
    assert told(train(digits, model, adam(model), steps=500)) == []


def test_a_validation_that_was_never_any_good_is_told(digits: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    layers = (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    model = nn.Sequential(*layers)
    assert told(train(digits, model, adam(model), inputs=lambda x: x * 4)) == []
    x, y = digits
    x = x.clone()
    x[1400:] = 8.0 - 16.0 * x[1400:]
    monitor = train((x, y), model, adam(model))
    (finding,) = monitor.findings
    assert (finding.rule, finding.status) == ("train-eval-gap", "failure")
    assert "'1' normalises by running statistics" in finding.advice


def test_adversarial_targets_are_sides_and_no_data() -> None:
    torch.manual_seed(0)
    made, judged = nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(), nn.Linear(16, 1))
    criterion = nn.BCEWithLogitsLoss()
    optimizers = torch.optim.Adam(made.parameters(), 1e-3), torch.optim.Adam(judged.parameters(), 1e-3)
    ones, zeros = torch.ones(32, 1), torch.zeros(32, 1)
    with ts.watch(made, optimizers[0], loss_fn=criterion) as monitor:
        for _ in range(250):
            fake = made(torch.randn(32, 4))
            optimizers[1].zero_grad()
            (criterion(judged(torch.randn(32, 8)), ones) + criterion(judged(fake.detach()), zeros)).backward()
            optimizers[1].step()
            optimizers[0].zero_grad()
            criterion(judged(fake), ones).backward()
            optimizers[0].step()
    assert monitor.findings == []
    assert monitor.loss_state().constant != monitor.loss_state().constant  # NaN


def test_a_wild_first_loss_that_falls_to_the_variance_has_learnt_nothing() -> None:
    import numpy as np

    from tensorstats.rules.fed import LossKind, LossStep
    from tensorstats.rules.trends import LossTrend

    trend = LossTrend()
    for step in range(100):
        value = 1e10 if step == 0 else 1.0
        trend.log(step, value)
        trend.state.add(
            step,
            LossStep(
                LossKind("squared error"), value, 10, column_sums=np.array([0.0]), column_squares=np.array([10.0])
            ),
        )
    assert trend.state.constant == 1.0
    assert trend.learning is False
