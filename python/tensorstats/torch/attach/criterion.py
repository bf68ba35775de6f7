"""Which loss a module or a call is, and what it was given; counts nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tensorstats.rules.fed import ABSOLUTE, BCE, BCE_LOGITS, CROSS_ENTROPY, HUBER, NLL, SQUARED, LossKind

__all__ = ["arguments_of", "check_loss_fn", "kind_of", "one_tensor"]

# Losses of torch that no constant is compared with: their arguments are no predictions and targets of the same meaning.
_OTHER = tuple(
    getattr(nn, name)
    for name in (
        "CTCLoss",
        "CosineEmbeddingLoss",
        "GaussianNLLLoss",
        "HingeEmbeddingLoss",
        "KLDivLoss",
        "MarginRankingLoss",
        "MultiLabelMarginLoss",
        "MultiMarginLoss",
        "PoissonNLLLoss",
        "SoftMarginLoss",
        "TripletMarginLoss",
        "TripletMarginWithDistanceLoss",
    )
    if hasattr(nn, name)
)


def check_loss_fn(loss_fn: object) -> None:
    """Refuse what is no module.

    Raises
    ------
    TypeError
    """
    if loss_fn is not None and not isinstance(loss_fn, nn.Module):
        hint = ""
        if callable(loss_fn):
            hint = "; of a function, hand over each loss: monitor.log_loss(loss, predictions=..., targets=...)"
        raise TypeError(f"loss_fn must be a loss module, such as nn.CrossEntropyLoss(), or None, got {loss_fn!r}{hint}")


def kind_of(criterion: nn.Module | None) -> LossKind | None:
    """The kind of a loss module; None for one that is not torch's and has to be told from its values."""
    if isinstance(criterion, nn.CrossEntropyLoss):
        return LossKind(CROSS_ENTROPY, _numbers(criterion.weight), criterion.label_smoothing)
    if isinstance(criterion, nn.NLLLoss):
        return LossKind(NLL, _numbers(criterion.weight))
    if isinstance(criterion, nn.BCEWithLogitsLoss):
        return LossKind(BCE_LOGITS, _numbers(criterion.pos_weight), comparable=criterion.weight is None)
    if isinstance(criterion, nn.BCELoss):
        return LossKind(BCE, comparable=criterion.weight is None)
    for name, kinds in ((SQUARED, nn.MSELoss), (ABSOLUTE, nn.L1Loss), (HUBER, (nn.SmoothL1Loss, nn.HuberLoss))):
        if isinstance(criterion, kinds):
            return LossKind(name)
    return LossKind() if isinstance(criterion, _OTHER) else None


def _numbers(weight: torch.Tensor | None) -> tuple[float, ...] | None:
    return None if weight is None else tuple(weight.detach().double().reshape(-1).tolist())


def arguments_of(arguments: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[Any, Any]:
    """Predictions and targets of a call: its first two arguments, or those called so."""
    given = list(arguments)
    for names in (("input", "predictions", "logits", "pred", "preds"), ("target", "targets", "labels", "y")):
        given += [keywords[name] for name in names if name in keywords]
    return (given[0], given[1]) if len(given) >= 2 else (None, None)


def one_tensor(value: object) -> torch.Tensor | None:
    """A tensor that is there and has values, or None."""
    return value.detach() if isinstance(value, torch.Tensor) and not value.is_meta else None
