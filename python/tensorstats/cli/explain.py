"""``python -m tensorstats explain``: prints what there is to know of a rule, or a line for each."""

from __future__ import annotations

import sys

from tensorstats import rules

__all__ = ["run"]


def run(rule: str | None) -> int:
    """The exit code: 0, or 2 for a rule that does not exist."""
    if rule is None:
        width = max(map(len, rules.rule_ids()))
        for each in rules.default_rules():
            first = " ".join((type(each).__doc__ or "").strip().partition("\n\n")[0].split())
            print(f"{each.id.ljust(width)}  {first.replace('`', '')}")
        return 0
    try:
        print(rules.explain(rule))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
