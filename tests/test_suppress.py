"""Findings that are known: suppressed by rule, place and step, from code or from a baseline; reports for programs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.report import Report  # noqa: E402
from tensorstats.rules import Finding, Suppression, load_baseline, save_baseline  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def finding(rule: str = "dead-units", where: str = "encoder.3", status: Any = "warning", step: int = 30) -> Finding:
    return Finding(rule, status, where, step, 0.75, 0.5, "75 % never fired.", "Lower the rate.")


def dead_run(**options: Any) -> ts.torch.Monitor:
    """Twenty steps of a network whose first ReLU is dead."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    nn.init.constant_(model[0].bias, -10.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ts.watch(model, optimizer, **options) as monitor:
        for _ in range(20):
            optimizer.zero_grad()
            inputs = torch.randn(64, 8)
            (model(inputs) - inputs.sum(1, keepdim=True)).square().mean().backward()
            optimizer.step()
    return monitor


@pytest.mark.parametrize(
    ("suppression", "covers"),
    [
        (Suppression("dead-units"), True),
        (Suppression("dead-*"), True),
        (Suppression("all-zero"), False),
        (Suppression("dead-units", "encoder.3"), True),
        (Suppression("dead-units", "encoder"), True),
        (Suppression("dead-units", "encoder.*"), True),
        (Suppression("dead-units", "enc"), False),
        (Suppression("dead-units", "decoder*"), False),
        (Suppression("dead-units", "(model)"), True),
        (Suppression("dead-units", start=30, stop=31), True),
        (Suppression("dead-units", start=31), False),
        (Suppression("dead-units", stop=30), False),
        (Suppression("dead-units", at_most="warning"), True),
        (Suppression.of("dead-units:encoder.?"), True),
        (Suppression.of("dead-units"), True),
    ],
)
def test_what_a_suppression_covers(suppression: Suppression, covers: bool):
    assert suppression.covers(finding()) is covers


def test_a_warning_that_becomes_a_failure_is_not_what_was_known():
    assert not Suppression("dead-units", at_most="warning").covers(finding(status="failure"))


def test_a_suppressed_cause_takes_what_follows_from_it_along_and_calls_nobody():
    told: list[Finding] = []
    plain = dead_run()
    assert [each.rule for each in plain.findings] == ["dead-units"]
    known = dead_run(suppress="dead-units:1", on_finding=told.append)
    assert (known.findings, told, known.ok) == ([], [], True)
    assert [each.rule for each in known.suppressed] == ["dead-units"]
    assert known.report().startswith("OK: no findings in 20 steps.\nSuppressed: dead-units at 1.\n")
    elsewhere = dead_run(suppress=["dead-units:2", Suppression("flat-loss")])
    assert elsewhere.findings == plain.findings
    assert elsewhere.suppressed == []


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("dead-unit", ValueError, "suppress names no rule: 'dead-unit'.*did you mean 'dead-units'"),
        (["dead-units", 3], TypeError, "suppress must be rule ids, 'rule:place' strings or Suppression objects, got 3"),
        (7, TypeError, "suppress must be rule ids.*got 7"),
    ],
)
def test_what_suppresses_nothing_is_refused_before_anything_is_attached(given: Any, error: Any, message: str):
    model = nn.Linear(2, 2)
    with pytest.raises(error, match=message):
        ts.watch(model, suppress=given)
    assert not model._forward_hooks


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rule": 3}, TypeError, "rule of a suppression must be a string, got 3"),
        ({"rule": "a", "start": 1.5}, TypeError, "start of a suppression must be a step, a whole number, got 1.5"),
        ({"rule": "a", "stop": True}, TypeError, "stop of a suppression must be a step, a whole number, got True"),
        ({"rule": "a", "at_most": "info"}, ValueError, "at_most .* must be 'warning' or 'failure', got 'info'"),
    ],
)
def test_a_suppression_names_what_it_cannot_be(arguments: Any, error: Any, message: str):
    with pytest.raises(error, match=message):
        Suppression(**arguments)


