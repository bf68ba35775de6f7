"""What compiled code reports to a monitor, and what it hides from it; computes nothing and judges nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Protocol

import torch

from tensorstats.rules import StepView
from tensorstats.torch.attach.compiled import CompileStart, GraphHooks, compiled_regions
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.hooks import StepHooks
from tensorstats.torch.attach.watched import WatchedModels

__all__ = ["GraphListener", "GraphReports"]


class GraphListener(Protocol):
    """Who hears what compiled code reports."""

    @property
    def listens_in_graphs(self) -> bool:
        """Whether ops have anything to report."""

    def graph_called(self, arguments: tuple[Any, ...], keywords: dict[str, Any], /) -> None:
        """The first model is called."""

    def graph_output(self, name: str, place: str, tensor: torch.Tensor, /) -> None:
        """A module has returned this tensor, at this place in its output."""

    def graph_gradient(self, name: str, place: str, tensor: torch.Tensor, /) -> None:
        """The gradient with respect to such an output."""

    def before_optimizer_step(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any, /) -> None:
        """An optimizer is about to step."""

    def after_optimizer_step(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any, /) -> None:
        """It has."""


_UNSEEN = "no watched module of the model was seen to run in a recorded step, although parameters got gradients: "
_ELSEWHERE = "they came from elsewhere (a copy of the model, another process, gradients set by hand)"
_MAYBE = "either {}, or it was compiled before it was watched, as other code of this process was. {}"

_TOO_LATE = "{}, although its parameters got gradients: it was compiled before it was watched. {}"
_WATCH_FIRST = (
    "Call ts.watch(model, ...) first and run the compiled model after that; in a running program "
    "torch.compiler.reset() makes it compile again, with the watcher in it"
)


def _compiled_anything() -> bool:
    """Whether Dynamo has compiled code in this process: what `torch.compile` returns marks no module."""
    utils = sys.modules.get("torch._dynamo.utils")
    return utils is not None and utils.counters["frames"]["ok"] > 0


class GraphReports:
    """The part of a monitor that ops in compiled code speak to.

    `hooks` is what the monitor's hooks do while they are traced. Once anything was compiled, the monitor's hooks stay
    where they are (`stays`): compiled code is only valid for the hooks it was traced with.
    """

    def __init__(
        self, listener: GraphListener, watched: WatchedModels, guard: Guard, step_hooks: StepHooks, *, gradients: bool
    ) -> None:
        self._listener = listener
        self._watched = watched
        self._guard = guard
        self._step_hooks = step_hooks
        self._start = CompileStart(self._compilation_begins)
        self._step_open = False
        self._closed = False
        self.stays = False
        self.hooks = GraphHooks(self, gradients=gradients)

    # --- when hooks must be there -------------------------------------------------------------------------------------

    def expect(self) -> bool:
        """Ask to be told when something is compiled; False while there is nobody to ask."""
        return self._start.register()

    def close(self) -> None:
        """Finish a step that compiled code has taken, and ask no longer."""
        self.end_step()
        self._start.remove()
        self._closed = True

    def _compilation_begins(self) -> None:
        if not self._closed and not self.stays:
            self.stays = True
            if not self._step_hooks.attached:
                self._step_hooks.attach()

    # --- what the ops report ------------------------------------------------------------------------------------------

    @property
    def listens_in_graphs(self) -> bool:
        """Whether ops have anything to do."""
        return self._listener.listens_in_graphs

    def graph_begins(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """A compiled model is called; arguments by position are named by their number."""
        self.stays = True
        try:
            self.end_step()
            arguments = [tensor for name, tensor in inputs.items() if name.isdecimal()]
            keywords = {name: tensor for name, tensor in inputs.items() if not name.isdecimal()}
            self._listener.graph_called(tuple(arguments), keywords)
        except Exception as error:
            self._guard.report("the call of the model", error)

    def graph_output(self, name: str, place: str, tensor: torch.Tensor) -> None:
        """A module inside compiled code has returned."""
        try:
            self._listener.graph_output(name, place, tensor.detach())
        except Exception as error:
            self._guard.report(f"the output of {name}", error)

    def graph_gradient(self, name: str, place: str, tensor: torch.Tensor) -> None:
        """The gradient with respect to such an output."""
        try:
            self._listener.graph_gradient(name, place, tensor.detach())
        except Exception as error:
            self._guard.report(f"the gradient of {name}", error)

    def graph_step(self, *, after: bool) -> None:
        """A compiled optimizer is about to step, or has. There is only one: of several, none can be told apart."""
        self.stays = True
        try:
            self.end_step()
            if after:
                # Compiled code may write the new parameters after this: they are read when the next thing happens.
                self._step_open = True
            else:
                for optimizer in self._watched.targets.optimizers.values():
                    self._listener.before_optimizer_step(optimizer, (), {})
        except Exception as error:
            self._guard.report("the optimizer's step", error)

    @property
    def step_is_open(self) -> bool:
        """Whether a compiled optimizer has stepped, and its step has not been ended."""
        return self._step_open

    def end_step(self) -> None:
        """End the step of a compiled optimizer, now that it has surely returned."""
        if self._step_open:
            self._step_open = False
            for optimizer in self._watched.targets.optimizers.values():
                self._listener.after_optimizer_step(optimizer, (), {})

    # --- what is hidden -----------------------------------------------------------------------------------------------

    def note_hidden(self, view: StepView, *, ran: bool) -> None:
        """Code compiled before the hooks were attached runs without them; gradients tell that it ran.

        `ran` says whether any watched module was seen to run in the step.
        """
        watched, guard = self._watched, self._guard
        if "outputs" not in watched.signals:
            return
        moved = [parameter.module for parameter in view.parameters if parameter.has_gradient]
        if moved and not ran:
            if any(True for _ in compiled_regions(watched.targets.root)):
                what = "no watched module was seen to run in a recorded step"
                guard.note("outputs", _TOO_LATE.format(what, _WATCH_FIRST))
            elif _compiled_anything():
                guard.note("outputs", _UNSEEN + _MAYBE.format(_ELSEWHERE, _WATCH_FIRST))
            else:
                guard.note("outputs", _UNSEEN + _ELSEWHERE)
            return
        seen = {output.module for output in view.outputs}
        if len(seen) == len(watched.modules):
            return
        for region in compiled_regions(watched.targets.root):
            inside = region + "." if region else ""
            inner = [name for name in watched.modules if name == region or name.startswith(inside)]
            hidden = inner and not seen.intersection(inner)
            if hidden and any(name == region or name.startswith(inside) for name in moved):
                guard.note(
                    f"outputs of {region}", _TOO_LATE.format(f"no module in {region} was seen to run", _WATCH_FIRST)
                )
