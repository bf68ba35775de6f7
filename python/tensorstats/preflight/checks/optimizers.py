"""The checks on optimizers: what they hold, their settings, and what one step of them does."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Iterator

import torch

from tensorstats.preflight.checks.check import Check, Measurement, Skip, Subject
from tensorstats.preflight.subject.batch import InseparableError
from tensorstats.rules.base import group_by_module

__all__ = ["LearningRate", "NotInOptimizer", "OptimizerSettings", "WeightDecay"]

# A loss that is half as high again within so many steps was thrown there.
_FIRST_STEPS = 20
_ROSE = 1.5


def _needed(subject: Subject) -> list[torch.optim.Optimizer]:
    if not subject.optimizers:
        raise Skip("no optimizer was handed over")
    return subject.optimizers


class NotInOptimizer(Check):
    """Parameters that gradients reach and no optimizer holds."""

    id = "not-in-optimizer"
    asks = "does the optimizer hold every parameter that takes gradients?"
    why = "They stay what they are."
    advice = (
        "Build the optimizer from model.parameters(), after the last layer was replaced or moved; where it is meant, "
        "set requires_grad_(False)."
    )
    leads_to = frozenset({"overfit", "input-ignored", "generalises", "learning-rate", "symmetric-units"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Count those that are missing, by module."""
        held = {id(p) for optimizer in _needed(subject) for group in optimizer.param_groups for p in group["params"]}
        named = dict(subject.model.named_parameters())
        missing = [n for n, p in named.items() if p.requires_grad and id(p) not in held]
        missing = [n for n in missing if subject.first.gradients.get(n) is not None]
        if missing and len(missing) == sum(p.requires_grad for p in named.values()):
            yield Measurement(
                "optimizer", len(missing), "It holds none of the parameters: it was built from another model."
            )
            return
        for where, names in group_by_module(missing, list(named)).items():
            listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            yield Measurement(where, len(names), f"No parameter group holds {listed}, which gradients reach.")
        if not missing:
            yield Measurement("optimizer", 0.0)


