"""Keeps the watcher's own errors out of training, and its hooks out of copies of the model; knows no statistics."""

from __future__ import annotations

import contextlib
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import MethodType
from typing import Any

__all__ = ["AskedForError", "Guard", "GuardedHook", "WatchWarning"]

# Errors are kept as text, and only so many: one that repeats at every step must not fill the memory.
MAX_ERRORS = 50


class WatchWarning(RuntimeWarning):
    """The watcher met an error of its own; training went on undisturbed."""


class AskedForError(Exception):
    """What a hook may raise: only what the user asked for."""


class Guard:
    """Collects the watcher's own errors.

    An error is appended to `errors` and warned about once per place. No `Exception` gets out but
    `AskedForError`; even the warning stays inside when warnings are turned into errors.
    """

    def __init__(self) -> None:
        self.holds = False  # hooks keep the monitor alive: somebody is told of findings, whoever holds it
        self.closed_by: int | None = None  # another thread than this one was in the middle of a step then
        self.left_out = False  # something was not counted
        self.errors: list[str] = []
        self._kept: set[str] = set()  # the places
        self._left_out: set[str] = set()  # the messages on it

    def report(self, place: str, error: Exception) -> None:
        """Keep an error as text; the traceback would keep tensors alive."""
        self.note(place, f"{type(error).__name__}: {error}")

    def note(self, place: str, message: str) -> None:
        """Keep a message, once per place."""
        self._keep(place, message, "tensorstats could not watch {} (training goes on; told once)")

    def _keep(self, place: str, message: str, told_as: str) -> None:
        if place in self._kept or self.closed_by not in (None, threading.get_ident()):
            return
        self._kept.add(place)
        text = f"{place}: {message}"
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(text)
        if message in self._left_out:
            return
        with contextlib.suppress(Exception):
            warnings.warn(told_as.format(text), WatchWarning, stacklevel=3)

    def leave_out(self, place: str, message: str) -> None:
        """Keep that something is not counted: nothing may be said of it then. Of many places one warning is enough."""
        self.left_out = True
        self.note(place, message)
        self._left_out.add(message)

    def remark(self, place: str, message: str) -> None:
        """Keep what somebody should know although everything is watched, once per place."""
        self._keep(place, message, "tensorstats: {}")

    def hook(self, place: str, body: Callable[..., None]) -> GuardedHook:
        """Wrap a hook; a method's object is held weakly unless `holds`."""
        if self.holds or not isinstance(body, MethodType):
            return FunctionHook(self, place, body)
        return MethodHook(self, place, body)


class GuardedHook(ABC):
    """A hook that raises nothing unasked, returns None, and turns into nothing in a copy of its module.

    `place` names it in messages.
    """

    __slots__ = ("_guard", "_place")

    # Says to torch.save that leaving the hook out is intended.
    __torch_unserializable__ = True

    def __init__(self, guard: Guard, place: str) -> None:
        self._guard = guard
        self._place = place

    @property
    def __name__(self) -> str:
        """``torch.jit.script`` is the one to ask for it, in order to compile the hooks of a module: it cannot.

        Raises
        ------
        AttributeError
        """
        raise AttributeError(
            "a module that is watched cannot be scripted, since torch.jit.script compiles hooks too: script it first "
            "(scripted parts are left out), or close the monitor before"
        )

    @abstractmethod
    def run(self, *arguments: Any, **keywords: Any) -> None:
        """What the hook does."""

    def __call__(self, *arguments: Any) -> None:
        """Run the hook; keep what it raises."""
        try:
            self.run(*arguments)
        except AskedForError:
            raise
        except Exception as error:
            self._guard.report(self._place, error)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        """A copy of a watched model is not watched, and does not drag the monitor along."""
        return _INERT

    def __copy__(self) -> Callable[..., None]:
        """As for a deep copy."""
        return _INERT

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as a standard-library callable that does nothing, so that the file loads without this package."""
        return getattr, (contextlib.nullcontext(), "__exit__")


class FunctionHook(GuardedHook):
    """A hook made of a function."""

    __slots__ = ("_body",)

    def __init__(self, guard: Guard, place: str, body: Callable[..., None]) -> None:
        super().__init__(guard, place)
        self._body = body

    def run(self, *arguments: Any, **keywords: Any) -> None:
        """Call the function."""
        self._body(*arguments, **keywords)


class MethodHook(GuardedHook):
    """A hook made of a method, whose object may go: a monitor that nobody holds any more is not held by its hooks."""

    __slots__ = ("_function", "_owner")

    def __init__(self, guard: Guard, place: str, body: MethodType) -> None:
        super().__init__(guard, place)
        self._owner = weakref.ref(body.__self__)
        self._function = body.__func__

    def run(self, *arguments: Any, **keywords: Any) -> None:
        """Call the method."""
        owner = self._owner()
        if owner is not None:
            self._function(owner, *arguments, **keywords)


_INERT: Callable[..., None] = contextlib.nullcontext().__exit__
