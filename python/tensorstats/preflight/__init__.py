"""``ts.preflight``: seconds before a long run, whether model, batch, loss and optimizer fit together."""

from __future__ import annotations

import sys
import time
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from tensorstats.preflight.checks.check import Check, Measurement, Skip
from tensorstats.preflight.default import default_checks
from tensorstats.preflight.report import CheckResult, Preflight
from tensorstats.preflight.run import run
from tensorstats.preflight.subject.batch import Batch
from tensorstats.preflight.subject.calling import PreflightError
from tensorstats.preflight.subject.restore import held_by, restored
from tensorstats.preflight.subject.subject import Subject
from tensorstats.preflight.subject.training import optimizers_in

__all__ = [
    "Check",
    "CheckResult",
    "Measurement",
    "Preflight",
    "PreflightError",
    "Skip",
    "default_checks",
    "preflight",
]

_EXPECTED = ("layers", "parameters")


def preflight(
    model: nn.Module,
    batch: Any,
    loss_fn: Callable[..., Any] | None = None,
    optimizer: Any = None,
    *,
    expect: Mapping[str, int] | None = None,
    causal: bool | None = None,
    reference: bool = False,
    checks: Sequence[Check] | None = None,
    seconds: float = 20.0,
) -> Preflight:
    """Check a model on one batch before a long run, and leave everything as it was.

    Weights, buffers, gradients, modes, hooks, the optimizer's state and all random generators have the same bits
    afterwards, also when something raises. An exception in a check becomes its SKIP.

    Parameters
    ----------
    model : torch.nn.Module
        The model, on the device of the batch. It is trained a little and put back.
    batch : tuple, mapping or DataLoader
        ``(inputs, targets)``, both of any nesting of tensors with samples along their first dimension: a tuple of
        inputs is several arguments of the model, a mapping named ones. With a step of your own, whatever it takes. A
        hundred samples and more let more checks be made.
    loss_fn : callable, optional
        ``loss_fn(predictions, targets) -> loss``, or a step ``loss_fn(model, batch) -> loss`` (its first parameter is
        then called ``model``). Without, the model is called with the batch and returns its loss.
    optimizer : torch.optim.Optimizer or several, optional
        Twins of it train; it is never stepped itself. Without, Adam does.
    expect : mapping, optional
        ``{"layers": 4, "parameters": 4810}``, or one of them: how many modules hold weights, and how many numbers.
    causal : bool, optional
        Whether outputs may depend on earlier positions alone. Found out from the targets unless given: where they are
        the inputs one position later, it must be so.
    reference : bool
        Also compare with logistic or linear regression on the same features (needs scikit-learn).
    checks : sequence of Check, optional
        In place of ``default_checks()``.
    seconds : float
        What the trainings may take together; those that do not end in it are skipped.

    Returns
    -------
    Preflight
        With ``findings``, ``checks``, ``ok``; ``print(report)`` is one screen, the worst first.

    Raises
    ------
    PreflightError
        If the model or the loss cannot be called on the batch even once.
    TypeError, ValueError
        For arguments that are none.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> import tensorstats as ts
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(dim=1))
    >>> inputs = torch.randn(64, 4)
    >>> report = ts.preflight(model, (inputs, inputs.argmax(1) % 3), nn.CrossEntropyLoss())
    >>> report.ok, report.findings[0].rule, report.findings[0].status
    (False, 'loss-input', 'failure')
    """
    started = time.monotonic()
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if loss_fn is not None and not callable(loss_fn):
        raise TypeError(f"loss_fn must be a callable, got {type(loss_fn).__name__}")
    for name, number in (expect or {}).items():
        if name not in _EXPECTED or not isinstance(number, int):
            raise ValueError(f"expect takes whole numbers of {' and '.join(_EXPECTED)}, got {name!r}: {number!r}")
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    if any(nn.parameter.is_lazy(p) for p in model.parameters()):
        raise ValueError("the model has lazy parameters without a shape: call it once on a batch before ts.preflight")
    optimizers = optimizers_in(optimizer)
    chosen = default_checks(reference=reference) if checks is None else list(checks)
    held = list(held_by(loss_fn))
    modules = [model, *(value for value in held if isinstance(value, nn.Module))]
    others = [value for value in held if isinstance(value, torch.optim.Optimizer)]
    with restored(modules, [*optimizers, *others]) as snapshot, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a training of the user's own will say them again
        given = next(iter(batch)) if isinstance(batch, DataLoader) else batch
        subject = Subject(
            model,
            Batch.of(given),
            loss_fn,
            optimizers,
            snapshot,
            seconds=seconds,
            expect=expect or {},
            causal=causal,
        )
        return run(chosen, subject, started)


class _CallableModule(types.ModuleType):
    """The module itself can be called: whoever imported ``tensorstats.preflight`` has it in place of the function."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Preflight:
        return preflight(*arguments, **keywords)


sys.modules[__name__].__class__ = _CallableModule
