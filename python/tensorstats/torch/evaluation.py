"""Records the outputs of calls in eval mode, apart from those of training; judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tensorstats.torch.collect import Collector, PendingList, Units, units_kept
from tensorstats.torch.histogram_series import StepHistograms
from tensorstats.torch.log import SignalLog
from tensorstats.torch.recent import Recent
from tensorstats.torch.record_outputs import OutputRecorder
from tensorstats.torch.schedule import Schedule

if TYPE_CHECKING:
    from tensorstats.torch.monitor import Monitor

__all__ = ["EvaluationRecorder"]


class EvaluationRecorder:
    """Counts the calls of the models in eval mode and records those that its schedule selects.

    Without a schedule there are no hooks. A recorded call puts hooks on the modules and takes them off when it ends,
    also when it ends with an error. What is on a device by then is read at the end of the next recorded call, or when
    somebody asks.
    """

    def __init__(self, monitor: Monitor, logs: Mapping[str, SignalLog], *, histograms: bool, units: Units) -> None:
        self._monitor = monitor
        self.schedule: Schedule | None = None
        self.calls = 0
        self._handles: list[Any] = []
        self._temporary: list[Any] = []
        # A call whose numbers are on their way.
        self._held: tuple[int, OutputRecorder, PendingList, list[StepHistograms]] | None = None
        self._histograms = [log.histograms for log in logs.values()] if histograms else []
        statistics, guard = monitor._statistics, monitor._guard
        self._pending = PendingList(statistics)
        chosen: list[str] = [signal for signal in ("inputs", "outputs") if signal in monitor._signals]
        recent = Recent()
        collectors = {
            signal: Collector(
                statistics,
                guard,
                logs[signal],
                self._pending,
                histograms,
                units_kept(signal, units),
                recent=recent,
            )
            for signal in chosen
        }
        self._recorder = OutputRecorder(
            statistics, guard, collectors, self._pending, monitor._chooses, lambda: monitor.mask
        )

    def set_schedule(self, schedule: Schedule | None) -> None:
        """Change which calls are recorded."""
        self.schedule = schedule
        if schedule is None:
            for handle in [*self._handles, *self._temporary]:
                handle.remove()
            self._handles, self._temporary = [], []
        elif not self._handles:
            hook = self._monitor._guard.hook
            for model in self._monitor._targets.models.values():
                begin, end = hook("a call in eval mode", self._begin), hook("a call in eval mode", self._end)
                self._handles.append(model.register_forward_pre_hook(begin, with_kwargs=True))
                self._handles.append(model.register_forward_hook(end, always_call=True))

    def _begin(self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if model.training or torch.compiler.is_compiling() or torch.jit.is_tracing() or self._temporary:
            return
        if self.schedule is None or not self.schedule.selects(self.calls):
            return
        for series in self._histograms:
            series.begin(apart=False)
        self._recorder.begin()
        hook = self._monitor._guard.hook
        for name, module in self._monitor._modules.items():
            if self._monitor._targets.model_of(name) is model:
                returned = hook(f"the output of {name}", self._hook(name))
                self._temporary.append(module.register_forward_hook(returned, with_kwargs=True))
        self._recorder.forward_begins(model, arguments, keywords)

    def _hook(self, name: str) -> Any:
        def returned(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: object) -> None:
            self._recorder.record(name, module, arguments, keywords, output)

        return returned

    def _end(self, model: nn.Module, _arguments: Any, _output: Any) -> None:
        if model.training:
            return
        recorded = bool(self._temporary)
        for handle in self._temporary:
            handle.remove()
        self._temporary = []
        if recorded:
            self._pending.launch()
            self.settle()
            histograms = [series.step for series in self._histograms]
            if self._pending:
                pending = self._pending.take()
                self._held = (self.calls, self._recorder.take(), pending, histograms)
            else:
                self._keep(self.calls, self._recorder, self._pending, histograms)
                self._recorder.begin()
        self.calls += 1

    def settle(self) -> None:
        """Keep the call whose numbers were on their way."""
        held, self._held = self._held, None
        if held is not None:
            try:
                self._keep(*held)
            except Exception as error:
                self._monitor._guard.report("a call in eval mode", error)

    @staticmethod
    def _keep(call: int, recorder: OutputRecorder, pending: PendingList, histograms: Sequence[StepHistograms]) -> None:
        pending.settle()
        recorder.settle_tables()
        recorder.settle_units()
        recorder.keep(call)
        for of_signal in histograms:
            of_signal.keep(call)
