"""The checks on gradients: parameters that none reaches, and gradients that fade from layer to layer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tensorstats.preflight.checks.check import Check, Measurement, Skip, Subject
from tensorstats.rules.base import group_by_module

__all__ = ["NoGradient", "VanishingGradient", "ZeroGradient"]


class NoGradient(Check):
    """Parameters that the loss does not depend on.

    One whose module holds others that get gradients is left out by a forward pass that knows it, and is no finding.
    """

    id = "no-gradient"
    asks = "does a gradient reach every parameter?"
    why = "The loss does not depend on it, or the path is cut: it cannot learn."
    advice = (
        "Is the module called in forward, and does its result reach the loss? Look for .detach(), .data, .item(), "
        "numpy() or torch.no_grad(). Remove it if it is not used, or set requires_grad_(False) if that is meant."
    )
    leads_to = frozenset({"overfit", "input-ignored", "generalises", "vanishing-gradient"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Count parameters without a gradient, by module."""
        gradients = subject.first.gradients
        if not gradients:
            raise Skip("no parameter takes gradients")
        held = {id(p) for o in subject.optimizers for group in o.param_groups for p in group["params"]}
        owned = dict(subject.model.named_parameters())
        if held:
            gradients = {name: g for name, g in gradients.items() if id(owned[name]) in held}
        missing = [name for name, gradient in gradients.items() if gradient is None]
        reached = {name.rpartition(".")[0] for name, gradient in gradients.items() if gradient is not None}
        missing = [name for name in missing if name.rpartition(".")[0] not in reached]
        for where, names in group_by_module(missing, list(gradients)).items():
            yield Measurement(where, len(names), f"No gradient reaches {', '.join(names[:4])}.", key="none")
        if not missing:
            yield Measurement("(model)", 0.0)


class ZeroGradient(Check):
    """Weights whose gradient is exactly 0, and stays so in the first steps."""

    id = "zero-gradient"
    asks = "is no gradient exactly 0?"
    status = "warning"
    why = "What comes after it lets nothing through: it cannot learn."
    advice = "Look for dead units, a saturated or constant activation, or a factor of 0 between it and the loss."
    leads_to = frozenset({"overfit", "generalises"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Count them by module."""
        gradients = subject.first.gradients
        if not all(g is None or bool(g.isfinite().all()) for g in gradients.values()):
            raise Skip("gradients are not finite")
        still = [name for name, g in gradients.items() if g is not None and g.ndim > 1 and not bool(g.any())]
        if still:
            never = subject.short.curve.without_gradient
            still = [name for name in still if name in never]
        for where, names in group_by_module(still, list(gradients)).items():
            yield Measurement(where, len(names), f"The gradient of {', '.join(names[:4])} is exactly 0.")
        if not still:
            yield Measurement("(model)", 0.0)


class VanishingGradient(Check):
    """Gradients that fade on the way to the first layer."""

    id = "vanishing-gradient"
    asks = "do gradients of the first layers have about the size of the last?"
    default_limit = 1e3
    status = "warning"
    why = "The first layers hardly learn, and all that follow build on them."
    advice = (
        "Take ReLU or GELU instead of sigmoid or tanh, add residual connections or normalisation, or widen the weights."
    )
    leads_to = frozenset(
        {"overfit", "input-ignored", "generalises", "network-is-linear", "zero-gradient", "outputs-alike"}
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the gradient's norm of the last weight over that of the first, where they follow the depth."""
        norms = []
        for name in dict.fromkeys(subject.name_of(call.weight) for call in subject.weight_calls()):
            gradient = subject.first.gradients.get(name)
            if gradient is not None and gradient.ndim > 1:
                norms.append((name, float(gradient.float().norm())))
        if len(norms) < 4:
            raise Skip("there are fewer than four layers with weights")
        values = [norm for _, norm in norms]
        rising = sum(a < b for a, b in itertools.pairwise(values)) / (len(values) - 1)
        ratio = values[-1] / values[0] if values[0] > 0 else 0.0
        part = 1 / ratio if ratio else 0.0
        note = f"The gradient of {norms[0][0]} has {part:.2g} times the norm of that of {norms[-1][0]}."
        yield Measurement(norms[0][0].removesuffix(".weight"), ratio if rising >= 0.7 else 0.0, note)
