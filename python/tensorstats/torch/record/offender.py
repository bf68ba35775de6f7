"""Traces the first NaN or infinity of a step to its place: input, module, gradient, parameter; reads no statistics.

Summaries say at the end of every call whether there is one, so nothing here runs before something is wrong.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import nn

from tensorstats._core import Summary
from tensorstats.device.backend import first_nonfinite, unravel
from tensorstats.rules import Offender, ParameterView
from tensorstats.torch.attach.masks import MaskViews
from tensorstats.torch.attach.modules import argument_names
from tensorstats.torch.attach.outputs import tensors_in
from tensorstats.torch.record.collect import TensorStep

__all__ = [
    "ModelInputs",
    "StepOffenders",
    "gradient_offender",
    "of_what_was_counted",
    "output_offender",
    "stands_still",
    "step_offender",
]


# Where a module's own input cannot be looked at: on a device, whose tensors are gone by then, and in compiled code.
UNSEEN_INPUT = (
    "Produced here, or by an operation right before it: the model's input and every watched module before it were "
    "finite."
)


# What is known of what came before a module that passed one on: whether the model's input was seen, and whether no
# other watched module ran before it.
_BEFORE = {
    (True, True): ", while the model's input was finite; an operation before this module made it.",
    (True, False): ", while the model's input and every watched module before it were finite; the operation between "
    "them made it.",
    (False, True): ", and no watched module ran before it: it was in the data, or an operation on them made it.",
    (False, False): ", while every watched module before it was finite: an operation between them made it, or data "
    "that came in there.",
}

# Index and name of the first non-finite value of a parameter's "gradient" or of the "parameter", as far as known.
Locate: TypeAlias = Callable[[str, str], tuple[tuple[int, ...] | None, str | None]]


class ModelInputs:
    """The tensors given to the model in this forward pass, held weakly."""

    def __init__(self) -> None:
        self._given: list[tuple[str, weakref.ref[torch.Tensor]]] = []
        self.known = False  # a loop that calls parts of the model alone shows nothing of what it gives to them

    def begin(self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> list[tuple[str, Any]]:
        """Remember them; returns each tensor under the name it has in the finding."""
        names = argument_names(model) if arguments else []
        keys = [names[i] if i < len(names) else f"argument {i}" for i in range(len(arguments))]
        given = [
            (("input" if key == "input" else f"input {key}") + path, tensor)
            for key, value in zip([*keys, *keywords], [*arguments, *keywords.values()], strict=True)
            for path, tensor in tensors_in(value)
        ]
        self._given = [(name, weakref.ref(tensor)) for name, tensor in given]
        self.known = True
        return given

    def clear(self) -> None:
        """Forget them."""
        self._given = []
        self.known = False

    def offender(
        self, module: str, module_type: str, masks: MaskViews, *, blames_masks: bool = False
    ) -> Offender | None:
        """The first of them that holds a NaN or an infinity where it counts; `module` is the first to show it.

        One that holds -inf alone, as masks do, only with `blames_masks`.
        """
        for name, reference in self._given:
            tensor = reference()
            found = None if tensor is None else first_nonfinite(tensor, masks.of_unnamed(tensor))
            if tensor is not None and found is not None and _is_masking(tensor) <= blames_masks:
                count, index, value = found
                origin = f"It was there before the first layer; {module} ({module_type}) is the first to show it."
                return Offender(
                    name,
                    "input",
                    count,
                    tensor.numel(),
                    index,
                    value,
                    origin,
                    module=module,
                    masking=_is_masking(tensor),
                )
        return None


class StepOffenders:
    """The first non-finite tensors of one step, forwards and backwards; what comes from devices is told here later."""

    __slots__ = ("first", "given", "gradient", "masking")

    def __init__(self) -> None:
        self.first: Offender | None = None  # an input or an output
        self.given: Offender | None = None  # an input on a device: to blame once something that follows shows it
        self.masking = ""  # the input on a device that holds -inf alone
        self.gradient: Offender | None = None  # with respect to an output

    def input_checker(self, name: str, shape: tuple[int, ...]) -> Callable[[Any, int | None], None]:
        """What to call with the summary of an input of the model."""

        def check(summary: Summary, first: int | None) -> None:
            if self.given is None and (summary.nan_count or summary.posinf_count):
                origin = "It was there before the first layer."
                self.given = _offender_from(summary, first, shape, name, "input", origin)
            elif summary.neginf_count:
                self.masking = self.masking or name

        return check

    def output_found(self, step: TensorStep, summary: Summary, first: int | None) -> None:
        """An output is not finite."""
        if self.first is None and self.given is not None:
            self.first = self.given
        elif self.first is None:
            shape = tuple(summary.shape or ())
            origin = UNSEEN_INPUT
            if self.masking:
                origin = (
                    f"Produced here, or by an operation right before it: of what the model was given, {self.masking} "
                    "holds -inf, as masks do, and nothing else that is not finite; every watched module before it was "
                    "finite."
                )
            offender = _offender_from(summary, first, shape, step.name, "output", origin)
            self.first = replace(offender, call=step.call, module=step.place.name)

    def gradient_found(self, step: TensorStep, summary: Summary, first: int | None) -> None:
        """A gradient with respect to an output is not finite."""
        if self.gradient is None:
            origin = (
                "Produced in the backward pass: all watched outputs of this step are finite, and this is the first "
                "gradient on the way back that is not."
            )
            offender = _offender_from(summary, first, tuple(summary.shape or ()), step.name, "output gradient", origin)
            self.gradient = replace(offender, call=step.call, module=step.place.name, backward=True)


def output_offender(
    name: str,
    place: tuple[str, str],
    call: int,
    module: nn.Module,
    tensor: torch.Tensor,
    inputs: tuple[tuple[Any, ...], dict[str, Any]] | None,
    model_inputs: ModelInputs,
    masks: MaskViews,
    *,
    first: bool = False,
) -> Offender | None:
    """The first non-finite output of a step: from the model's input, the module's input, its weights, or itself.

    `first` says that no other watched module ran before it in this step.
    """
    found = first_nonfinite(tensor, masks.of(name, tensor))
    if found is None:
        return None
    from_input = model_inputs.offender(*place, masks, blames_masks=inputs is not None and _is_given_minus_inf(*inputs))
    if from_input is not None:
        return from_input
    count, index, value = found
    before = _BEFORE[model_inputs.known, first]
    origin, argument, weight = (UNSEEN_INPUT, None, None) if inputs is None else _origin(module, inputs, masks, before)
    return Offender(
        name,
        "output",
        count,
        tensor.numel(),
        index,
        value,
        origin,
        call=call,
        module=place[0],
        argument=argument,
        weight=weight,
        produced=argument is None,
        masking=_is_masking(tensor),
    )


def _origin(
    module: nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]], masks: MaskViews, before: str
) -> tuple[str, str | None, str | None]:
    """Whether a module made its non-finite output or passed it on, from which argument, or has it from which weight."""
    arguments, keywords = inputs
    names = argument_names(module)
    keys = [names[i] if i < len(names) else f"argument {i}" for i in range(len(arguments))]
    masked = ""
    for key, given in zip([*keys, *keywords], [*arguments, *keywords.values()], strict=True):
        for path, tensor in tensors_in(given):
            found = first_nonfinite(tensor, masks.of_unnamed(tensor))
            if found is not None and _is_masking(tensor):
                masked = masked or f"{key}{path}, index {list(found[1])}"
            elif found is not None:
                return (
                    (
                        f"Passed on: the input of this module already held one ({key}{path}, index {list(found[1])})"
                        f"{before}"
                    ),
                    f"{key}{path}",
                    None,
                )
    if masked:
        return f"Produced here, of an input that holds -inf ({masked}) and is finite otherwise.", None, None
    for name, parameter in module.named_parameters():
        if first_nonfinite(parameter) is not None:
            return f"Produced here: the module's input is finite, but its own {name} already holds one.", None, name
    return "Produced here: the module's input and its own parameters are finite.", None, None


def _is_given_minus_inf(arguments: tuple[Any, ...], _keywords: dict[str, Any]) -> bool:
    """Whether what a module works on, its first argument, holds -inf: as data then, not as a mask beside it."""
    return any(first_nonfinite(tensor) is not None for given in arguments[:1] for _, tensor in tensors_in(given))


def _is_masking(tensor: torch.Tensor) -> bool:
    """Whether what is not finite in a tensor is -inf alone: so that an exponential gives 0 there, on purpose.

    Attention masks and masked logits hold it. A module that makes a NaN of one (a row that is masked as a whole) made
    it itself.
    """
    with torch.no_grad():
        values = tensor.detach()
        if values.element_size() == 1:
            values = values.to(torch.float32)
        return not bool((torch.isnan(values) | torch.isposinf(values)).any())


def _offender_from(
    summary: Summary, first: int | None, shape: tuple[int, ...], where: str, signal: str, origin: str
) -> Offender:
    """An offender whose tensor is gone: only its numbers are left."""
    value = "nan" if summary.nan_count else ("inf" if summary.posinf_count else "-inf")
    index = None if first is None else unravel(first, shape)
    masking = summary.neginf_count == summary.nonfinite_count
    return Offender(where, signal, summary.nonfinite_count, summary.count, index, value, origin, masking=masking)


# What is said where nothing of what comes before it in a step was counted.
_UNSEEN = {
    "loss": "What the modules returned in its step was not counted.",
    "gradient": "It is the closest to the loss of those that are not finite. Outputs were not counted, so that the "
    "forward pass may have made it.",
    "output gradient": "It is the first on the way back that is not finite. Outputs were not counted, so that the "
    "forward pass may have made it.",
    "parameter": "Gradients were not counted, so that they or the optimizer's step may have made it.",
}


def of_what_was_counted(offender: Offender, *, outputs: bool, gradients: bool, left_out: bool) -> Offender:
    """Say no more than that: whether any `outputs` and `gradients` were, and whether something was left out of them."""
    origin = offender.origin
    if offender.standing:
        return offender
    if not (gradients if offender.signal == "parameter" else outputs) and offender.signal in _UNSEEN:
        return replace(offender, origin=_UNSEEN[offender.signal], unseen=True)
    if not outputs:
        origin = origin.replace("outputs and gradients", "gradients")
    if left_out:
        origin = f"{origin.replace('watched', 'counted')} (What was not counted is named in monitor.errors.)"
    return replace(offender, origin=origin)


def gradient_offender(
    name: str, module: str, call: int, gradient: torch.Tensor, where: torch.Tensor | None
) -> Offender | None:
    """The first gradient with respect to an output, on the way back, that is not finite."""
    found = first_nonfinite(gradient, where)
    if found is None:
        return None
    count, index, value = found
    origin = (
        "Produced in the backward pass, after this module: all watched outputs of this step are finite, and this is "
        "the first gradient on the way back that is not; the backward of what uses this output, or the loss, made it."
    )
    return Offender(
        name, "output gradient", count, gradient.numel(), index, value, origin, call=call, module=module, backward=True
    )


def step_offender(views: Sequence[ParameterView], locate: Locate) -> Offender | None:
    """The gradient that turned non-finite first on the way back, or else the parameter that did.

    Gradients flow from the last module to the first, so the one closest to the loss is nearest to the cause.
    """
    for view in reversed(views):
        if view.gradient is not None and view.gradient.nonfinite_count:
            origin = (
                "Produced in the backward pass: all watched outputs of this step are finite, and this is the gradient "
                "closest to the loss that is not."
            )
            return _parameter_offender(view, "gradient", view.gradient, locate, origin)
    bad = [(view, view.value) for view in views if view.value is not None and view.value.nonfinite_count]
    for view, value in bad:
        if not stands_still(view, views):
            origin = "Produced by the optimizer's step: outputs and gradients of this step are finite."
            return _parameter_offender(view, "parameter", value, locate, origin)
    for view, value in bad:
        origin = "It was so before the optimizer's step, which does not change this parameter."
        standing = _parameter_offender(view, "parameter", value, locate, origin)
        return replace(standing, weight=view.name, standing=True)
    return None


def stands_still(view: ParameterView, views: Sequence[ParameterView]) -> bool:
    """Whether an optimizer's step changed others, and cannot have changed this parameter."""
    if not any(other.in_optimizer and other.requires_grad for other in views):
        return False
    return not (view.in_optimizer and view.requires_grad) or not (
        view.has_gradient or not any(other.has_gradient for other in views)
    )


def _parameter_offender(view: ParameterView, signal: str, summary: Summary, locate: Locate, origin: str) -> Offender:
    offender = _offender_from(summary, None, (), view.name, signal, origin)
    index, value = locate(view.name, signal)
    return replace(
        offender,
        index=index,
        value=offender.value if value is None else value,
        module=view.module,
        backward=signal == "gradient",
    )
