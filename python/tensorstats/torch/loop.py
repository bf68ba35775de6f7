"""The training loop as a monitor sees it: when a step begins and ends; computes no number and judges none."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tensorstats.device.backend import Statistics
from tensorstats.device.numbers import Numbers
from tensorstats.rules import Finding, Judge, NonFinite
from tensorstats.run.series import ScalarLog, SignalLog
from tensorstats.torch.actions import Action, FindingError
from tensorstats.torch.attach.compiled import is_tracing
from tensorstats.torch.attach.graphs import GraphReports
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.hooks import StepHooks
from tensorstats.torch.attach.reset import ResetWatch
from tensorstats.torch.attach.scaling import Scaling
from tensorstats.torch.attach.targets import Targets, parameters_of
from tensorstats.torch.attach.watched import WatchedModels
from tensorstats.torch.closing import Closing
from tensorstats.torch.options import Options
from tensorstats.torch.ranks.reduction import Reduction
from tensorstats.torch.record.abandoned import Abandonment
from tensorstats.torch.record.evaluation import EvaluationRecorder
from tensorstats.torch.record.loop_state import LoopState
from tensorstats.torch.record.losses import LossQueue
from tensorstats.torch.record.optimizer import learning_rates, log_learning_rates
from tensorstats.torch.record.recorders import Recorders
from tensorstats.torch.record.step import RecordedStep

__all__ = ["TrainingLoop", "loops_alike"]

# Asked at every output: what `torch.jit.is_tracing()` asks in turn, and what there is no public name for.
_is_jit_tracing = torch._C._is_tracing
_current_graph_task_id = torch._C._current_graph_task_id

# Of torch.func, inside whose transforms tensors have no values that could be counted; None outside.
_level_of_transforms = torch._C._functorch.maybe_current_level


class TrainingLoop:
    """Hears models and optimizers, and tells recorders when to count and the closing when a step is over.

    It is what hooks hold weakly: a monitor that nobody holds any more leaves none of them behind.

    Attributes
    ----------
    schedule : Schedule
        Which steps are recorded, from the next one on.
    mask : torch.Tensor, callable or None
        Which positions of outputs count.
    """

    def __init__(
        self,
        targets: Targets,
        options: Options,
        guard: Guard,
        judge: Judge,
        logs: Mapping[str, Mapping[str, SignalLog]],
        scalars: Mapping[str, dict[str, ScalarLog]],
    ) -> None:
        self.schedule = options.schedule
        self.mask = options.mask
        self.state = state = LoopState(options.start_step, options.start_step)
        self.watched = watched = WatchedModels(targets, options.modules, options.signals, options.collections, guard)
        watched.on_changed = self._modules_changed
        watched.keeps_modules = lambda: self.graphs.stays
        self._guard = guard
        self._judge = judge
        self._scalars = scalars
        self._action = Action(options.on_finding, guard)
        self._statistics = statistics = Statistics(options.backend)
        scaling = Scaling(options.scaler)
        self.recorders = recorders = Recorders(
            statistics,
            guard,
            watched,
            logs["train"],
            scaling,
            lambda: self.mask,
            histograms=options.histograms,
            units=options.units,
        )
        if self._action.opens_debugger:
            recorders.outputs.on_nonfinite = self._action.at_nonfinite
        self._losses = LossQueue(statistics, self._add_loss)
        self._reset = ResetWatch(guard)
        self.abandonment = Abandonment(self, state, targets, self._reset, scaling, recorders, judge.losses, guard)
        self._step_hooks = StepHooks(self, watched, guard)
        self.evaluation = EvaluationRecorder(
            statistics,
            guard,
            watched,
            self._step_hooks,
            logs["eval"],
            lambda: self.mask,
            histograms=options.histograms,
            units=options.units,
            release=self._release_hooks,
            merges_ranks=lambda: self.merges_ranks,
        )
        gradients = "output_gradients" in options.signals
        self.graphs = GraphReports(self, watched, guard, self._step_hooks, gradients=gradients)
        self.reduction = Reduction(options.ranks, statistics, guard, watched, recorders)
        self.closing = Closing(
            state,
            statistics,
            guard,
            judge,
            recorders,
            self._losses,
            self.reduction,
            self.abandonment.skips,
            self.graphs,
            self._add_loss,
        )
        self._heard: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self._trains_in_eval: bool | None = None  # whether calls in eval mode are the training; None: not known yet
        self._only_eval = False  # all that was recorded in this step so far are such calls, and it is not known
        self._eval_calls = False  # there were such calls in this step, which were not recorded
        self._call_open = False  # without an optimizer: a step has begun
        self._permanent: list[Any] = []
        # A monitor that is dropped leaves no hook behind. Lists of handles, unlike their owners, know no monitor.
        handles = (self._permanent, *self._step_hooks.handles, self._reset.handles, self.evaluation.handles)
        weakref.finalize(self, _remove, handles).atexit = False
        try:
            self.evaluation.set_schedule(options.eval_schedule)
            self._attach()
        except BaseException:
            state.closed = True
            self.abandonment.stop()
            _remove(handles)
            raise
        _OPEN.add(self)

    # --- what is heard ------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        hook, optimizers = self._guard.hook, self.watched.targets.optimizers
        for optimizer in optimizers.values():
            self._hear(optimizer)
        if optimizers:
            stepping = hook("another optimizer", self._any_optimizer_steps)
            self._permanent.append(register_optimizer_step_pre_hook(stepping))
            self.abandonment.listen()
            self.begin_step()
        else:
            called = hook("the call of the model", self._called_without_optimizer)
            self._permanent.append(self.watched.clock.register_forward_pre_hook(called, with_kwargs=True))
            if not self.graphs.expect():
                # The first call may be compiled by a Dynamo that is not loaded yet and cannot announce it.
                self._step_hooks.attach()

    def _any_optimizer_steps(self, optimizer: torch.optim.Optimizer, _arguments: Any, _keywords: Any) -> None:
        """Any optimizer is about to step: one that took over parameters of the watched one is watched in its place."""
        if is_tracing():
            return
        self._reset.use()  # another one may have needed the gradient to come by its own
        optimizers = self.watched.targets.optimizers
        known = any(optimizer is watched for watched in optimizers.values())
        if self.state.inside_optimizer or self.state.closed or known:
            return
        stepped = parameters_of(optimizer)
        for name, watched in optimizers.items():
            if stepped & parameters_of(watched):
                optimizers[name] = optimizer
                self._hear(optimizer)  # its own hooks are run after those on all optimizers: already in this step
                return
        added = len(self.watched.parameters_in(optimizer))
        if added:
            self._guard.remark(
                "another optimizer",
                f"one that was not given to ts.watch ({type(optimizer).__name__}) steps {added} of the parameters; "
                "their updates are not recorded, and no step ends with it",
            )

    def _hear(self, optimizer: torch.optim.Optimizer) -> None:
        """Put the hooks on an optimizer that has none of this monitor yet."""
        if optimizer in self._heard:
            return
        self._heard.add(optimizer)
        hook = self._guard.hook
        self._permanent += [
            optimizer.register_step_pre_hook(hook("the optimizer's step", self.before_optimizer_step)),
            optimizer.register_step_post_hook(hook("the optimizer's step", self.after_optimizer_step)),
        ]

    def _modules_changed(self, names: list[str]) -> None:
        """Others have taken the place of modules."""
        self.recorders.outputs.forget(names)
        if self._step_hooks.attached:
            self._step_hooks.detach()
            self._step_hooks.attach()

    # --- what counts --------------------------------------------------------------------------------------------------

    def _listens(self, model: nn.Module) -> bool:
        """Whether a forward pass counts now: training mode, no trace, no recomputation by activation checkpointing."""
        # Inside a backward pass every autograd task has an id; a module called there is being recomputed.
        if not (self.state.recording and _current_graph_task_id() == -1 and not _is_jit_tracing()):
            return False
        if _level_of_transforms() is not None:
            self._guard.remark("calls inside vmap, grad and other transforms of torch.func", "they are not counted")
            return False
        if model.training:
            if self._trains_in_eval is not False:
                self._called_in_training()
            return True
        return self._may_train_in_eval_mode()

    def _may_train_in_eval_mode(self) -> bool:
        """Whether a call in eval mode counts now: gradients are on, and no call of this step was in training mode.

        A training step is what ends with a step of the optimizer. What the calls in eval mode before it were is known
        only then; until it is, they are recorded, and dropped where a call in training mode follows.
        """
        if not torch.is_grad_enabled() or not self.watched.targets.optimizers:
            return False
        if self._trains_in_eval is None:
            self._only_eval = True
        elif not self._trains_in_eval:
            self._eval_calls = True
            return False
        return True

    def _called_in_training(self) -> None:
        """Calls in eval mode are an evaluation then: forget what was recorded of them, if they may have been one."""
        self._trains_in_eval = False
        if not self._only_eval:
            return
        self._only_eval = False
        self.recorders.outputs.begin()
        for series in self.recorders.histograms.values():
            if series.step.apart is not None:
                series.step.apart.clear()

    def _learn_the_mode(self) -> None:
        """An optimizer has stepped: now it is known whether calls in eval mode were for it."""
        if self._only_eval:
            self._trains_in_eval = True
            self._guard.remark(
                "the model", "it is trained in eval mode: dropout is off and batch norm does not learn its statistics"
            )
        elif self._eval_calls and not self.recorders.outputs.ran and self._reset.passes > 0:
            self._trains_in_eval = None  # it was for this one, which has none of them

    # --- the beginning of a step --------------------------------------------------------------------------------------

    def begin_step(self) -> None:
        """Decide whether the step that starts now is recorded."""
        state, recorders = self.state, self.recorders
        has_optimizer = bool(self.watched.targets.optimizers)
        state.stepped.clear()
        state.recording = self.schedule.selects(state.step) and not state.closed
        self.graphs.expect()
        self.watched.step_begins()
        if has_optimizer and not state.closed:
            self.abandonment.begin()
        if not state.recording:
            if recorders.outputs.ran:
                # It holds on to nothing of the last step, and a gradient that comes late counts nowhere.
                recorders.outputs.begin()
            if not self.graphs.stays:
                self._step_hooks.detach()
            return
        # What may have to be dropped, and what other ranks have a share in, must not go straight into the totals.
        apart = self.merges_ranks or (self._trains_in_eval is None and has_optimizer)
        for series in recorders.histograms.values():
            series.begin(apart=apart)
        recorders.outputs.begin(in_parts=apart)
        self._only_eval = self._eval_calls = False
        recorders.raw.begin()
        recorders.parameters.begin(self.watched.parameters())
        if self._step_hooks.attached:
            self._step_hooks.renew()
        else:
            self._step_hooks.attach()
        if not has_optimizer:
            recorders.parameters.before_update()

    def model_called(
        self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], *, from_python: bool = True
    ) -> None:
        """A model begins a forward pass."""
        if is_tracing():
            self.graphs.hooks.begin(arguments, keywords)
            return
        self.graphs.end_step()
        self.reduction.model_called(model)
        if self._listens(model):
            if self.watched.targets.optimizers and not self._only_eval:
                self.abandonment.forward_begins(model, from_python=from_python)
                if not self.state.recording:
                    return  # the step that was left is over, and this one is not recorded
            if not self.recorders.outputs.ran:
                self._follow_parameters()
            self.recorders.outputs.forward_begins(model, arguments, keywords)

    def model_returned(self, model: nn.Module, _arguments: Any, _output: Any) -> None:
        """It has returned."""
        if not is_tracing():
            self.abandonment.open.call_returns(model)

    def _follow_parameters(self) -> None:
        """Parameters may have been replaced, frozen or thawed since the last step ended."""
        if self.watched.borrows:
            return
        found = self.watched.changed_parameters()
        if found is not None:
            self.recorders.parameters.begin(found)
        self._step_hooks.renew()

    def _called_without_optimizer(self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if is_tracing():
            self.graphs.hooks.begin(arguments, keywords)
            return
        if not model.training or _current_graph_task_id() != -1:
            return
        self._end_open_call()
        self._call_open = True
        self.begin_step()
        self.reduction.model_called(model)
        if self._listens(model):
            self.recorders.outputs.forward_begins(model, arguments, keywords)

    def begin_batch(self, inputs: dict[str, Any]) -> None:
        """A micro-batch begins, in a loop that does not call the model."""
        clock = self.watched.clock
        if self._listens(clock):
            self.recorders.outputs.forward_begins(clock, (), inputs)

    # --- within a step ------------------------------------------------------------------------------------------------

    def module_hooks(self, module: nn.Module) -> list[Any]:
        """The handles of what has to be seen of a module beside what it returns."""
        return self.reduction.hooks(module)

    def module_returned(self, model: nn.Module, name: str, module: nn.Module, *of_call: Any) -> None:
        """A module has returned: record it, or put it into the graph while it is compiled."""
        if is_tracing():
            self.graphs.hooks.output(name, of_call[-1])
            return
        if self._listens(model):
            self.recorders.outputs.record(name, module, *of_call)
        elif model.training:
            # Nobody listens: perhaps it runs once more, in a backward pass, by activation checkpointing.
            recomputed = self.state.recording and _current_graph_task_id() != -1
            if recomputed and "output_gradients" in self.watched.signals:
                self.recorders.outputs.record_recomputed(name, module, of_call[-1])
        if not model.training and self.evaluation.takes(model):
            self.evaluation.record(name, module, *of_call)

    def gradient_added(self, name: str, gradient: torch.Tensor) -> None:
        """Without an optimizer: a backward pass has added to the gradient of a parameter."""
        if self.state.recording:
            self.recorders.parameters.read_gradient(name, gradient)

    def raw_gradient_added(self, name: str, gradient: torch.Tensor) -> None:
        """A backward pass has added to the gradient of a parameter."""
        if self.state.recording:
            self.recorders.raw.read(name, gradient)

    def _release_hooks(self) -> None:
        """A call in eval mode needs the hooks no more: take them off unless a step does, or compiled code."""
        if not self.state.recording and not self.graphs.stays:
            self._step_hooks.detach()

    # --- what compiled code reports -----------------------------------------------------------------------------------

    @property
    def listens_in_graphs(self) -> bool:
        """Whether ops in compiled code have anything to report."""
        return self.state.recording or self.evaluation.schedule is not None

    @property
    def compiled_step_is_open(self) -> bool:
        """Whether a compiled optimizer has stepped and its step has not been ended."""
        return self.graphs.step_is_open

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
        if self._listens(model):
            self.recorders.outputs.record_tensor(name, module, place, tensor)
        elif self.evaluation.takes(model):
            self.evaluation.record_tensor(name, module, place, tensor)

    def graph_gradient(self, name: str, place: str, tensor: torch.Tensor) -> None:
        """The gradient with respect to such an output."""
        self.recorders.outputs.record_tensor_gradient(name, self.watched.modules[name], place, tensor)

    # --- the end of a step --------------------------------------------------------------------------------------------

    def before_optimizer_step(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any) -> None:
        """An optimizer is about to step: read the gradients, and hold on to what it will change."""
        if is_tracing():
            self.graphs.hooks.step(optimizer.param_groups, after=False)
            return
        self.graphs.end_step()
        self.state.inside_optimizer = True
        if _skipped_inside(optimizer):
            return
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
        if not _has_closure(arguments, keywords):
            parameters.read_gradients(_scale_left_over(optimizer), names)
            if self._action.raises and self._is_nonfinite():
                # Before the weights are touched: whoever catches the error still has good ones.
                self.end_step(at_once=True)
        parameters.before_update(names if names is not None else self.watched.parameters_in(optimizer))

    def _is_nonfinite(self) -> bool:
        offenders = self.recorders.outputs.offenders
        found = offenders.first is not None or offenders.gradient is not None
        judged = any(isinstance(rule, NonFinite) for rule in self._judge.rules)
        return judged and (found or self.recorders.parameters.gradients_nonfinite())

    def after_optimizer_step(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any) -> None:
        """An optimizer has stepped; when all have, the step is over."""
        if is_tracing():
            self.graphs.hooks.step(optimizer.param_groups, after=True)
            return
        self.state.inside_optimizer = False
        if optimizer not in self.watched.targets.optimizers.values():
            return  # another one has taken its place
        if _skipped_inside(optimizer):
            return  # nothing was updated: the step goes on
        self.state.stepped.add(id(optimizer))
        self.abandonment.updated()
        if self.state.recording:
            names = self._names_of(optimizer)
            if _has_closure(arguments, keywords):
                # The closure ran backward inside the step; its last gradients are still there.
                self.recorders.parameters.read_gradients(None, names)
            if names is not None:
                self.recorders.parameters.read_values(names)
        if self.abandonment.all_are_through(self.state.stepped):
            self.end_step()

    def end_step(self, *, at_once: bool = False) -> None:
        """End the step and begin the next; act on findings last, since that may raise."""
        if self.state.recording:
            self._learn_the_mode()
        self.abandonment.open.completed()
        self.abandonment.skips.ended()
        findings = self._ended("the optimizer's step", at_once=at_once)
        self.state.step += 1
        self.begin_step()
        self._action.tell(findings)

    def abandon_step(self, *, by_scaler: bool = False) -> None:
        """End the step, which was left, and begin the next."""
        self.abandonment.skips.skip(self.state.step, by_scaler=by_scaler)
        findings = self._ended("a step that was left", abandoned=True)
        self.state.step += 1
        self.begin_step()
        self._action.tell(findings)

    def judge_open_step(self) -> None:
        """Tell of what went wrong in a step that goes on, for other ranks take part in it."""
        self._action.tell(self.closing.judge_open(self.state.step))

    def _names_of(self, optimizer: torch.optim.Optimizer) -> Collection[str] | None:
        """The parameters read around an optimizer's step: all with a single optimizer, its own with several."""
        return None if len(self.watched.targets.optimizers) == 1 else self.watched.parameters_in(optimizer)

    def _end_open_call(self) -> None:
        """Without an optimizer the next call of the model, or closing, ends a step."""
        if self._call_open:
            findings = self._ended("the end of a step")
            self.state.step += 1
            self._call_open = False
            self._action.tell(findings)

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
        recorders, optimizers, number = self.recorders, self.watched.targets.optimizers, self.state.step
        if abandoned:
            self.abandonment.read_gradients()
        recorders.parameters.read_values()
        if "optimizer_state" in self.watched.signals:
            recorders.optimizer_state.read(optimizers, self.watched.parameters())
        self.reduction.step_ends(number)
        log_learning_rates(number, optimizers, self._scalars["learning_rates"])
        return RecordedStep(
            number,
            place,
            recorders.outputs,
            recorders.parameters,
            recorders.raw,
            recorders.optimizer_state,
            recorders.pending,
            self._losses.take(),
            learning_rates(optimizers) if optimizers else None,
            self._gradients_kept(),
            {signal: series.step for signal, series in recorders.histograms.items()},
            self.abandonment.skips.facts(),
            abandoned,
            self.abandonment.begins_late or (self._eval_calls and not recorders.outputs.ran),
        )

    def _gradients_kept(self) -> bool | Numbers | None:
        """Whether gradients were added onto those of the last step, which one optimizer has used whole."""
        kept = self._reset.kept() if len(self.watched.targets.optimizers) == 1 else None
        return self._statistics.numbers([kept]) if isinstance(kept, torch.Tensor) else kept

    # --- what its monitor asks ----------------------------------------------------------------------------------------

    @property
    def merges_ranks(self) -> bool:
        """Whether numbers are those of all ranks."""
        return self.reduction.active

    def settle(self) -> None:
        """Take in what has been recorded and is still on its way."""
        self.closing.settle()
        self.evaluation.settle()

    def log_loss(self, name: str, loss: float | torch.Tensor) -> None:
        """A loss of the open step."""
        self._losses.log(self.state.step, name, loss)

    def _add_loss(self, step: int, name: str, value: float) -> None:
        if name == "loss":
            self._judge.losses.log(step, value)
        self._scalars["losses"].setdefault(name, ScalarLog()).add(step, value)

    def go_on_at(self, step: int, eval_calls: int) -> None:
        """Count from here on, as another run did."""
        self.state.step = self.state.first_step = step
        self.evaluation.calls = eval_calls
        if self.watched.targets.optimizers:
            self.begin_step()

    def watches_alike(self, targets: Targets, options: Options) -> bool:
        """Whether this loop is open and records what one made with these would record."""
        return (
            not self.state.closed
            and self.watched.targets.are(targets)
            and (self.schedule, self.evaluation.schedule) == (options.schedule, options.eval_schedule)
            and self.watched.choice == options.modules
            and self.watched.signals == options.signals
            and self.watched.collections == options.collections
            and bool(self.recorders.histograms) == options.histograms
        )

    def leave(self) -> None:
        """The loop ends with an error on this rank: the others, who may still run, are told, and not waited for."""
        if self._call_open or self.closing.held is not None:
            self.reduction.leave("the loop ended with an error on this rank")
        else:
            self.reduction.close("its loop ended with an error")
        with contextlib.suppress(FindingError):  # what the loop raised goes first; findings can still be read
            self.close()

    def close(self) -> None:
        """Remove every hook, read what is on its way, and tell its findings. Closing twice is allowed."""
        state = self.state
        if state.closed:
            return
        self._guard.closed_by = threading.get_ident()
        self.graphs.close()
        abandoned: list[Finding] = []
        if self.merges_ranks and self.watched.targets.optimizers:
            abandoned = self.closing.close_held()
            is_open = state.recording and self.recorders.outputs.ran and not self.graphs.stays
            self.reduction.part(state.step, self.recorders.outputs.offenders if is_open else None)
        if self.abandonment.unfinished:
            self.abandonment.skips.skip(state.step, by_scaler=False)
            abandoned += self._ended("the unfinished step", abandoned=True)
            state.step += 1
        self.abandonment.stop()
        state.closed = True
        try:
            self._end_open_call()
        finally:
            state.recording = False
            _remove((self._permanent,))
            self._step_hooks.detach()
            self._reset.disarm()
            self.evaluation.set_schedule(None)
            self.recorders.parameters.forget()
            self.recorders.outputs.begin()
            self.watched.forget_parameters()
            self.evaluation.settle()
            findings = [*abandoned, *self.closing.finish()]
            self.reduction.close()
        self._action.tell(findings)


