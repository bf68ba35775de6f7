"""What a rule reports: one finding in words a newcomer understands; knows nothing of models or tensors."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Status"]

Status = Literal["warning", "failure"]

_WIDTH = 110
_LABEL = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule at one place, with the first step at which it held.

    Attributes
    ----------
    rule : str
        The id of the rule, for example ``"dead-units"``.
    status : {"warning", "failure"}
        A symptom in a tensor alone is a warning. A symptom in a run that does not learn, or a proof that something
        cannot learn, is a failure.
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

    def __str__(self) -> str:
        head = f"{self.status.upper()}  {self.rule} at {self.where}, since step {self.step}"
        measured = f"{self.value:.4g} (limit {self.limit:.4g})"
        entries = [("measured", measured), ("why", self.why), ("try", self.advice)]
        if self.consequences:
            entries.append(("led to", "; ".join(self.consequences)))
        return "\n".join([head, *(_entry(label, text) for label, text in entries)])


def _entry(label: str, text: str) -> str:
    """One labelled paragraph, wrapped under its label."""
    lead = "  " + label.ljust(_LABEL)
    return textwrap.fill(
        text, width=_WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead), break_long_words=False
    )
