"""Which half of the gallery rules may be tuned on; fixed by the names before any rule was written for it."""

from __future__ import annotations

import hashlib
from typing import Literal

__all__ = ["Half", "half"]

Half = Literal["tuning", "kept"]


def half(name: str) -> Half:
    """The half of a program: the parity of the SHA-256 of its name, so that a new program moves no other.

    Even is for tuning. Odd is kept out: nobody looks at what is found there when a rule or a limit is chosen, and only
    its totals are told.
    """
    return "kept" if hashlib.sha256(name.encode()).digest()[-1] % 2 else "tuning"