class OptimizerSettings(Check):
    """Settings that no training wants: ascent, no rate, a momentum of 1, betas in the wrong order."""

    id = "optimizer-settings"
    asks = "are the optimizer's settings such as training takes?"
    leads_to = frozenset(
        {"overfit", "input-ignored", "generalises", "learning-rate", "symmetric-units", "batch-norm-statistics"}
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Look at each group."""
        for optimizer in _needed(subject):
            for place, group in enumerate(optimizer.param_groups):
                yield from self._of(group, f"optimizer, group {place}" if place else "optimizer")
        yield Measurement("optimizer", 0.0)

    @staticmethod
    def _of(group: dict[str, object], where: str) -> Iterator[Measurement]:
        def number(name: str, default: float = 0.0) -> float:
            value = group.get(name, default)
            return float(value) if isinstance(value, int | float | torch.Tensor) else default

        rate = max(number("lr", 1.0), number("initial_lr"))
        if rate == 0:
            yield Measurement(where, 1.0, "The learning rate is 0: nothing will change.")
        elif rate < 0:
            yield Measurement(where, 1.0, f"The learning rate is {rate:g}: steps go uphill.")
        if group.get("maximize"):
            yield Measurement(where, 1.0, "maximize=True: steps make the loss larger.")
        if (momentum := number("momentum")) >= 1:
            yield Measurement(where, 1.0, f"momentum={momentum:g}: steps add up without end; 0.9 is usual.")
        betas = group.get("betas")
        if isinstance(betas, tuple | list) and len(betas) == 2:
            first, second = float(betas[0]), float(betas[1])
            if first > 0.99 or (first > second and second > 0):
                note = (
                    f"betas=({first:g}, {second:g}): the first is for the mean (0.9), the second for squares (0.999)."
                )
                yield Measurement(where, 1.0, note, status="warning")
        if (eps := number("eps")) >= 1e-2:
            yield Measurement(where, 1.0, f"eps={eps:g} is as large as gradients are; 1e-8 is usual.", status="warning")


class LearningRate(Check):
    """A rate that moves nothing, or throws the weights away."""

    id = "learning-rate"
    asks = "does a step change the weights by a sensible part?"
    default_limit = 0.4
    advice = (
        "Try the rates 1e-1, 1e-2 ... 1e-5 for a hundred steps each and take a third of the largest that stays calm."
    )
    leads_to = frozenset({"overfit", "input-ignored", "generalises", "train-eval"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the update-to-weight ratio of the first step, and what a default rate reaches where this one fails."""
        optimizers = _needed(subject)
        curve = subject.short.curve
        ratios = [ratio for ratio in curve.ratios.values() if ratio > 0]
        rates = sorted({float(group.get("lr", 0.0)) for o in optimizers for group in o.param_groups})
        rate = f"lr={rates[-1]:.3g}" if rates else "the rate"
        if not ratios:
            raise Skip("no weight moved in the first step, whatever the rate")
        typical = statistics.median(ratios)
        own, failed = curve, False
        with contextlib.suppress(InseparableError):  # then no few samples can be taken to compare trainings on
            own = subject.overfit
            failed = subject.few_learnable and own.complete and not own.last <= subject.overfit_goal
        if typical < 1e-6:
            note = f"With {rate} the first step changes weights by {typical:.2g} of their size (1e-3 is usual)."
            yield Measurement("optimizer", 1e-6 / typical, f"{note} Nothing will move in sensible time.", limit=1.0)
        elif failed and own.last > own.first and self._default_works(subject):
            note = f"With {rate} the first step changes weights by {typical:.2g} of their size, and the loss of "
            note += (
                f"{subject.few.size} samples goes from {own.first:.4g} to {own.last:.4g}; Adam with 1e-3 learns them."
            )
            yield Measurement("optimizer", typical, f"{note} Take a smaller rate.", limit=0.0)
        elif failed and self._progress(subject) < 0.05 and self._default_works(subject):
            note = f"With {rate} {subject.few.size} samples go from {own.first:.4g} to {own.last:.4g} in "
            note += (
                f"{len(own.losses)} steps, where the best constant costs {subject.few_room[0]:.4g}; Adam learns them."
            )
            yield Measurement(
                "optimizer", 1.0, f"{note} The rate is too small, or does not suit this model.", limit=0.0
            )
        else:
            # A large step that makes the loss no worse is none too large: LBFGS takes such, having looked first.
            worst = max(curve.losses[:_FIRST_STEPS])
            note = (
                f"With {rate} the first step changes weights by {typical:.2g} of their size (1e-3 is usual), and the "
            )
            note += f"loss rises from {curve.first:.4g} to {worst:.4g}."
            limit = self.limit if worst > _ROSE * curve.first else math.inf
            yield Measurement("optimizer", typical, note, limit=limit, status="warning")

    @staticmethod
    def _progress(subject: Subject) -> float:
        start, lowest = subject.few_room
        return (start - subject.overfit.last) / max(start - lowest, 1e-30)

    @staticmethod
    def _default_works(subject: Subject) -> bool:
        return subject.overfit_by_default.last <= subject.overfit_goal


class WeightDecay(Check):
    """A weight decay that pulls harder than the data."""

    id = "weight-decay"
    asks = "does the data move the weights more than weight decay does?"
    default_limit = 1.0
    status = "warning"
    why = "Weights are drawn to 0 whatever the data says."
    advice = "Take 1e-4 to 1e-2 (AdamW: up to 0.1)."
    leads_to = frozenset({"overfit", "input-ignored", "generalises", "learning-rate"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the pull of the decay over the gradient, or over the step where decay is apart from it."""
        optimizers = _needed(subject)
        gradients = subject.first.gradients
        named = {id(p): name for name, p in subject.model.named_parameters()}
        shares, largest = [], 0.0
        for optimizer in optimizers:
            apart = "W" in type(optimizer).__name__ or any(
                g.get("decoupled_weight_decay") for g in optimizer.param_groups
            )
            for group in optimizer.param_groups:
                decay = float(group.get("weight_decay") or 0.0)
                for p in group["params"]:
                    gradient = gradients.get(named.get(id(p), ""))
                    if decay == 0 or p.ndim < 2 or gradient is None:
                        continue
                    largest = max(largest, decay)
                    # A step of Adam's has a size of about one per weight, whatever the gradient.
                    pull = decay * float(p.detach().float().norm())
                    against = float(p.numel()) ** 0.5 if apart else float(gradient.float().norm())
                    shares.append(pull / max(against, 1e-30))
        if not shares:
            raise Skip("there is no weight decay")
        share = statistics.median(shares)
        limit = 0.2 if all("W" in type(o).__name__ for o in optimizers) else self.limit
        note = f"weight_decay={largest:g} pulls {share:.2g} times as hard as the gradient of the first step."
        yield Measurement("optimizer", share, note, limit=limit, status="failure" if share > 10 * limit else None)
