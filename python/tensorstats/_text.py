"""Texts of several lines that read well wherever Python shows them; knows nothing of what they say."""

from __future__ import annotations

__all__ = ["Text"]


class Text(str):
    r"""A ``str`` that shows itself, not a quoted line full of ``\n``, as the last expression of a notebook cell.

    Examples
    --------
    >>> Text("two\nlines")
    two
    lines
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
