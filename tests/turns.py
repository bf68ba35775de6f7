"""Owns whose turn it is when tests run in several processes: a test marked `alone` waits until no other one runs."""

from __future__ import annotations

import fcntl
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def locked(path: Path, kind: int) -> Iterator[None]:
    """Hold the file's lock, which goes when the file is closed or its process dies."""
    with path.open("w") as file:
        fcntl.flock(file, kind)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: a child of a fork may still hold it open


class Turns:
    """The plugin of a process that shares the tests with others, which have the same folder."""

    def __init__(self, folder: Path) -> None:
        self.gate = folder / "gate"
        self.room = folder / "room"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """The fixtures of a test are part of its turn; its time limit begins with it."""
        alone = item.get_closest_marker("alone") is not None
        with ExitStack() as stack:
            # Who waits at the gate for an empty room lets nobody pass, or it would wait until all others are done.
            with locked(self.gate, fcntl.LOCK_EX):
                stack.enter_context(locked(self.room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
            return (yield)
