"""What there is to know of each rule, for people: what it measures, its limits and their sources; judges nothing."""

from __future__ import annotations

import difflib
import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from functools import cache

from tensorstats._text import Text
from tensorstats.rules import limits
from tensorstats.rules.base import Rule
from tensorstats.rules.judge import default_rules

__all__ = ["explain", "limit_sources", "rule_ids"]

_WIDTH = 110
_LIMIT = re.compile(r"\blimits\.([A-Z][A-Z0-9_]*)")
_ASSIGNED = re.compile(r"([A-Z][A-Z0-9_]*) = ")


def rule_ids() -> list[str]:
    """The ids of the default rules, in the order in which findings of one step are told.

    Examples
    --------
    >>> "dead-units" in rule_ids()
    True
    """
    return [rule.id for rule in default_rules()]


def explain(rule: str | Rule | type[Rule]) -> Text:
    """All about a rule on one screen: what it measures, when it is broken, its limits with their sources, what to try.

    Parameters
    ----------
    rule : str or Rule
        The id of a default rule, or any rule.

    Raises
    ------
    ValueError
        For an id that no default rule has.

    Examples
    --------
    >>> print(explain("non-finite").splitlines()[0])
    non-finite: a failure
    >>> explain("dead-unit")
    Traceback (most recent call last):
        ...
    ValueError: there is no rule 'dead-unit'; did you mean 'dead-units'? See tensorstats.rules.rule_ids()
    """
    kind = _find(rule)
    lines = [f"{kind.id}: {_severity(kind)}", ""]
    lines += [line.rstrip() for line in _description(kind)]
    entries = [("broken", _broken(kind))] if kind.default_limit or kind.default_patience > 1 else []
    entries += [("why", kind.why), ("try", kind.advice), ("leads to", ", ".join(sorted(kind.leads_to)))]
    entries += [(label, text) for label, text in _hints(kind)]
    lines += ["", *(_entry(label, text) for label, text in entries if text)]
    sources = _limits_of(kind)
    if sources:
        lines += ["", "Limits, and where they come from:"]
        lines += [_entry("", f"{names}. {source}".rstrip()) for source, names in sources.items()]
    return Text("\n".join(lines))


def _find(rule: str | Rule | type[Rule]) -> type[Rule]:
    if isinstance(rule, Rule):
        return type(rule)
    if isinstance(rule, type) and issubclass(rule, Rule):
        return rule
    known = {each.id: type(each) for each in default_rules()}
    if rule in known:
        return known[rule]
    near = difflib.get_close_matches(str(rule), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ValueError(f"there is no rule {rule!r}{hint} See tensorstats.rules.rule_ids()")


def _severity(kind: type[Rule]) -> str:
    if kind.status == "failure":
        return "a failure"
    return "a warning; a failure in a run that does not learn" if kind.symptom else "a warning"


def _description(kind: type[Rule]) -> list[str]:
    """The docstring up to its sections."""
    text = inspect.cleandoc(kind.__doc__ or "")
    text = re.split(r"\n\n[A-Z][a-z]+\n-+\n", text)[0].replace("``", "").replace("`", "")
    return [line for paragraph in text.split("\n\n") for line in (*textwrap.wrap(paragraph, _WIDTH), "")][:-1]


def _broken(kind: type[Rule]) -> str:
    steps = (
        "at one recorded step" if kind.default_patience == 1 else f"in {kind.default_patience} recorded steps in a row"
    )
    limit = f"beyond {kind.default_limit:g}, " if kind.default_limit else ""
    return f"{limit}{steps}, unless its sentence names another limit"


def _hints(kind: type[Rule]) -> Iterable[tuple[str, str]]:
    name = kind.__name__
    yield (
        "change",
        f"ts.watch(..., rules=[...]) with {name}(limit=..., patience=...) among tensorstats.rules.default_rules()",
    )
    yield "suppress", f'ts.watch(..., suppress=["{kind.id}:MODULE"])'


def _entry(label: str, text: str) -> str:
    lead = "  " + label.ljust(10)
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _limits_of(kind: type[Rule]) -> dict[str, str]:
    """What is said of the limits that the source of a rule names, and which limits it is said of, with their values."""
    try:
        names = dict.fromkeys(_LIMIT.findall(inspect.getsource(kind)))
    except (OSError, TypeError):  # installed without sources
        return {}
    said: dict[str, list[str]] = {}
    for name in names:
        said.setdefault(limit_sources().get(name, ""), []).append(f"{name} = {getattr(limits, name):g}")
    return {source: ", ".join(together) for source, together in said.items()}


@cache
def limit_sources() -> Mapping[str, str]:
    """What stands above each limit in ``limits.py``: one place says what a limit is and where it comes from.

    Examples
    --------
    >>> limit_sources()["ALL_ZERO_FRACTION"]
    'Share of exact zeros in an output. SageMaker Debugger AllZero.threshold = 100 (%).'
    """
    try:
        source = inspect.getsource(limits)
    except OSError:  # installed without sources
        return {}
    found: dict[str, str] = {}
    said: list[str] = []
    begun = False  # a limit has followed what was said
    for line in source.split("\n"):
        assigned = _ASSIGNED.match(line)
        if line.startswith("# ") and not line.startswith("# ---"):
            said = [line[2:]] if begun else [*said, line[2:]]
            begun = False
        elif assigned:
            found[assigned[1]] = " ".join(said)
            begun = True
        elif not line.strip():
            said, begun = [], False
    return found
