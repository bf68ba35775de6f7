"""Closes recorded steps: brings them to the host, keeps and judges them; hooks nothing and counts nothing.

A step that is all in CPU memory is closed where it ends. One with numbers on a device is held: their copy is launched
where the step ends and read where the next one ends, recorded or not, or when somebody asks; the device has long been
done by then and nobody waits.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace

from tensorstats.device.backend import Statistics, first_nonfinite, is_countable, unravel
from tensorstats.device.numbers import Numbers
from tensorstats.rules import Finding, Judge, Offender, ParameterView, StepView
from tensorstats.run.record import RunRecord
from tensorstats.run.step import SignalStep
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.ranks.reduction import Reduction
from tensorstats.torch.record.loop_state import LoopState
from tensorstats.torch.record.losses import LossQueue
from tensorstats.torch.record.offender import of_what_was_counted, stands_still, step_offender
from tensorstats.torch.record.open_step import SkipCount
from tensorstats.torch.record.recorders import Recorders
from tensorstats.torch.record.step import RecordedStep

__all__ = ["Closing"]


class Closing:
    """The closing half of a monitor."""

    def __init__(
        self,
        state: LoopState,
        statistics: Statistics,
        guard: Guard,
        judge: Judge,
        recorders: Recorders,
        losses: LossQueue,
        reduction: Reduction,
        skips: SkipCount,
        note_hidden: Callable[[StepView, bool], None],
        add_loss: Callable[[int, str, float], None],
        record: RunRecord,
    ) -> None:
        self._state = state
        self._statistics = statistics
        self._guard = guard
        self._judge = judge
        self._recorders = recorders
        self._losses = losses
        self._reduction = reduction
        self._skips = skips
        self._note_hidden = note_hidden
        self._add_loss = add_loss
        self._record = record
        self._previous: int | None = None  # the step closed last
        self._untold: list[Finding] = []
        self._missed: tuple[int, Exception] | None = None  # a step that could not be recorded, until ranks exchange it
        self._judged_open: int | None = None  # the step that was judged before its end
        # A thread that only reads may be the one that closes, or comes while another does.
        self._lock = threading.RLock()
        self.held: RecordedStep | None = None

    def end(
        self, step: RecordedStep | None, *, at_once: bool = False, missed: tuple[int, Exception] | None = None
    ) -> list[Finding]:
        """A step has ended: close the one before it, then this one, or hold it (unless `at_once`).

        `step` is None when the step was not recorded; `missed` is the number of one that could not be, and why. Returns
        all findings that nobody was told yet.
        """
        with self._lock:
            if step is not None and step.waits:
                self._launch(step)
            self._close_held()
            if step is None:
                self._judge_losses(self._state.step)
                self._missed = missed
                if not self._reduction.waits:
                    self._tell_missed()
            else:
                if self._holds(step, at_once=at_once):
                    step.hold()
                    self.held = step
                    self._losses.waits = True
                else:
                    self._close(step)
            return self.untold()

    @property
    def busy(self) -> bool:
        """Whether the end of a step that is not recorded has anything to do."""
        waiting = self.held is not None or self._missed is not None or bool(self._untold)
        return waiting or self._judge.losses.unjudged_step is not None

    def untold(self) -> list[Finding]:
        """The findings that nobody was told yet."""
        untold, self._untold = self._untold, []
        return untold

    def settle(self) -> None:
        """Close what is held, for somebody who reads; with several ranks only all of them together can."""
        with self._lock:
            if not self._reduction.active:
                self._close_held()

    def finish(self) -> list[Finding]:
        """Close whatever is left. Returns all findings that nobody was told yet."""
        with self._lock:
            self._close_held()
            try:
                self._losses.flush()
            except Exception as error:
                self._guard.report("losses", error)
            self._judge_losses(self._state.step, final=True)
            return self.untold()

    def close_held(self) -> list[Finding]:
        """Close the step that is held, with all other ranks. Returns all findings that nobody was told yet."""
        with self._lock:
            self._close_held()
            return self.untold()

    def judge_open(self, number: int) -> list[Finding]:
        """Judge what went wrong in a step that goes on, once: with several ranks it ends only where all of them end it.

        It keeps its numbers, which join those of the other ranks then. Returns all findings that nobody was told yet.
        """
        offenders = self._recorders.outputs.offenders
        found = offenders.first or self._judge.losses.offender() or offenders.gradient
        seen = bool(self._recorders.outputs.counted.outputs) and self._judge.losses.unjudged_step in (None, number)
        with self._lock:
            if found is not None and self._judged_open != number:
                self._judged_open = number
                found = of_what_was_counted(found, outputs=seen, gradients=True, left_out=self._guard.left_out)
                found = replace(found, origin=f"{found.origin} Seen on rank {self._reduction.rank}.")
                self._untold += self._judge.judge(StepView(number, self._previous, offender=found))
            return self.untold()

    def _judge_losses(self, number: int, *, final: bool = False) -> None:
        """Judge what came in with no recorded step: a loss that is not finite, and at the end of a run its skips."""
        judge, skips = self._judge, self._skips.facts(final=final)
        offender, step = judge.losses.offender(), judge.losses.unjudged_step
        if offender is not None:
            offender = of_what_was_counted(offender, outputs=False, gradients=False, left_out=self._guard.left_out)
        if offender is None and not (final and skips is not None and skips.skipped == skips.steps):
            return
        if step is not None:
            number = step
        elif number > self._state.first_step:
            number -= 1  # the last one that there was
        try:
            self._untold += judge.judge(StepView(step=number, previous_step=None, offender=offender, skips=skips))
        except Exception as error:
            self._guard.report("losses", error)

    def _holds(self, step: RecordedStep, *, at_once: bool) -> bool:
        reduction = self._reduction
        return reduction.waits if reduction.active else step.waits and not at_once

    def _launch(self, step: RecordedStep) -> None:
        try:
            self._statistics.launch()
        except Exception as error:
            self._guard.report(step.ended_by, error)

    def _tell_missed(self) -> None:
        missed, self._missed = self._missed, None
        if missed is not None:
            self._reduction.miss(*missed)

    def _close_held(self) -> None:
        self._tell_missed()
        held, self.held = self.held, None
        if held is not None:
            self._close(held)
            self._losses.release()

    def _close(self, step: RecordedStep) -> None:
        """Keep and judge a step; an error in here must not keep the next step from beginning."""
        try:
            self._keep(step)
        except Exception as error:
            self._guard.report(step.ended_by, error)
            self._reduction.miss(step.number, error)

    def _keep(self, step: RecordedStep) -> None:
        step.pending.settle()
        self._reduction.drop_shards(step)
        step.settle()
        self._reduction.reduce(step)
        step.outputs.settle_units()
        step.losses.deliver(self._add_loss)
        self._deliver_criterion(step)
        rows = step.rows()
        view = self._view(step, rows)
        if not step.abandoned and not step.begun_late:
            self._note_hidden(view, step.outputs.ran)
        self._record.add(step.plain(view, rows))
        self._previous = step.number
        self._untold += self._judge.judge(view)

    def _deliver_criterion(self, step: RecordedStep) -> None:
        """What the loss was given joins what is known of the run, and the best constant's loss the losses."""
        step.validation.deliver(step.number, self._judge.validation.state)
        if step.criterion.calls:
            state = self._judge.losses.state
            step.criterion.deliver(step.number, state)
            if not math.isnan(state.constant):
                self._add_loss(step.number, "constant", state.constant)

    def _view(self, step: RecordedStep, rows: dict[str, SignalStep]) -> StepView:
        """What the rules see."""
        parameters = step.parameters.views(step.rates, step.outputs.modules_in_order())
        kept = step.gradients_kept
        if isinstance(kept, Numbers):
            kept = kept.read()[0] > 0
        offender = self._offender(step, parameters)
        if offender is not None:
            of_loss = self._judge.losses.unjudged_step if offender.signal == "loss" else None
            offender = of_what_was_counted(
                offender,
                outputs=bool(step.outputs.outputs) and of_loss in (None, step.number),
                gradients=any(view.gradient is not None for view in parameters),
                left_out=self._guard.left_out,
            )
        nonfinite = any(
            view.value is not None and view.value.nonfinite_count > 0 and not stands_still(view, parameters)
            for view in parameters
        )
        if step.abandoned:
            # No optimizer has stepped: what has no gradient and did not move says nothing.
            parameters = [view for view in parameters if view.gradient is not None]
            kept = None
        return StepView(
            step=step.number,
            previous_step=self._previous,
            outputs=step.outputs.views(),
            parameters=parameters,
            offender=offender,
            parameters_nonfinite=nonfinite,
            gradients_kept=kept,
            has_optimizer=step.rates is not None,
            fed=self._judge.losses.state if step.criterion.calls else None,
            ranks=self._reduction.spreads,
            skips=step.skips,
            modules=step.modules,
            trains_in_eval=step.trains_in_eval,
            rows=rows,
        )

    def _offender(self, step: RecordedStep, parameters: list[ParameterView]) -> Offender | None:
        judge = self._judge
        if judge.poisoned:
            return None  # everything is NaN now, and nobody is told again

        def locate(name: str, signal: str) -> tuple[tuple[int, ...] | None, str | None]:
            counted = step.parameters.steps[name]
            place = (counted.first or {}).get("gradient" if signal == "gradient" else "value")
            if place is not None and is_countable(counted.parameter):  # of a shard it is no place in the whole
                return unravel(place, tuple(counted.parameter.shape)), None
            tensor = counted.parameter.grad if signal == "gradient" else counted.parameter
            found = None if step.held or tensor is None else first_nonfinite(tensor)
            return (None, None) if found is None else found[1:]

        offenders = step.outputs.offenders
        if offenders.first is not None:
            return offenders.first
        found = judge.losses.offender() or offenders.gradient or step_offender(parameters, locate)
        return None if found is None else offenders.given or found
