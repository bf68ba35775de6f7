"""The checks on weights and what they do at the start: symmetric units, scale through the depth, dead units."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from tensorstats.preflight.checks.check import Check, Measurement, Skip, Subject
from tensorstats.preflight.subject.batch import Batch, leaves, map_tensors

__all__ = ["DeadAtStart", "LinearNetwork", "SaturatedAtStart", "ScaleThroughDepth", "SymmetricUnits"]

_LEARNING = frozenset({"overfit", "input-ignored", "generalises", "learning-rate"})


class SymmetricUnits(Check):
    """Units of one layer with the same weights, that training does not tell apart."""

    id = "symmetric-units"
    asks = "do the units of a layer differ after a little training?"
    why = "They compute the same and get the same gradient for ever: the layer is one unit wide."
    advice = "Draw the weights at random (torch does by default); constants are for biases."
    leads_to = _LEARNING | {
        "zero-gradient",
        "outputs-alike",
        "dead-at-start",
        "scale-through-depth",
        "initial-loss",
        "vanishing-gradient",
    }

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Count the weights whose units are all the same after the short training."""
        short = subject.short
        if len(short.curve.losses) < 2:
            raise Skip(f"no training was possible: {short.curve.stopped or 'the loss is not finite'}")
        called = {subject.name_of(call.weight) for call in subject.weight_calls()}
        alike = {name: zero for name, zero in short.alike.items() if name in called}
        moved = {name for name, ratio in short.curve.ratios.items() if ratio > 0}
        alike = {
            name: zero
            for name, zero in alike.items()
            if zero or name in moved or subject.first.gradients.get(name) is not None
        }
        names = ", ".join(list(alike)[:4])
        kind = "all weights 0" if alike and all(alike.values()) else "the same weights"
        where = next(iter(alike), "(model)").removesuffix(".weight")
        note = f"After {len(short.curve.losses)} steps all units of {names} still have {kind}."
        yield Measurement(where, len(alike), note)


class ScaleThroughDepth(Check):
    """Values that grow or shrink from layer to layer."""

    id = "scale-through-depth"
    asks = "do values keep their size through the depth?"
    default_limit = 50.0
    status = "warning"
    why = "Gradients grow or shrink with them, so that no rate suits all layers."
    advice = (
        "Draw weights with a deviation of sqrt(2 / inputs) before a ReLU, sqrt(1 / inputs) else, or add normalisation."
    )
    leads_to = frozenset(
        {
            "initial-loss",
            "vanishing-gradient",
            "saturated-at-start",
            "learning-rate",
            "overfit",
            "input-ignored",
            "network-is-linear",
            "outputs-alike",
        }
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the growth from the input of the first layer to that of any other, or its inverse.

        Inputs of layers, not outputs: what a branch adds may be small, or 0, at the start.
        """
        calls = subject.weight_calls()
        if len(calls) < 3:
            raise Skip("there are fewer than three layers with weights")
        start = calls[0].rms_in
        later = [call for call in calls[1:] if call.rms_in > 0]
        if start == 0 or not later:
            raise Skip("layers are fed zeros alone")
        large, small = max(later, key=lambda call: call.rms_in), min(later, key=lambda call: call.rms_in)
        growth, shrink = large.rms_in / start, start / small.rms_in
        note = f"What it is fed is {growth:.3g} times as large as the inputs."
        yield Measurement(large.where, growth, note)
        note = f"What it is fed is {shrink:.3g} times as small as the inputs."
        yield Measurement(small.where, shrink, note, limit=10 * self.limit)


class DeadAtStart(Check):
    """A layer that is 0 for every sample before training has begun."""

    id = "dead-at-start"
    asks = "is any unit of each ReLU active?"
    default_limit = 0.7
    status = "warning"
    why = "No gradient passes through a unit that is always 0."
    advice = "Look at the bias and the weights of the layer before it, and at the sign and size of its input."
    leads_to = _LEARNING | {
        "zero-gradient",
        "outputs-alike",
        "vanishing-gradient",
        "scale-through-depth",
        "network-is-linear",
    }

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the share of units that are 0 for all samples."""
        if subject.batch.size < 8:
            raise Skip(f"{subject.batch.size} samples are too few to call a unit dead; at least 8 are needed")
        for call in subject.first.seen.of("activation"):
            if call.name.startswith("relu"):
                note = f"{call.share:.0%} of its units are 0 for all {subject.batch.size} samples."
                yield Measurement(
                    call.where or "(model)", call.share, note, status="failure" if call.share == 1 else None
                )


class SaturatedAtStart(Check):
    """A sigmoid or tanh in its flat part before training has begun."""

    id = "saturated-at-start"
    asks = "are sigmoids and tanhs in the part that has a slope?"
    default_limit = 0.5
    status = "warning"
    why = "Hardly any gradient passes there."
    advice = "Draw the weights before it narrower, or normalise its input."
    leads_to = _LEARNING | {"vanishing-gradient"}

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the share of values beyond the function of 5."""
        for call in subject.first.seen.of("activation"):
            if call.name.startswith(("sigmoid", "tanh")):
                note = f"{call.share:.0%} of the values of its {call.name} are in the flat part."
                yield Measurement(call.where or "(model)", call.share, note)


class LinearNetwork(Check):
    """Several layers with nothing between them: together they are one."""

    id = "network-is-linear"
    asks = "is there something that is not linear between layers?"
    default_limit = 0.5
    status = "warning"
    why = "Layers without an activation between them compute what one layer can."
    advice = "Put an activation after each hidden layer, or take one layer."
    leads_to = frozenset({"overfit"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Say 1 where the output halfway between two inputs is halfway between theirs, for all pairs."""
        if len({id(call.weight) for call in subject.weight_calls()}) < 2:
            raise Skip("there are fewer than two layers with weights")
        yield Measurement("(model)", float(is_affine(subject)), "Outputs are a linear function of the inputs.")


def _stir(model: nn.Module) -> None:
    """Add noise of the usual size to every weight."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.add_(noise / max(parameter[0].numel(), 1) ** 0.5 if parameter.ndim > 1 else noise / 2)


def is_affine(subject: Subject) -> bool:
    """Whether the outputs are an affine function of inputs that are numbers, measured halfway between samples.

    With other weights than those that were given: where these are 0, or tiny, little shows of what the network can.
    """
    inputs = [tensor for _, tensor in leaves(subject.batch.inputs)]
    if not inputs or not all(tensor.is_floating_point() for tensor in inputs):
        raise Skip("inputs are not numbers")
    size = min(subject.batch.size, 16)
    with subject.mode(train=False):
        _stir(subject.model)
        batch = subject.batch.take(torch.arange(size))
        other = subject.batch.take(torch.arange(subject.batch.size).flip(0)[:size])
        pairs = iter([tensor for _, tensor in leaves(other.inputs)])
        halfway = map_tensors(lambda tensor: (tensor + next(pairs)) / 2, batch.inputs)
        one, two = subject.outputs(batch).double(), subject.outputs(other).double()
        between = subject.outputs(Batch(halfway, batch.targets, size, batch.rebuild)).double()
        if not torch.equal(one, subject.outputs(batch).double()):
            raise Skip("two passes differ")
    if one.shape != two.shape or one.shape != between.shape:
        raise Skip("outputs change their shape with the input")
    apart = float((one - two).abs().max())
    if apart == 0:
        raise Skip("the output is the same for all samples")
    return float((between - (one + two) / 2).abs().max()) <= 1e-5 * max(apart, 1e-2 * float(one.abs().max()))
