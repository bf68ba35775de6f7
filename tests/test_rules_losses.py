"""The rule on losses that stay the same, and what findings may say of what was not counted or not trained."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.rules import limits  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def run(model: nn.Module, loss: Any, *, steps: int = 80, lr: float = 0.1, **options: Any) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with ts.watch(model, optimizer, **options) as monitor:
        for number in range(steps):
            optimizer.zero_grad()
            x = torch.randn(16, 8)
            value = loss(model(x), x, number)
            monitor.log_loss(value)
            value.backward()
            optimizer.step()
    return monitor


def mlp(*ends: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1), *ends)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_loss_that_never_changes_is_a_finding_at_any_scale(scale: float) -> None:
    # A softmax over one value is 1 whatever the network says.
    monitor = run(mlp(nn.Softmax(dim=1)), lambda y, _x, _n: ((y - 3.0) ** 2).mean() * scale)
    told = {finding.rule: finding for finding in monitor.findings}
    finding = told.get("flat-loss")
    assert finding is not None or any("flat-loss" in c for f in monitor.findings for c in f.consequences)


def test_the_flat_loss_names_its_value_and_is_over_when_it_moves() -> None:
    monitor = run(mlp(), lambda y, _x, n: y.square().mean() * (n >= 60) + 4.0, rules=[ts.rules.FlatLoss()])
    (finding,) = monitor.findings
    assert (finding.rule, finding.where, finding.step, finding.over) == ("flat-loss", "loss", 0, True)
    assert finding.last_step == 59
    assert "were 4." in finding.why


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_a_loss_of_zero_and_one_that_moves_at_all_are_silent(value: float) -> None:
    def loss(y: Any, _x: Any, number: int) -> Any:
        return y.sum() * 0.0 + value * (1.0 + 1e-4 * number)

    assert run(mlp(), loss, rules=[ts.rules.FlatLoss()]).findings == []


def test_fewer_losses_than_the_limit_say_nothing() -> None:
    steps = int(limits.FLAT_LOSSES)
    assert run(mlp(), lambda y, _x, _n: y.sum() * 0 + 1.0, steps=steps, rules=[ts.rules.FlatLoss()]).findings == []


# --- weights that were not finite before -----------------------------------------------------------------------------


def test_a_weight_that_was_not_finite_gets_advice_about_loading_it() -> None:
    model = mlp()
    model[2].weight.data[0, 3] = torch.nan
    (finding,) = run(model, lambda y, _x, _n: y.square().mean(), steps=2).findings
    assert finding.where == "2"
    assert "its own weight already holds one" in finding.why
    assert "initialised or loaded" in finding.advice
    assert "log or sqrt" not in finding.advice


# --- parameters that are left out, masks, what was not counted --------------------------------------------------------


class Tokens(nn.Module):
    """Holds a token for masked patches, as vision transformers do, and does not use it in a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 8))
        self.mask_token = nn.Parameter(torch.zeros(1, 8))

    def forward(self, x: Any) -> Any:
        return x + self.cls_token


def test_a_parameter_beside_others_that_learn_is_left_out_on_purpose() -> None:
    model = nn.Sequential(Tokens(), mlp())
    monitor = run(model, lambda y, x, _n: (y - x.sum(1, keepdim=True)).square().mean(), lr=0.01)
    assert monitor.findings == []


class Above(nn.Module):
    def forward(self, x: Any) -> Any:
        return x > 100


class Count(nn.Module):
    def forward(self, x: Any) -> Any:
        return (x > 100).sum(1)


@pytest.mark.parametrize("kind", [Above, Count])
def test_a_mask_or_a_count_that_is_zero_throughout_is_no_finding(kind: type[nn.Module]) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mask = kind()
            self.inner = mlp()

        def forward(self, x: Any) -> Any:
            mask = self.mask(x)
            return self.inner(x) + mask.float().sum()

    monitor = run(Masked(), lambda y, x, _n: (y - x.sum(1, keepdim=True)).square().mean(), steps=20, lr=0.01)
    assert "mask" in monitor.names("outputs")
    assert monitor.findings == []


def test_what_was_not_counted_is_not_called_finite() -> None:
    class Sparse(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.to_sparse()

    model = nn.Sequential(nn.Linear(8, 4), Sparse())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ts.torch.WatchWarning)
        monitor = run(model, lambda y, _x, n: y.to_dense().sum() * (torch.nan if n == 2 else 1.0), steps=3)
    (finding,) = monitor.findings
    assert "watched outputs of this step are finite" not in finding.why
    assert "not counted is named in monitor.errors" in finding.why


def test_closing_from_another_thread_leaves_no_hook_and_no_error() -> None:
    for trial in range(10):
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        monitor = ts.watch(model, optimizer, signals=["outputs", "parameters", "gradients", "updates"])
        running, stopped = threading.Event(), threading.Event()

        def loop(
            model: Any = model, optimizer: Any = optimizer, running: Any = running, stopped: Any = stopped
        ) -> None:
            while not stopped.is_set():
                optimizer.zero_grad()
                model(torch.randn(4, 8)).square().mean().backward()
                optimizer.step()
                running.set()

        thread = threading.Thread(target=loop)
        thread.start()
        running.wait()
        threading.Event().wait(0.001 * trial)
        monitor.close()
        stopped.set()
        thread.join()
        left = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
        left += len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)
        assert (left, monitor.errors) == (0, [])
