"""Tells when the step that is open was left: by a gradient scaler or by the loop; records and judges nothing.

A step that was left is ended where that becomes clear: where the scaler does not step the optimizer, where the next
forward pass begins, or at the end of the run. What cannot be told from gradient accumulation is taken for it: the step
goes on, and nothing of it is lost.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from tensorstats.rules import limits
from tensorstats.rules.judge import LossTrend
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.reset import ResetWatch
from tensorstats.torch.attach.scaling import ScalerListener, Scaling, scale_of
from tensorstats.torch.attach.targets import Targets, parameters_of
from tensorstats.torch.record.loop_state import LoopState
from tensorstats.torch.record.open_step import OpenStep, SkipCount
from tensorstats.torch.record.recorders import Recorders

__all__ = ["Abandonment", "StepKeeper"]

# At this scale gradients are those of the loss itself: one that is not finite is no matter of the scale.
_NO_SCALE = 1.0


class StepKeeper(Protocol):
    """Who begins and ends steps."""

    @property
    def merges_ranks(self) -> bool:
        """Whether a step ends only where all ranks end it."""

    @property
    def compiled_step_is_open(self) -> bool:
        """Whether a compiled optimizer has stepped and its step has not been ended."""

    def begin_step(self) -> None:
        """Begin to record, where the step that is open now is due."""

    def end_step(self) -> None:
        """The step has ended as it should."""

    def abandon_step(self, *, by_scaler: bool = False) -> None:
        """The step was left."""

    def judge_open_step(self) -> None:
        """Something went wrong in a step that goes on, for other ranks take part in it."""


class Abandonment(ScalerListener):
    """The part of a monitor that watches over the step that is open."""

    def __init__(
        self,
        keeper: StepKeeper,
        state: LoopState,
        targets: Targets,
        reset: ResetWatch,
        scaling: Scaling,
        recorders: Recorders,
        losses: LossTrend,
        guard: Guard,
    ) -> None:
        self._keeper = keeper
        self._state = state
        self._targets = targets
        self._reset = reset
        self.scaling = scaling
        self._recorders = recorders
        self._losses = losses
        self._guard = guard
        self.open = OpenStep()
        self.skips = SkipCount()
        self.begins_late = False  # recording began when the forward pass of the step had run
        self._in_backward = False
        self._for_input = self._was_for_input = False  # the pass that goes on, and the one before it
        self._updates = 0  # steps of the optimizers
        self._updates_before = 0  # ... when a scaler was about to make one
        self._holds_scale = False  # the gradients did then
        self._skipped: set[int] = set()  # the optimizers that a scaler has left out in this step
        self._read_early = False  # gradients were read before any optimizer asked for them
        self._on_skip = guard.hook("a skipped step", self._scaler_skipped)
        reset.on_lost = self._gradients_lost
        reset.on_nonfinite = self._gradient_nonfinite

    # --- the course of a step -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A step begins."""
        self.open.begin()
        self.scaling.begin()
        self._skipped.clear()
        self._read_early = False
        self.begins_late = self._in_backward
        if self._in_backward:
            return  # what is followed must not change now: its gradient is about to come
        optimizers = self._targets.optimizers.values()
        self._reset.arm(p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"])

    def before_update(self) -> None:
        """An optimizer is about to step, with gradients that may be others by now."""
        if self._read_early:
            self._read_early = False
            self._recorders.parameters.counted.forget_gradients()

    def updated(self) -> None:
        """An optimizer has stepped."""
        self._updates += 1
        self._reset.use()

    @property
    def nonfinite(self) -> bool:
        """Whether the open step holds what is not finite, as far as the host knows."""
        return self._forward_nonfinite or (self.scaling.scaler is None and self._backward_nonfinite)

    @property
    def _forward_nonfinite(self) -> bool:
        first = self._recorders.outputs.offenders.first
        # -inf is what masked logits hold on purpose: alone it says nothing about how the step goes on.
        return (first is not None and not first.masking) or self._losses.unjudged_step is not None

    @property
    def _backward_nonfinite(self) -> bool:
        return self._recorders.outputs.offenders.gradient is not None or self._reset.nonfinite

    # --- left by the loop ---------------------------------------------------------------------------------------------

    def forward_begins(self, model: nn.Module, arguments: tuple[Any, ...], *, from_python: bool) -> None:
        """A model is called for training: the step that is open may have been left before."""
        if self._state.inside_optimizer:
            return  # a closure runs the model as often as it likes
        # Compiled code runs without gradients and adds those of its own.
        if from_python and not torch.is_grad_enabled():
            return
        if self._keeper.merges_ranks:
            # What one rank decides alone would leave the others waiting: the step goes on, on all of them.
            if self._state.recording and self.nonfinite:
                self._keeper.judge_open_step()
        elif self._was_left(model):
            self._keeper.abandon_step()
        self._was_for_input = self._for_input
        self._for_input = any(isinstance(given, torch.Tensor) and given.requires_grad for given in arguments)
        self.open.count_forward(model)
        if from_python:
            self.open.call_begins(model)

    def _was_left(self, model: nn.Module) -> bool:
        if self.open.raised(model):
            return True
        if self._reset.is_lost():
            if self.nonfinite or self._loses_unusually(self._for_input):
                return True
            self._lose()
            self._reset.use()
            return False
        # With a scaler at work it will say so, unless the loop leaves before it does.
        return self.nonfinite and self.open.has_usual_forwards(model, known=self.scaling.heard)

    def _loses_unusually(self, for_input: bool) -> bool:
        """Whether gradients were thrown away, nothing was changed, and the loop usually does no such thing.

        A pass `for_input` was for the gradient of what the model was given: an attack, of which nothing else is needed.
        """
        return not for_input and self.open.loses_unusually() and not self._reset.weights_moved

    def _lose(self) -> None:
        """Gradients were thrown away in a step that goes on."""
        self.open.lost += 1
        self.tell_if_it_runs_on()

    def tell_if_it_runs_on(self, *, final: bool = False) -> None:
        """Say so where the model runs and runs, and no watched optimizer steps."""
        if self.open.runs_on(final=final):
            names = " and ".join(type(optimizer).__name__ for optimizer in self._targets.optimizers.values())
            self._guard.remark(
                "the optimizer",
                f"{names}, which was given to ts.watch, has not stepped for {self.open.passes} passes of the model or "
                "more: what was recorded of them is one step. Is step() called, was another optimizer made of other "
                "parameters, or are the weights changed by hand?",
            )

    def skip_unfinished(self) -> int:
        """Count the step that is open when the run ends as skipped; as several, where none of the run has ended.

        Returns how many.
        """
        count = 1
        never = self._updates == 0 and not self._reset.weights_moved
        if never and self.open.lost >= limits.SKIPPED_ALL_STEPS:
            count += self.open.lost  # every one of them computed gradients and changed nothing
        for place in range(count):
            self.skips.skip(self._state.step + place, by_scaler=False)
        return count

    def _gradients_lost(self) -> None:
        """A backward pass begins, and the gradients of the one before it were thrown away after this forward pass."""
        if self._state.inside_optimizer or self._keeper.merges_ranks:
            return
        if not self._loses_unusually(self._was_for_input):
            self._lose()
            return
        # The forward pass of the next step has been counted already: both stay in one record.
        self.skips.skip(self._state.step, by_scaler=False)
        self._state.step += 1
        self.open.lost = 0
        if not self._state.recording:
            self._in_backward = True
            try:
                self._keeper.begin_step()
            finally:
                self._in_backward = False

    def _gradient_nonfinite(self) -> None:
        """A gradient is not finite: should the step be left, they may all be gone by then, so they are read now."""
        if not self._state.recording or self._state.inside_optimizer:
            return
        if self._read_early or self.scaling.scaler is not None:
            return
        if self._recorders.histograms:
            return  # what was counted there cannot be taken back
        self._read_early = True
        read = self._guard.hook("gradients", lambda: self._recorders.parameters.read_gradients())
        torch.autograd.Variable._execution_engine.queue_callback(read)

    def read_gradients(self) -> None:
        """The step is left: read the gradients that it leaves behind."""
        there = self._reset.unused and not self._reset.is_lost() and not self._read_early
        if there and self.scaling.scaler is None:
            self._recorders.parameters.read_gradients()

    @property
    def unfinished(self) -> bool:
        """Whether the step that is open when the run ends has anything in it."""
        if not self._targets.optimizers:
            return False
        if self._reset.unused or (self._state.recording and self.nonfinite):
            return True
        return self.open.ran and self._reset.passes == 0

    # --- left out by a scaler -----------------------------------------------------------------------------------------

    def scaler_scales(self, scaler: Any) -> None:
        """The gradients of this step are scaled, if the loss is of a watched model."""
        self.scaling.hear(scaler)

    def _watches(self, optimizer: Any) -> bool:
        return any(optimizer is watched for watched in self._targets.optimizers.values())

    def all_are_through(self, stepped: set[int]) -> bool:
        """Whether every optimizer has stepped in this step, or was left out by a scaler."""
        return len(stepped | self._skipped) >= len(self._targets.optimizers)

    def scaler_steps(self, scaler: Any, optimizer: Any) -> None:
        """A scaler is about to step an optimizer, or not to."""
        if self._watches(optimizer):
            self._updates_before = self._updates
            stages = getattr(scaler, "_per_optimizer_states", {})
            ready = id(optimizer) not in stages or stages[id(optimizer)]["stage"].name == "READY"
            self._holds_scale = ready and bool(getattr(optimizer, "_step_supports_amp_scaling", False))

    def scaler_stepped(self, scaler: Any, optimizer: Any) -> None:
        """It has, or has not."""
        if not self._watches(optimizer) or self._updates != self._updates_before:
            return
        if not self._keeper.compiled_step_is_open:
            self._on_skip(scaler, optimizer)

    def _scaler_skipped(self, scaler: Any, optimizer: Any) -> None:
        self._state.inside_optimizer = False
        self.scaling.hear(scaler)
        if id(optimizer) in self._state.stepped:
            self._keeper.end_step()  # the others do not step this time
        self._skipped.add(id(optimizer))
        if self._state.recording and len(self._targets.optimizers) > 1:
            self._recorders.parameters.note_gradients(parameters_of(optimizer))
        if not self.all_are_through(self._state.stepped):
            return
        if self._state.stepped:
            self._keeper.end_step()
            return
        scale = scale_of(scaler)
        overflows = self._state.recording and not self._keeper.merges_ranks and self._forward_nonfinite
        if scale > _NO_SCALE and not overflows:
            # It looks for its scale: the gradients were too large as they were scaled, and say nothing.
            self.open.begin()
            self._skipped.clear()
            self._reset.use()
            return
        if self._state.recording:
            self._recorders.parameters.read_gradients(scale if self._holds_scale else None)
        self._keeper.abandon_step(by_scaler=True)
