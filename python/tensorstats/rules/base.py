"""The shape of a rule: statistic, limit and verdict apart; knows nothing of how steps are recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tensorstats.rules.finding import Status
from tensorstats.rules.view import StepView

__all__ = ["Measurement", "Rule", "describe", "group_by_module", "sentence"]


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


class Rule:
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
    once: ClassVar[bool] = False  # the worst place stands for all
    reads_nonfinite: ClassVar[bool] = False  # also applied to the step whose weights turned NaN

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        self.limit = type(self).default_limit if limit is None else float(limit)
        self.patience = type(self).default_patience if patience is None else int(patience)
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1 recorded step, got {patience}")

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield what the rule measures at this step."""
        raise NotImplementedError(f"{type(self).__name__} must override statistic(view)")

    def verdict(self, measurement: Measurement) -> bool:
        """Whether the measurement breaks the rule: above the limit, unless a rule says otherwise."""
        return measurement.value > (self.limit if measurement.limit is None else measurement.limit)

    def gather(self, broken: Sequence[Measurement], _view: StepView, /) -> Sequence[Measurement]:
        """Fold the places that became findings at the same step into fewer, larger places."""
        return broken

    def __repr__(self) -> str:
        return f"{type(self).__name__}(limit={self.limit:g}, patience={self.patience})"


def sentence(measurement: Measurement) -> str:
    """The sentence of a measurement."""
    return measurement.note if isinstance(measurement.note, str) else measurement.note()


def describe(module: str, view: StepView) -> str:
    """A module for the reader: its path and its type, as in ``'2' (ReLU)``."""
    kind = view.module_type(module)
    return f"'{module}' ({kind})" if kind else f"'{module}'"


def group_by_module(names: Iterable[str], all_names: Iterable[str]) -> dict[str, list[str]]:
    """Group parameters under the highest module all of whose parameters are in the set.

    Examples
    --------
    >>> group_by_module(["a.0.weight", "a.0.bias", "a.1.weight", "b.weight"], ["a.0.weight", "a.0.bias", "a.1.weight",
    ...                 "b.weight", "b.bias"])
    {'a': ['a.0.weight', 'a.0.bias', 'a.1.weight'], 'b.weight': ['b.weight']}
    """
    chosen = list(names)
    members = set(chosen)
    outside = [name for name in all_names if name not in members]
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
