"""The planted bugs, and the finding that each must lead to; knows no watcher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from tensorstats.demo.models import HIDDEN_LAYERS

__all__ = ["BUGS", "HEALTHY", "NAN_INDEX", "Bug"]


def _nothing(model: nn.Module) -> None:
    """Leave the model as it was built."""


@dataclass(frozen=True)
class Bug:
    """What is done differently from the healthy training, and what the first finding must name.

    Attributes
    ----------
    name : str
    planted : str
        One sentence for the reader.
    rule : str
        The id of the rule that must find it; empty when nothing must be found.
    where : tuple of str
        The places that count as named right. More than one only where the fault is not in one place.
    activation : type
        Of all hidden layers.
    spoil_model : callable
        Changes the freshly built model.
    nan_at_half : bool
        Put a NaN into one image of the batch half way.
    left_out : str
        The layer that is not handed to the optimizer.
    zero_grad : bool
        Whether the gradients are reset.
    """

    name: str
    planted: str
    rule: str = ""
    where: tuple[str, ...] = ()
    activation: type[nn.Module] = nn.ReLU
    spoil_model: Callable[[nn.Module], None] = _nothing
    nan_at_half: bool = False
    left_out: str = ""
    zero_grad: bool = True


# The sample, channel, row and column of the NaN: not the first ones, so that the index says something.
NAN_INDEX = (17, 0, 3, 4)

# Far below what the layer's inputs can make up for: its sums have a standard deviation of about 1.
_NEGATIVE_BIAS = -10.0


def _kill_third_layer(model: nn.Module) -> None:
    nn.init.constant_(model.get_parameter("hidden3.bias"), _NEGATIVE_BIAS)


def _forget_to_scale(model: nn.Module) -> None:
    """Draw the weights from N(0, 1) whatever the width, so that every layer multiplies its signal by about 6."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)


_WEIGHTED = (*(f"hidden{number}" for number in range(1, HIDDEN_LAYERS + 1)), "head")

HEALTHY = Bug("none", "nothing is wrong")

BUGS = {
    bug.name: bug
    for bug in (
        Bug(
            "dead-relu",
            "the biases of hidden3 start at -10, so act3 (ReLU) passes nothing on",
            rule="dead-units",
            where=("act3",),
            spoil_model=_kill_third_layer,
        ),
        Bug(
            "vanishing",
            "sigmoids instead of ReLUs behind all six hidden layers",
            rule="vanishing-gradient",
            where=("hidden1",),
            activation=nn.Sigmoid,
        ),
        Bug(
            "exploding",
            "the weights are drawn from N(0, 1) instead of N(0, 2 / inputs), and no gradient is clipped",
            rule="exploding-gradient",
            where=_WEIGHTED,
            spoil_model=_forget_to_scale,
        ),
        Bug(
            "nan-input",
            f"half way, one pixel of one batch is NaN, at index {list(NAN_INDEX)}",
            rule="non-finite",
            where=("input",),
            nan_at_half=True,
        ),
        Bug(
            "frozen",
            "hidden3 is not handed to the optimizer",
            rule="frozen",
            where=("hidden3",),
            left_out="hidden3",
        ),
        Bug(
            "no-zero-grad",
            "optimizer.zero_grad() is missing from the loop",
            rule="gradients-not-reset",
            where=("optimizer",),
            zero_grad=False,
        ),
        HEALTHY,
    )
}


def with_nan(images: torch.Tensor) -> torch.Tensor:
    """A copy of a batch with a NaN at ``NAN_INDEX``."""
    spoiled = images.clone()
    spoiled[NAN_INDEX] = torch.nan
    return spoiled
