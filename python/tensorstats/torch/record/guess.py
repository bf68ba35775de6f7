"""Tells from its values which loss was computed by a function; counts nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tensorstats.rules.fed import ABSOLUTE, BCE, BCE_LOGITS, CROSS_ENTROPY, HUBER, NLL, SQUARED, LossKind, LossStep

__all__ = ["Guess"]

# Losses of one precision agree to rounding; so many steps must agree on a factor between them.
_AGREES = 1e-4
_STEPS = 5
# A loss that none has fitted in so many steps is another one.
_MOST = 20

_ELEMENTWISE = {
    SQUARED: functional.mse_loss,
    ABSOLUTE: functional.l1_loss,
    HUBER: functional.smooth_l1_loss,
}


class Guess:
    """Compares a loss with the usual ones on the same values, until one fits: itself, or times a constant factor.

    A kind that was found stays; the loss per target is then the one computed here, whatever the user's factor.
    """

    def __init__(self) -> None:
        self.kind: LossKind | None = None
        self._steps = 0
        self._ratios: dict[str, list[float]] = {}

    def candidates(self, predictions: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the usual losses are on these values, by name."""
        found: dict[str, torch.Tensor] = {}
        if self.kind is not None and not self.kind.name:
            return found
        for name, value in self._losses(predictions, targets):
            if self.kind is None or name == self.kind.name:
                found[f"={name}"] = value
        return found

    def _losses(self, predictions: torch.Tensor, targets: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
        if predictions.dim() == targets.dim() + 1 and not targets.is_floating_point():
            if predictions.dim() < 2 or predictions.shape[:1] + predictions.shape[2:] != targets.shape:
                return []
            return [
                (CROSS_ENTROPY, functional.cross_entropy(predictions.float(), targets.long())),
                (NLL, functional.nll_loss(predictions.float(), targets.long())),
            ]
        values = targets.to(predictions.dtype)
        try:
            shape = torch.broadcast_shapes(predictions.shape, targets.shape)
        except RuntimeError:
            return []
        wide, values = predictions.expand(shape), values.expand(shape)
        losses = [(name, of(wide, values)) for name, of in _ELEMENTWISE.items()]
        losses.append((BCE_LOGITS, functional.binary_cross_entropy_with_logits(wide, values)))
        chances = wide.clamp(0.0, 1.0)
        logs = chances.log().clamp_min(-100.0), (1.0 - chances).log().clamp_min(-100.0)
        losses.append((BCE, -(values * logs[0] + (1.0 - values) * logs[1]).mean()))
        return losses

    def decide(self, step: LossStep, found: dict[str, np.ndarray[Any, np.dtype[np.float64]]]) -> float:
        """Set the kind of a step, and its loss per target, once they are known.

        Returns the factor by which the losses before this one were larger, 1 where that was known.
        """
        factor = self._compare(step, found) if self.kind is None else 1.0
        if self.kind is not None:
            step.kind = self.kind
            own = found.get(f"={self.kind.name}")
            if own is not None:
                step.value = float(own[0])
        return factor

    def _compare(self, step: LossStep, found: dict[str, np.ndarray[Any, np.dtype[np.float64]]]) -> float:
        for name, values in found.items():
            if not name.startswith("="):
                continue
            own, name = float(values[0]), name[1:]
            if not (np.isfinite(own) and own > 0.0):
                continue
            if name == BCE and not _is_share(step):
                continue
            ratio = step.value / own
            if abs(ratio - 1.0) <= _AGREES:
                self.kind = LossKind(name)
                return 1.0
            ratios = self._ratios.setdefault(name, [])
            ratios.append(ratio)
            if len(ratios) >= _STEPS and max(ratios) - min(ratios) <= _AGREES * abs(ratios[0]):
                self.kind = LossKind(name)
                return ratios[0]
        self._steps += 1
        if self._steps >= _MOST:
            self.kind = LossKind()
        return 1.0


def _is_share(step: LossStep) -> bool:
    """Whether predictions may be probabilities."""
    predictions = step.predictions
    return predictions is not None and predictions.min >= 0.0 and predictions.max <= 1.0
