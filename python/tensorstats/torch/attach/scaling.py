"""Hears what gradient scalers scale and step, and takes their scale out of gradients; changes nothing that they do.

torch tells nobody when a scaler leaves out a step. While somebody listens, ``scale`` and ``step`` of
``torch.amp.GradScaler`` are therefore methods that call the original and say so. Accelerate's and Lightning's scalers
are of this class.
"""

from __future__ import annotations

import functools
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["ScalerListener", "Scaling", "scale_of"]


class ScalerListener(ABC):
    """Somebody who wants to hear of scalers, from `listen` until `stop`; nothing is held alive."""

    @abstractmethod
    def scaler_scales(self, scaler: Any) -> None:
        """A loss is multiplied by the scale."""

    @abstractmethod
    def scaler_steps(self, scaler: Any, optimizer: Any) -> None:
        """A scaler is about to step an optimizer, or not to."""

    @abstractmethod
    def scaler_stepped(self, scaler: Any, optimizer: Any) -> None:
        """It has, or has not."""

    def listen(self) -> None:
        """Hear from now on."""
        _LISTENERS.add(self)
        for name, hearing in (("scale", _hear_scale), ("step", _hear_step)):
            if not hasattr(getattr(_SCALER, name), _MARK):
                setattr(_SCALER, name, hearing(getattr(_SCALER, name)))

    def stop(self) -> None:
        """Hear no more. The last one puts the methods back, unless somebody has put others over them."""
        _LISTENERS.discard(self)
        for name in () if _LISTENERS else ("scale", "step"):
            original = vars(vars(_SCALER)[name]).get(_MARK)
            if original is not None:
                setattr(_SCALER, name, original)


_LISTENERS: weakref.WeakSet[ScalerListener] = weakref.WeakSet()
_SCALER = torch.amp.GradScaler
_MARK = "_tensorstats_original"


def _hear_scale(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def scale(self: Any, *arguments: Any, **keywords: Any) -> Any:
        if self.is_enabled() and not torch.compiler.is_compiling():
            for listener in tuple(_LISTENERS):
                listener.scaler_scales(self)
        return original(self, *arguments, **keywords)

    setattr(scale, _MARK, original)
    return scale


def _hear_step(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def step(self: Any, optimizer: Any, *arguments: Any, **keywords: Any) -> Any:
        if not self.is_enabled() or torch.compiler.is_compiling():
            return original(self, optimizer, *arguments, **keywords)
        listeners = tuple(_LISTENERS)
        for listener in listeners:
            listener.scaler_steps(self, optimizer)
        result = original(self, optimizer, *arguments, **keywords)
        for listener in listeners:
            listener.scaler_stepped(self, optimizer)
        return result

    setattr(step, _MARK, original)
    return step


class Scaling:
    """The scale that gradients of one step hold: that of the scaler handed over, or of one that was heard to scale."""

    def __init__(self, given: Any) -> None:
        self._given = given
        self._heard: weakref.ref[Any] | None = None

    def begin(self) -> None:
        """A step begins; nothing was scaled in it."""
        self._heard = None

    def hear(self, scaler: Any) -> None:
        """A scaler scales a loss of this step, or steps a watched optimizer."""
        if self._heard is None or self._heard() is not scaler:
            self._heard = weakref.ref(scaler)

    @property
    def heard(self) -> bool:
        """Whether anything was scaled in this step."""
        return self._heard is not None

    @property
    def scaler(self) -> Any:
        """The scaler at work; None without one."""
        if self._given is not None and self._given.is_enabled():
            return self._given
        return None if self._heard is None else self._heard()

    def unscaled(self, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient of the loss itself, from that of the scaled loss; the same tensor where nothing was scaled."""
        scaler = self.scaler
        if scaler is None:
            return gradient
        # Where the scale lies on a device, asking for its value would wait there.
        scale = getattr(scaler, "_scale", None)
        if isinstance(scale, torch.Tensor) and scale.device != gradient.device:
            scale = scale.to(gradient.device, non_blocking=True)
        # In 16 bits, what was scaled to be representable would vanish again.
        wide = gradient.float() if gradient.element_size() < 4 else gradient
        with torch.no_grad():
            result: torch.Tensor = wide / (scaler.get_scale() if scale is None else scale)
        return result


def scale_of(scaler: Any) -> float:
    """The scale, for whoever may wait for a device: after a skipped step the scaler itself has just done so."""
    return float(scaler.get_scale())
