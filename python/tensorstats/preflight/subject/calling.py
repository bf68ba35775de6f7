"""Owns how a model and its loss are called: a loss function, a step of the user's own, or a model that has its loss."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from tensorstats.preflight.subject.batch import Batch, leaves

__all__ = ["Caller", "PreflightError", "main_tensor"]

_MODELS = {"model", "net", "network", "module", "m"}


class PreflightError(RuntimeError):
    """The model could not be called on the batch even once, so that there is nothing to check."""


class Caller:
    """Calls the model for outputs or for a loss; says which of the three ways it is by `kind`.

    ``"loss"``: ``loss_fn(model(inputs), targets)``; ``"step"``: ``loss_fn(model, batch)``; ``"own"``: the model returns
    its loss.
    """

    def __init__(self, model: nn.Module, loss_fn: Callable[..., Any] | None, batch: Batch) -> None:
        self.model = model
        self.loss_fn = loss_fn
        self.kind = self._kind(batch)
        self._spread: bool | None = None  # whether a list or a mapping of inputs is spread over the arguments
        self.doubtful = self.kind == "loss" and not isinstance(loss_fn, nn.Module)

    def _kind(self, batch: Batch) -> str:
        if self.loss_fn is None:
            return "own"
        if isinstance(self.loss_fn, nn.Module):
            return "loss"
        first = ""
        with contextlib.suppress(TypeError, ValueError):
            first = next(iter(inspect.signature(self.loss_fn).parameters), "")
        pair = isinstance(batch.whole, list | tuple) and batch.has_targets
        return "step" if first.lower() in _MODELS or not pair else "loss"

    def outputs(self, batch: Batch) -> Any:
        """What the model returns for the batch, however it is called."""
        if self.kind == "loss":
            return self._forward(batch.copied().inputs)
        return self.run(batch)[1]

    def run(self, batch: Batch) -> tuple[torch.Tensor, Any]:
        """The loss of the batch, and what the model returned on the way (None if it was not called as a whole)."""
        batch = batch.copied()
        if self.kind == "loss":
            assert self.loss_fn is not None
            outputs = self._forward(batch.inputs)
            return _loss_of(self.loss_fn(outputs, batch.targets)), outputs
        caught: list[Any] = []
        handle = self.model.register_forward_hook(lambda _module, _inputs, outputs: caught.append(outputs))
        try:
            if self.kind == "step":
                assert self.loss_fn is not None
                loss = _loss_of(self.loss_fn(self.model, batch.whole))
            else:
                whole = batch.whole
                if isinstance(whole, Mapping):
                    loss = _loss_of(self.model(**whole))
                else:
                    loss = _loss_of(self.model(*whole) if isinstance(whole, list | tuple) else self.model(whole))
        finally:
            handle.remove()
        return loss, caught[-1] if caught else None

    def _forward(self, inputs: Any) -> Any:
        """Tuples are several arguments and mappings are named ones, unless the model wants them whole."""
        if not isinstance(inputs, list | tuple | Mapping) or self._spread is False:
            return self.model(inputs)
        spread = self._spread
        try:
            outputs = self.model(**inputs) if isinstance(inputs, Mapping) else self.model(*inputs)
        except TypeError:
            if spread:
                raise
            outputs = self.model(inputs)
            self._spread = False
            return outputs
        self._spread = True
        return outputs


def _loss_of(returned: Any) -> torch.Tensor:
    """The loss in what a loss function, a step or a model returned."""
    loss = returned
    if isinstance(returned, Mapping) and "loss" in returned:
        loss = returned["loss"]
    elif getattr(returned, "loss", None) is not None and not isinstance(returned, torch.Tensor):
        loss = returned.loss
    elif isinstance(returned, list | tuple) and returned:
        loss = returned[0]
    if not isinstance(loss, torch.Tensor):
        raise TypeError(f"a loss must be a tensor, got {type(loss).__name__}")
    if loss.numel() != 1:
        raise TypeError(f"a loss must be one number, got a tensor of shape {tuple(loss.shape)}: is reduction='none'?")
    return loss.reshape(())


def main_tensor(outputs: Any) -> torch.Tensor | None:
    """The predictions in what a model returned: the tensor itself, its ``logits``, or the first with fractions."""
    if isinstance(outputs, Mapping) or hasattr(outputs, "logits"):
        named = outputs.get("logits") if isinstance(outputs, Mapping) else outputs.logits
        if isinstance(named, torch.Tensor):
            return named
    return next((tensor for _, tensor in leaves(outputs) if tensor.is_floating_point() and tensor.ndim), None)
