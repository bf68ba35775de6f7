"""Which steps are recorded; knows nothing of models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import index
from typing import SupportsIndex

__all__ = ["Schedule", "check_whole"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Every `every`-th step from `start` on, up to and without `stop`, and the named `steps` in any case.

    Parameters
    ----------
    every : int, optional
        1 unless `steps` are named; then, without `every`, only those are recorded.
    start, stop : int
        Bounds of the steps that `every` chooses; `stop` is not one of them.
    steps : iterable of int
        Steps to record whatever the other numbers say.

    Raises
    ------
    ValueError
        For numbers that choose nothing.
    TypeError
        For what is no whole number.

    Examples
    --------
    >>> schedule = Schedule(every=10, start=5, stop=40)
    >>> [step for step in range(60) if schedule.selects(step)]
    [5, 15, 25, 35]
    >>> [step for step in range(60) if Schedule(steps=[3, 7]).selects(step)]
    [3, 7]
    """

    every: int | None = None
    start: int = 0
    stop: int | None = None
    steps: Iterable[int] = ()

    def __post_init__(self) -> None:
        check_whole(start=self.start)
        if self.every is not None:
            check_whole(every=self.every)
        if self.stop is not None:
            check_whole(stop=self.stop)
        try:
            given = list(self.steps)
        except TypeError:
            raise TypeError(f"steps must be several whole numbers, got {self.steps!r}") from None
        for step in given:
            check_whole(steps=step)
        steps = frozenset(map(index, given))
        object.__setattr__(self, "steps", steps)
        if self.every is None and not steps:
            object.__setattr__(self, "every", 1)
        if self.every is not None and self.every < 1:
            raise ValueError(f"every must be at least 1 step, got {self.every}")
        if self.start < 0:
            raise ValueError(f"start must be a step from 0 on, got {self.start}")
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop must lie after start={self.start}, got {self.stop}")
        if any(step < 0 for step in steps):
            raise ValueError(f"steps must be steps from 0 on, got {min(steps)}")

    def selects(self, step: int) -> bool:
        """Whether `step` (counted from 0) is recorded."""
        if step in self.steps:
            return True
        if self.every is None or step < self.start or (self.stop is not None and step >= self.stop):
            return False
        return (step - self.start) % self.every == 0


def check_whole(**numbers: object) -> None:
    """Refuse what is given in the place of a whole number of steps.

    Raises
    ------
    TypeError
    """
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, SupportsIndex):
            raise TypeError(f"{name} must be a whole number of steps, got {value!r}")
