"""Which steps are recorded; knows nothing of models."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Schedule"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Every `every`-th step from `start` on, up to and without `stop`.

    Examples
    --------
    >>> schedule = Schedule(every=10, start=5, stop=40)
    >>> [step for step in range(60) if schedule.selects(step)]
    [5, 15, 25, 35]
    """

    every: int = 1
    start: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1 step, got {self.every}")
        if self.start < 0:
            raise ValueError(f"start must be a step from 0 on, got {self.start}")
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop must lie after start={self.start}, got {self.stop}")

    def selects(self, step: int) -> bool:
        """Whether `step` (counted from 0) is recorded."""
        if step < self.start or (self.stop is not None and step >= self.stop):
            return False
        return (step - self.start) % self.every == 0
