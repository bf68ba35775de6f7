"""One fault, one finding: what follows from it is listed with it, and broken runs tell their story in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.rules import (  # noqa: E402
    ExplodingGradient,
    Judge,
    Measurement,
    ParameterView,
    Rule,
    StepView,
    default_rules,
    limits,
)

pytestmark = pytest.mark.usefixtures("one_thread")

Batch = tuple[Any, Any]


def mlp(depth: int = 4, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs in [16, *[32] * (depth - 1)]:
        layers += [nn.Linear(inputs, 32), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(32, 2))


def sgd(model: nn.Module, rate: float = 0.05) -> Any:
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)


def two_classes(step: int) -> Batch:
    x = torch.randn(32, 16)
    return x, (x[:, :4].sum(1) > 0).long()


def train(
    model: nn.Module,
    optimizer: Any,
    batch: Callable[[int], Batch] = two_classes,
    loss_of: Callable[[Any, Any], Any] = functional.cross_entropy,
    *,
    steps: int = 60,
    **options: Any,
) -> Any:
    torch.manual_seed(1)
    with ts.watch(model, optimizer, **options) as monitor:
        for step in range(steps):
            x, y = batch(step)
            loss = loss_of(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            monitor.log_loss(loss)
            optimizer.step()
    assert monitor.errors == []
    return monitor


def weight_with_gradient(norm: float, step: int) -> StepView:
    """One recorded step of a model of one weight, whose gradient has this norm."""
    gradient = ts.summary(np.array([[norm]]))
    weight = ParameterView("layer.weight", "layer", 2, "float64", True, True, 0.1, True, None, gradient, None)
    return StepView(step, step - 1 if step else None, parameters=[weight])


def story(monitor: Any) -> list[tuple[str, str, int]]:
    return [(finding.rule, finding.where, finding.step) for finding in monitor.findings]


def test_a_dead_layer_is_one_finding_and_is_handed_on_once():
    model = mlp(depth=6)
    nn.init.constant_(model[4].bias, -10.0)
    got: list[Any] = []
    monitor = train(model, torch.optim.Adam(model.parameters(), lr=1e-3), on_finding=got.append)
    assert story(monitor) == [("dead-units", "5", 0)]
    assert "unchanged at 0, 2, 4, 6.weight, since step 0" in monitor.findings[0].consequences
    assert "  led to    unchanged at 0, 2, 4, 6.weight, since step 0" in monitor.report().replace("\n            ", " ")
    assert [(finding.rule, finding.where) for finding in got] == [("dead-units", "5")]


def test_a_dead_layer_explains_no_layer_before_it():
    model = mlp(depth=4)
    nn.init.constant_(model[4].bias, -10.0)
    model[0].bias.data[:30] = -10.0  # most of an earlier layer is dead for a reason of its own
    monitor = train(model, sgd(model))
    assert {("dead-units", "1", 0), ("dead-units", "5", 0)} == set(story(monitor))


def test_weights_of_zero_are_told_at_the_first_layer():
    model = mlp()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    monitor = train(model, sgd(model))
    assert story(monitor) == [("all-zero", "0", 0)]
    told = " ".join(monitor.findings[0].consequences)
    assert "dead-units at 1, 3, 5, 7" in told
    assert "unchanged at 0, 2, 4, 6, 8.weight" in told


def test_a_rate_of_zero_is_told_once_for_the_whole_model():
    model = mlp()
    monitor = train(model, sgd(model, rate=0.0))
    (finding,) = monitor.findings
    assert (finding.rule, finding.where, finding.status) == ("unchanged", "(model)", "warning")
    assert finding.why.startswith("all 10 watched parameters: the learning rate of its group is 0.")


@pytest.mark.parametrize("std", [0.5, 1.0])
def test_an_explosion_that_ends_in_nan_is_told_as_an_explosion_first(std: float):
    model = mlp(depth=6)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
    told = story(train(model, sgd(model)))
    rules = [rule for rule, _, _ in told]
    assert rules.index("exploding-gradient") < rules.index("non-finite")
    assert rules.count("non-finite") == 1
    assert "dead-units" not in rules


def test_after_a_wild_batch_there_is_one_nan_and_no_echo_of_it():
    def batch(step: int) -> Batch:
        x, y = two_classes(step)
        return (x * 1e4 if step == 30 else x), y

    model = mlp()
    told = story(train(model, sgd(model), batch, steps=80))
    assert told[0][0] == "exploding-gradient"
    assert told[0][2] == 30
    assert [rule for rule, _, _ in told].count("non-finite") <= 1
    assert "update-ratio" not in [rule for rule, _, _ in told]


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_units_that_die_of_one_wild_batch_are_no_finding_of_their_own(seed: int):
    def batch(step: int) -> Batch:
        x, y = two_classes(step)
        return (x * 1000 if step == 3 else x), y

    model = mlp(depth=3, seed=seed)
    monitor = train(model, sgd(model), batch, steps=80)
    assert [(rule, step) for rule, _, step in story(monitor)] == [("exploding-gradient", 3)]
    (consequence,) = monitor.findings[0].consequences
    assert consequence.startswith("dead-units at 5, since step ")


def test_an_output_that_one_wild_batch_saturates_is_told_with_it_and_since_when():
    def batch(step: int) -> Batch:
        x, y = two_classes(step)
        return (x * 1000 if step == 3 else x), y[:, None].float()

    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
    monitor = train(model, sgd(model, 0.1), batch, functional.binary_cross_entropy, steps=80)
    assert [(rule, step) for rule, _, step in story(monitor)] == [("exploding-gradient", 3)]
    assert monitor.findings[0].consequences == ("saturated at 3, since step 3",)


class Later(Rule):
    """Breaks at one step, as an update that is too large would."""

    id = "update-ratio"

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def statistic(self, view: StepView) -> list[Any]:
        return [Measurement("layer", float(view.step == self.step))]


@pytest.mark.parametrize(("step", "follows"), [(29, True), (30, True), (31, False)])
def test_an_explosion_explains_what_begins_while_it_lasts_and_ten_steps_longer(step: int, follows: bool):
    judge = Judge([ExplodingGradient(), Later(step)])
    for now in range(40):
        judge.judge(weight_with_gradient(2000.0 if 5 <= now <= 20 else 1.0, now))
    assert [finding.rule for finding in judge.findings] == ["exploding-gradient", "update-ratio"][: 2 - follows]


def test_a_lively_step_after_a_slow_start_is_no_explosion():
    """An LSTM whose gradient left a plateau of 0.06 for about 1 had one step of 10.1, and went on to learn."""
    judge = Judge([ExplodingGradient()])
    norms = [0.06] * 40 + [0.5, 0.9, 0.6, 1.6] * 6 + [10.1, 3.4, 0.7]
    for step, norm in enumerate(norms):
        judge.judge(weight_with_gradient(norm, step))
    assert judge.findings == []
    judge.judge(weight_with_gradient(170.0, len(norms)))
    (finding,) = judge.findings
    assert (finding.step, finding.limit) == (len(norms), limits.EXPLODING_GROWTH)


def test_a_second_nan_needs_clean_steps_before_it_to_be_a_finding_of_its_own():
    model = nn.ModuleDict({"one": nn.Linear(4, 4), "two": nn.Linear(4, 4)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # the weights survive
    bad_layer = {3: "one", 5: "two", 30: "two"}
    with ts.watch(model, optimizer, rules=[ts.rules.NonFinite()]) as monitor:
        for step in range(40):
            loss = torch.zeros(())
            for name, layer in model.items():
                x = torch.full((2, 4), torch.nan if bad_layer.get(step) == name else 1.0)
                loss = loss + layer(x).nan_to_num().sum()
            optimizer.zero_grad()
            loss.backward()
            for parameter in model.parameters():
                parameter.grad.nan_to_num_()
            optimizer.step()
    assert story(monitor) == [("non-finite", "one", 3), ("non-finite", "two", 30)]


def test_a_recurrent_network_that_explodes_is_named():
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(4, 32, nonlinearity="relu", batch_first=True)
            self.head = nn.Linear(32, 1)
            with torch.no_grad():
                self.rnn.weight_hh_l0.copy_(1.5 * torch.eye(32))

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(x)[0][:, -1])

    torch.manual_seed(0)
    model = Network()
    monitor = train(
        model, sgd(model, 0.01), lambda _: (torch.randn(16, 30, 4), torch.zeros(16, 1)), functional.mse_loss
    )
    assert story(monitor)[0] == ("exploding-gradient", "rnn", 0)
    assert "update-ratio" in " ".join(monitor.findings[0].consequences)


def test_a_parameter_of_the_model_itself_is_named_as_such():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(16, 16) * 0.02)
            self.head = nn.Linear(16, 2)

        def forward(self, x: Any) -> Any:
            return self.head(x @ self.table)

    model = Scaled()
    monitor = train(model, torch.optim.Adam(model.parameters(), lr=3.0))
    assert ("update-ratio", "table", 0) in story(monitor)


def test_a_gradient_that_no_optimizer_resets_is_no_explosion():
    model = mlp()
    optimizer = torch.optim.Adam([parameter for name, parameter in model.named_parameters() if name[0] != "2"], lr=1e-3)
    assert story(train(model, optimizer, steps=250)) == [("frozen", "2", 0)]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("rate", [0.02, 0.05])
def test_a_deep_network_whose_input_hardly_matters_at_first_is_healthy(seed: int, rate: float):
    """With torch's default initialisation about half of the last units of a deep ReLU network are silent at first."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs in [16, *[64] * 5]:
        layers += [nn.Linear(inputs, 64), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(64, 2))
    assert story(train(model, sgd(model, rate), steps=100)) == []


def test_a_rule_must_say_what_it_measures():
    class Silent(Rule):
        id = "silent"

    with pytest.raises(TypeError, match="abstract method"):
        Silent()

    class Loud(Rule):
        id = "loud"

        def statistic(self, view: StepView) -> list[Any]:
            return []

    assert repr(Loud()) == "Loud(limit=0, patience=1)"


def test_the_page_names_every_rule():
    page = (Path(__file__).parent.parent / "docs" / "watch.md").read_text(encoding="utf-8")
    for rule in default_rules():
        assert f"| `{rule.id}` |" in page
