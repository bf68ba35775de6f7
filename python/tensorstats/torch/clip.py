"""Owns gradient clipping by an accurate norm. Knows nothing of hooks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from tensorstats._norms import norm

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["clip_grad_norm_"]

# torch adds this to the norm before dividing, so that a zero norm divides nothing by zero.
_EPSILON = 1e-6


@torch.no_grad()
def clip_grad_norm_(
    parameters: torch.Tensor | Iterable[torch.Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> torch.Tensor:
    """Scale the gradients of `parameters` in place so that their norm, taken as one vector, is at most `max_norm`.

    The same as `torch.nn.utils.clip_grad_norm_`, with the norm computed in double precision: torch sums squares in the
    dtype of the
    gradients, which is off by per cents for big f32 gradients, rounds to three digits in bf16 and overflows above 256
    in f16.

    Parameters
    ----------
    parameters
        One tensor or several; those without a gradient are left out.
    max_norm
        Largest norm allowed.
    norm_type
        1, 2 or `math.inf`.
    error_if_nonfinite
        Raise when the norm is NaN or infinite, before anything is changed. Otherwise the gradients are scaled by it,
        as torch does.

    Returns
    -------
    torch.Tensor
        Norm before clipping, 0-d, on the device of the first gradient; float64 for float64 gradients, else float32. 0
        without any.

    Raises
    ------
    ValueError
        `norm_type` is something else.
    RuntimeError
        The norm is not finite and `error_if_nonfinite` is true.

    Examples
    --------
    >>> import torch
    >>> from tensorstats.torch import clip_grad_norm_
    >>> weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float16))
    >>> weight.grad = torch.tensor([300.0], dtype=torch.float16)
    >>> clip_grad_norm_(weight, max_norm=1.0), weight.grad
    (tensor(300.), tensor([1.], dtype=torch.float16))
    """
    tensors = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
    gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
    if not gradients:
        return torch.tensor(0.0)
    total = norm(gradients, ord=norm_type)
    if error_if_nonfinite and not math.isfinite(total):
        raise RuntimeError(f"the total norm of the gradients must be finite to clip them, got: {total}")
    scale = min(float(max_norm) / (total + _EPSILON), 1.0) if not math.isnan(total) else math.nan
    if scale != 1.0:
        torch._foreach_mul_(gradients, scale)
    dtype = torch.float64 if all(gradient.dtype == torch.float64 for gradient in gradients) else torch.float32
    return torch.tensor(total, dtype=dtype, device=gradients[0].device)
