"""Begins and ends the steps of one monitor: whether one is recorded, and what is read at its end; puts on no hook."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from tensorstats.device.backend import Statistics
from tensorstats.device.numbers import Numbers
from tensorstats.rules import Finding, Judge, NonFinite
from tensorstats.rules.fed import LossKind
from tensorstats.run.record import RunRecord
from tensorstats.torch.actions import Action
from tensorstats.torch.attach.graphs import GraphReports
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.hooks import StepHooks
from tensorstats.torch.attach.optimizers import has_closure, scale_left_over
from tensorstats.torch.attach.reset import ResetWatch
from tensorstats.torch.attach.scaling import Scaling
from tensorstats.torch.attach.watched import WatchedModels
from tensorstats.torch.closing import Closing
from tensorstats.torch.options import Options
from tensorstats.torch.ranks.reduction import Reduction
from tensorstats.torch.record.abandoned import Abandonment
from tensorstats.torch.record.criterion import CriterionRecorder
from tensorstats.torch.record.facts import ModuleFacts
from tensorstats.torch.record.loop_state import LoopState
from tensorstats.torch.record.losses import LossQueue
from tensorstats.torch.record.mode import CallMode
from tensorstats.torch.record.optimizer import group_rates, log_learning_rates
from tensorstats.torch.record.recorder import Opening
from tensorstats.torch.record.recorders import Recorders
from tensorstats.torch.record.step import RecordedStep

__all__ = ["Steps"]


class Steps:
    """What a monitor does between the beginning of a step and its end.

    Attributes
    ----------
    schedule : Schedule
        Which steps are recorded, from the next one on.
    mask : torch.Tensor, callable or None
        Which positions of outputs count.
    step_hooks, graphs
        What is attached; set right after the making.
    """

    step_hooks: StepHooks
    graphs: GraphReports

    def __init__(
        self,
        watched: WatchedModels,
        options: Options,
        guard: Guard,
        judge: Judge,
        record: RunRecord,
    ) -> None:
        self.schedule = options.schedule
        self.mask = options.mask
        self.state = state = LoopState(options.start_step, options.start_step)
        self.statistics = statistics = Statistics(options.backend)
        self._watched = watched
        self._optimizers = optimizers = watched.targets.optimizers
        self._guard = guard
        self._judge = judge
        self._record = record
        self._action = Action(options.on_finding, guard)
        scaling = Scaling(options.scaler)
        self.recorders = recorders = Recorders(
            statistics,
            guard,
            watched,
            record.logs["train"],
            scaling,
            lambda: self.mask,
            histograms=options.histograms,
            units=options.units,
        )
        if self._action.opens_debugger:
            recorders.outputs.on_nonfinite = self._action.at_nonfinite
        self.mode = CallMode(state, guard, recorders, has_optimizer=bool(optimizers))
        self.reset = ResetWatch(guard)
        self.abandonment = Abandonment(
            self, state, watched.targets, self.reset, scaling, recorders, judge.losses, guard
        )
        self.losses = LossQueue(statistics, self._add_loss)
        self.criterion = CriterionRecorder(statistics, guard)
        self.validation = CriterionRecorder(statistics, guard)
        self.reduction = Reduction(options.ranks, statistics, guard, watched, recorders)
        self.closing = Closing(
            state,
            statistics,
            guard,
            judge,
            recorders,
            self.losses,
            self.reduction,
            self.abandonment.skips,
            lambda view, ran: self.graphs.note_hidden(view, ran=ran),
            self._add_loss,
            record,
        )
        self._facts = ModuleFacts()
        self._call_open = False  # without an optimizer: a step has begun

    @property
    def merges_ranks(self) -> bool:
        """Whether numbers are those of all ranks."""
        return self.reduction.active

    @property
    def compiled_step_is_open(self) -> bool:
        """Whether a compiled optimizer has stepped and its step has not been ended."""
        return self.graphs.step_is_open

    def _add_loss(self, step: int, name: str, value: float) -> None:
        if name == "loss":
            self._judge.losses.log(step, value)
        elif name == "validation":
            self._judge.validation.log(step, value)
        self._record.add_number("losses", name, step, value)

    def log_validation(
        self,
        predictions: torch.Tensor,
        targets: torch.Tensor,
        loss: torch.Tensor | float,
        kind: LossKind | None,
        criterion: torch.nn.Module | None,
    ) -> None:
        """Count what went into a loss of data that are not trained on: now, or with the next step from a device."""
        self.validation.record(predictions, targets, loss, kind, criterion)
        if not self.validation.open.on_devices:
            self.validation.take().deliver(self.state.step, self._judge.validation.state)

    # --- the beginning ------------------------------------------------------------------------------------------------

    def begin_step(self) -> None:
        """Decide whether the step that starts now is recorded."""
        state, recorders = self.state, self.recorders
        state.stepped.clear()
        state.recording = self.schedule.selects(state.step) and not state.closed
        self.graphs.expect()
        self._watched.step_begins()
        if self._optimizers and not state.closed:
            self.abandonment.begin()
        if not state.recording:
            if recorders.outputs.ran:
                # It holds on to nothing of the last step, and a gradient that comes late counts nowhere.
                recorders.outputs.begin()
            self.release_hooks()
            return
        # What may have to be dropped, and what other ranks have a share in, must not go straight into the totals.
        apart = self.merges_ranks or self.mode.is_open
        recorders.begin(Opening(self._watched.parameters(), apart))
        self.mode.begin()
        if self.step_hooks.attached:
            self.step_hooks.renew()
        else:
            self.step_hooks.attach()
        if not self._optimizers:
            recorders.parameters.before_update()

    def release_hooks(self) -> None:
        """The hooks of steps are needed no more: take them off unless a step needs them, or compiled code."""
        if not self.state.recording and not self.graphs.stays:
            self.step_hooks.detach()

    def begin_call(self) -> None:
        """Without an optimizer a call of the model begins a step."""
        self.end_call()
        self._call_open = True
        self.begin_step()

    def follow_parameters(self) -> None:
        """Parameters may have been replaced, frozen or thawed since the last step ended."""
        if self._watched.borrows:
            return
        found = self._watched.changed_parameters()
        if found is not None:
            self.recorders.parameters.begin(Opening(found))
        self.step_hooks.renew()

    # --- around an optimizer's step -----------------------------------------------------------------------------------

    def before_update(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any) -> None:
        """An optimizer is about to step: read the gradients, and hold on to what it will change."""
        if id(optimizer) in self.state.stepped:
            self.end_step()  # the others do not step this time
        if self._action.raises:
            # What a device found in the step before has arrived: it is told before this step changes a weight.
            self.closing.settle()
            self._action.tell(self.closing.untold())
        if not self.state.recording:
            return
        self.abandonment.before_update()
        parameters, names = self.recorders.parameters, self._names_of(optimizer)
        if not has_closure(arguments, keywords):
            parameters.read_gradients(scale_left_over(optimizer), names)
            if self._action.raises and self._is_nonfinite():
                # Before the weights are touched: whoever catches the error still has good ones.
                self.end_step(at_once=True)
        parameters.before_update(names if names is not None else self._watched.parameters_in(optimizer))

    def after_update(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any) -> None:
        """An optimizer has stepped; when all have, the step is over."""
        self.state.stepped.add(id(optimizer))
        self.abandonment.updated()
        if self.state.recording:
            names = self._names_of(optimizer)
            if has_closure(arguments, keywords):
                # The closure ran backward inside the step; its last gradients are still there.
                self.recorders.parameters.read_gradients(None, names)
            if names is not None:
                self.recorders.parameters.read_values(names)
        if self.abandonment.all_are_through(self.state.stepped):
            self.end_step()

    def _names_of(self, optimizer: torch.optim.Optimizer) -> Collection[str] | None:
        """The parameters read around an optimizer's step: all with a single optimizer, its own with several."""
        return None if len(self._optimizers) == 1 else self._watched.parameters_in(optimizer)

    def _is_nonfinite(self) -> bool:
        offenders = self.recorders.outputs.offenders
        found = offenders.first is not None or offenders.gradient is not None
        judged = any(isinstance(rule, NonFinite) for rule in self._judge.rules)
        return judged and (found or self.recorders.parameters.gradients_nonfinite())

    # --- the end ------------------------------------------------------------------------------------------------------

    def end_step(self, *, at_once: bool = False) -> None:
        """End the step and begin the next; act on findings last, since that may raise."""
        if self.state.recording:
            self.mode.step_ends(trained=self.reset.passes > 0)
        self.abandonment.open.completed()
        self.abandonment.skips.ended()
        self._end("the optimizer's step", at_once=at_once)

    def abandon_step(self, *, by_scaler: bool = False) -> None:
        """End the step, which was left, and begin the next."""
        self.abandonment.skips.skip(self.state.step, by_scaler=by_scaler)
        self._end("a step that was left", abandoned=True)

    def _end(self, place: str, *, at_once: bool = False, abandoned: bool = False) -> None:
        findings = self._ended(place, at_once=at_once, abandoned=abandoned)
        self.state.step += 1
        self.begin_step()
        self._action.tell(findings)

    def end_call(self) -> None:
        """Without an optimizer the next call of the model, or closing, ends a step."""
        if self._call_open:
            findings = self._ended("the end of a step")
            self.state.step += 1
            self._call_open = False
            self._action.tell(findings)

    def judge_open_step(self) -> None:
        """Tell of what went wrong in a step that goes on, for other ranks take part in it."""
        self._action.tell(self.closing.judge_open(self.state.step))

    def _ended(self, place: str, *, at_once: bool = False, abandoned: bool = False) -> list[Finding]:
        """Hand the step over if it was recorded; returns the findings to be told now."""
        recorded, self.state.recording = self.state.recording, False
        if not recorded and not self.closing.busy:
            return []
        step = missed = None
        if recorded:
            try:
                step = self._read_end(place, abandoned=abandoned)
            except Exception as error:
                # It must not keep the next step from beginning.
                self._guard.report(place, error)
                missed = (self.state.step, error)
        return self.closing.end(step, at_once=at_once, missed=missed)

    def _read_end(self, place: str, *, abandoned: bool) -> RecordedStep:
        """Read what can be read only now that the step has ended."""
        recorders, optimizers, number = self.recorders, self._optimizers, self.state.step
        if abandoned:
            self.abandonment.read_gradients()
        recorders.parameters.read_values()
        if "optimizer_state" in self._watched.signals:
            recorders.optimizer_state.read(optimizers, self._watched.parameters())
        self.reduction.step_ends(number)
        log_learning_rates(number, optimizers, self._record)
        return RecordedStep(
            number,
            place,
            recorders,
            self.losses.take(),
            self.criterion.take(),
            self.validation.take(),
            group_rates(optimizers) if optimizers else None,
            self._gradients_kept(),
            self.abandonment.skips.facts(),
            abandoned,
            self.abandonment.begins_late or self.mode.has_missed,
            self._facts.read(self._watched.modules, recorders.outputs.counted.modules_in_order()),
            self.mode.trains_in_eval,
        )

    def _gradients_kept(self) -> bool | Numbers | None:
        """Whether gradients were added onto those of the last step, which one optimizer has used whole."""
        kept = self.reset.kept() if len(self._optimizers) == 1 else None
        return self.statistics.numbers([kept]) if isinstance(kept, torch.Tensor) else kept

    # --- the end of the run -------------------------------------------------------------------------------------------

    def leave_ranks(self) -> None:
        """The loop ends with an error on this rank: the others, who may still run, are told, and not waited for."""
        if self._call_open or self.closing.held is not None:
            self.reduction.leave("the loop ended with an error on this rank")
        else:
            self.reduction.close("its loop ended with an error")

    def end_unfinished(self) -> list[Finding]:
        """End what is open when the run ends; no step begins any more. Returns findings that nobody was told yet."""
        state, findings = self.state, []
        if self.merges_ranks and self._optimizers:
            findings = self.closing.close_held()
            is_open = state.recording and self.recorders.outputs.ran and not self.graphs.stays
            self.reduction.part(state.step, self.recorders.outputs.offenders if is_open else None)
        if state.stepped and not self.merges_ranks:
            # Some of several optimizers have stepped: the others do not step this time.
            self.abandonment.skips.ended()
            findings += self._ended("the optimizer's step")
            state.step += 1
        elif self.abandonment.unfinished:
            self.abandonment.tell_if_it_runs_on(final=True)
            count = self.abandonment.skip_unfinished()
            findings += self._ended("the unfinished step", abandoned=True)
            state.step += count
        self.abandonment.stop()
        state.closed = True
        return findings

    def finish(self) -> list[Finding]:
        """Let go of everything, and read what is on its way. Returns findings that nobody was told yet."""
        self.state.recording = False
        self.criterion.take()
        self.reset.disarm()
        self.recorders.parameters.forget()
        self.recorders.outputs.begin()
        self._watched.forget_parameters()
        return self.closing.finish()

    def tell(self, findings: list[Finding]) -> None:
        """Do what the user asked for when there are findings."""
        self._action.tell(findings)
