"""What happens when there is a finding: nothing, a callable, an error, a warning or the debugger; judges nothing."""

from __future__ import annotations

import bdb
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from tensorstats._core import Summary
from tensorstats.rules import Finding
from tensorstats.torch.attach.guard import AskedForError, Guard

__all__ = ["Action", "DebuggerQuit", "FindingError", "FindingWarning", "OnFinding", "open_debugger"]

OnFinding: TypeAlias = Callable[[Finding], object] | Literal["raise", "warn", "breakpoint"] | None

_ACCEPTED = "a callable, 'raise', 'warn', 'breakpoint' or None"


class FindingError(AskedForError, RuntimeError):
    """A finding, raised because ``ts.watch(..., on_finding="raise")`` asked for it.

    Attributes
    ----------
    findings : list of Finding
        All new findings of the step.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = list(findings)


class FindingWarning(UserWarning):
    """A finding, told because ``ts.watch(..., on_finding="warn")`` asked for it."""


class Action:
    """What ``on_finding=`` asks for."""

    def __init__(self, wanted: OnFinding, guard: Guard) -> None:
        if not (wanted is None or callable(wanted) or wanted in ("raise", "warn", "breakpoint")):
            raise ValueError(f"on_finding must be {_ACCEPTED}, got {wanted!r}")
        self._wanted = wanted
        self._guard = guard
        self._opened = False
        self.raises = wanted == "raise"
        self.opens_debugger = wanted == "breakpoint"

    def at_nonfinite(
        self,
        name: str,
        module: nn.Module,
        call: int,
        tensor: torch.Tensor,
        inputs: tuple[Any, Any],
        summary: Summary,
    ) -> None:
        """The first non-finite output, while its module is still on the stack: the debugger opens there, once."""
        if self._opens():
            _pass_quit(lambda: open_debugger(name, module, call, tensor, inputs, summary))

    def _opens(self) -> bool:
        """Whether the debugger opens now: once, and only where somebody can talk to it."""
        if not self.opens_debugger or self._opened:
            return False
        self._opened = True
        if _nobody_answers():
            self._guard.remark("on_finding='breakpoint'", "no debugger is opened, since there is no input to read from")
            return False
        return True

    def tell(self, findings: Sequence[Finding]) -> None:
        """Act on the findings that are new with a step; errors of the user's callable are kept, not raised.

        Raises
        ------
        FindingError
            For ``on_finding="raise"``.
        """
        if not findings:
            return
        if self.raises:
            raise FindingError(findings)
        for finding in findings:
            if callable(self._wanted):
                try:
                    self._wanted(finding)
                except Exception as error:
                    self._guard.report("on_finding", error)
            elif self._wanted == "warn":
                warnings.warn(str(finding), FindingWarning, stacklevel=2)
            elif self._opens():
                _pass_quit(lambda finding=finding: _open_at_end(finding))  # type: ignore[misc]


class DebuggerQuit(AskedForError, bdb.BdbQuit):  # noqa: N818 - named as what it stands for, bdb.BdbQuit
    """The user left the debugger with "quit", which ends the program as it does everywhere else."""


def _pass_quit(call: Callable[[], None]) -> None:
    try:
        call()
    except bdb.BdbQuit as quit_:
        raise DebuggerQuit("left the debugger, which on_finding='breakpoint' had opened") from quit_


def _nobody_answers() -> bool:
    """Whether Python's own debugger would open with nothing to read commands from, and quit the program for that."""
    if sys.breakpointhook is not sys.__breakpointhook__ or os.environ.get("PYTHONBREAKPOINT"):
        return False
    if sys.stdin is None or sys.stdin.closed:
        return True
    try:
        peek = getattr(sys.stdin.buffer, "peek", None)
        return peek is not None and not sys.stdin.isatty() and not peek(1)
    except (AttributeError, OSError, ValueError):
        return False  # it has been replaced, by somebody who knows what to do with a debugger


def open_debugger(
    module_name: str,
    module: nn.Module,
    call: int,
    tensor: torch.Tensor,  # noqa: ARG001  # for whoever sits at the debugger
    inputs: tuple[Any, Any],  # noqa: ARG001
    summary: Summary,
) -> None:
    """Open the debugger in a frame that holds the module, its output `tensor`, its `inputs` and the summary.

    ``up`` leads to the model's own code; PYTHONBREAKPOINT chooses the debugger, as for ``breakpoint()``.
    """
    print(f"tensorstats: {module_name} ({type(module).__name__}), call {call}, returned {summary!r}")
    sys.breakpointhook()


def _open_at_end(finding: Finding) -> None:
    print(f"tensorstats:\n{finding}")
    sys.breakpointhook()
