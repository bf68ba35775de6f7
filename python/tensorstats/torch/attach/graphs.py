"""What compiled code reports to a monitor, and what it hides from it; computes nothing and judges nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from tensorstats.rules import StepView
from tensorstats.torch.attach.compiled import CompileStart, GraphHooks, compiled_regions

if TYPE_CHECKING:
    from tensorstats.torch.monitor import Monitor

__all__ = ["GraphReports"]

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

    def __init__(self, monitor: Monitor, *, gradients: bool) -> None:
        self._monitor = monitor
        self._start = CompileStart(self._compilation_begins)
        self._step_open = False
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

    def _compilation_begins(self) -> None:
        monitor = self._monitor
        if not monitor._closed and not self.stays:
            self.stays = True
            if not monitor._step_hooks.attached:
                monitor._step_hooks.attach()

    # --- what the ops report ------------------------------------------------------------------------------------------

    @property
    def listens_in_graphs(self) -> bool:
        """Whether ops have anything to do."""
        return self._monitor._recording or self._monitor._evaluation.schedule is not None

    def graph_begins(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """A compiled model is called; arguments by position are named by their number."""
        monitor = self._monitor
        self.stays = True
        try:
            self.end_step()
            arguments = [tensor for name, tensor in inputs.items() if name.isdecimal()]
            keywords = {name: tensor for name, tensor in inputs.items() if not name.isdecimal()}
            monitor._evaluation.graph_begins(monitor._clock, tuple(arguments), keywords)
            if monitor._targets.optimizers:
                monitor._called(monitor._clock, tuple(arguments), keywords, from_python=False)
            else:
                monitor._called_without_optimizer(monitor._clock, tuple(arguments), keywords)
        except Exception as error:
            monitor._guard.report("the call of the model", error)

    def graph_output(self, name: str, place: str, tensor: torch.Tensor) -> None:
        """A module inside compiled code has returned."""
        monitor = self._monitor
        try:
            if monitor._listens(monitor._targets.model_of(name)):
                monitor._outputs.record_tensor(name, monitor._modules[name], place, tensor.detach())
            elif monitor._evaluation.takes(monitor._targets.model_of(name)):
                monitor._evaluation.record_tensor(name, monitor._modules[name], place, tensor.detach())
        except Exception as error:
            monitor._guard.report(f"the output of {name}", error)

    def graph_gradient(self, name: str, place: str, tensor: torch.Tensor) -> None:
        """The gradient with respect to such an output."""
        monitor = self._monitor
        try:
            monitor._outputs.record_tensor_gradient(name, monitor._modules[name], place, tensor.detach())
        except Exception as error:
            monitor._guard.report(f"the gradient of {name}", error)

    def graph_step(self, *, after: bool) -> None:
        """A compiled optimizer is about to step, or has. There is only one: of several, none can be told apart."""
        monitor = self._monitor
        self.stays = True
        try:
            self.end_step()
            if after:
                # Compiled code may write the new parameters after this: they are read when the next thing happens.
                self._step_open = True
            else:
                for optimizer in monitor._targets.optimizers.values():
                    monitor._before_optimizer_step(optimizer, (), {})
        except Exception as error:
            monitor._guard.report("the optimizer's step", error)

    @property
    def step_is_open(self) -> bool:
        """Whether a compiled optimizer has stepped, and its step has not been ended."""
        return self._step_open

    def end_step(self) -> None:
        """End the step of a compiled optimizer, now that it has surely returned."""
        if self._step_open:
            self._step_open = False
            for optimizer in self._monitor._targets.optimizers.values():
                self._monitor._after_optimizer_step(optimizer, (), {})

    # --- what is hidden -----------------------------------------------------------------------------------------------

    def note_hidden(self, view: StepView, *, ran: bool) -> None:
        """Code compiled before the hooks were attached runs without them; gradients tell that it ran.

        `ran` says whether any watched module was seen to run in the step.
        """
        monitor = self._monitor
        if "outputs" not in monitor._signals:
            return
        moved = [parameter.module for parameter in view.parameters if parameter.has_gradient]
        if moved and not ran:
            if any(True for _ in compiled_regions(monitor._targets.root)):
                what = "no watched module was seen to run in a recorded step"
                monitor._guard.note("outputs", _TOO_LATE.format(what, _WATCH_FIRST))
            elif _compiled_anything():
                monitor._guard.note("outputs", _UNSEEN + _MAYBE.format(_ELSEWHERE, _WATCH_FIRST))
            else:
                monitor._guard.note("outputs", _UNSEEN + _ELSEWHERE)
            return
        seen = {output.module for output in view.outputs}
        if len(seen) == len(monitor._modules):
            return
        for region in compiled_regions(monitor._targets.root):
            inside = region + "." if region else ""
            watched = [name for name in monitor._modules if name == region or name.startswith(inside)]
            hidden = watched and not seen.intersection(watched)
            if hidden and any(name == region or name.startswith(inside) for name in moved):
                monitor._guard.note(
                    f"outputs of {region}", _TOO_LATE.format(f"no module in {region} was seen to run", _WATCH_FIRST)
                )
