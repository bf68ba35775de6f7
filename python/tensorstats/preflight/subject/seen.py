"""Owns what is seen of one pass: the calls of layers, activations, losses and dice, with small numbers of each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ["OUTSIDE", "Call", "LossCall", "Seen", "seeing"]

# Where a call is that is made around the model, in a loss or a step.
OUTSIDE = "(outside)"

_WEIGHTS = {"linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
_NORMS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"}
_ACTIVATIONS = {"relu", "relu_", "sigmoid", "sigmoid_", "tanh", "tanh_", "exp", "softmax", "log_softmax"}
_DROPOUTS = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "dropout_"}
_NOISE = {"randn", "rand", "randn_like", "rand_like", "normal", "normal_", "bernoulli", "uniform_", "multinomial"}
_LOSSES = {
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "kl_div",
}


@dataclass(slots=True)
class Call:
    """One call of a layer or an activation: the module it was made in, the root mean square of what came in and out.

    `share` is, of a ReLU, that of the units that were 0 for all samples; of a sigmoid or tanh, that of the values in
    its flat part; of a dropout, its probability.
    """

    kind: str
    name: str
    where: str
    rms_in: float = 0.0
    rms_out: float = 0.0
    finite_in: bool = True
    finite_out: bool = True
    share: float = 0.0
    input: torch.Tensor | None = None
    weight: torch.Tensor | None = None


@dataclass(slots=True)
class LossCall:
    """One call of a loss of torch: it can be made again with other predictions or targets."""

    name: str
    function: Callable[..., torch.Tensor]
    predictions: torch.Tensor
    targets: torch.Tensor
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    result: torch.Tensor

    def again(self, predictions: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        """The same loss of other predictions, or of other targets."""
        targets = self.targets if targets is None else targets
        return self.function(predictions, targets, *self.arguments, **self.keywords)


@dataclass(slots=True)
class Seen:
    """All calls of one pass, in order."""

    calls: list[Call] = field(default_factory=list)
    losses: list[LossCall] = field(default_factory=list)

    def of(self, *kinds: str) -> list[Call]:
        """Those of some kinds."""
        return [call for call in self.calls if call.kind in kinds]


class _Mode(TorchFunctionMode):
    def __init__(self, seen: Seen, stack: list[str]) -> None:
        super().__init__()
        self._seen, self._stack = seen, stack

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        kind = _KINDS.get(name)
        before = _first(args, kwargs) if kind in ("weights", "activation") else None
        finite_in = bool(before.isfinite().all()) if before is not None and before.is_floating_point() else True
        rms_in = _rms(before)
        out = func(*args, **kwargs)
        if kind == "loss":
            self._loss(name, func, args, kwargs, out)
        elif kind is not None:
            call = Call(kind, name, self._stack[-1], rms_in=rms_in, finite_in=finite_in)
            self._measure(call, args, kwargs, before, out)
        return out

    def _measure(
        self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], before: torch.Tensor | None, out: Any
    ) -> None:
        if call.kind == "dropout":
            call.share = float(args[1] if len(args) > 1 else kwargs.get("p", 0.5))
            training = args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train", True))
            if not training or call.share == 0:
                return
        elif call.kind == "attention":
            call.kind, call.share = "dropout", float(args[4] if len(args) > 4 else kwargs.get("dropout_p", 0.0))
            if call.share == 0:
                return
        elif isinstance(out, torch.Tensor) and out.is_floating_point():
            out = out.detach()
            call.rms_out = _rms(out)
            call.finite_out = bool(out.isfinite().all())
            if call.kind == "weights":
                call.input = before if not any(c.kind == "weights" for c in self._seen.calls) else None
                call.weight = args[1] if len(args) > 1 else kwargs.get("weight")
            call.share = _flat_share(call.name, out)
        self._seen.calls.append(call)

    def _loss(self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> None:
        rest = dict(kwargs)
        taken = list(args)
        predictions = taken.pop(0) if taken else rest.pop("input")
        targets = taken.pop(0) if taken else rest.pop("target")
        if isinstance(predictions, torch.Tensor) and isinstance(targets, torch.Tensor):
            self._seen.losses.append(LossCall(name, func, predictions, targets, tuple(taken), rest, out))


def _flat_share(name: str, out: torch.Tensor) -> float:
    if out.numel() == 0:
        return 0.0
    if name.startswith("relu"):
        units = out.flatten(2).amax((0, 2)) if out.ndim > 3 else out.reshape(-1, out.shape[-1]).amax(0)
        return float((units == 0).float().mean())
    if name.startswith("tanh"):
        return float((out.abs() > 0.9999092).float().mean())
    if name.startswith("sigmoid"):
        return float(((out < 0.0066929) | (out > 0.9933071)).float().mean())
    return 0.0


_KINDS: dict[str, str] = {
    **dict.fromkeys(_WEIGHTS, "weights"),
    **dict.fromkeys(_NORMS, "norm"),
    **dict.fromkeys(_ACTIVATIONS, "activation"),
    **dict.fromkeys(_DROPOUTS, "dropout"),
    **dict.fromkeys(_NOISE, "noise"),
    **dict.fromkeys(_LOSSES, "loss"),
    "scaled_dot_product_attention": "attention",
}


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    value = args[0] if args else kwargs.get("input")
    return value.detach() if isinstance(value, torch.Tensor) else None


def _rms(tensor: torch.Tensor | None) -> float:
    if tensor is None or tensor.numel() == 0 or not tensor.is_floating_point():
        return 0.0
    return float(tensor.detach().double().square().mean().sqrt())


@contextlib.contextmanager
def seeing(model: nn.Module) -> Iterator[Seen]:
    """See every call that is made inside, with the names of the modules of `model`."""
    seen, stack = Seen(), [OUTSIDE]
    handles = []

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: stack.append(name)

    def leave(*_: Any) -> None:
        stack.pop()

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name)))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        with _Mode(seen, stack):
            yield seen
    finally:
        for handle in handles:
            handle.remove()
