"""The monitor of a training loop: when a step begins and ends; computes no number and judges none."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tensorstats._core import Summary
from tensorstats.device.backend import Backend, Statistics
from tensorstats.device.numbers import Numbers
from tensorstats.rules import Finding, Judge, NonFinite, Rule
from tensorstats.run.choosing import Collection as TensorCollection
from tensorstats.run.reading import Reading
from tensorstats.run.series import ScalarLog
from tensorstats.torch.actions import Action, FindingError, OnFinding
from tensorstats.torch.attach.compiled import is_tracing
from tensorstats.torch.attach.graphs import GraphReports
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.hooks import StepHooks
from tensorstats.torch.attach.masks import Mask
from tensorstats.torch.attach.modules import ModuleChoice, choose_modules, scripted_parts
from tensorstats.torch.attach.parameters import WatchedParameters
from tensorstats.torch.attach.reset import ResetWatch
from tensorstats.torch.attach.schedule import Schedule
from tensorstats.torch.attach.targets import Targets, parameters_of
from tensorstats.torch.ranks.reduction import Ranks, Reduction
from tensorstats.torch.ranks.sharded import is_distributed
from tensorstats.torch.record.abandoned import Abandonment
from tensorstats.torch.record.closing import Closing
from tensorstats.torch.record.collect import Collector, PendingList, Units, units_kept
from tensorstats.torch.record.evaluation import EvaluationRecorder
from tensorstats.torch.record.losses import LossQueue
from tensorstats.torch.record.optimizer import OptimizerRecorder, learning_rates, log_learning_rates
from tensorstats.torch.record.outputs import OutputRecorder
from tensorstats.torch.record.parameters import ParameterRecorder
from tensorstats.torch.record.raw import RawGradientRecorder
from tensorstats.torch.record.recent import Recent
from tensorstats.torch.record.step import RecordedStep

__all__ = ["Monitor"]

# Asked at every output: what `torch.jit.is_tracing()` asks in turn, and what there is no public name for.
_is_jit_tracing = torch._C._is_tracing
_current_graph_task_id = torch._C._current_graph_task_id

# Of torch.func, inside whose transforms tensors have no values that could be counted; None outside.
_level_of_transforms = torch._C._functorch.maybe_current_level

_OF_MODULES = ("inputs", "outputs", "output_gradients")
_OF_PARAMETERS = ("parameters", "gradients", "updates")


class Monitor(Reading):
    """Watches models while they are trained. Made by :func:`tensorstats.watch`.

    With an optimizer a step lasts from the end of one ``optimizer.step()`` to the end of the next; with several, until
    all have stepped, or until one of them is about to step again; without one, from one call of the (first) model in
    training mode to the next. Module hooks exist only during recorded steps, so the steps between cost next to nothing.

    What is in CPU memory is kept and judged at the end of its step. Numbers of a step on an accelerator are copied to
    the host from there on and read at the end of the next step, so that nothing waits for the device; reading from the
    monitor, and closing it, read them at once (with several ranks only closing does, since all must take part).

    Attributes
    ----------
    step : int
        Steps seen so far, ``start_step`` included.
    schedule, eval_schedule : Schedule
        Which steps, and which calls of the model in eval mode (None: none), are recorded; may be replaced while
        running, from the next step on.
    mask : torch.Tensor, callable or None
        Which positions of outputs count, see ``ts.watch``; may be set before every forward pass.
    """

    def __init__(
        self,
        targets: Targets,
        *,
        schedule: Schedule,
        eval_schedule: Schedule | None,
        start_step: int,
        modules: ModuleChoice,
        signals: frozenset[str],
        collections: tuple[TensorCollection, ...] | None,
        rules: Iterable[Rule] | None,
        histograms: bool,
        units: Units,
        mask: Mask,
        scaler: Any,
        on_finding: OnFinding,
        backend: Backend,
        ranks: Ranks,
    ) -> None:
        self._module_choice = modules
        self._modules = choose_modules(targets.root, modules, several="" not in targets.models)
        guard = Guard()
        guard.holds = on_finding is not None
        if scripted := scripted_parts(targets.root):
            what = "scripted and traced code takes no hooks: what its modules return is left out"
            guard.remark(f"the outputs of {', '.join(scripted)}", what)
        types = {name: type(module).__name__ for name, module in self._modules.items()}
        super().__init__(guard, Judge(rules), types, collections)
        self.step = self._first_step = start_step
        self.schedule = schedule
        self.mask = mask
        self._targets = targets
        self._clock = next(iter(targets.models.values()))  # whose calls are steps where there is no optimizer
        self._signals = signals
        self._action = Action(on_finding, guard)
        self._finder = WatchedParameters(targets.root, None if modules is None else self._modules.values())
        self._found: dict[str, nn.Parameter] = {}
        self._found_in: int | None = None  # the step
        self._statistics = statistics = Statistics(backend)
        self._pending = PendingList(statistics)
        logs = self._logs["train"]
        recent = Recent()
        collectors = {
            signal: Collector(
                statistics,
                guard,
                logs[signal],
                self._pending,
                histograms,
                units=units_kept(signal, units),
                what=signal.removesuffix("s").replace("_", " "),
                recent=recent,
            )
            for signal in _OF_MODULES
            if signal in signals
        }
        self._reset = ResetWatch(guard)
        self._abandonment = Abandonment(self, scaler)
        scaling = self._abandonment.scaling
        self._outputs = OutputRecorder(
            statistics, guard, collectors, self._pending, self._chooses, lambda: self.mask, scaling
        )
        if self._action.opens_debugger:
            self._outputs.on_nonfinite = self._action.at_nonfinite
        parameter_logs = {signal: logs[signal] for signal in _OF_PARAMETERS if signal in signals}
        self._parameters = ParameterRecorder(
            statistics, guard, parameter_logs, self._pending, self._chooses, histograms=histograms
        )
        self._raw = RawGradientRecorder(
            statistics, logs["raw_gradients"], self._pending, scaling, histograms=histograms
        )
        self._optimizer_state = OptimizerRecorder(
            statistics, guard, logs["optimizer_state"], self._pending, self._chooses, histograms=histograms
        )
        self._histograms = {signal: log.histograms for signal, log in logs.items()} if histograms else {}
        self._evaluation = EvaluationRecorder(self, self._logs["eval"], histograms=histograms, units=units)
        self._losses = LossQueue(statistics, self._add_loss)
        self._recording = False
        self._heard: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self._inside_step = False  # of a watched optimizer, which may step others
        self._trains_in_eval: bool | None = None  # whether calls in eval mode are the training; None: not known yet
        self._only_eval = False  # all that was recorded in this step so far are such calls, and it is not known
        self._eval_calls = False  # there were such calls in this step, which were not recorded
        self._stepped: set[int] = set()  # the optimizers that have stepped in this step
        self._call_open = False  # without an optimizer: a step has begun
        self._closed = False
        self._permanent: list[Any] = []
        self._step_hooks = StepHooks(self)
        self._reduction = Reduction(self, ranks)
        self._closing = Closing(self)
        self._graphs = GraphReports(self, gradients="output_gradients" in signals)
        # A monitor that is dropped leaves no hook behind. Lists of handles, unlike their owners, know no monitor.
        self._handles = (self._permanent, *self._step_hooks.handles, self._reset.handles, self._evaluation.handles)
        weakref.finalize(self, _remove, self._handles).atexit = False
        try:
            self.eval_schedule = eval_schedule
            self._attach()
        except BaseException:
            self._closed = True
            self._abandonment.stop()
            _remove(self._handles)
            raise

    # --- what is heard ------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        hook = self._guard.hook
        for optimizer in self._targets.optimizers.values():
            self._hear(optimizer)
        if self._targets.optimizers:
            stepping = hook("another optimizer", self._any_optimizer_steps)
            self._permanent.append(register_optimizer_step_pre_hook(stepping))
            self._abandonment.listen()
            self._begin_step()
        else:
            called = hook("the call of the model", self._called_without_optimizer)
            self._permanent.append(self._clock.register_forward_pre_hook(called, with_kwargs=True))
            if not self._graphs.expect():
                # The first call may be compiled by a Dynamo that is not loaded yet and cannot announce it.
                self._step_hooks.attach()

    def _any_optimizer_steps(self, optimizer: torch.optim.Optimizer, _arguments: Any, _keywords: Any) -> None:
        """Any optimizer is about to step: one that took over parameters of the watched one is watched in its place."""
        if is_tracing():
            return
        self._reset.use()  # another one may have needed the gradient to come by its own
        optimizers = self._targets.optimizers
        if self._inside_step or self._closed or any(optimizer is watched for watched in optimizers.values()):
            return
        stepped = parameters_of(optimizer)
        for name, watched in optimizers.items():
            if stepped & parameters_of(watched):
                optimizers[name] = optimizer
                self._hear(optimizer)  # its own hooks are run after those on all optimizers: already in this step
                return
        added = sum(id(parameter) in stepped for parameter in self._watched_parameters().values())
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
            optimizer.register_step_pre_hook(hook("the optimizer's step", self._before_optimizer_step)),
            optimizer.register_step_post_hook(hook("the optimizer's step", self._after_optimizer_step)),
        ]

    def _listens(self, model: nn.Module) -> bool:
        """Whether a forward pass counts now: training mode, no trace, no recomputation by activation checkpointing."""
        # Inside a backward pass every autograd task has an id; a module called there is being recomputed.
        if not (self._recording and _current_graph_task_id() == -1 and not _is_jit_tracing()):
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
        if not torch.is_grad_enabled() or not self._targets.optimizers:
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
        self._outputs.begin()
        for series in self._histograms.values():
            if series.step.apart is not None:
                series.step.apart.clear()

    def _learn_the_mode(self) -> None:
        """An optimizer has stepped: now it is known whether calls in eval mode were for it."""
        if self._only_eval:
            self._trains_in_eval = True
            self._guard.remark(
                "the model", "it is trained in eval mode: dropout is off and batch norm does not learn its statistics"
            )
        elif self._eval_calls and not self._outputs.ran and self._reset.passes > 0:
            self._trains_in_eval = None  # it was for this one, which has none of them

    def _chooses(self, signal: str, name: str, _module: nn.Module | None = None) -> bool:
        """Whether a tensor is in one of the chosen collections."""
        chosen = self._collections
        return chosen is None or any(collection.takes(signal, name) for collection in chosen)

    def _watched_parameters(self) -> dict[str, nn.Parameter]:
        """Parameters of the watched modules under their first name, as they were when the step began."""
        if self._found_in != self.step:
            before = self._found
            self._found, self._found_in = self._finder.now(), self.step
            if before and self._found is not before:
                self._follow_modules()
        return self._found

    def _follow_modules(self) -> None:
        """The model has other parts than it had: watch them too, and let go of those that it lost."""
        if self._graphs.stays or any(map(is_distributed, self._found.values())):
            return
        several = "" not in self._targets.models
        now = choose_modules(self._targets.root, self._module_choice, several=several)
        changed = [name for name, module in now.items() if self._modules.get(name) is not module]
        if not changed and len(now) == len(self._modules):
            return
        self._modules = now
        self._module_types.update({name: type(now[name]).__name__ for name in changed})
        self._outputs.forget(changed)
        if self._step_hooks.attached:
            self._step_hooks.detach()
            self._step_hooks.attach()

    # --- the beginning of a step --------------------------------------------------------------------------------------

    def _begin_step(self) -> None:
        """Decide whether the step that starts now is recorded."""
        self._stepped.clear()
        self._recording = self.schedule.selects(self.step) and not self._closed
        self._graphs.expect()
        self._found_in = None
        if self._targets.optimizers and not self._closed:
            self._abandonment.begin()
        if not self._recording:
            if self._outputs.ran:
                # It holds on to nothing of the last step, and a gradient that comes late counts nowhere.
                self._outputs.begin()
            if not self._graphs.stays:
                self._step_hooks.detach()
            return
        # What may have to be dropped, and what other ranks have a share in, must not go straight into the totals.
        apart = self._reduction.active or (self._trains_in_eval is None and bool(self._targets.optimizers))
        for series in self._histograms.values():
            series.begin(apart=apart)
        self._outputs.begin(in_parts=apart)
        self._only_eval = self._eval_calls = False
        self._raw.begin()
        self._parameters.begin(self._watched_parameters())
        if self._step_hooks.attached:
            self._step_hooks.renew()
        else:
            self._step_hooks.attach()
        if not self._targets.optimizers:
            self._parameters.before_update()

    def _called(
        self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], *, from_python: bool = True
    ) -> None:
        if is_tracing():
            self._graphs.hooks.begin(arguments, keywords)
            return
        self._graphs.end_step()
        self._reduction.model_called(model)
        if self._listens(model):
            if self._targets.optimizers and not self._only_eval:
                self._abandonment.forward_begins(model, from_python=from_python)
                if not self._recording:
                    return  # the step that was left is over, and this one is not recorded
            if not self._outputs.ran:
                self._follow_parameters()
            self._outputs.forward_begins(model, arguments, keywords)

    def _recomputed(self, name: str, module: nn.Module, output: object) -> None:
        """A module ran while nobody listened: perhaps once more, in a backward pass, by activation checkpointing."""
        if self._recording and _current_graph_task_id() != -1 and "output_gradients" in self._signals:
            self._outputs.record_recomputed(name, module, output)

    def _record_eval(self, model: nn.Module, name: str, *of_call: Any) -> None:
        if self._evaluation.takes(model):
            self._evaluation.record(name, *of_call)

    def _release_hooks(self) -> None:
        """A call in eval mode needs the hooks no more: take them off unless a step does, or compiled code."""
        if not self._recording and not self._graphs.stays:
            self._step_hooks.detach()

    def _returned(self, model: nn.Module, _arguments: Any, _output: Any) -> None:
        if not is_tracing():
            self._abandonment.open.call_returns(model)

    def _abandon(self, *, by_scaler: bool = False) -> None:
        """End the step, which was left, and begin the next."""
        self._abandonment.skips.skip(self.step, by_scaler=by_scaler)
        findings = self._ended("a step that was left", abandoned=True)
        self.step += 1
        self._begin_step()
        self._action.tell(findings)

    def _follow_parameters(self) -> None:
        """Parameters may have been replaced, frozen or thawed since the last step ended."""
        if self._finder.borrows:
            return  # torch.func.functional_call lends the model other weights for this one call
        found = self._finder.now()
        # FSDP puts whole parameters in the place of its shards for as long as the model runs.
        if found is not self._found and not any(map(is_distributed, self._found.values())):
            self._found = found
            self._follow_modules()
            self._parameters.begin(found)
        self._step_hooks.renew()

    def _called_without_optimizer(self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if is_tracing():
            self._graphs.hooks.begin(arguments, keywords)
            return
        if not model.training or torch._C._current_graph_task_id() != -1:
            return
        self._end_open_call()
        self._call_open = True
        self._begin_step()
        self._reduction.model_called(model)
        if self._listens(model):
            self._outputs.forward_begins(model, arguments, keywords)

    # --- the end of a step --------------------------------------------------------------------------------------------

    def _before_optimizer_step(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any) -> None:
        if is_tracing():
            self._graphs.hooks.step(optimizer.param_groups, after=False)
            return
        self._graphs.end_step()
        self._inside_step = True
        if _skipped_inside(optimizer):
            return
        if id(optimizer) in self._stepped:
            self._end_step()  # the others do not step this time
        if self._action.raises:
            # What a device found in the step before has arrived: it is told before this step changes a weight.
            self._closing.settle()
            self._action.tell(self._closing.untold())
        if not self._recording:
            return
        self._abandonment.before_update()
        names = self._names_of(optimizer)
        if not _has_closure(arguments, keywords):
            self._parameters.read_gradients(_scale_left_over(optimizer), names)
            if self._action.raises and self._is_nonfinite():
                # Before the weights are touched: whoever catches the error still has good ones.
                self._end_step(at_once=True)
        self._parameters.before_update(names if names is not None else self._names_in(optimizer))

    def _is_nonfinite(self) -> bool:
        offenders = self._outputs.offenders
        found = offenders.first is not None or offenders.gradient is not None
        judged = any(isinstance(rule, NonFinite) for rule in self._judge.rules)
        return judged and (found or self._parameters.gradients_nonfinite())

    def _after_optimizer_step(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any) -> None:
        if is_tracing():
            self._graphs.hooks.step(optimizer.param_groups, after=True)
            return
        self._inside_step = False
        if optimizer not in self._targets.optimizers.values():
            return  # another one has taken its place
        if _skipped_inside(optimizer):
            return  # nothing was updated: the step goes on
        self._stepped.add(id(optimizer))
        self._abandonment.updated()
        if self._recording:
            names = self._names_of(optimizer)
            if _has_closure(arguments, keywords):
                # The closure ran backward inside the step; its last gradients are still there.
                self._parameters.read_gradients(None, names)
            if names is not None:
                self._parameters.read_values(names)
        if self._abandonment.all_are_through(self._stepped):
            self._end_step()

    def _end_step(self, *, at_once: bool = False) -> None:
        """End the step and begin the next; act on findings last, since that may raise."""
        if self._recording:
            self._learn_the_mode()
        self._abandonment.open.completed()
        self._abandonment.skips.ended()
        findings = self._ended("the optimizer's step", at_once=at_once)
        self.step += 1
        self._begin_step()
        self._action.tell(findings)

    def _names_in(self, optimizer: torch.optim.Optimizer) -> Collection[str]:
        """The watched parameters that an optimizer updates."""
        held = parameters_of(optimizer)
        return {name for name, parameter in self._watched_parameters().items() if id(parameter) in held}

    def _names_of(self, optimizer: torch.optim.Optimizer) -> Collection[str] | None:
        """The parameters read around an optimizer's step: all with a single optimizer, its own with several."""
        return None if len(self._targets.optimizers) == 1 else self._names_in(optimizer)

    def _end_open_call(self) -> None:
        """Without an optimizer the next call of the model, or closing, ends a step."""
        if self._call_open:
            findings = self._ended("the end of a step")
            self.step += 1
            self._call_open = False
            self._action.tell(findings)

    def _ended(self, place: str, *, at_once: bool = False, abandoned: bool = False) -> list[Finding]:
        """Hand the step over if it was recorded; returns the findings to be told now."""
        recorded, self._recording = self._recording, False
        if not recorded and not self._closing.busy:
            return []
        step = missed = None
        if recorded:
            try:
                step = self._read_end(place, abandoned=abandoned)
            except Exception as error:
                # It must not keep the next step from beginning.
                self._guard.report(place, error)
                missed = (self.step, error)
        return self._closing.end(step, at_once=at_once, missed=missed)

    def _read_end(self, place: str, *, abandoned: bool) -> RecordedStep:
        """Read what can be read only now that the step has ended."""
        if abandoned:
            self._abandonment.read_gradients()
        self._parameters.read_values()
        optimizers = self._targets.optimizers
        if "optimizer_state" in self._signals:
            self._optimizer_state.read(optimizers, self._watched_parameters())
        log_learning_rates(self.step, optimizers, self._scalars["learning_rates"])
        return RecordedStep(
            self.step,
            place,
            self._outputs,
            self._parameters,
            self._raw,
            self._optimizer_state,
            self._pending,
            self._losses.take(),
            learning_rates(optimizers) if optimizers else None,
            self._gradients_kept(),
            self._reduction.take_shards(),
            {signal: series.step for signal, series in self._histograms.items()},
            self._abandonment.skips.facts(),
            abandoned,
            self._abandonment.begins_late or (self._eval_calls and not self._outputs.ran),
        )

    def _gradients_kept(self) -> bool | Numbers | None:
        """Whether gradients were added onto those of the last step, which one optimizer has used whole."""
        kept = self._reset.kept() if len(self._targets.optimizers) == 1 else None
        return self._statistics.numbers([kept]) if isinstance(kept, torch.Tensor) else kept

    @property
    def skipped(self) -> int:
        """Steps that were skipped: left out by a gradient scaler, or left by the loop before an optimizer stepped."""
        return self._abandonment.skips.skipped

    def _settle(self) -> None:
        self._closing.settle()
        self._evaluation.settle()

    def ranks(self, signal: str, name: str) -> list[Summary | None]:
        """What each rank had of a tensor in the last recorded step, in the order of ranks; None for one without it.

        With one rank, or ``ranks="local"``, the list has this rank's summary alone. A rank holds its own batch of an
        output, its shard of a sharded parameter, its copy of any other.
        """
        latest = self.latest(signal, name)
        return list(self._reduction.latest.get((signal, name), [latest]))

    # --- the user's side ----------------------------------------------------------------------------------------------

    def log_loss(self, loss: float | torch.Tensor, name: str = "loss") -> None:
        """Tell the monitor a loss of this step, so that findings can say whether the run learns.

        Parameters
        ----------
        loss : float or torch.Tensor
            One number. A tensor on a device travels with the numbers of its step, so that nothing waits for it.
        name : str
            Only the series called ``"loss"`` decides whether a run learns; others are kept beside it.
        """
        try:
            self._losses.log(self.step, name, loss)
        except Exception as error:
            self._guard.report("log_loss", error)

    def begin_batch(self, **inputs: object) -> None:
        """Tell the monitor that a micro-batch begins, where the loop does not call the watched model itself.

        A loop that calls ``model(...)`` need not: the call says it. One that calls only the model's parts (a
        LightningModule's ``training_step``, say) does, or every micro-batch would count as a further call of each part.

        Parameters
        ----------
        **inputs
            What goes in, under the names by which a finding shall call it; tensors, however nested.
        """
        try:
            if self._listens(self._clock):
                self._outputs.forward_begins(self._clock, (), inputs)
        except Exception as error:
            self._guard.report("begin_batch", error)

    def _add_loss(self, step: int, name: str, value: float) -> None:
        if name == "loss":
            self._judge.losses.log(step, value)
        self._scalars["losses"].setdefault(name, ScalarLog()).add(step, value)

    @property
    def eval_schedule(self) -> Schedule | None:
        """Which calls of the model in eval mode are recorded, counted from 0; None for none."""
        return self._evaluation.schedule

    @eval_schedule.setter
    def eval_schedule(self, schedule: Schedule | None) -> None:
        self._evaluation.set_schedule(schedule)

    def state_dict(self) -> dict[str, int]:
        """What a resumed run needs to keep the schedule's phase: pass it to ``load_state_dict``."""
        return {"version": 1, "step": self.step, "eval_calls": self._evaluation.calls}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on counting where another run stopped; call it between steps.

        Raises
        ------
        ValueError
            For a state of another version.
        """
        if state.get("version") != 1:
            raise ValueError(f"state must be of version 1, got {state.get('version')!r}")
        self.step = self._first_step = int(state["step"])
        self._evaluation.calls = int(state["eval_calls"])
        if self._targets.optimizers:
            self._begin_step()

    def close(self) -> None:
        """Remove every hook; what was recorded stays readable. Closing twice is allowed.

        The last step of an accelerator is read, and its findings are told, here.
        """
        if self._closed:
            return
        self._guard.closed_by = threading.get_ident()
        self._graphs.close()
        abandoned: list[Finding] = []
        if self._reduction.active and self._targets.optimizers:
            abandoned = self._closing.close_held()
            is_open = self._recording and self._outputs.ran and not self._graphs.stays
            self._reduction.part(self.step, self._outputs.offenders if is_open else None)
        if self._abandonment.unfinished:
            self._abandonment.skips.skip(self.step, by_scaler=False)
            abandoned += self._ended("the unfinished step", abandoned=True)
            self.step += 1
        self._abandonment.stop()
        self._closed = True
        try:
            self._end_open_call()
        finally:
            self._recording = False
            _remove((self._permanent,))
            self._step_hooks.detach()
            self._reset.disarm()
            self._evaluation.set_schedule(None)
            self._parameters.forget()
            self._outputs.begin()
            self._found, self._found_in = {}, None
            self._finder.forget()
            self._evaluation.settle()
            findings = [*abandoned, *self._closing.finish()]
            self._reduction.close()
        self._action.tell(findings)

    def watches_alike(self, targets: Targets, settings: Mapping[str, Any]) -> bool:
        """Whether this monitor is open and records what one made with these targets and settings would record."""
        return (
            not self._closed
            and self._targets.are(targets)
            and all(
                settings[name] == now
                for name, now in {
                    "schedule": self.schedule,
                    "eval_schedule": self.eval_schedule,
                    "modules": self._module_choice,
                    "signals": self._signals,
                    "collections": self._collections,
                    "histograms": bool(self._histograms),
                }.items()
            )
        )

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        if self._call_open or self._closing.held is not None:
            # The other ranks may still run, and this one must not wait for them now.
            self._reduction.leave("the loop ended with an error on this rank")
        else:
            self._reduction.close("its loop ended with an error")
        with contextlib.suppress(FindingError):  # what the loop raised goes first; findings can still be read
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "watching"
        models = ", ".join(
            f"{name}: {type(model).__name__}" if name else type(model).__name__
            for name, model in self._targets.models.items()
        )
        return (
            f"<Monitor {state} {models}: {len(self._modules)} modules, step {self.step}, "
            f"{len(self._judge.findings)} findings, {len(self._guard.errors)} errors>"
        )


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
