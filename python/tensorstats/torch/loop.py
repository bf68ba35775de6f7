"""The training loop as a monitor hears it: models, optimizers, compiled code; computes no number and ends no step."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from tensorstats.rules import Judge
from tensorstats.run.record import RunRecord
from tensorstats.torch.actions import FindingError
from tensorstats.torch.attach.compiled import is_tracing
from tensorstats.torch.attach.criterion import arguments_of, kind_of, one_tensor
from tensorstats.torch.attach.graphs import GraphReports
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.hooks import StepHooks
from tensorstats.torch.attach.optimizers import OptimizerHooks, skipped_inside
from tensorstats.torch.attach.targets import Targets
from tensorstats.torch.attach.watched import WatchedModels
from tensorstats.torch.options import Options
from tensorstats.torch.record.evaluation import EvaluationRecorder
from tensorstats.torch.record.mode import has_values, is_recomputing
from tensorstats.torch.steps import Steps

__all__ = ["TrainingLoop", "loops_alike"]


class TrainingLoop:
    """Everything that is attached for one monitor, and what hears it.

    It is what hooks hold weakly: a monitor that nobody holds any more leaves none of them behind.
    """

    def __init__(
        self,
        targets: Targets,
        options: Options,
        guard: Guard,
        judge: Judge,
        record: RunRecord,
    ) -> None:
        self._guard = guard
        self.watched = watched = WatchedModels(targets, options.modules, options.signals, options.collections, guard)
        self.steps = steps = Steps(watched, options, guard, judge, record)
        self._mode = steps.mode
        self._outputs = steps.recorders.outputs
        steps.step_hooks = self._step_hooks = step_hooks = StepHooks(self, watched, guard)
        gradients = "output_gradients" in options.signals
        steps.graphs = self._graphs = GraphReports(self, watched, guard, step_hooks, gradients=gradients)
        self._optimizer_hooks = OptimizerHooks(self, watched, guard)
        self._permanent: list[Any] = []
        self._loss_fn, self._loss_kind = options.loss_fn, kind_of(options.loss_fn)
        self._losses_are_logged = self._validation_is_logged = False  # by the loop itself
        self.evaluation = EvaluationRecorder(
            steps.statistics,
            guard,
            watched,
            step_hooks,
            record,
            lambda: steps.mask,
            histograms=options.histograms,
            units=options.units,
            release=steps.release_hooks,
            merges_ranks=lambda: steps.merges_ranks,
        )
        watched.on_changed = self._modules_changed
        watched.keeps_modules = lambda: self._graphs.stays
        # A monitor that is dropped leaves no hook behind. Lists of handles, unlike their owners, know no monitor.
        handles = (
            *(self._permanent, self._optimizer_hooks.handles, *step_hooks.handles),
            *(steps.reset.handles, self.evaluation.handles),
        )
        weakref.finalize(self, _remove, handles).atexit = False
        try:
            self.evaluation.set_schedule(options.eval_schedule)
            self._attach()
        except BaseException:
            steps.state.closed = True
            steps.abandonment.stop()
            _remove(handles)
            raise
        _OPEN.add(self)

    def _attach(self) -> None:
        if self._loss_fn is not None:
            called = self._guard.hook("the call of the loss", self._loss_called)
            self._permanent.append(self._loss_fn.register_forward_hook(called, with_kwargs=True))
        if self.watched.targets.optimizers:
            self._optimizer_hooks.attach()
            self.steps.abandonment.listen()
            self.steps.begin_step()
        else:
            called = self._guard.hook("the call of the model", self._called_without_optimizer)
            self._permanent.append(self.watched.clock.register_forward_pre_hook(called, with_kwargs=True))
            if not self._graphs.expect():
                # The first call may be compiled by a Dynamo that is not loaded yet and cannot announce it.
                self._step_hooks.attach()

    def _modules_changed(self, names: list[str]) -> None:
        """Others have taken the place of modules."""
        self._outputs.forget(names)
        if self._step_hooks.attached:
            self._step_hooks.detach()
            self._step_hooks.attach()

    # --- models and modules -------------------------------------------------------------------------------------------

    def model_called(
        self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], *, from_python: bool = True
    ) -> None:
        """A model begins a forward pass."""
        if is_tracing():
            self._graphs.hooks.begin(arguments, keywords)
            return
        self._graphs.end_step()
        self.steps.reduction.model_called(model)
        if self._mode.listens(model):
            if self.watched.targets.optimizers and not self._mode.is_guessed:
                self.steps.abandonment.forward_begins(model, arguments, from_python=from_python)
                if not self.steps.state.recording:
                    return  # the step that was left is over, and this one is not recorded
            if not self._outputs.ran:
                self.steps.follow_parameters()
            self._outputs.forward_begins(model, arguments, keywords)

    def model_returned(self, model: nn.Module, _arguments: Any, _output: Any) -> None:
        """It has returned."""
        if not is_tracing():
            self.steps.abandonment.open.call_returns(model)

    def _called_without_optimizer(self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if is_tracing():
            self._graphs.hooks.begin(arguments, keywords)
            return
        if not model.training or is_recomputing():
            return
        self.steps.begin_call()
        self.steps.reduction.model_called(model)
        if self._mode.listens(model):
            self._outputs.forward_begins(model, arguments, keywords)

    def begin_batch(self, inputs: dict[str, Any]) -> None:
        """A micro-batch begins, in a loop that does not call the model."""
        clock = self.watched.clock
        if self._mode.listens(clock):
            self._outputs.forward_begins(clock, (), inputs)

    def module_hooks(self, module: nn.Module) -> list[Any]:
        """The handles of what has to be seen of a module beside what it returns."""
        return self.steps.reduction.hooks(module)

    def module_returned(self, model: nn.Module, name: str, module: nn.Module, *of_call: Any) -> None:
        """A module has returned: record it, or put it into the graph while it is compiled."""
        if is_tracing():
            self._graphs.hooks.output(name, of_call[-1])
            return
        if self._mode.listens(model):
            self._outputs.record(name, module, *of_call)
        elif model.training and self._records_recomputed():
            self._outputs.record_recomputed(name, module, of_call[-1])
        if not model.training and self.evaluation.takes(model):
            self.evaluation.record(name, module, *of_call)

    def _records_recomputed(self) -> bool:
        """Whether a module that nobody listens to runs once more, in a backward pass, by activation checkpointing."""
        return self.steps.state.recording and is_recomputing() and "output_gradients" in self.watched.signals

    def gradient_added(self, name: str, gradient: torch.Tensor) -> None:
        """Without an optimizer: a backward pass has added to the gradient of a parameter."""
        if self.steps.state.recording:
            self.steps.recorders.parameters.read_gradient(name, gradient)

    def raw_gradient_added(self, name: str, gradient: torch.Tensor) -> None:
        """A backward pass has added to the gradient of a parameter."""
        if self.steps.state.recording:
            self.steps.recorders.raw.read(name, gradient)

    # --- losses -------------------------------------------------------------------------------------------------------

    def _loss_called(
        self, criterion: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: object
    ) -> None:
        """The loss module has returned."""
        if is_tracing():
            return
        evaluates = not torch.is_grad_enabled() or (not self.watched.clock.training and self._mode.evaluates_in_eval)
        if not (evaluates or self.steps.state.recording):
            return
        if not isinstance(output, torch.Tensor) or not has_values() or is_recomputing():
            return
        predictions, targets = (one_tensor(given) for given in arguments_of(arguments, keywords))
        if evaluates:
            self.log_validation(_mean(output), predictions, targets, by_hook=True)
            return
        if not self._losses_are_logged:
            self.steps.losses.log(self.steps.state.step, "loss", _mean(output))
        if predictions is not None and targets is not None:
            self.steps.criterion.record(predictions, targets, output, self._loss_kind, criterion)

    def log_loss(self, loss: float | torch.Tensor, name: str, predictions: object, targets: object) -> None:
        """The loop hands over a loss, and perhaps what went into it."""
        if name == "loss":
            self._losses_are_logged = True
        self.steps.losses.log(self.steps.state.step, name, loss)
        given, wanted = one_tensor(predictions), one_tensor(targets)
        if given is not None and wanted is not None and self.steps.state.recording:
            self.steps.criterion.record(given, wanted, loss, None)

    def log_validation(
        self, loss: float | torch.Tensor, predictions: object, targets: object, *, by_hook: bool = False
    ) -> None:
        """A loss of data that are not trained on."""
        if by_hook and self._validation_is_logged:
            return
        self._validation_is_logged = self._validation_is_logged or not by_hook
        steps = self.steps
        steps.losses.log(steps.state.step, "validation", loss)
        given, wanted = one_tensor(predictions), one_tensor(targets)
        if given is not None and wanted is not None:
            steps.log_validation(given, wanted, loss, self._loss_kind if by_hook else None, self._loss_fn)

    # --- optimizers ---------------------------------------------------------------------------------------------------

    @property
    def inside_optimizer(self) -> bool:
        """Whether a watched optimizer is stepping, or none is listened to any more."""
        return self.steps.state.inside_optimizer or self.steps.state.closed

    def other_optimizer_steps(self) -> None:
        """Any optimizer at all is about to step: it may have needed the gradient to come by its own."""
        self.steps.reset.use()

    def before_optimizer_step(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any) -> None:
        """A watched optimizer is about to step."""
        if is_tracing():
            self._graphs.hooks.step(optimizer.param_groups, after=False)
            return
        self._graphs.end_step()
        self.steps.state.inside_optimizer = True
        if not skipped_inside(optimizer):
            self.steps.before_update(optimizer, arguments, keywords)

    def after_optimizer_step(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any) -> None:
        """It has stepped, unless another has taken its place, or nothing was updated: then the step goes on."""
        if is_tracing():
            self._graphs.hooks.step(optimizer.param_groups, after=True)
            return
        self.steps.state.inside_optimizer = False
        if optimizer in self.watched.targets.optimizers.values() and not skipped_inside(optimizer):
            self.steps.after_update(optimizer, arguments, keywords)

    # --- what compiled code reports -----------------------------------------------------------------------------------

    @property
    def listens_in_graphs(self) -> bool:
        """Whether ops in compiled code have anything to report."""
        return self.steps.state.recording or self.evaluation.schedule is not None

    def graph_called(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """A compiled model is called."""
        clock = self.watched.clock
        self.evaluation.graph_begins(clock, arguments, keywords)
        if self.watched.targets.optimizers:
            self.model_called(clock, arguments, keywords, from_python=False)
        else:
            self._called_without_optimizer(clock, arguments, keywords)

    def graph_output(self, name: str, place: str, tensor: torch.Tensor) -> None:
        """A module inside compiled code has returned."""
        model, module = self.watched.targets.model_of(name), self.watched.modules[name]
        if self._mode.listens(model):
            self._outputs.record_tensor(name, module, place, tensor)
        elif self.evaluation.takes(model):
            self.evaluation.record_tensor(name, module, place, tensor)

    def graph_gradient(self, name: str, place: str, tensor: torch.Tensor) -> None:
        """The gradient with respect to such an output."""
        self._outputs.record_tensor_gradient(name, self.watched.modules[name], place, tensor)

    # --- what its monitor asks ----------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Take in what has been recorded and is still on its way."""
        self.steps.closing.settle()
        self.evaluation.settle()

    def go_on_at(self, step: int, eval_calls: int) -> None:
        """Count from here on, as another run did."""
        self.steps.state.step = self.steps.state.first_step = step
        self.evaluation.calls = eval_calls
        if self.watched.targets.optimizers:
            self.steps.begin_step()

    def watches_alike(self, targets: Targets, options: Options) -> bool:
        """Whether this loop is open and records what one made with these would record."""
        return (
            not self.steps.state.closed
            and self.watched.targets.are(targets)
            and (self.steps.schedule, self.evaluation.schedule) == (options.schedule, options.eval_schedule)
            and self.watched.choice == options.modules
            and self.watched.signals == options.signals
            and self.watched.collections == options.collections
            and bool(self.steps.recorders.histograms) == options.histograms
            and self._loss_fn is options.loss_fn
        )

    def leave(self) -> None:
        """Close after the loop has ended with an error; what it raised goes first, findings can still be read."""
        self.steps.leave_ranks()
        with contextlib.suppress(FindingError):
            self.close()

    def close(self) -> None:
        """Remove every hook, read what is on its way, and tell its findings. Closing twice is allowed."""
        steps = self.steps
        if steps.state.closed:
            return
        self._guard.closed_by = threading.get_ident()
        self._graphs.close()
        findings = steps.end_unfinished()
        try:
            steps.end_call()
        finally:
            _remove((self._permanent,))
            self._optimizer_hooks.detach()
            self._step_hooks.detach()
            self.evaluation.set_schedule(None)
            self.evaluation.settle()
            findings += steps.finish()
            steps.reduction.close()
        steps.tell(findings)


# Those that somebody holds; some are closed.
_OPEN: weakref.WeakSet[TrainingLoop] = weakref.WeakSet()


def loops_alike(targets: Targets, options: Options) -> list[TrainingLoop]:
    """The open loops that record what one made with these would record."""
    return [loop for loop in list(_OPEN) if loop.watches_alike(targets, options)]


def _mean(loss: torch.Tensor) -> torch.Tensor:
    """A loss as one number."""
    return loss.detach() if loss.numel() == 1 else loss.detach().mean()


def _remove(lists: Iterable[list[Any]]) -> None:
    """Take hooks off."""
    for handles in lists:
        for handle in handles:
            handle.remove()
        handles.clear()
