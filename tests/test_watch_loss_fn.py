"""What a loss module's calls are counted as: exact counts, the best constant, validation; and that nothing changes."""

from __future__ import annotations

import copy
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

BACKENDS = ["auto", "torch"]


def train(criterion: nn.Module, batches: list[tuple[Any, Any]], outputs: int, **options: Any) -> tuple[Any, list[Any]]:
    torch.manual_seed(0)
    model = nn.Linear(batches[0][0].shape[-1], outputs)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    given = []
    with ts.watch(model, optimizer, loss_fn=criterion, **options) as monitor:
        for x, y in batches:
            optimizer.zero_grad()
            predictions = model(x)
            if predictions.dim() == 3:
                predictions = predictions.movedim(-1, 1)
            given.append((predictions.detach().clone(), y))
            criterion(predictions, y).sum().backward()
            optimizer.step()
    assert monitor.errors == []
    return monitor, given


def of_classes(shape: tuple[int, ...], classes: int, steps: int = 6) -> list[tuple[Any, Any]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(*shape, 5, generator=generator), torch.randint(0, classes, shape, generator=generator))
        for _ in range(steps)
    ]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(16,), (4, 7)])
@pytest.mark.parametrize("classes", [3, 70])
def test_classes_are_counted_exactly(classes: int, shape: tuple[int, ...], backend: str) -> None:
    batches = of_classes(shape, classes)
    batches[2][1].view(-1)[:3] = -100
    monitor, given = train(nn.CrossEntropyLoss(), batches, classes, backend=backend)
    state = monitor.loss_state()
    wanted = np.zeros((classes, classes), dtype=np.int64)
    for predictions, y in given:
        rows = predictions.movedim(1, -1).reshape(-1, classes)
        for label, chosen in zip(y.reshape(-1).tolist(), rows.argmax(1).tolist(), strict=True):
            if label >= 0:
                wanted[label, chosen] += 1
    assert np.array_equal(state.target_counts, wanted.sum(1))
    assert np.array_equal(state.predicted_counts, wanted.sum(0))
    assert (state.confusion is None) == (classes > 64)
    assert state.confusion is None or np.array_equal(state.confusion, wanted)
    assert (state.samples, state.ignored) == (wanted.sum(), 3)
    shares = [Fraction(int(count), int(wanted.sum())) for count in wanted.sum(1) if count]
    assert state.constant == pytest.approx(-math.fsum(float(share) * math.log(share) for share in shares))
    assert monitor.series("losses", "constant")[1][-1] == state.constant
    losses = [float(nn.functional.cross_entropy(predictions, y)) for predictions, y in given]
    assert state.values == pytest.approx(losses)
    assert monitor.series("losses", "loss")[1] == pytest.approx(losses)


def best(loss: Any, y: Any, start: Any) -> float:
    """What the best constant loses, found by descent."""
    constant = start.clone().double().requires_grad_()
    optimizer = torch.optim.LBFGS([constant], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimizer.zero_grad()
        value = loss(constant, y)
        value.backward()
        return value

    optimizer.step(closure)
    return float(loss(constant.detach(), y))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_smoothing": 0.1},
        {"weight": torch.tensor([1.0, 2.0, 5.0])},
        {"weight": torch.ones(3), "label_smoothing": 0.3},
    ],
)
def test_the_best_constant_of_a_cross_entropy_is_the_best_there_is(options: dict[str, Any]) -> None:
    batches = of_classes((32,), 3)
    monitor, _ = train(nn.CrossEntropyLoss(**options), batches, 3)
    y = torch.cat([labels for _, labels in batches])
    criterion = nn.CrossEntropyLoss(**options).double()
    found = best(lambda c, y: criterion(c.expand(len(y), 3), y), y, torch.zeros(3))
    assert monitor.loss_state().constant == pytest.approx(found, rel=1e-6)


VALUES = {
    "mse": (nn.MSELoss(), lambda y: y * 3 + 100, 1e-6),
    "bce": (nn.BCEWithLogitsLoss(), lambda y: (y > 0.5).float(), 1e-6),
    "bce, weighted": (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0, 1.0])), lambda y: (y > 0.5).float(), 1e-6),
    # Of a batch, not of all of them.
    "l1": (nn.L1Loss(), lambda y: y[:, :1].repeat(1, 2), 0.05),
    "huber": (nn.HuberLoss(delta=0.5), lambda y: y[:, :1].repeat(1, 2), 0.05),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", VALUES)
def test_the_best_constant_of_values_is_the_best_there_is(name: str, backend: str) -> None:
    criterion, made, within = VALUES[name]
    batches = [(torch.randn(64, 4), made(torch.randn(64, 2))) for _ in range(6)]
    monitor, given = train(criterion, batches, 2, backend=backend)
    y = torch.cat([targets for _, targets in batches]).double()
    twin = copy.deepcopy(criterion).double()
    found = best(lambda c, y: twin(c.expand(y.shape), y), y, y.mean(0) if "bce" not in name else torch.zeros(2))
    state = monitor.loss_state()
    assert state.constant == pytest.approx(found, rel=within)
    errors = torch.cat([predictions - targets for predictions, targets in given])
    assert state.error.count == errors.numel()
    assert state.error.mean == pytest.approx(float(errors.double().mean()), rel=1e-5, abs=1e-5)
    assert (state.targets.min, state.targets.max) == (float(y.min()), float(y.max()))


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_the_loss_per_target_does_not_depend_on_the_reduction(reduction: str) -> None:
    batches = [(torch.randn(8, 4), torch.randn(8, 2)) for _ in range(3)]
    values = [train(nn.MSELoss(reduction=kind), batches, 2)[0].loss_state().values[0] for kind in ("mean", reduction)]
    assert values[0] == pytest.approx(values[1])


