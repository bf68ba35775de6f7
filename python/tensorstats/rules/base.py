"""The shape of a rule: statistic, limit and verdict apart; knows nothing of how steps are recorded."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tensorstats.rules.finding import Finding, Status
from tensorstats.rules.view import ParameterView, StepView

__all__ = ["EVERYWHERE", "ROOT", "Measurement", "Rule", "Told", "describe", "group_by_module", "place_of", "sentence"]

# How the model itself is named where a module is; named_modules calls it "".
ROOT = "(model)"


@dataclass(slots=True)
class Measurement:
    """One number a rule looks at: where it was taken, its value, and a sentence for the reader.

    A sentence that takes time to write may be given as a function without arguments: it is called for findings only.
    """

    where: str
    value: float
    note: str | Callable[[], str] = ""
    limit: float | None = None  # when the rule has more than one
    status: Status | None = None
    patience: int | None = None
    step: int | None = None  # when it began earlier than this step
    key: str = ""  # tells two measurements of one place apart
    order: int = 0  # of the module among those that ran


@dataclass(frozen=True, slots=True)
class Told:
    """A finding with what its measurement said beyond it, for deciding which finding follows from which."""

    finding: Finding
    key: str
    order: int
    last: int  # step in which it was still so
    interval: int  # steps from one recorded step to the next
    last_judged: int = 0  # how many steps had been judged when it was last so
    members: frozenset[str] = frozenset()  # the places measured, where they were gathered into another

    def echoes(self, other: Told, recorded_steps: int) -> bool:
        """Whether `other` began while this one lasted, or at most so many recorded steps later."""
        return other.finding.step <= self.last + recorded_steps * self.interval


class _Everywhere(Collection[str]):
    """Holds every place, and can name none."""

    def __contains__(self, _where: object) -> bool:
        return True

    def __len__(self) -> int:
        return sys.maxsize

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __reduce__(self) -> str:
        return "EVERYWHERE"  # there is one, for a copy and a pickle too


EVERYWHERE = _Everywhere()


class Rule(ABC):
    """A named statistic with a limit, a verdict, a reason and advice.

    A subclass yields measurements from `statistic` at every recorded step; `verdict` says whether one breaks the limit.
    A place that breaks it in `patience` recorded steps in a row becomes one finding. To change a limit, construct the
    rule with another one and hand it to ``ts.watch(rules=...)``; to write a rule, override `statistic`.

    Parameters
    ----------
    limit : float, optional
        Replaces the default limit.
    patience : int, optional
        Recorded steps in a row for which the rule must be broken.

    Examples
    --------
    >>> from tensorstats.rules import DeadUnits
    >>> DeadUnits(limit=0.25)
    DeadUnits(limit=0.25, patience=1)
    """

    id: ClassVar[str]
    default_limit: ClassVar[float] = 0.0
    default_patience: ClassVar[int] = 1
    why: ClassVar[str] = ""
    advice: ClassVar[str] = ""
    status: ClassVar[Status] = "warning"
    symptom: ClassVar[bool] = True  # becomes a failure when the run does not learn
    lasting: ClassVar[bool] = False  # one moment of it does damage that outlasts it
    once: ClassVar[bool] = False  # the worst place stands for all
    reads_nonfinite: ClassVar[bool] = False  # also applied to the step whose weights turned NaN
    leads_to: ClassVar[frozenset[str]] = frozenset()  # ids of the rules that a finding of this one breaks in turn
    follows_any: ClassVar[bool] = False  # says that a run goes wrong, not why: any other finding explains it
    selective: ClassVar[bool] = False  # `statistic` leaves out places that are neither beyond a limit nor suspect

    # The places that broke the rule when they were last measured, as long as the rule is a selective one of a judge. A
    # measurement that does not break the rule ends a streak and does nothing else: only these places have one. Without
    # this, judging a step takes four times as long (benches/bench_judge.py).
    suspects: Collection[str] = EVERYWHERE

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        self.limit = type(self).default_limit if limit is None else float(limit)
        self.patience = type(self).default_patience if patience is None else int(patience)
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1 recorded step, got {patience}")

    @abstractmethod
    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield what the rule measures at this step."""

    def verdict(self, measurement: Measurement) -> bool:
        """Whether the measurement breaks the rule: above the limit, unless a rule says otherwise."""
        return measurement.value > (self.limit if measurement.limit is None else measurement.limit)

    def done_with(self, names: Collection[str]) -> Collection[str]:
        """What need not be measured of the places that can break the rule no more: all, or none outside a judge."""
        return () if self.suspects is EVERYWHERE else names

    def gather(self, broken: Sequence[Measurement], _view: StepView, /) -> Sequence[Measurement]:
        """Fold the places that became findings at the same step into fewer, larger places."""
        return broken

    def explains(self, _mine: Told, other: Told, /) -> bool:
        """Whether `other`, of any rule, follows from the first argument, a finding of this rule that is no younger."""
        return other.finding.rule in self.leads_to

    def __repr__(self) -> str:
        return f"{type(self).__name__}(limit={self.limit:g}, patience={self.patience})"


def sentence(measurement: Measurement) -> str:
    """The sentence of a measurement."""
    return measurement.note if isinstance(measurement.note, str) else measurement.note()


def describe(module: str, view: StepView) -> str:
    """A module for the reader: its path and its type, as in ``'2' (ReLU)``."""
    kind = view.module_type(module)
    return f"'{module}' ({kind})" if kind else f"'{module}'"


def place_of(parameter: ParameterView) -> str:
    """Where a parameter is, for the reader: its module, or its own name when the model itself holds it."""
    return parameter.name if parameter.module == ROOT else parameter.module


def group_by_module(names: Iterable[str], all_names: Iterable[str]) -> dict[str, list[str]]:
    """Group parameters under the highest module all of whose parameters are in the set.

    Examples
    --------
    >>> group_by_module(["a.0.weight", "a.0.bias", "a.1.weight", "b.weight"], ["a.0.weight", "a.0.bias", "a.1.weight",
    ...                 "b.weight", "b.bias"])
    {'a': ['a.0.weight', 'a.0.bias', 'a.1.weight'], 'b.weight': ['b.weight']}
    >>> group_by_module(["a.weight", "b.weight"], ["a.weight", "b.weight"])
    {'(model)': ['a.weight', 'b.weight']}
    """
    chosen = list(names)
    members = set(chosen)
    outside = [name for name in all_names if name not in members]
    if not outside and len({name.partition(".")[0] for name in chosen}) > 1:
        return {ROOT: chosen}
    groups: dict[str, list[str]] = {}
    for name in chosen:
        parts = name.split(".")
        where = name
        for depth in range(1, len(parts)):
            prefix = ".".join(parts[:depth])
            if not any(other.startswith(prefix + ".") for other in outside):
                where = prefix
                break
        groups.setdefault(where, []).append(name)
    return groups
