"""Owns what a loss knows: which it is, what it was fed, and what constants and perfect predictions would cost."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from tensorstats.preflight.subject.seen import LossCall

__all__ = ["LossView", "recognised"]

_NAMES = {
    "cross_entropy": "cross entropy",
    "nll_loss": "nll",
    "binary_cross_entropy": "binary",
    "binary_cross_entropy_with_logits": "binary logits",
    "mse_loss": "mse",
    "l1_loss": "l1",
    "smooth_l1_loss": "huber",
    "huber_loss": "huber",
    "kl_div": "kl",
}
# Logits that are as good as certain: exp(-30) is below the rounding of a float32.
_CERTAIN = 30.0
_SMALL = 1e-6


class LossView:
    """A loss with the predictions and targets it was fed, that can be asked about others.

    `kind` is ``"cross entropy"``, ``"nll"``, ``"binary"``, ``"binary logits"``, ``"mse"``, ``"l1"``, ``"huber"``,
    ``"kl"`` or ``"other"``. `whole` says whether it is all of the loss that is trained on, or one term of it.
    """

    def __init__(
        self,
        kind: str,
        predictions: torch.Tensor,
        targets: torch.Tensor,
        call: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        *,
        whole: bool = True,
        smoothing: float = 0.0,
        ignored: int = -100,
    ) -> None:
        self.kind = kind
        self.output = predictions  # with its graph
        self.predictions = predictions.detach()
        self.targets = targets.detach()
        self.whole = whole
        self.smoothing = smoothing
        self.ignored = ignored
        self._call = call

    @classmethod
    def of_call(cls, call: LossCall, *, whole: bool) -> LossView:
        """The view of a call that was seen."""
        bound = _keywords(call)
        return cls(
            _NAMES[call.name],
            call.predictions,
            call.targets,
            call.again,
            whole=whole,
            smoothing=float(bound.get("label_smoothing") or 0.0),
            ignored=int(bound.get("ignore_index", -100)),
        )

    @property
    def classes(self) -> int:
        """The number of classes, 0 for a regression."""
        if self.kind in ("cross entropy", "nll", "kl"):
            return int(self.predictions.shape[self.class_dim])
        return 2 if self.kind.startswith("binary") else 0

    @property
    def class_dim(self) -> int:
        """Where the classes lie."""
        return 1 if self.predictions.ndim > 1 else 0

    @property
    def labels(self) -> torch.Tensor | None:
        """The class of every target that counts, flat; None where targets are no classes."""
        if self.targets.is_floating_point():
            if self.kind.startswith("binary") and bool(((self.targets == 0) | (self.targets == 1)).all()):
                return self.targets.flatten().long()
            return None
        flat = self.targets.flatten()
        return flat[flat != self.ignored].long()

    def evaluate(self, predictions: torch.Tensor, targets: torch.Tensor | None = None) -> float:
        """The loss of other predictions of the same shape, NaN where it cannot be computed."""
        targets = self.targets if targets is None else targets
        with torch.no_grad(), contextlib.suppress(Exception):
            return float(self._call(predictions.to(self.predictions.dtype), targets).detach().double().mean())
        return math.nan

    def gradient(self) -> torch.Tensor | None:
        """How the loss depends on what was predicted."""
        leaf = self.predictions.clone().requires_grad_()
        loss = self._call(leaf, self.targets)
        if not loss.requires_grad:
            return None
        return torch.autograd.grad(loss.sum(), leaf, allow_unused=True)[0]

    @property
    def uninformed(self) -> float:
        """The loss of who knows nothing: equal chances, ln k; for numbers the worse of zero and the best constant."""
        if self.kind in ("nll", "kl"):
            return self.evaluate(torch.full_like(self.predictions, -math.log(max(self.classes, 1))))
        if self.kind == "binary":
            return self.evaluate(torch.full_like(self.predictions, 0.5))
        zero = self.evaluate(torch.zeros_like(self.predictions))
        if self.kind in ("cross entropy", "binary logits"):
            return zero
        return _largest(zero, self.constant)

    @property
    def constant(self) -> float:
        """The loss of the best constant: the share of each class, the mean or the median; NaN if none is known."""
        losses = [self.evaluate(candidate) for candidate in self._constants()]
        return min((loss for loss in losses if math.isfinite(loss)), default=math.nan)

    @property
    def lowest(self) -> float:
        """The loss of perfect predictions: 0 but for soft targets and smoothing."""
        perfect = self.perfect
        if perfect is None:
            return 0.0
        value = self.evaluate(perfect)
        return value if math.isfinite(value) else 0.0

    @property
    def perfect(self) -> torch.Tensor | None:
        """Predictions that nothing beats, None if that is not known."""
        if self.kind in ("cross entropy", "nll"):
            shares = self._shares_per_target()
            if shares is None:
                return None
            smooth = shares * (1 - self.smoothing) + self.smoothing / self.classes
            logs = smooth.clamp_min(math.exp(-_CERTAIN)).log()
            return logs if self.kind == "cross entropy" else logs.log_softmax(self.class_dim)
        if not self.targets.is_floating_point() or self.targets.shape != self.predictions.shape:
            return None
        if self.kind == "binary logits":
            return self.targets.clamp(1e-12, 1 - 1e-7).logit().clamp(-_CERTAIN, _CERTAIN)
        if self.kind in ("binary", "mse", "l1", "huber", "regression"):
            return self.targets
        return None

    def _shares_per_target(self) -> torch.Tensor | None:
        """The share of each class, laid out as predictions are."""
        if self.targets.is_floating_point():
            return self.targets if self.targets.shape == self.predictions.shape else None
        if self.classes == 0 or self.kind not in ("cross entropy", "nll"):
            return None
        known = self.targets.clamp(0, self.classes - 1).long()
        one_hot = torch.nn.functional.one_hot(known, self.classes).to(self.predictions.dtype)
        return one_hot.movedim(-1, self.class_dim)

    def _constants(self) -> Iterator[torch.Tensor]:
        like, targets = self.predictions, self.targets
        if self.kind in ("cross entropy", "nll"):
            shares = self._class_shares()
            if shares is not None:
                shape = [1] * like.ndim
                shape[self.class_dim] = -1
                yield shares.clamp_min(_SMALL).log().log_softmax(0).to(like).reshape(shape).expand_as(like)
        elif targets.is_floating_point() and targets.numel() == like.numel():
            fitting = targets.reshape(like.shape).float()
            mean, median = fitting.mean(0, keepdim=True), fitting.median(0, keepdim=True).values
            if self.kind == "binary logits":
                yield mean.clamp(_SMALL, 1 - _SMALL).logit().expand_as(like)
            elif self.kind == "binary":
                yield mean.clamp(_SMALL, 1 - _SMALL).expand_as(like)
            else:
                yield mean.expand_as(like)
                yield median.expand_as(like)

    def _class_shares(self) -> torch.Tensor | None:
        if self.targets.is_floating_point():
            if self.targets.shape != self.predictions.shape:
                return None
            other = [dim for dim in range(self.targets.ndim) if dim != self.class_dim]
            return self.targets.float().mean(other) if other else self.targets.float()
        labels = self.labels
        if labels is None or labels.numel() == 0 or int(labels.max()) >= self.classes or int(labels.min()) < 0:
            return None
        return labels.bincount(minlength=self.classes).float() / labels.numel()


def recognised(
    predictions: torch.Tensor, targets: torch.Tensor, call: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> LossView:
    """The view of a loss that was written by hand, known by what it answers."""
    view = LossView("other", predictions, targets, call)
    zeros = torch.zeros_like(view.predictions)
    if targets.is_floating_point() and targets.numel() == predictions.numel():
        fitting = view.targets.reshape(predictions.shape)
        one, two = view.evaluate(fitting + 1.0), view.evaluate(fitting + 2.0)
        exact = view.evaluate(fitting)
        if math.isfinite(one) and abs(exact) <= 1e-6 * max(abs(one), 1e-30) and one > 0:
            ratio = two / one
            view.kind = "mse" if abs(ratio - 4) < 0.01 else "l1" if abs(ratio - 2) < 0.01 else "regression"
        return view
    if not targets.is_floating_point() and predictions.ndim > 1:
        classes = predictions.shape[1]
        value = view.evaluate(zeros)
        if classes > 1 and abs(value - math.log(classes)) < 1e-4 * math.log(classes):
            view.kind = "cross entropy"
    return view


def _keywords(call: LossCall) -> dict[str, Any]:
    names: dict[str, tuple[str, ...]] = {
        "cross_entropy": ("weight", "size_average", "ignore_index", "reduce", "reduction", "label_smoothing"),
        "nll_loss": ("weight", "size_average", "ignore_index", "reduce", "reduction"),
    }
    given = dict(zip(names.get(call.name, ()), call.arguments, strict=False))
    return {**given, **call.keywords}


def _largest(*values: float) -> float:
    return max((value for value in values if math.isfinite(value)), default=math.nan)