# --- a baseline -------------------------------------------------------------------------------------------------------


def test_only_what_is_new_is_told_beside_a_baseline(tmp_path: Path):
    path = tmp_path / "known.json"
    save_baseline(dead_run().findings, path)
    assert [each.name for each in tmp_path.iterdir()] == ["known.json"]
    known = load_baseline(path)
    assert dead_run(suppress=known).findings == []
    report = Report("", [finding(where="1", status="failure"), finding(where="5")])
    assert [each.where for each in report.new_since(known)] == ["5"]


def test_places_in_a_baseline_are_no_patterns(tmp_path: Path):
    path = tmp_path / "known.json"
    save_baseline([finding(where="blocks[0].*")], path)
    (known,) = load_baseline(path)
    assert known.covers(finding(where="blocks[0].*"))
    assert not known.covers(finding(where="blocks0.3"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no baseline: Expecting property name"),
        ("[]", "is no baseline of version 1"),
        ('{"version": 2, "suppressions": []}', "is no baseline of version 1"),
        ('{"version": 1, "suppressions": [{"rul": "a"}]}', "which is no suppression"),
        ('{"version": 1, "suppressions": [3]}', "holds 3, which is no suppression"),
    ],
)
def test_a_file_that_is_no_baseline_is_refused(tmp_path: Path, text: str, message: str):
    path = tmp_path / "known.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_baseline(path)


# --- reports for programs ---------------------------------------------------------------------------------------------


def test_a_report_is_text_that_knows_its_findings():
    report = dead_run().report()
    assert isinstance(report, str)
    assert (report.verdict, report.ok) == ("FAIL" if report.findings[0].status == "failure" else "WARN", report.ok)
    again = pickle.loads(pickle.dumps(report))
    assert (again, again.findings, again.judged) == (report, report.findings, "20 steps")
    assert "<b style" in report._repr_html_()
    assert "<pre>" in report._repr_html_()


def test_findings_survive_json_whatever_their_numbers_are():
    findings = [
        finding(),
        Finding("non-finite", "failure", "loss", 3, float("nan"), float("-inf"), "w", "t", ("a at b",), 9, True),
    ]
    report = Report("text", findings, suppressed=[finding(where="known")], errors=["no gloo"], judged="3 steps")
    data = json.loads(report.to_json())
    assert (data["verdict"], data["judged"], data["errors"]) == ("FAIL", "3 steps", ["no gloo"])
    first, second = (Finding.from_dict(each) for each in data["findings"])
    assert first == findings[0]
    assert str(second) == str(findings[1])
    assert [Finding.from_dict(each).where for each in data["suppressed"]] == ["known"]


def test_sarif_has_rules_levels_places_and_suppressions():
    report = Report("", [finding(), finding("non-finite", "3", "failure")], suppressed=[finding(where="known")])
    log = json.loads(report.to_sarif())
    (run,) = log["runs"]
    assert log["version"] == "2.1.0"
    assert [each["id"] for each in run["tool"]["driver"]["rules"]] == ["dead-units", "non-finite"]
    results = run["results"]
    assert [(each["ruleId"], each["ruleIndex"], each["level"]) for each in results] == [
        ("dead-units", 0, "warning"),
        ("non-finite", 1, "error"),
        ("dead-units", 0, "warning"),
    ]
    assert results[1]["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "3"
    assert ["suppressions" in each for each in results] == [False, False, True]
    assert results[0]["properties"]["step"] == 30


def test_the_verdict_is_the_worst_that_still_holds():
    over = Finding("update-ratio", "warning", "0", 3, 1.0, 0.1, "w", "t", (), 9, True)
    assert Report("", [over]).verdict == "OK"
    assert Report("", [over, finding()]).verdict == "WARN"
    assert Report("", [finding(status="failure"), over]).verdict == "FAIL"
