"""Outputs within outputs, modules called again and again, and modules that are watched whole."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from watched import Returns, watched  # noqa: E402

Pair = collections.namedtuple("Pair", "left right")


@dataclasses.dataclass
class Answer:
    logits: Any
    hidden: Any = None
    extra: Any = None


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda x: (x, [x, None]), ["m[0]", "m[1][0]"]),
        (lambda x: {"logits": x, "n": 3}, ["m['logits']"]),
        (lambda x: Pair(x, x), ["m.left", "m.right"]),
        (lambda x: Answer(x, hidden=(x, x)), ["m.logits", "m.hidden[0]", "m.hidden[1]"]),
        (lambda x: "text", []),
    ],
)
def test_nested_outputs_are_found(make: Any, names: list[str]) -> None:
    model = nn.ModuleDict({"m": Returns(make)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer) as monitor:
        model["m"](torch.ones(2, 3))
        model["m"].scale.grad = torch.ones(1)
        optimizer.step()
    assert monitor.names("outputs") == names
    assert monitor.errors == []


def test_an_output_that_contains_itself_ends() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert list(ts.torch.attach.outputs.tensors_in(loop)) == []


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.act = nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.act(self.layer(self.act(self.layer(x))))


def test_every_call_of_a_shared_module_has_its_own_index() -> None:
    monitor = watched(Shared())
    assert monitor.names("outputs") == ["layer", "act", "layer#1", "act#1"]


def test_calls_are_counted_anew_in_every_forward_pass_so_that_micro_batches_merge() -> None:
    model = Shared()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with ts.watch(model, optimizer) as monitor:
        optimizer.zero_grad()
        for _ in range(3):
            model(torch.randn(2, 4)).mean().backward()
        optimizer.step()
    assert monitor.names("outputs") == ["layer", "act", "layer#1", "act#1"]
    assert monitor.latest("outputs", "layer").count == 3 * 8


def test_a_cell_called_for_every_time_step_needs_a_bounded_number_of_names() -> None:
    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            for _ in range(50):
                x = torch.tanh(self.cell(x))
            return x

    monitor = watched(Unrolled(), steps=1)
    names = monitor.names("outputs")
    assert len([name for name in names if name.startswith("cell")]) == 16
    assert len([name for name in names if name.startswith("tanh before")]) == 15  # the last one goes into no module
    assert len(names) == 31
    assert monitor.latest("outputs", "cell#15").count == 35 * 64


def test_lstm_and_attention_are_watched_whole() -> None:
    class Sequences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 8, batch_first=True)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Any) -> Any:
            y, _ = self.lstm(x[:, None, :])
            return self.attention(y, y, y)[0]

    monitor = watched(Sequences(), units="all")
    names = ["lstm[0]", "lstm[1][0]", "lstm[1][1]", "attention[0]", "attention[1]"]
    assert monitor.names("outputs") == names
    assert monitor.units("lstm[0]").units == 8
