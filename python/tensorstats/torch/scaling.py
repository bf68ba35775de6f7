"""Takes the scale of a gradient scaler out of gradients that still hold it; knows no statistics."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["scales", "unscaled"]


def scales(scaler: Any) -> bool:
    """Whether there is a scaler at work."""
    return scaler is not None and bool(scaler.is_enabled())


def unscaled(gradient: torch.Tensor, scaler: Any) -> torch.Tensor:
    """The gradient of the loss itself, from that of the scaled loss."""
    # Where the scale lies on a device, asking for its value would wait there.
    scale = getattr(scaler, "_scale", None)
    result: torch.Tensor = gradient / (scaler.get_scale() if scale is None else scale)
    return result
