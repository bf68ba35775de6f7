"""Tells whether gradients were reset between two optimizer steps; reads no values and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from tensorstats.torch.guard import Guard

__all__ = ["ResetWatch"]


class ResetWatch:
    """Follows the gradient of one parameter from one optimizer step to the next.

    A hook on the parameter runs right before a backward pass adds to its gradient. If the gradient is then the very
    tensor that the last step used, unmodified, nothing has reset it. That holds wherever the user calls ``zero_grad``
    (before the forward pass, after it, right after the step), for resets to None and to zero, and for several backward
    passes per step.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._parameter: torch.Tensor | None = None
        self._handle: torch.utils.hooks.RemovableHandle | None = None
        self._address = 0
        self._version = 0
        self._passes = 0
        self._was_reset = False

    def arm(self, parameters: Iterable[torch.Tensor]) -> None:
        """Begin with the first parameter that holds a gradient now; without one there is nothing to tell."""
        for parameter in parameters:
            gradient = parameter.grad
            if parameter.requires_grad and gradient is not None and gradient.layout is torch.strided:
                break
        else:
            self.disarm()
            return
        if parameter is not self._parameter:  # it mostly is that of the last step
            self.disarm()
            self._parameter = parameter
            self._handle = parameter.register_hook(self._guard.hook("gradient reset", self._before_accumulation))
        self._address, self._version = gradient.data_ptr(), gradient._version
        self._passes, self._was_reset = 0, False

    def _before_accumulation(self, _incoming: torch.Tensor) -> None:
        gradient = None if self._parameter is None else self._parameter.grad
        self._passes += 1
        if gradient is None or gradient.data_ptr() != self._address or gradient._version != self._version:
            self._was_reset = True
        elif not self._was_reset and gradient.device.type == "cpu" and not gradient.any():
            self._was_reset = True  # zeroed through `.data`, which leaves no trace but the zeros
        # The addition that follows is one in-place change; anything beyond it is somebody else's.
        self._version += 1

    def kept(self) -> bool | None:
        """True when the last step's gradient was added onto, False when it was reset, None when it cannot be told."""
        if self._parameter is None or self._passes == 0:
            return None
        gradient = self._parameter.grad
        if gradient is None or gradient.data_ptr() != self._address:
            return False  # put there anew after the backward pass: torch.autograd.grad, or a gradient computed by hand
        return not self._was_reset

    def disarm(self) -> None:
        """Remove the hook and forget the parameter."""
        if self._handle is not None:
            self._handle.remove()
        self._handle, self._parameter = None, None
        self._passes, self._was_reset = 0, False
