"""The contract of one check: what it asks, what it measures, what breaks it, and what follows from that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from tensorstats.preflight.subject.subject import Skip, Subject
from tensorstats.rules import Finding, Measurement, Status
from tensorstats.rules.base import sentence

__all__ = ["Check", "Finding", "Measurement", "Skip", "Status", "Subject"]


class Check(ABC):
    """A named question about a model on its batch.

    `measure` yields measurements, of which `broken` tells those that become findings; it raises `Skip` with the reason
    where the question cannot be asked. Whatever else it raises becomes a SKIP with the text of the exception.

    Examples
    --------
    >>> class TooManyParameters(Check):
    ...     id, asks, default_limit = "many-parameters", "is the model small enough?", 1e6
    ...     def measure(self, subject):
    ...         yield Measurement("(model)", sum(p.numel() for p in subject.model.parameters()), "It has too many.")
    >>> TooManyParameters(limit=1e9)
    TooManyParameters(limit=1e+09)
    """

    id: ClassVar[str]
    asks: ClassVar[str]
    default_limit: ClassVar[float] = 0.0
    status: ClassVar[Status] = "failure"
    why: ClassVar[str] = ""
    advice: ClassVar[str] = ""
    leads_to: ClassVar[frozenset[str]] = frozenset()  # ids of the checks that a finding of this one breaks in turn

    def __init__(self, *, limit: float | None = None) -> None:
        self.limit = type(self).default_limit if limit is None else float(limit)

    @abstractmethod
    def measure(self, subject: Subject) -> Iterable[Measurement]:
        """Yield what was measured."""

    def broken(self, measurement: Measurement) -> bool:
        """Whether it breaks the check: above the limit, unless a check says otherwise."""
        return measurement.value > self.limit_of(measurement)

    def limit_of(self, measurement: Measurement) -> float:
        """The limit of a measurement: its own, or that of the check."""
        return self.limit if measurement.limit is None else measurement.limit

    def finding(self, measurement: Measurement) -> Finding:
        """What is told of a measurement that breaks the check."""
        return Finding(
            self.id,
            measurement.status or self.status,
            measurement.where,
            0,
            float(measurement.value),
            float(self.limit_of(measurement)),
            " ".join(part for part in (sentence(measurement), self.why) if part),
            self.advice,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(limit={self.limit:g})"
