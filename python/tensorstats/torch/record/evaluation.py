"""Records the outputs of calls in eval mode, apart from those of training; judges nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tensorstats.device.backend import Statistics
from tensorstats.run.histograms import StepHistograms
from tensorstats.run.record import RunRecord
from tensorstats.run.step import Step
from tensorstats.torch.attach.compiled import is_tracing
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.hooks import StepHooks
from tensorstats.torch.attach.masks import Mask
from tensorstats.torch.attach.schedule import Schedule
from tensorstats.torch.attach.targets import unwrapped
from tensorstats.torch.attach.watched import WatchedModels
from tensorstats.torch.record.collect import Collector, PendingList
from tensorstats.torch.record.counted_outputs import CountedOutputs
from tensorstats.torch.record.outputs import OutputRecorder
from tensorstats.torch.record.recent import Recent
from tensorstats.torch.record.units import Units, units_kept

__all__ = ["EvaluationRecorder"]


class EvaluationRecorder:
    """Counts the calls of the models in eval mode and records those that its schedule selects.

    Without a schedule there are no hooks. A recorded call uses the hooks of recorded steps: those that are there, or
    else they are put on for as long as the call lasts, also when it ends with an error. Compiled code has these hooks
    in it and reports through its ops; there a call is over when the next one begins, or when somebody asks. What is on
    a device by then is read at the end of the next recorded call, or when somebody asks.

    Parameters
    ----------
    release
        Called when the hooks of steps are no longer needed for a call.
    merges_ranks
        Whether the numbers of training are those of all ranks; those of evaluation never are.
    """

    def __init__(
        self,
        statistics: Statistics,
        guard: Guard,
        watched: WatchedModels,
        step_hooks: StepHooks,
        record: RunRecord,
        mask: Callable[[], Mask],
        *,
        histograms: bool,
        units: Units,
        release: Callable[[], None],
        merges_ranks: Callable[[], bool],
    ) -> None:
        self._guard = guard
        self._watched = watched
        self._step_hooks = step_hooks
        self._release = release
        self._merges_ranks = merges_ranks
        self.schedule: Schedule | None = None
        self.calls = 0
        self.handles: list[Any] = []
        self._temporary: list[Any] = []  # of a call from Python that is being recorded
        self._attached = False  # the hooks of steps, for the sake of that call
        self._open: nn.Module | None = None  # whose call is being recorded
        self._number = 0  # of that call
        # A call whose numbers are on their way.
        self._held: tuple[int, CountedOutputs, PendingList, dict[str, StepHistograms]] | None = None
        self._record = record
        logs = record.logs["eval"]
        self._histograms = {signal: log.histograms for signal, log in logs.items()} if histograms else {}
        self._pending = PendingList(statistics)
        chosen: list[str] = [signal for signal in ("inputs", "outputs") if signal in watched.signals]
        recent = Recent()
        collectors = {
            signal: Collector(
                statistics,
                guard,
                logs[signal].histograms,
                self._pending,
                histograms,
                units_kept(signal, units),
                recent=recent,
            )
            for signal in chosen
        }
        self._recorder = OutputRecorder(
            statistics, guard, collectors, self._pending, watched.chooses, mask, modules=lambda: watched.modules
        )

    def set_schedule(self, schedule: Schedule | None) -> None:
        """Change which calls are recorded."""
        self.schedule = schedule
        if schedule is None:
            self._finish()
            for handle in self.handles:
                handle.remove()
            self.handles.clear()
        elif not self.handles:
            begin = self._guard.hook("a call in eval mode", self._begin)
            models = self._watched.targets.models.values()
            for model in {id(model): model for given in models for model in (given, unwrapped(given))}.values():
                self.handles.append(model.register_forward_pre_hook(begin, with_kwargs=True))

    def takes(self, model: nn.Module) -> bool:
        """Whether a call of this model in eval mode is being recorded."""
        return self._open is unwrapped(model) and not unwrapped(model).training

    def record(
        self, name: str, module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: object
    ) -> None:
        """A module of the model has returned."""
        if not torch.jit.is_tracing():
            self._recorder.record(name, module, arguments, keywords, output)

    def record_tensor(self, name: str, module: nn.Module, place: str, tensor: torch.Tensor) -> None:
        """A module inside compiled code has returned this tensor."""
        self._recorder.record_tensor(name, module, place, tensor)

    # --- the course of a call -----------------------------------------------------------------------------------------

    def _begin(self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        # Nothing of this may be seen by Dynamo, which would make it a condition of the compiled code.
        if is_tracing() or model.training or torch.jit.is_tracing() or self._temporary:
            return
        wrapper = getattr(DistributedDataParallel, "_active_ddp_module", None)
        if wrapper is not None and wrapper.module is model:
            return  # its call has been counted
        if not self._opens(model, arguments, keywords):
            return
        hooks = self._step_hooks
        self._attached = not hooks.attached
        if self._attached:
            hooks.attach()
        # Put on last, so that it runs when all others have.
        end = self._guard.hook("a call in eval mode", self._end)
        self._temporary.append(model.register_forward_hook(end, always_call=True))

    def _end(self, _model: nn.Module, _arguments: Any, _output: Any) -> None:
        if not is_tracing():
            self._finish()

    def graph_begins(self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """A compiled model is called."""
        if self._temporary:
            return  # from Python, which has said so
        self._finish()
        if not model.training and self.schedule is not None:
            self._opens(model, arguments, keywords)

    def _opens(self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
        """Count a call, and begin to record it if it is selected."""
        number, self.calls = self.calls, self.calls + 1
        if self.schedule is None or not self.schedule.selects(number):
            return False
        for series in self._histograms.values():
            series.begin(apart=False)
        if self._merges_ranks():
            self._guard.remark("evaluation", "its numbers are of this rank alone, unlike those of training")
        self._recorder.begin()
        self._open, self._number = unwrapped(model), number
        self._recorder.forward_begins(model, arguments, keywords)
        return True

    def _finish(self) -> None:
        """The call that is being recorded, if any, is over."""
        temporary, self._temporary = self._temporary, []
        for handle in temporary:
            handle.remove()
        if self._attached:
            self._attached = False
            self._release()
        if self._open is None:
            return
        self._open = None
        self._pending.launch()
        self._keep_held()
        histograms = {signal: series.step for signal, series in self._histograms.items()}
        if self._pending:
            self._held = (self._number, self._recorder.counted, self._pending.take(), histograms)
            self._recorder.let_go()
        else:
            self._keep(self._number, self._recorder.counted, self._pending, histograms)
            self._recorder.begin()

    def settle(self) -> None:
        """Keep the calls that are over: one in compiled code, and the one whose numbers were on their way."""
        if not self._temporary:
            self._finish()
        self._keep_held()

    def _keep_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            try:
                self._keep(*held)
            except Exception as error:
                self._guard.report("a call in eval mode", error)

    def _keep(
        self, call: int, counted: CountedOutputs, pending: PendingList, histograms: dict[str, StepHistograms]
    ) -> None:
        pending.settle()
        counted.settle()
        counted.settle_units()
        self._record.add(Step(call, counted.rows(), histograms), "eval")
