"""What there is to know of every rule: by `rules.explain`, and on the command line."""

from __future__ import annotations

import inspect
import re

import pytest

from tensorstats import rules
from tensorstats.__main__ import main
from tensorstats.rules import limits
from tensorstats.rules.catalogue import limit_sources
from tensorstats.rules.view import StepView


@pytest.mark.parametrize("rule", rules.rule_ids())
def test_every_rule_says_what_it_is_when_it_breaks_and_what_to_try(rule: str):
    text = rules.explain(rule)
    kind = next(type(each) for each in rules.default_rules() if each.id == rule)
    lines = text.splitlines()
    assert lines[0].startswith(f"{rule}: a ")
    words = " ".join(text.split())
    first = " ".join((kind.__doc__ or "").split(".")[0].split()).replace("`", "")
    assert first in words
    assert kind.advice in words
    assert max(map(len, lines)) <= 110
    assert kind.why, "a rule has a reason"
    # Every limit that its source names is there, with its value.
    for name in re.findall(r"\blimits\.([A-Z_]+)", inspect.getsource(kind)):
        assert f"{name} = {getattr(limits, name):g}" in words


def test_every_limit_has_a_source():
    names = [name for name in vars(limits) if name.isupper()]
    assert [name for name in names if not limit_sources().get(name)] == []


def test_a_rule_of_ones_own_is_explained_too():
    class Small(rules.Rule):
        """Outputs that are small."""

        id = "small"
        default_limit = 3.0
        default_patience = 2
        why = "Too small."
        advice = "Make them larger."

        def statistic(self, _view: StepView) -> list[rules.Measurement]:
            return []

    assert "beyond 3, in 2 recorded steps in a row" in rules.explain(Small)
    assert rules.explain(Small()) == rules.explain(Small)


def test_a_rule_that_does_not_exist_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"there is no rule 'dead-unit'; did you mean 'dead-units'\?"):
        rules.explain("dead-unit")


def test_the_command_line_explains(capsys: pytest.CaptureFixture[str]):
    assert main(["explain", "dead-units"]) == 0
    assert capsys.readouterr().out == rules.explain("dead-units") + "\n"
    assert main(["explain"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == rules.rule_ids()
    assert main(["explain", "nothing"]) == 2
    assert "there is no rule 'nothing'" in capsys.readouterr().err
