"""One recorded step as plain data: what was counted of every signal, for logs, rules and files; knows no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tensorstats._core import Summaries, UnitActivity
from tensorstats.rules import StepView
from tensorstats.run.histograms import StepHistograms

__all__ = ["Extras", "SignalStep", "Step"]

# By field, such as "dead_fraction", and name.
Extras: TypeAlias = Mapping[str, Mapping[str, float]]


@dataclass(slots=True)
class SignalStep:
    """One signal of one step: a row for each tensor.

    Attributes
    ----------
    names, modules : sequence of str
        Of the rows: the tensor, and the module that it belongs to.
    table : Summaries
        The numbers of the rows.
    extras : mapping
        Numbers that are not those of a summary.
    units : mapping
        The unit activity of a tensor over all steps up to this one; None for one that has no units any more.
    """

    names: Sequence[str]
    modules: Sequence[str]
    table: Summaries
    extras: Extras = field(default_factory=dict)
    units: Mapping[str, UnitActivity | None] = field(default_factory=dict)


@dataclass(slots=True)
class Step:
    """Everything that is kept of one recorded step.

    Attributes
    ----------
    number : int
    signals : mapping
        By name of the signal; one of which nothing was counted is missing.
    histograms : mapping
        By name of the signal; empty where none are kept.
    view : StepView or None
        What the rules look at; None for a call in eval mode, which is not judged.
    """

    number: int
    signals: Mapping[str, SignalStep]
    histograms: Mapping[str, StepHistograms] = field(default_factory=dict)
    view: StepView | None = None
