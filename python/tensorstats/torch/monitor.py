"""The monitor of a training loop: when a step begins and ends; computes no number and judges none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import torch
from torch import nn

from tensorstats.rules import Finding, Judge, Rule, StepView
from tensorstats.torch.guard import Guard
from tensorstats.torch.modules import ModuleChoice, choose_modules
from tensorstats.torch.reading import Reading
from tensorstats.torch.record import NO_EXTRAS
from tensorstats.torch.record_outputs import OutputRecorder
from tensorstats.torch.record_parameters import ParameterRecorder
from tensorstats.torch.reset import ResetWatch
from tensorstats.torch.schedule import Schedule
from tensorstats.torch.states import Backend, Statistics, finished

__all__ = ["Monitor"]


class Monitor(Reading):
    """Watches one model while it is trained. Made by :func:`tensorstats.watch`.

    With an optimizer a step lasts from the end of one ``optimizer.step()`` to the end of the next; without one, from
    one call of the model in training mode to the next. Module hooks exist only during recorded steps, so the steps
    between cost next to nothing.

    Attributes
    ----------
    step : int
        Optimizer steps seen; without an optimizer, finished calls of the model in training mode.
    schedule : Schedule
        Which steps are recorded; may be replaced while running, from the next step on.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        *,
        schedule: Schedule,
        modules: ModuleChoice,
        signals: frozenset[str],
        rules: Iterable[Rule] | None,
        histograms: bool,
        on_finding: Callable[[Finding], object] | None,
        backend: Backend,
    ) -> None:
        self._modules = choose_modules(model, modules)
        guard = Guard()
        super().__init__(guard, Judge(rules), {name: type(module).__name__ for name, module in self._modules.items()})
        self.schedule = schedule
        self._model = model
        self._optimizer = optimizer
        self._signals = signals
        self._on_finding = on_finding
        self._all_parameters = modules is None
        statistics = Statistics(backend)
        self._outputs = OutputRecorder(model, statistics, guard, histograms=histograms)
        self._parameters = ParameterRecorder(statistics, guard, signals, histograms=histograms)
        self._reset = ResetWatch(guard)
        self._device_losses: list[tuple[int, torch.Tensor]] = []
        self._recording = False
        self._call_open = False  # without an optimizer: a step has begun
        self._previous: int | None = None
        self._closed = False
        self._permanent: list[Any] = []
        self._temporary: list[Any] = []
        self._attach()

    # --- hooks --------------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        hook = self._guard.hook
        if self._optimizer is not None:
            self._permanent = [
                self._optimizer.register_step_pre_hook(hook("the optimizer's step", self._before_optimizer_step)),
                self._optimizer.register_step_post_hook(hook("the optimizer's step", self._after_optimizer_step)),
            ]
            self._begin_step()
        else:
            called = hook("the call of the model", self._called_without_optimizer)
            self._permanent = [self._model.register_forward_pre_hook(called, with_kwargs=True)]

    def _attach_temporary(self) -> None:
        """Hooks that exist only while a step is recorded."""
        hook = self._guard.hook
        if self._optimizer is not None:
            called = hook("the call of the model", self._called)
            self._temporary.append(self._model.register_forward_pre_hook(called, with_kwargs=True))
        else:
            for name, parameter in self._watched_parameters().items():
                if parameter.requires_grad and parameter.is_leaf:
                    accumulated = hook(f"the gradient of {name}", self._gradient_hook(name))
                    self._temporary.append(parameter.register_post_accumulate_grad_hook(accumulated))
        if "outputs" in self._signals:
            for name, module in self._modules.items():
                returned = hook(f"the output of {name}", self._output_hook(name))
                self._temporary.append(module.register_forward_hook(returned, with_kwargs=True))

    def _detach_temporary(self) -> None:
        for handle in self._temporary:
            handle.remove()
        self._temporary.clear()
        self._reset.disarm()

    def _output_hook(self, name: str) -> Callable[..., None]:
        def returned(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: object) -> None:
            if self._listens():
                self._outputs.record(name, module, arguments, keywords, output)

        return returned

    def _gradient_hook(self, name: str) -> Callable[..., None]:
        """Without an optimizer a gradient is read whenever a backward pass has added to it; the last reading counts."""

        def accumulated(parameter: torch.Tensor) -> None:
            if self._recording and parameter.grad is not None:
                self._parameters.read_gradient(name, parameter.grad)

        return accumulated

    def _listens(self) -> bool:
        """Whether a forward pass counts now: training mode, no trace, no recomputation by activation checkpointing."""
        if not self._recording or not self._model.training or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return False
        # Inside a backward pass every autograd task has an id; a module called there is being recomputed.
        return torch._C._current_graph_task_id() == -1

    def _watched_parameters(self) -> dict[str, nn.Parameter]:
        """Parameters of the watched modules under their first name; lazy ones have no values yet."""
        chosen: set[int] | None = None
        if not self._all_parameters:
            chosen = {id(parameter) for module in self._modules.values() for parameter in module.parameters()}
        return {
            name: parameter
            for name, parameter in self._model.named_parameters()
            if (chosen is None or id(parameter) in chosen) and not nn.parameter.is_lazy(parameter)
        }

    # --- the beginning of a step --------------------------------------------------------------------------------------

    def _begin_step(self) -> None:
        """Decide whether the step that starts now is recorded."""
        self._recording = self.schedule.selects(self.step) and not self._closed
        if not self._recording:
            self._detach_temporary()
            return
        self._outputs.begin()
        self._parameters.begin(self._watched_parameters())
        if not self._temporary:
            self._attach_temporary()
        if self._optimizer is None:
            self._parameters.snapshot()
        else:
            self._reset.arm(parameter for group in self._optimizer.param_groups for parameter in group["params"])

    def _called(self, _module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if self._listens():
            self._outputs.forward_begins(arguments, keywords)

    def _called_without_optimizer(
        self, _module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        if not self._model.training or torch.compiler.is_compiling() or torch._C._current_graph_task_id() != -1:
            return
        self._end_open_call()
        self._call_open = True
        self._begin_step()
        if self._listens():
            self._outputs.forward_begins(arguments, keywords)

    # --- the end of a step --------------------------------------------------------------------------------------------

    def _before_optimizer_step(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any) -> None:
        if not self._recording or _skipped_inside(optimizer):
            return
        if not _has_closure(arguments, keywords):
            self._parameters.read_gradients(_scale_left_over(optimizer))
        self._parameters.snapshot(self._rates())

    def _after_optimizer_step(self, optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any) -> None:
        if _skipped_inside(optimizer):
            return  # nothing was updated: the step goes on
        if self._recording:
            if _has_closure(arguments, keywords):
                # The closure ran backward inside the step; its last gradients are still there.
                self._parameters.read_gradients()
            self._end_recorded_step("the optimizer's step")
        self.step += 1
        self._begin_step()

    def _end_open_call(self) -> None:
        """Without an optimizer the next call of the model, or closing, ends a step."""
        if self._call_open:
            if self._recording:
                self._end_recorded_step("the end of a step")
            self.step += 1
            self._call_open = False

    def _end_recorded_step(self, place: str) -> None:
        """Keep and judge the step; an error in here must not keep the next step from beginning."""
        try:
            self._finish()
        except Exception as error:
            self._guard.report(place, error)
        self._recording = False

    def _finish(self) -> None:
        self._parameters.read_values()
        self._outputs.settle()
        self._parameters.settle()
        losses, self._device_losses = self._device_losses, []
        for step, loss in losses:
            self._judge.losses.log(step, float(loss))
        view = self._view()
        if "outputs" in self._signals and not self._outputs.ran and any(p.has_gradient for p in view.parameters):
            message = (
                "no watched module was seen to run in a recorded step; torch.compile runs modules without these hooks"
            )
            self._guard.note("outputs", message)
        self._keep(view)
        self._previous = self.step
        for finding in self._judge.judge(view):
            if self._on_finding is not None:
                try:
                    self._on_finding(finding)
                except Exception as error:
                    self._guard.report("on_finding", error)

    def _view(self) -> StepView:
        """The step as the rules see it."""
        rates = None if self._optimizer is None else self._rates()
        parameters = self._parameters.views(rates, self._outputs.modules_in_order())
        return StepView(
            step=self.step,
            previous_step=self._previous,
            outputs=self._outputs.views(),
            parameters=parameters,
            offender=(
                self._outputs.offender or self._judge.losses.offender() or self._parameters.find_offender(parameters)
            ),
            parameters_nonfinite=self._parameters.parameters_nonfinite(),
            gradients_kept=self._reset.kept(),
            has_optimizer=self._optimizer is not None,
        )

    def _rates(self) -> dict[int, float | None]:
        """The learning rate of every parameter in the optimizer, by identity."""
        assert self._optimizer is not None
        rates: dict[int, float | None] = {}
        for group in self._optimizer.param_groups:
            rate = group.get("lr")
            known = float(rate) if isinstance(rate, (int, float)) else None
            rates.update((id(parameter), known) for parameter in group["params"])
        return rates

    def _keep(self, view: StepView) -> None:
        """Append the step to series and totals."""
        for output, seen in zip(self._outputs.outputs.values(), view.outputs, strict=True):
            track = self._track("outputs", output.name, output.module)
            track.units = seen.units
            track.add(self.step, seen.summary, (self._outputs.dead_fraction(output), seen.saturated_fraction, math.nan))
            for histogram in output.histograms:
                track.add_histogram(finished(histogram))
        for parameter in view.parameters:
            histograms = self._parameters.steps[parameter.name].histograms
            for signal, what, summary in (
                ("parameters", "value", parameter.value),
                ("gradients", "gradient", parameter.gradient),
                ("updates", "update", parameter.update),
            ):
                if summary is not None and signal in self._signals:
                    track = self._track(signal, parameter.name, parameter.module)
                    extras = (math.nan, math.nan, parameter.update_ratio) if signal == "updates" else NO_EXTRAS
                    track.add(self.step, summary, extras)
                    if what in histograms:
                        track.add_histogram(finished(histograms[what]))

    # --- the user's side ----------------------------------------------------------------------------------------------

    def log_loss(self, loss: float | torch.Tensor) -> None:
        """Tell the monitor the loss of this step, so that findings can say whether the run learns.

        Parameters
        ----------
        loss : float or torch.Tensor
            One number. A tensor on a device is read at the end of the step, so that nothing waits for it now.
        """
        try:
            if not isinstance(loss, torch.Tensor):
                self._judge.losses.log(self.step, float(loss))
            elif loss.device.type == "cpu":
                self._judge.losses.log(self.step, float(loss.detach()))
            else:
                self._device_losses.append((self.step, loss.detach().clone()))
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
            if self._listens():
                self._outputs.forward_begins((), inputs)
        except Exception as error:
            self._guard.report("begin_batch", error)

    def close(self) -> None:
        """Remove every hook; what was recorded stays readable. Closing twice is allowed."""
        if self._closed:
            return
        self._end_open_call()
        self._closed = True
        self._recording = False
        for handle in self._permanent:
            handle.remove()
        self._permanent.clear()
        self._detach_temporary()
        self._parameters.forget()
        self._outputs.begin()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "watching"
        return (
            f"<Monitor {state} {type(self._model).__name__}: {len(self._modules)} modules, step {self.step}, "
            f"{len(self.findings)} findings, {len(self._guard.errors)} errors>"
        )


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
