"""Every check of `ts.preflight` fires on its bug, with the cause on top, and is silent on healthy programs."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

import tensorstats as ts  # noqa: E402
from preflight_bugs import BUGGY  # noqa: E402
from preflight_programs import HEALTHY  # noqa: E402
from preflight_tasks import TASKS  # noqa: E402
from tensorstats.preflight import default_checks  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

# What needs more than a second or two.
_SLOW = {
    *("cnn", "cnn raw pixels", "rnn", "lstm", "gru", "transformer", "causal transformer", "series", "lstm language"),
    *("batch norm momentum 0", "batch norm momentum 0.99", "lstm without batch_first", "bidirectional language model"),
    *(
        "masked language",
        "translation",
        "zero branches",
        "experts",
        "critic",
        "generator",
        "segmentation",
        "contrastive",
    ),
    *("transformer without batch_first", "transformer without mask", "targets not shifted", "deep sigmoid"),
}

# A sign of trouble that is no proof of a mistake by itself: the rest must fail.
WARNS = {
    *("noise in evaluation", "no activation", "batch norm momentum 0.99", "dropout 0.9", "rare class", "tiny weights"),
    *("half the features zero", "copied features", "shuffled labels", "features scales apart", "pixels to 255"),
    *("sum at a rate for means", "adam at 1", "targets times ten"),
}


def _marked(names: dict[str, object]) -> list[object]:
    return [pytest.param(name, marks=pytest.mark.slow) if name in _SLOW else name for name in names]


@pytest.mark.parametrize("name", _marked({**HEALTHY, **TASKS}))
def test_a_healthy_program_has_no_finding(name: str):
    torch.manual_seed(0)
    report = ts.preflight(*{**HEALTHY, **TASKS}[name]())
    assert report.findings == [], report
    assert report.ok
    assert all("Error" not in check.note for check in report.checks if check.state == "SKIP"), report.text(all=True)


@pytest.mark.parametrize("name", _marked(BUGGY))
def test_a_bug_is_found_and_its_cause_comes_first(name: str):
    torch.manual_seed(0)
    *program, expected = BUGGY[name]()
    report = ts.preflight(*program)
    assert [finding.rule for finding in report.findings][:1] == [expected], report
    assert report.ok == (name in WARNS), report
    assert expected in str(report)
    states = {check.id: check.state for check in report.checks}
    assert states[expected] in ("WARN", "FAIL")


def test_every_check_has_a_bug():
    """But for those that only follow from others, or that are asked for."""
    follows = {"initial-loss", "overfit", "train-eval", "zero-gradient", "saturated-at-start"}
    found = {BUGGY[name]()[4] for name in BUGGY}
    assert {check.id for check in default_checks()} - found == follows | {"expected-size"}