# Those that somebody holds; some are closed.
_OPEN: weakref.WeakSet[TrainingLoop] = weakref.WeakSet()


def loops_alike(targets: Targets, options: Options) -> list[TrainingLoop]:
    """The open loops that record what one made with these would record."""
    return [loop for loop in list(_OPEN) if loop.watches_alike(targets, options)]


def _remove(lists: Iterable[list[Any]]) -> None:
    """Take hooks off."""
    for handles in lists:
        for handle in handles:
            handle.remove()
        handles.clear()


def _has_closure(arguments: Any, keywords: Any) -> bool:
    """Whether optimizer.step was called with a closure (LBFGS must be)."""
    closure = keywords.get("closure") if keywords else None
    if closure is None and len(arguments) > 1:
        closure = arguments[1]
    if closure is None and arguments and not isinstance(arguments[0], torch.optim.Optimizer):
        closure = arguments[0]
    return callable(closure)


def _skipped_inside(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a gradient scaler found infinities and leaves it to a fused optimizer to do nothing."""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, torch.Tensor) and bool(found.any())


def _scale_left_over(optimizer: torch.optim.Optimizer) -> float | None:
    """The loss scale still in the gradients: a GradScaler leaves the division to fused optimizers."""
    scale = getattr(optimizer, "grad_scale", None)
    return float(scale) if isinstance(scale, torch.Tensor) else None
