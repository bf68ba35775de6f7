"""What a program of the gallery is: one declaration beside the function that trains; knows no tool and no runner."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gallery.causes import names

__all__ = ["PROGRAMS", "Program", "Score", "bug", "healthy"]


class Score(NamedTuple):
    """What a program reached and what the best constant would have reached, in the same unit; less is better."""

    reached: float
    constant: float

    @property
    def learned(self) -> bool:
        """Whether a tenth of the room below the constant was won, which a NaN never is."""
        return self.reached <= self.constant - 0.1 * abs(self.constant)


Main = Callable[[Any], Score | None]


@dataclass(frozen=True)
class Program:
    """One training program.

    `planted` is what is wrong with it, or for a healthy one what a naive rule stumbles over. `causes` are patterns as
    in ``causes.py``, one of which must match to name the cause right; `place` is a pattern for where it
    points, None where no module or parameter is to blame.
    """

    name: str
    kind: str
    origin: str
    planted: str
    causes: tuple[str, ...]
    place: str | None
    main: Main

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.kind == "healthy"

    def names_cause(self, rule: str, text: str) -> bool:
        """Whether a finding says what is wrong."""
        return names(self.causes, rule, text)

    def names_place(self, where: str) -> bool:
        """Whether a finding points at it."""
        return self.place is not None and re.search(self.place, where) is not None


PROGRAMS: dict[str, Program] = {}


def _declare(main: Main, **fields: Any) -> Main:
    name = main.__name__.replace("_", "-")
    if name in PROGRAMS:
        raise ValueError(f"two programs are called {name}")
    PROGRAMS[name] = Program(name=name, main=main, **fields)
    return main


def bug(
    kind: str, planted: str, *, causes: tuple[str, ...], place: str | None = None, origin: str = "own"
) -> Callable[[Main], Main]:
    """Declare a function that trains with a planted bug; its name is the program's."""
    return lambda main: _declare(main, kind=kind, origin=origin, planted=planted, causes=causes, place=place)


def healthy(trap: str, *, origin: str = "own") -> Callable[[Main], Main]:
    """Declare a function that trains as it should and says what it reached."""
    return lambda main: _declare(main, kind="healthy", origin=origin, planted=trap, causes=(), place=None)
