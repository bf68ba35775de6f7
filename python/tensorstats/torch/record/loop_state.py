"""Where a training loop is: the number of the step that is open, and what has happened in it; knows no model."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["LoopState"]


@dataclass(slots=True)
class LoopState:
    """Shared by everything that belongs to one monitor; the training loop alone begins and ends steps.

    Attributes
    ----------
    step, first_step : int
        The number of the open step, and of the first one of this run.
    recording : bool
        Whether the open step is recorded.
    inside_optimizer : bool
        A watched optimizer is stepping, and may step others.
    stepped : set of int
        The identities of the optimizers that have stepped in the open step.
    """

    step: int
    first_step: int
    recording: bool = False
    inside_optimizer: bool = False
    stepped: set[int] = field(default_factory=set)
    closed: bool = False
