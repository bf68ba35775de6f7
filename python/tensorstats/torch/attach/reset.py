"""Follows the gradient of one parameter: whether it was reset, added onto, or thrown away unused; changes nothing."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from tensorstats import _core
from tensorstats._core import TensorSlot
from tensorstats.torch.attach.guard import Guard

__all__ = ["ResetWatch"]

# So many values of a gradient are looked at, where its values have to be.
_SAMPLE = 256
# A gradient of at most so many values in host memory is asked whether it is finite whenever it has arrived.
_CHECKED = 1 << 16
# So many parameters are tried until one has a gradient that is not zero throughout.
_TRIED = 8


class ResetWatch:
    """Follows the gradient of one parameter, the witness, from one optimizer step to the next.

    One hook runs right before a backward pass adds to the gradient, one right after. If the gradient is then the one
    that the last step used, nothing has reset it. That holds wherever the user calls ``zero_grad`` (before the forward
    pass, after it, right after the step), for resets to None, to zero and to something else, for gradients that are
    views of one buffer, and for several backward passes per step. What ``torch.autograd.grad`` computes is added to
    nothing and counts as no backward pass.

    Attributes
    ----------
    passes : int
        Backward passes since the last step that have added to the gradient.
    unused : bool
        The last of them is still waiting for an optimizer.
    nonfinite : bool
        Some of them left a NaN or an infinity, as far as that can be known without waiting.
    on_lost : callable or None
        Called at the beginning of a backward pass when the last one's gradient was thrown away unused.
    on_nonfinite : callable or None
        Called when a backward pass has left a NaN or an infinity, while it goes on.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._parameter: torch.Tensor | None = None
        self.handles: list[torch.utils.hooks.RemovableHandle] = []
        self._slot = TensorSlot()
        self._address: int | None = None  # of the gradient that the last step used
        self._version = 0
        self._suspect = True  # its values have to be looked at: nothing else may tell
        self._sample: torch.Tensor | None = None
        self._finding: bool | torch.Tensor | None = None  # whether it was kept, until the backward pass has added to it
        self._kept: bool | torch.Tensor | None = None
        self._after: tuple[int, int] = (0, 0)  # address and version after the last backward pass
        self._weights = 0  # version of the parameter when the step began
        self.passes = 0
        self.unused = False
        self.nonfinite = False
        self.on_lost: Callable[[], None] | None = None
        self.on_nonfinite: Callable[[], None] | None = None

    def arm(self, parameters: Iterable[torch.Tensor]) -> None:
        """A step begins, in which these parameters may get gradients."""
        candidates = list(parameters)
        chosen = self._choose(candidates)
        if chosen is None:
            self.disarm()
            return
        if chosen is not self._parameter:
            self.disarm()
            self._parameter = chosen
            hook = self._guard.hook
            self.handles += [
                chosen.register_hook(hook("gradient reset", self._before_accumulation)),
                chosen.register_post_accumulate_grad_hook(hook("gradient reset", self._after_accumulation)),
            ]
        gradient = chosen.grad
        self._sample = None
        self._address = None
        if gradient is not None:
            self._address, self._version = _address(gradient), gradient._version
            if self._suspect:
                sample = _sample(gradient)
                self._sample = None if sample is None else sample.clone()
        self._weights = chosen._version
        self._finding = self._kept = None
        self.passes, self.unused, self.nonfinite = 0, False, False

    def _choose(self, candidates: Sequence[torch.Tensor]) -> torch.Tensor | None:
        """The parameter to follow: the first that holds a gradient, if possible one that is not zero throughout."""
        candidates = [p for p in candidates if not nn.parameter.is_lazy(p)]  # no values yet, and no place for hooks
        able = (p for p in candidates if p.requires_grad and p.is_leaf)
        tried = _TRIED if self._suspect else 1
        with_gradient = (p for p in able if p.grad is not None and p.grad.layout is torch.strided)
        holding = list(itertools.islice(with_gradient, tried))
        for parameter in holding:
            sample = _sample(parameter.grad) if self._suspect and parameter.is_cpu else None
            if sample is None or bool(sample.any()):
                return parameter
        if holding:
            return holding[0]
        mine = self._parameter
        if mine is not None and mine.requires_grad and any(parameter is mine for parameter in candidates):
            return mine
        # None holds one yet. What lies next to the loss mostly gets one.
        return next((p for p in reversed(candidates) if p.requires_grad and p.is_leaf), None)

    # --- the two hooks ------------------------------------------------------------------------------------------------

    def _before_accumulation(self, _incoming: torch.Tensor) -> None:
        parameter = self._parameter
        if parameter is None:
            return
        gradient = parameter.grad
        if self.passes == 0:
            self._finding = self._was_kept(gradient)
            return
        lost = self._was_reset(gradient)
        if self._kept is not None and self._kept is not False:
            self._kept = self._still_kept(gradient, lost)
        if lost and self.unused and self.on_lost is not None:
            self.unused = False
            self.on_lost()

    def _after_accumulation(self, parameter: torch.Tensor) -> None:
        gradient = parameter.grad
        if gradient is None:
            return
        if self.passes == 0:
            self._kept = self._finding
        self.passes += 1
        self.unused = True
        self._after = (_address(gradient), gradient._version)
        if gradient.is_cpu and gradient.numel() <= _CHECKED and not self.nonfinite:
            self._slot.begin()
            finite = self._slot.count(gradient, None, 1)
            if finite is None and type(gradient) is torch.Tensor and gradient.layout is torch.strided:
                # An older torch hands its tensors over through Python.
                with contextlib.suppress(TypeError, ValueError, BufferError, RuntimeError):
                    finite = _core.all_hold([gradient], None, 1)
            if finite is False:
                self.nonfinite = True
                if self.on_nonfinite is not None:
                    self.on_nonfinite()

    # --- reset since the last step ------------------------------------------------------------------------------------

    def _was_kept(self, gradient: torch.Tensor | None) -> bool | torch.Tensor | None:
        """Whether this is what the last step used; None where that cannot be told, a tensor where a device knows."""
        if self._address is None:
            return None
        if gradient is None or _address(gradient) != self._address:
            self._suspect = False
            return False
        # The views of one buffer share a version: that of another parameter's gradient changes it too.
        if gradient._version != self._version and not gradient._is_view():
            self._suspect = False
            return False
        self._suspect = True
        sample, now = self._sample, _sample(gradient)
        if sample is None or now is None or sample.shape != now.shape:
            return None
        same = (sample == now).all()
        if not now.is_cpu:
            return same & sample.any()
        # Zeros before and after say nothing, and zeros now are a reset that left no other trace (through `.data`).
        return bool(same) if bool(sample.any()) else None

    def _still_kept(self, gradient: torch.Tensor | None, lost: bool) -> bool | torch.Tensor | None:
        """What was added to the last step's gradient may have been thrown away with it: an attack's, a penalty's."""
        if lost or gradient is None:
            return False
        if gradient.is_cpu or (_address(gradient), gradient._version) == self._after:
            return self._kept
        sample = _sample(gradient)
        return None if sample is None or self._kept is None else sample.any() & self._kept

    def kept(self) -> bool | torch.Tensor | None:
        """True when the last step's gradient was added onto, False when it was reset, None when it cannot be told.

        What lies on a device is told there: as a tensor of one element.
        """
        return self._kept

    # --- thrown away within the step ----------------------------------------------------------------------------------

    def is_lost(self) -> bool:
        """Whether the gradient of the last backward pass was thrown away before any optimizer used it."""
        return self.unused and self._parameter is not None and self._was_reset(self._parameter.grad)

    def _was_reset(self, gradient: torch.Tensor | None) -> bool:
        if gradient is None:
            return True
        if not gradient.is_cpu or (_address(gradient), gradient._version) == self._after:
            return False
        sample = _sample(gradient)  # it was changed: clipped and averaged gradients are not zero
        return sample is not None and not bool(sample.any())

    @property
    def weights_moved(self) -> bool:
        """Whether the parameter was changed in this step, by whatever it may be."""
        return self._parameter is not None and self._parameter._version != self._weights

    def use(self) -> None:
        """Some optimizer has stepped: the gradient was not computed in vain."""
        self.unused = False

    def disarm(self) -> None:
        """Remove the hooks and forget the parameter."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        self._parameter = None
        self._sample = None
        self._finding = self._kept = None
        self.passes, self.unused, self.nonfinite = 0, False, False


def _address(gradient: torch.Tensor) -> int:
    """Where its values are; of a sparse one, which object it is."""
    return gradient.data_ptr() if gradient.layout is torch.strided else id(gradient)


def _sample(gradient: torch.Tensor | None) -> torch.Tensor | None:
    """A few of its values, as a view; None of what has none to look at."""
    if gradient is None or gradient.layout is not torch.strided or type(gradient) is not torch.Tensor:
        return None
    values = gradient.detach()
    while values.dim() > 1:
        values = values.view(-1) if values.is_contiguous() else values[0]
    return values[:_SAMPLE] if values.dim() else values.reshape(1)
