"""Owns the passes that checks share, and what is known of a model and its loss from them; trains nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import nn

from tensorstats.preflight.subject.batch import Batch
from tensorstats.preflight.subject.calling import Caller, PreflightError, main_tensor
from tensorstats.preflight.subject.losses import LossView, recognised
from tensorstats.preflight.subject.restore import Snapshot, seed
from tensorstats.preflight.subject.seen import Call, LossCall, Seen, seeing

__all__ = ["FirstPass", "Passes", "Skip"]

# A batch larger than this is thinned out for whatever calls the model; the data as such is looked at whole.
_MOST_SAMPLES = 256
_THINNED_FROM = 512
_SAME = 1e-4


class Skip(Exception):  # noqa: N818 - it is no error
    """A check that cannot be made, and why."""


class FirstPass:
    """The first forward and backward pass in training mode, as the user's first step would be."""

    def __init__(self, loss: torch.Tensor, outputs: Any, seen: Seen) -> None:
        self.loss = loss
        self.value = float(loss.detach())
        self.outputs = outputs
        self.seen = seen
        self.gradients: dict[str, torch.Tensor | None] = {}
        self.error = ""


class Passes:
    """A model with its batch, loss and optimizers; every pass and training begins from the weights that were given."""

    def __init__(
        self,
        model: nn.Module,
        batch: Batch,
        loss_fn: Callable[..., Any] | None,
        optimizers: list[torch.optim.Optimizer],
        snapshot: Snapshot,
        *,
        seconds: float,
        expect: Mapping[str, int],
        causal: bool | None,
    ) -> None:
        self.model = model
        self.data = batch
        self.batch = batch
        if batch.size >= _THINNED_FROM and not batch.linked:
            chosen = torch.randperm(batch.size, generator=torch.Generator().manual_seed(0))[:_MOST_SAMPLES]
            self.batch = batch.take(chosen)
        self.optimizers = optimizers
        self.expect = expect
        self.causal = causal
        self.caller = Caller(model, loss_fn, self.batch)
        self._snapshot = snapshot
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self.first = self._first_pass()

    # --- passes -------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Begin anew: the weights that were given, no gradients, the same dice."""
        self._snapshot.put_back()
        self._snapshot.forget_gradients()
        seed()

    @contextlib.contextmanager
    def mode(self, *, train: bool) -> Iterator[None]:
        """From the weights that were given, all modules in training or all in evaluation mode."""
        self.reset()
        self.model.train(train)
        yield

    def _first_pass(self) -> FirstPass:
        try:
            return self._pass()
        except Exception as error:
            if self.caller.doubtful:
                self.caller.kind, self.caller.doubtful = "step", False
                with contextlib.suppress(Exception):
                    return self._pass()
                self.caller.kind = "loss"
            shapes = ", ".join(
                f"{name} {str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
                for name, tensor in self.batch.tensors()
            )
            text = f"the first forward pass and loss failed with {type(error).__name__}: {error} (batch: {shapes})"
            raise PreflightError(text) from error

    def _pass(self) -> FirstPass:
        with self.mode(train=True):
            with seeing(self.model) as seen:
                loss, outputs = self.caller.run(self.batch)
            first = FirstPass(loss, outputs, seen)
            if loss.requires_grad:
                try:
                    loss.backward(retain_graph=True)
                except Exception as error:
                    first.error = f"{type(error).__name__}: {error}"
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    gradient = parameter.grad
                    first.gradients[name] = gradient.to_dense() if gradient is not None else None
                    parameter.grad = None
            return first

    def outputs(self, batch: Batch) -> torch.Tensor:
        """The main tensor that the model returns, in whatever mode it is."""
        with torch.no_grad():
            found = main_tensor(self.caller.outputs(batch))
        if found is None:
            raise Skip("the step does not call the model as a whole, or it returns no tensor")
        return found

    def loss(self, batch: Batch) -> float:
        """The loss of a batch, in whatever mode the model is."""
        with torch.no_grad():
            return float(self.caller.run(batch)[0])

    # --- what is known ------------------------------------------------------------------------------------------------

    @cached_property
    def evaluated(self) -> Seen:
        """What is called in evaluation mode."""
        with self.mode(train=False), torch.no_grad(), seeing(self.model) as seen:
            self.caller.run(self.batch)
        return seen

    @cached_property
    def view(self) -> LossView | None:
        """What the loss knows: the call of torch's own that is all of it, else the largest, else a view by hand."""
        return self.view_of(self.first)

    def view_of(self, first: FirstPass) -> LossView | None:
        """The same of another pass."""
        calls = [call for call in first.seen.losses if call.result.numel() >= 1]
        whole = [call for call in calls if call.result.numel() == 1 and _same(float(call.result), first.value)]
        if whole:
            return LossView.of_call(whole[0], whole=True)
        scaled = [call for call in calls if call.result.numel() == 1]
        if scaled:
            return LossView.of_call(max(scaled, key=lambda call: abs(float(call.result))), whole=False)
        loss_fn, targets = self.caller.loss_fn, self.batch.targets
        predictions = main_tensor(first.outputs)
        if self.caller.kind == "loss" and isinstance(first.outputs, torch.Tensor) and isinstance(targets, torch.Tensor):
            assert loss_fn is not None
            assert predictions is not None
            view = recognised(predictions, targets, loss_fn)
            if calls and view.kind == "other":  # reduction="none", and the mean taken by hand
                view.kind = LossView.of_call(calls[0], whole=False).kind
            return view
        return None

    @property
    def known_view(self) -> LossView:
        """The same, for checks that cannot do without."""
        if self.view is None:
            raise Skip(
                "the loss is not one of torch's, and what it takes for predictions and targets is not known; hand over "
                "loss_fn(predictions, targets) to have this checked"
            )
        return self.view

    def name_of(self, parameter: torch.Tensor | None) -> str:
        """The name of a parameter, empty if it is none."""
        return next((name for name, p in self.model.named_parameters() if p is parameter), "")

    def weight_calls(self) -> list[Call]:
        """The linear and convolutional layers of the first pass, in order."""
        return self.first.seen.of("weights")

    def loss_calls(self) -> list[LossCall]:
        """The losses of torch that were called in the first pass."""
        return self.first.seen.losses


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _SAME * max(abs(one), abs(other))
