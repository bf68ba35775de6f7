"""Activations that a forward calls as functions: seen by the rules on units as modules are."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.torch.attach.functions import activation_before  # noqa: E402

F = nn.functional

pytestmark = pytest.mark.usefixtures("one_thread")


class Plain(nn.Module):
    """A classifier in the manner of tutorials: functions in its forward."""

    def __init__(self, function: Any = F.relu) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 32)
        self.fc2 = nn.Linear(32, 32)
        self.fc3 = nn.Linear(32, 3)
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.fc3(F.relu(self.fc2(self.function(self.fc1(x)))))


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.conv2 = nn.Conv2d(4, 8, 3)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(8 * 2 * 2, 3)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.relu(self.conv1(x.view(-1, 1, 16, 16))), 2)
        x = F.max_pool2d(F.dropout(F.relu(self.conv2(x)), 0.1, self.training), 2)
        return self.fc(torch.flatten(self.drop(x), 1))


def run(model: nn.Module, *, features: int = 8, steps: int = 30, **options: Any) -> ts.torch.Monitor:
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with ts.watch(model, optimizer, **options) as monitor:
        for _ in range(steps):
            inputs = torch.randn(64, features)
            loss = F.cross_entropy(model(inputs), inputs[:, :3].argmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert monitor.errors == []
    return monitor


def test_a_dead_layer_of_functions_is_named():
    torch.manual_seed(0)
    model = Plain()
    nn.init.constant_(model.fc1.bias, -50.0)
    monitor = run(model)
    first = monitor.findings[0]
    assert (first.rule, first.where) == ("dead-units", "relu before fc2")
    assert [each.rule for each in monitor.findings] == ["dead-units"]


def test_a_dead_layer_is_seen_through_pooling_and_dropout():
    torch.manual_seed(0)
    model = Conv()
    nn.init.constant_(model.conv2.bias, -50.0)
    monitor = run(model, features=256)
    assert [(each.rule, each.where) for each in monitor.findings] == [("dead-units", "relu before drop")]


@pytest.mark.parametrize(("function", "kind"), [(torch.tanh, "tanh"), (torch.sigmoid, "sigmoid")])
def test_a_saturated_function_is_named(function: Any, kind: str):
    torch.manual_seed(0)
    model = Plain(function)
    with torch.no_grad():
        model.fc1.weight.mul_(200)
    monitor = run(model)
    assert ("saturated", f"{kind} before fc2") in [(each.rule, each.where) for each in monitor.findings]


def test_what_is_healthy_is_silent_and_counted_exactly():
    torch.manual_seed(0)
    model = Plain()
    seen: list[Any] = []
    model.fc2.register_forward_hook(lambda _module, given, _output: seen.append(given[0].detach().clone()))
    monitor = run(model)
    assert monitor.findings == []
    assert monitor.names("outputs") == ["fc1", "relu before fc2", "fc2", "relu before fc3", "fc3"]
    assert monitor.latest("outputs", "relu before fc2").to_bytes() == ts.summary(seen[-1]).to_bytes()
    active = monitor.units("relu before fc2")
    assert int(active.count[0]) == sum(len(each) for each in seen)
    assert "relu before fc2" in monitor.table()
    assert run(Conv(), features=256).findings == []


def test_a_module_is_counted_once_however_often_its_result_is_used():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3), nn.Linear(16, 3)
            self.act = nn.ReLU()

        def forward(self, x: Any) -> Any:
            h = self.act(self.first(x))
            g = torch.tanh(h)
            return self.a(h) + self.b(g) + self.a(g)

    assert run(Shared()).names("outputs") == ["first", "act", "a", "tanh before b", "b", "a#1"]


def test_no_bit_and_no_random_number_changes():
    def trained(*, watch: bool) -> list[Any]:
        torch.manual_seed(0)
        model = Conv()
        if watch:
            run(model, features=256)
        else:
            torch.manual_seed(1)
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
            for _ in range(30):
                inputs = torch.randn(64, 256)
                loss = F.cross_entropy(model(inputs), inputs[:, :3].argmax(1))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return [*model.parameters(), torch.get_rng_state()]

    for watched, bare in zip(trained(watch=True), trained(watch=False), strict=True):
        assert torch.equal(watched, bare)


def test_who_chooses_modules_gets_no_functions():
    assert run(Plain(), modules=nn.Linear).names("outputs") == ["fc1", "fc2", "fc3"]
    assert run(Plain(), signals=["parameters"]).names("outputs") == []


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda x: F.relu(x), "relu"),
        (lambda x: F.relu(x.clone(), inplace=True), "relu"),
        (lambda x: F.avg_pool2d(F.relu(x[None, None]), 2)[0, 0], None),  # a selection is not looked through
        (lambda x: F.dropout(F.relu(x).T.reshape(-1), 0.5), "relu"),
        (lambda x: F.relu(x).mean(0), "relu"),
        (lambda x: torch.sigmoid(x).view(-1), "sigmoid"),
        (lambda x: torch.tanh(x).mean(0), None),
        (lambda x: F.relu(x) * x, None),
        (lambda x: F.gelu(x), None),
        (lambda x: F.relu(x) + 1, None),
        (lambda x: x.detach(), None),
    ],
)
def test_what_a_tensor_comes_from(call: Any, kind: str | None):
    found = activation_before(call(torch.randn(4, 6, requires_grad=True)))
    assert (None if found is None else found[0]) == kind
