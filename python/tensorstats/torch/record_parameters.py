"""Records parameters, their gradients and their updates around one optimizer step; knows no module output."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from tensorstats._core import Histogram, Summary
from tensorstats.rules import Offender, ParameterView
from tensorstats.torch.device import PendingSummary
from tensorstats.torch.device_histogram import LogTable
from tensorstats.torch.guard import Guard
from tensorstats.torch.modules import ROOT_NAME
from tensorstats.torch.states import Statistics, first_nonfinite, is_countable

__all__ = ["ParameterRecorder", "ParameterStep"]


@dataclass(slots=True)
class ParameterStep:
    """One parameter within the current step."""

    name: str
    parameter: nn.Parameter
    before: torch.Tensor | None = None  # its value before the step, later the update
    has_gradient: bool = False
    value: Summary | None = None
    gradient: Summary | None = None
    update: Summary | None = None
    histograms: dict[str, Histogram | LogTable] = field(default_factory=dict)
    initial: Summary | None = None  # before the step, at the first recorded one


class ParameterRecorder:
    """Reads gradients right before the optimizer's step, and values and updates right after it."""

    def __init__(
        self, statistics: Statistics, guard: Guard, signals: frozenset[str], *, histograms: bool = False
    ) -> None:
        self._statistics = statistics
        self._guard = guard
        self._histograms = histograms
        self._signals = signals
        self._buffers: dict[str, torch.Tensor] = {}
        self._seen: set[str] = set()
        self.steps: dict[str, ParameterStep] = {}
        self._pending: list[tuple[PendingSummary, ParameterStep, str]] = []

    def begin(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Start a step with these parameters."""
        self.steps = {name: ParameterStep(name, parameter) for name, parameter in parameters.items()}
        self._pending = []

    def forget(self) -> None:
        """Let go of all parameters and of the memory of the snapshots."""
        self.begin({})
        self._buffers.clear()

    def read_gradients(self, scale: float | None = None) -> None:
        """Summarise what is in ``.grad`` now, divided by `scale` if a gradient scaler left that to the optimizer."""
        for step in self.steps.values():
            gradient = step.parameter.grad
            if gradient is not None:
                self.read_gradient(step.name, gradient if scale is None else gradient / scale)

    def read_gradient(self, name: str, gradient: torch.Tensor) -> None:
        """Summarise one gradient; the latest one counts."""
        step = self.steps.get(name)
        if step is not None:
            step.has_gradient = True
            if "gradients" in self._signals:
                self._count(step, "gradient", gradient)

    def snapshot(self, identities: Container[int] | None = None) -> None:
        """Copy the parameters about to be updated (all, or those with these ids) into buffers kept between steps."""
        if "updates" not in self._signals:
            return
        for step in self.steps.values():
            parameter = step.parameter
            chosen = identities is None or id(parameter) in identities
            if not chosen or not parameter.requires_grad or not is_countable(parameter):
                continue
            buffer = self._buffers.get(step.name)
            if buffer is None or buffer.shape != parameter.shape or buffer.device != parameter.device:
                # The difference of two 16-bit numbers is exact in 32 bits, not in 16.
                narrow = parameter.is_floating_point() and parameter.element_size() < 4
                dtype = torch.float32 if narrow else parameter.dtype
                self._buffers[step.name] = buffer = torch.empty_like(parameter, dtype=dtype, requires_grad=False)
            with torch.no_grad():
                buffer.copy_(parameter)
            if step.name not in self._seen:
                self._seen.add(step.name)
                self._count(step, "initial", parameter)
            step.before = buffer

    def read_values(self) -> None:
        """Summarise parameters and updates after the step."""
        for step in self.steps.values():
            if "parameters" in self._signals or "updates" in self._signals:
                self._count(step, "value", step.parameter)
            if step.before is not None:
                with torch.no_grad():
                    update = torch.sub(step.parameter, step.before, out=step.before)
                self._count(step, "update", update)

    def _count(self, step: ParameterStep, what: str, tensor: torch.Tensor) -> None:
        if not is_countable(tensor):
            kind = type(tensor).__name__
            self._guard.note(
                f"{what} of {step.name}", f"a {kind}, {tensor.layout}, {tensor.dtype} tensor is not counted"
            )
            return
        if self._histograms and what != "initial":
            step.histograms[what] = self._statistics.histogram(tensor)
        summary = self._statistics.summary(tensor)
        if isinstance(summary, PendingSummary):
            self._pending.append((summary, step, what))
        else:
            setattr(step, what, summary)

    def settle(self) -> None:
        """Bring over what is still on devices, in one copy."""
        pending, self._pending = self._pending, []
        settled = self._statistics.settle([summary for summary, _, _ in pending])
        for (_, step, what), (state, _) in zip(pending, settled, strict=True):
            setattr(step, what, state)

    def find_offender(self, views: Sequence[ParameterView]) -> Offender | None:
        """The gradient that turned non-finite first on the way back, or else the parameter that did.

        Gradients flow from the last module to the first, so the one closest to the loss is nearest to the cause.
        """
        for view in reversed(views):
            if view.gradient is not None and view.gradient.nonfinite_count:
                origin = (
                    "Produced in the backward pass: all watched outputs of this step are finite, and this is the "
                    "gradient closest to the loss that is not."
                )
                return self._offender(
                    view.name, "gradient", view.gradient, self.steps[view.name].parameter.grad, origin
                )
        for view in views:
            if view.value is not None and view.value.nonfinite_count:
                origin = "Produced by the optimizer's step: outputs and gradients of this step are finite."
                return self._offender(view.name, "parameter", view.value, self.steps[view.name].parameter, origin)
        return None

    def _offender(self, name: str, signal: str, summary: Summary, tensor: torch.Tensor | None, origin: str) -> Offender:
        found = None if tensor is None else first_nonfinite(tensor)
        _, index, value = found if found is not None else (0, None, "nan" if summary.nan_count else "inf")
        return Offender(name, signal, summary.nonfinite_count, summary.count, index, value, origin)

    def parameters_nonfinite(self) -> bool:
        """Whether any parameter holds a NaN or an infinity after the step."""
        return any(step.value is not None and step.value.nonfinite_count > 0 for step in self.steps.values())

    def views(self, rates: Mapping[int, float | None] | None, ran: Mapping[str, int]) -> list[ParameterView]:
        """What the rules see, in the order in which the modules ran; in that of definition if some were not seen to.

        `rates` are the learning rates by the identity of the parameter, `ran` the place of every module that ran.
        """
        views = [
            ParameterView(
                name=step.name,
                module=step.name.rpartition(".")[0] or ROOT_NAME,
                dimensions=step.parameter.dim(),
                dtype=str(step.parameter.dtype).removeprefix("torch."),
                requires_grad=step.parameter.requires_grad,
                in_optimizer=rates is not None and id(step.parameter) in rates,
                learning_rate=None if rates is None else rates.get(id(step.parameter)),
                has_gradient=step.has_gradient,
                value=step.value,
                gradient=step.gradient,
                update=step.update,
                norm_before=float("nan") if step.initial is None else step.initial.l2,
            )
            for step in self.steps.values()
        ]
        if all(view.module in ran for view in views):
            views.sort(key=lambda view: ran[view.module])
        return views
