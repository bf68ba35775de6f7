"""Whether a call of a model counts as training: its mode, recomputation, traces; records and judges nothing."""

from __future__ import annotations

import torch
from torch import nn

from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.record.loop_state import LoopState
from tensorstats.torch.record.recorders import Recorders

__all__ = ["CallMode", "has_values", "is_recomputing"]

# Asked at every output: what `torch.jit.is_tracing()` asks in turn, and what there is no public name for.
_is_jit_tracing = torch._C._is_tracing
_current_graph_task_id = torch._C._current_graph_task_id

# Of torch.func, inside whose transforms tensors have no values that could be counted; None outside.
_level_of_transforms = torch._C._functorch.maybe_current_level


def is_recomputing() -> bool:
    """Whether a backward pass is going on: a module called there runs once more, by activation checkpointing."""
    return _current_graph_task_id() != -1  # every task of autograd has an id


def has_values() -> bool:
    """Whether tensors have values that can be counted: no trace of torch.jit, no transform of torch.func."""
    return not _is_jit_tracing() and _level_of_transforms() is None


class CallMode:
    """Finds out which calls are the training, also where a model is trained in eval mode.

    A training step is what ends with a step of the optimizer. What the calls in eval mode before it were is known only
    then; until it is, they are recorded, and dropped where a call in training mode follows.
    """

    def __init__(self, state: LoopState, guard: Guard, recorders: Recorders, *, has_optimizer: bool) -> None:
        self._state = state
        self._guard = guard
        self._recorders = recorders
        self._has_optimizer = has_optimizer
        self._trains_in_eval: bool | None = None  # whether calls in eval mode are the training; None: not known yet
        self._only_eval = False  # all that was recorded in this step so far are such calls, and it is not known
        self._eval_calls = False  # there were such calls in this step, which were not recorded

    @property
    def is_open(self) -> bool:
        """Whether what is recorded may have to be dropped: it is not known yet what calls in eval mode are."""
        return self._trains_in_eval is None and self._has_optimizer

    @property
    def trains_in_eval(self) -> bool | None:
        """Whether calls in eval mode are the training; None where it is not known."""
        return self._trains_in_eval

    @property
    def is_guessed(self) -> bool:
        """Whether all that was recorded in this step are calls of which it is not known."""
        return self._only_eval

    @property
    def has_missed(self) -> bool:
        """Whether calls in eval mode were left out of this step, and no others ran."""
        return self._eval_calls and not self._recorders.outputs.ran

    @property
    def evaluates_in_eval(self) -> bool:
        """Whether calls in eval mode are known to be no training."""
        return self._trains_in_eval is False

    def begin(self) -> None:
        """A recorded step begins."""
        self._only_eval = self._eval_calls = False

    def listens(self, model: nn.Module) -> bool:
        """Whether a forward pass counts now: training mode, no trace, no recomputation by activation checkpointing."""
        if not (self._state.recording and _current_graph_task_id() == -1 and not _is_jit_tracing()):
            return False
        if _level_of_transforms() is not None:
            self._guard.remark("calls inside vmap, grad and other transforms of torch.func", "they are not counted")
            return False
        if model.training:
            if self._trains_in_eval is not False:
                self._called_in_training()
            return True
        return self._may_train_in_eval_mode()

    def _may_train_in_eval_mode(self) -> bool:
        """Whether a call in eval mode counts now: gradients are on, and no call of this step was in training mode."""
        if not torch.is_grad_enabled() or not self._has_optimizer:
            return False
        if self._trains_in_eval is None:
            self._only_eval = True
        elif not self._trains_in_eval:
            self._eval_calls = True
            return False
        return True

    def _called_in_training(self) -> None:
        """Calls in eval mode are an evaluation then: forget what was recorded of them, if they may have been one."""
        self._trains_in_eval = False
        if not self._only_eval:
            return
        self._only_eval = False
        self._recorders.outputs.begin()
        for series in self._recorders.histograms.values():
            if series.step.apart is not None:
                series.step.apart.clear()

    def step_ends(self, *, trained: bool) -> None:
        """An optimizer has stepped: now it is known whether calls in eval mode were for it.

        `trained` says that a backward pass went before it.
        """
        if self._only_eval:
            self._trains_in_eval = True
            self._guard.remark(
                "the model", "it is trained in eval mode: dropout is off and batch norm does not learn its statistics"
            )
        elif self.has_missed and trained:
            self._trains_in_eval = None  # it was for this one, which has none of them
