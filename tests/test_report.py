"""The report and the table of models of any size: findings first, one screen, rows that say which layer they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.report import LINES, Row, Text, format_report, format_table  # noqa: E402
from tensorstats.report.text import printable, shorten_names  # noqa: E402
from tensorstats.rules import Finding  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_projection = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, x: Any) -> Any:
        return x + self.feed_forward(self.attention_projection(x))


def deep_model(blocks: int = 30, width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*(Block(width) for _ in range(blocks)))


def watched(model: nn.Module, *, steps: int = 2, width: int = 4, before_last: Any = None) -> ts.torch.Monitor:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with ts.watch(model, optimizer) as monitor:
        for step in range(steps):
            if before_last is not None and step == steps - 1:
                before_last()
            optimizer.zero_grad()
            model(torch.randn(3, width)).square().mean().backward()
            optimizer.step()
    return monitor


def row(module: str, value: float = 1.0, *, dead: float = math.nan, tensor: str = "output") -> Row:
    return Row(module, "Linear", tensor, ts.summary(np.full(4, value, np.float32)), dead)


def finding(where: str, rule: str = "dead-units", status: Any = "warning", step: int = 3) -> Finding:
    return Finding(rule, status, where, step, 1.0, 0.5, "Half of them never fired. " * 8, "Lower the rate. " * 8)


# --- one screen -------------------------------------------------------------------------------------------------------


def test_the_report_of_five_hundred_tensors_fits_one_screen_and_says_how_to_see_the_rest() -> None:
    monitor = watched(deep_model())
    assert len(monitor.names("parameters")) + len(monitor.names("gradients")) + len(monitor.names("outputs")) >= 450
    text = monitor.report()
    assert len(text.splitlines()) < 60
    assert "×30" in text
    assert "0-29.atten…_projection Linear" in text
    whole = monitor.report(all=True)
    assert len(whole.splitlines()) > 450
    assert "×30" not in whole


def test_findings_come_first_the_worst_of_them_in_full() -> None:
    many = [finding(f"layer{i}", rule=f"rule-{i}") for i in range(20)] + [finding("bad", "worst", "failure", step=9)]
    text = format_report([row(f"net.{i}") for i in range(300)], many, [], judged="12 steps")
    lines = text.splitlines()
    assert len(lines) <= LINES
    assert lines[0] == "FAIL: findings in 12 steps (failures: 1, warnings: 20):"
    assert lines[2].startswith("FAILURE  worst at bad")
    assert "All findings in full: report(all=True)." in lines
    assert any(line.startswith("layer") for line in lines)  # the table has room too
    everything = format_report([row("net.0")], many, [], judged="12 steps", all=True)
    assert all(f"rule-{i} at layer{i}" in everything for i in range(20))


def test_a_finding_at_many_places_takes_one_line_for_them() -> None:
    text = format_report([row("a")], [finding(f"net.{i}") for i in range(40)], [], judged="5 steps")
    assert "also at   net.1, net.2, net.3, net.4, net.5, net.6, 33 more" in text


def test_errors_are_told_but_do_not_fill_the_screen() -> None:
    text = format_report([row("a")], [], [f"place {i}: broken" for i in range(50)], judged="5 steps")
    assert "The watcher could not do everything:" in text
    assert "... and 45 more in errors" in text
    assert "place 49: broken" in format_report(
        [row("a")], [], [f"place {i}: broken" for i in range(50)], judged="", all=True
    )


def test_what_is_wrong_stays_in_sight_when_rows_are_left_out() -> None:
    rows = [row(f"net{'abcdefghijklmnopqrstuvwxyz'[i % 26] * (1 + i // 26)}") for i in range(200)]
    rows[150] = row("the_broken_one", math.nan)
    rows[160] = row("the_dead_one", 0.0, dead=1.0)
    text = format_table(rows, limit=20)
    assert "the_broken_one" in text
    assert "the_dead_one" in text
    assert len(text.splitlines()) == 2 + 20 + 1
    assert text.splitlines()[-1].startswith("180 more tensors")


def test_what_is_wrong_is_not_folded_into_what_is_fine() -> None:
    model = deep_model()
    monitor = watched(model, before_last=lambda: nn.init.constant_(model[7].attention_projection.bias, -1e30))
    lines = [line for line in monitor.report().splitlines() if "feed_forward.1 ReLU" in line]
    assert lines  # some layers after it are dead or not finite, and stand apart from the others
    fine = [line for line in lines if "×" in line]
    assert not any("!" in line and "0-29" in line for line in fine)


def test_a_folded_row_has_the_summary_of_all_its_tensors() -> None:
    rows = [row(f"net.{i}", float(i)) for i in range(50)]
    text = format_table(rows, limit=10)
    cells = text.splitlines()[2].split()
    assert cells[:5] == ["net.0-49", "Linear", "output", "×50", "f32"]
    assert cells[5:8] == ["4", "0", "49"]  # shape of each, minimum, maximum
    assert float(cells[8]) == pytest.approx(24.5)


# --- names ------------------------------------------------------------------------------------------------------------


def test_names_are_cut_in_the_middle_and_never_come_out_alike() -> None:
    names = [f"model.transformer.encoder.layers.{i}.self_attention.{p}_projection" for i in range(30) for p in "qkv"]
    short = shorten_names(names, 22)
    assert len(set(short.values())) == len(names)
    assert max(map(len, short.values())) < max(map(len, names))
    assert all(short[names[3 * i]] == f"…{i}…q_projection" for i in range(30))


def test_names_of_one_long_word_are_cut_too() -> None:
    short = shorten_names(["a" * 60, "b" * 60], 20)
    assert short == {"a" * 60: "a" * 9 + "…" + "a" * 10, "b" * 60: "b" * 9 + "…" + "b" * 10}
    assert shorten_names([], 20) == {}


def test_a_newline_in_a_name_does_not_break_the_table() -> None:
    model = nn.Sequential()
    model.add_module("first\nlayer", nn.Linear(4, 4))
    lines = watched(model).table().splitlines()
    assert any(line.startswith("first\\nlayer Linear") for line in lines)
    assert printable("tab\tand é") == "tab\\tand é"


def test_a_text_shows_itself_at_the_end_of_a_notebook_cell() -> None:
    report = watched(nn.Linear(4, 2)).report()
    assert repr(report) == str(report)
    assert isinstance(report, Text)
    assert repr(watched(nn.Linear(4, 2)).table()).startswith("layer")


# --- order and choice -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["min", "max", "mean", "std", "zeros", "nan", "inf", "norm", "dead", "NaN"])
def test_sorting_puts_the_most_conspicuous_first(key: str) -> None:
    values = {"plain": 1.0, "loud": -9.0, "high": 10.0, "broken": math.nan, "endless": math.inf}
    rows = [row(name, value, dead=0.1) for name, value in values.items()]
    rows += [row("still", 0.0, dead=1.0), Row("spread", "Linear", "output", ts.summary(np.array([-5.0, 5.0])), 0.0)]
    first = format_table(rows, sort=key).splitlines()[2].split()[0]
    expected = {
        "min": "loud",
        "max": "high",
        "mean": "high",
        "std": "spread",
        "zeros": "still",
        "nan": "broken",
        "NaN": "broken",
        "inf": "endless",
        "norm": "high",
        "dead": "still",
    }
    assert first == expected[key]


def test_matching_chooses_rows_by_layer_type_and_tensor() -> None:
    monitor = watched(deep_model(blocks=3))
    gradients = monitor.table(match="grad").splitlines()[2:]
    assert len(gradients) == 18
    assert all("grad" in line for line in gradients)
    assert len(monitor.table(match=r"^1\.feed_forward.*ReLU").splitlines()) == 3
    assert monitor.table(match="no such layer") == "no layer, type or tensor of 48 matches 'no such layer'"


def test_wrong_arguments_are_refused_by_name() -> None:
    monitor = watched(nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"sort must be one of min, max, .* or None, got 'loudness'"):
        monitor.table(sort="loudness")
    with pytest.raises(ValueError, match=r"sort must be one of .* got 3"):
        monitor.table(sort=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"match must be a regular expression, got '\('"):
        monitor.table(match="(")


def test_a_monitor_that_has_seen_nothing_reports_so() -> None:
    model = nn.Linear(4, 2)
    with ts.watch(model, torch.optim.SGD(model.parameters(), lr=0.1)) as monitor:
        text = monitor.report()
    assert text.splitlines()[0] == "OK: no findings in 0 steps."
