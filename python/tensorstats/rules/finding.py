"""What a rule reports: one finding in words a newcomer understands; knows nothing of models or tensors."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Finding", "Status"]

Status = Literal["warning", "failure"]

_WIDTH = 110
_LABEL = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule at one place, with the steps from which and to which it held.

    Attributes
    ----------
    rule : str
        The id of the rule, for example ``"dead-units"``.
    status : {"warning", "failure"}
        A symptom in a tensor alone is a warning. A symptom in a run that does not learn, or a proof that something
        cannot learn, is a failure. What is over is a warning, unless it did damage that lasts.
    where : str
        The module, parameter or input, as ``named_modules`` and ``named_parameters`` spell it.
    step : int
        The optimizer step (counted from 0) at which the rule first held.
    value, limit : float
        What was measured and what was allowed, in the unit that `why` names.
    why : str
        What was seen and why it matters.
    advice : str
        What to try.
    consequences : tuple of str
        What follows from it and is therefore no finding of its own: ``"unchanged at 0, 2"``.
    last_step : int
        The last recorded step at which it, or something that follows from it, held; `step` unless given.
    over : bool
        Whether it has stopped since.

    Examples
    --------
    >>> print(Finding("dead-units", "warning", "2", 30, 0.75, 0.5, "75 % of the units never fired.", "Lower the rate."))
    WARNING  dead-units at 2, since step 30
      measured  0.75 (limit 0.5)
      why       75 % of the units never fired.
      try       Lower the rate.
    """

    rule: str
    status: Status
    where: str
    step: int
    value: float
    limit: float
    why: str
    advice: str
    consequences: tuple[str, ...] = ()
    last_step: int = -1
    over: bool = False

    def __post_init__(self) -> None:
        if self.last_step < self.step:
            object.__setattr__(self, "last_step", self.step)

    @property
    def when(self) -> str:
        """Its steps in words: ``"since step 3"``, or ``"steps 3 to 9, over"`` once it has stopped."""
        if not self.over:
            return f"since step {self.step}"
        steps = f"step {self.step}" if self.last_step == self.step else f"steps {self.step} to {self.last_step}"
        return f"{steps}, over"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON. A value or limit that is not finite, which JSON does not have, is a string.

        Examples
        --------
        >>> finding = Finding("non-finite", "failure", "2", 30, float("inf"), 0, "It overflowed.", "Lower the rate.")
        >>> finding.to_dict()["value"], Finding.from_dict(finding.to_dict()) == finding
        ('inf', True)
        """
        data = asdict(self)
        for name in ("value", "limit"):
            number = float(data[name])
            data[name] = number if math.isfinite(number) else str(number)
        data["consequences"] = list(self.consequences)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """The finding that :meth:`to_dict` made plain."""
        numbers = {name: float(data[name]) for name in ("value", "limit")}
        return cls(**{**data, **numbers, "consequences": tuple(data["consequences"])})

    def __str__(self) -> str:
        head = f"{self.status.upper()}  {self.rule} at {self.where}, {self.when}"
        measured = f"{self.value:.4g} (limit {self.limit:.4g})"
        entries = [("measured", measured), ("why", self.why), ("try", self.advice)]
        if self.consequences:
            entries.append(("led to", "; ".join(self.consequences)))
        return "\n".join([head, *(_entry(label, text) for label, text in entries if text)])


def _entry(label: str, text: str) -> str:
    """One labelled paragraph, wrapped under its label."""
    lead = "  " + label.ljust(_LABEL)
    return textwrap.fill(
        text, width=_WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead), break_long_words=False
    )
