"""Owns gradient clipping by an accurate norm. Knows nothing of hooks."""

from __future__ import annotations

import math
import warnings
from types import GeneratorType
from typing import TYPE_CHECKING

import torch

from tensorstats._norms import norm
from tensorstats.device.fixed_point import has_float64

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["clip_grad_norm_"]

# torch adds this to the norm before dividing, so that a zero norm divides nothing by zero.
_EPSILON = 1e-6

# Factors below it are close to the end of float32. A power of two: multiplying by it rounds nothing.
_SMALL = 2.0**-64


def clip_grad_norm_(
    parameters: torch.Tensor | Iterable[torch.Tensor],
    max_norm: float,
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,  # noqa: ARG001  # part of torch's signature
) -> torch.Tensor:
    """Scale the gradients of `parameters` in place so that their norm, taken as one vector, is at most `max_norm`.

    The same as `torch.nn.utils.clip_grad_norm_`, with the norm computed in double precision: torch sums squares in the
    dtype of the gradients, which is off by per cents for big f32 gradients, rounds to three digits in bf16 and
    overflows above 256 in f16.

    Parameters
    ----------
    parameters
        One tensor or several; those without a gradient are left out.
    max_norm
        Largest norm allowed.
    norm_type
        Order of the norm: any number, or `math.inf` or `"inf"` for the largest magnitude.
    error_if_nonfinite
        Raise when the norm is NaN or infinite, before anything is changed. Otherwise the gradients are scaled by it,
        as torch does.
    foreach
        Taken, since torch takes it; nothing depends on it.

    Returns
    -------
    torch.Tensor
        Norm before clipping, 0-d, on the device of the first gradient; float64 for float64 gradients and where float32
        would overflow, else float32. 0 without any.

    Raises
    ------
    TypeError, ValueError
        `norm_type` is no number, or a gradient is not supported; the message names it.
    RuntimeError
        The norm is not finite and `error_if_nonfinite` is true.

    Warns
    -----
    UserWarning
        `parameters` is a generator that gives none: one that was used up before, most likely.

    Examples
    --------
    >>> import torch
    >>> from tensorstats.torch import clip_grad_norm_
    >>> weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float16))
    >>> weight.grad = torch.tensor([300.0], dtype=torch.float16)
    >>> clip_grad_norm_(weight, max_norm=1.0), weight.grad
    (tensor(300.), tensor([1.], dtype=torch.float16))
    """
    order = _order(norm_type)
    tensors = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
    if not tensors and isinstance(parameters, GeneratorType):
        warnings.warn(
            "`parameters` is an empty generator, so no gradient is clipped; was it used up before?", stacklevel=2
        )
    gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
    if not gradients:
        return torch.tensor(0.0)
    with torch.no_grad():
        total = norm(gradients, ord=order) if order in (1.0, 2.0, math.inf) else _norm_of_order(gradients, order)
        if error_if_nonfinite and not math.isfinite(total):
            raise RuntimeError(f"the total norm of the gradients must be finite to clip them, got: {total}")
        scale = min(float(max_norm) / (total + _EPSILON), 1.0) if not math.isnan(total) else math.nan
        if 0.0 < scale < _SMALL:
            # In two steps: float32, in which small dtypes are multiplied, has no digits for such a factor.
            torch._foreach_mul_(gradients, _SMALL)
            scale /= _SMALL
        if scale != 1.0:
            torch._foreach_mul_(gradients, scale)
    wide = all(gradient.dtype == torch.float64 for gradient in gradients)
    beyond = math.isfinite(total) and total > torch.finfo(torch.float32).max
    dtype = torch.float64 if wide or beyond else torch.float32
    return torch.tensor(total, dtype=dtype, device=gradients[0].device)


def _order(norm_type: float | str) -> float:
    try:
        order = float(norm_type)
    except (TypeError, ValueError):
        order = math.nan
    if math.isnan(order):
        raise ValueError(f"norm_type must be a number or 'inf', got: {norm_type!r}")
    return order


def _norm_of_order(gradients: list[torch.Tensor], order: float) -> float:
    """The norm of the norms, as torch has it for any order, in double precision where the device has it."""
    largest = norm(gradients, ord=math.inf)  # refuses what is no gradient of ours, and names it
    if not math.isfinite(largest) or largest == 0.0:
        shift = 0
    else:
        shift = math.frexp(largest)[1]  # a power of two: powers of what is left neither overflow nor lose a digit
    each = []
    for gradient in gradients:
        dtype = torch.float64 if has_float64(gradient.device) else torch.float32
        values = torch.ldexp(gradient.detach().to(dtype), torch.tensor(-shift, device=gradient.device))
        each.append(float(torch.linalg.vector_norm(values, order)))
    total = float(torch.linalg.vector_norm(torch.tensor(each, dtype=torch.float64), order))
    return total if order == 0.0 else math.ldexp(total, shift)