def test_calls_without_gradients_are_the_validation_curve() -> None:
    torch.manual_seed(0)
    model, criterion = nn.Linear(4, 3), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(32, 4), torch.randint(0, 3, (32,))
    wanted = []
    with ts.watch(model, optimizer, loss_fn=criterion, every=2) as monitor:
        for _ in range(4):
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
            with torch.no_grad():
                wanted.append(
                    float(sum(criterion(model(part), label) for part, label in ((x[:8], y[:8]), (x[8:], y[8:]))) / 2)
                )
    assert monitor.names("losses") == ["loss", "constant", "validation"]
    assert monitor.loss_state().steps == [0, 2]
    evaluations = monitor._judge.validation.evaluations
    assert [point.value for point in evaluations] == pytest.approx(wanted)
    assert monitor.loss_state(mode="eval").samples == 4 * 32


def test_the_loop_s_own_losses_take_the_place_of_those_heard() -> None:
    torch.manual_seed(0)
    model, criterion = nn.Linear(4, 3), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, loss_fn=criterion) as monitor:
        for number in range(4):
            optimizer.zero_grad()
            loss = criterion(model(torch.randn(8, 4)), torch.randint(0, 3, (8,)))
            monitor.log_loss(float(number))
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                criterion(model(torch.randn(8, 4)), torch.randint(0, 3, (8,)))
            monitor.log_validation(number * 2.0)
    steps, values = monitor.series("losses", "loss")
    assert values[steps > 0].tolist() == [1.0, 2.0, 3.0]
    assert [point.value for point in monitor._judge.validation.evaluations][1:] == [2.0, 4.0, 6.0]


class Focal(nn.Module):
    """A loss of the user's own."""

    def forward(self, logits: Any, targets: Any) -> Any:
        loss = nn.functional.cross_entropy(logits, targets, reduction="none")
        return ((1 - torch.exp(-loss)) ** 2 * loss).mean()


def test_a_loss_that_is_not_known_is_logged_and_not_compared() -> None:
    for criterion, targets in (
        (Focal(), torch.randint(0, 3, (8,))),
        (nn.KLDivLoss(reduction="batchmean"), torch.rand(8, 3)),
    ):
        monitor, _ = train(criterion, [(torch.randn(8, 4), targets)] * 30, 3)
        assert monitor.loss_state().kind.name == ""
        assert math.isnan(monitor.loss_state().constant)
        assert len(monitor.series("losses", "loss")[0]) == 30
        assert monitor.findings == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_has_the_same_bits_and_random_numbers_with_and_without(backend: str) -> None:
    def run(watched: bool) -> tuple[Any, Any]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
        criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
        optimizer = torch.optim.Adam(model.parameters())
        monitor = ts.watch(model, optimizer, loss_fn=criterion, backend=backend) if watched else None
        for _ in range(5):
            optimizer.zero_grad()
            criterion(model(torch.randn(8, 4)), torch.randint(0, 3, (8,))).backward()
            optimizer.step()
        if monitor is not None:
            monitor.close()
            assert monitor.errors == []
            assert not criterion._forward_hooks
        return [parameter.detach().clone() for parameter in model.parameters()], torch.get_rng_state()

    (plain, state), (watched, after) = run(watched=False), run(watched=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert torch.equal(state, after)


def test_a_loss_with_odd_arguments_never_reaches_the_loop() -> None:
    class Odd(nn.Module):
        def forward(self, *given: Any, **named: Any) -> Any:
            return given[0].mean()

    torch.manual_seed(0)
    model, criterion = nn.Linear(4, 3), Odd()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, loss_fn=criterion) as monitor:
        for arguments in ((), (None,), ("a",), (torch.randn(3),), (torch.randn(0),), (torch.randn(2, 2).to_sparse(),)):
            optimizer.zero_grad()
            criterion(model(torch.randn(8, 4)), *arguments, named=3).backward()
            optimizer.step()
        for targets in ([1, 2], torch.randn(5), torch.randint(0, 3, (7, 2))):
            monitor.log_loss(0.5, predictions=torch.randn(8, 3), targets=targets)
    assert all(error.startswith("the loss: predictions and targets") for error in monitor.errors)


@pytest.mark.parametrize("given", ["mse", nn.functional.mse_loss, 3])
def test_what_is_no_loss_module_is_refused_with_what_to_do(given: Any) -> None:
    with pytest.raises(TypeError, match=r"loss_fn must be a loss module"):
        ts.watch(nn.Linear(2, 2), loss_fn=given)
