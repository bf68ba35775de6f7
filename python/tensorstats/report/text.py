"""Names that fit a table: printable, and cut where they still differ; knows nothing of what they name."""

from __future__ import annotations

import re

__all__ = ["printable", "shorten_names"]

_ELLIPSIS = "…"
_NUMBER = re.compile(r"\d+(-\d+)?")


def printable(name: str) -> str:
    r"""A name in one line: what no terminal shows, such as a newline, is written as Python writes it.

    Examples
    --------
    >>> printable("a\nb")
    'a\\nb'
    """
    if name.isprintable():
        return name
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name)


def shorten_names(names: list[str], width: int) -> dict[str, str]:
    """Dotted names cut in the middle to about `width` letters, so that names that differ still differ.

    Parts that are numbers, and the last part, are what tells the layers of one model apart: they go last. Where two
    names would come out alike, all names of the table get more room.

    Examples
    --------
    >>> shorten_names(["model.encoder.blocks.11.attention.projection", "model.encoder.blocks.12.attention.projection"],
    ...               24)
    {'model.encoder.blocks.11.attention.projection': '…11.attention.projection', \
'model.encoder.blocks.12.attention.projection': '…12.attention.projection'}
    """
    names = list(dict.fromkeys(names))
    longest = max(map(len, names), default=0)
    while width < longest:
        short = {name: _cut(name, width) for name in names}
        if len(set(short.values())) == len(names):
            return short
        width += 4
    return {name: name for name in names}


def _cut(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    parts = name.split(".")
    kept = [i == len(parts) - 1 or _NUMBER.fullmatch(part) is not None for i, part in enumerate(parts)]
    for i in range(len(parts) - 2, -1, -1):  # what stands near the end tells more layers apart
        if not kept[i]:
            kept[i] = True
            if len(_joined(parts, kept)) > width:
                kept[i] = False
                break
    text = _joined(parts, kept)
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return text[:head] + _ELLIPSIS + text[head + 1 - width :]


def _joined(parts: list[str], kept: list[bool]) -> str:
    """The kept parts with dots between them; one ellipsis stands for what was left out and the dot before it."""
    text, gap = "", False
    for part, keep in zip(parts, kept, strict=True):
        if not keep:
            gap = True
            continue
        text += (_ELLIPSIS if gap else "." if text else "") + part
        gap = False
    return text
