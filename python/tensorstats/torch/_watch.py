"""The one way in: what ``ts.watch`` takes, said to its user, and the monitor made of it."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterable
from typing import Any

from torch import nn

from tensorstats.device.backend import Backend
from tensorstats.rules import Rule
from tensorstats.rules.suppression import Suppress
from tensorstats.run.choosing import Collection
from tensorstats.torch.actions import FindingError, OnFinding
from tensorstats.torch.attach.guard import WatchWarning
from tensorstats.torch.attach.masks import Mask
from tensorstats.torch.attach.modules import ModuleChoice
from tensorstats.torch.attach.schedule import Schedule
from tensorstats.torch.attach.targets import Models, Optimizers, resolve_targets
from tensorstats.torch.loop import TrainingLoop, loops_alike
from tensorstats.torch.monitor import Monitor
from tensorstats.torch.options import resolve_options
from tensorstats.torch.ranks.reduction import Ranks
from tensorstats.torch.record.units import Units

__all__ = ["DEFAULTS", "watch"]


def watch(
    model: Models,
    optimizer: Optimizers = None,
    *,
    every: int | None = None,
    start: int = 0,
    stop: int | None = None,
    steps: Iterable[int] = (),
    loss_fn: nn.Module | None = None,
    eval_schedule: Schedule | None = None,
    start_step: int = 0,
    modules: ModuleChoice = None,
    signals: Iterable[str] | None = None,
    collections: Iterable[str | Collection] | None = None,
    rules: Iterable[Rule] | None = None,
    suppress: Suppress | None = None,
    histograms: bool = False,
    units: Units = "activations",
    mask: Mask = None,
    scaler: Any = None,
    on_finding: OnFinding = None,
    backend: Backend = "auto",
    ranks: Ranks = None,
) -> Monitor:
    """A monitor of one or more models while they are trained.

    Parameters
    ----------
    model : torch.nn.Module, several of them, or a mapping of names to them
        Watched through forward hooks. Nothing is kept alive and no result changes. Of several models, names begin with
        the model's: that of the mapping, or ``model0``, ``model1``, ...
    optimizer : torch.optim.Optimizer, several of them, or a mapping of names to them, optional
        Its ``step`` ends a step: gradients are read right before (after accumulation and unscaling), parameters and
        updates right after. With several, a step ends when all have stepped or when one is about to step again. Without
        any, a step is one call of the (first) model in training mode.
    every, start, stop, steps
        Steps `start`, `start + every`, ... before `stop` are recorded, and the named `steps`; the others cost nothing.
        `every` is 1 unless `steps` are named.
    loss_fn : torch.nn.Module, optional
        The loss module that the loop calls with predictions and targets. Of its calls in recorded steps the loss is
        logged and what goes in is counted (classes, ranges, errors), so that findings can say whether the run beats the
        best constant answer, and whether what the loss is fed fits it; see ``Monitor.loss_state``. Calls without
        gradients go to the validation curve. Losses of functions: ``monitor.log_loss(loss,
        predictions=..., targets=...)``.
    eval_schedule : Schedule, optional
        Which calls of the models in eval mode are recorded, apart from training: read them with ``mode="eval"``. None
        records none.
    start_step : int
        The number of the first step, for a resumed run; or see ``Monitor.load_state_dict``.
    modules : None, type, tuple of types, str or callable, optional
        ``None`` watches all modules without children; otherwise module types, a regular expression on the name, or a
        function ``(name, module) -> bool``. Parameters are those of the watched modules.
    signals : iterable of str, optional
        Of ``"outputs"``, ``"parameters"``, ``"gradients"``, ``"updates"`` (these by default), ``"inputs"`` (of
        modules), ``"output_gradients"`` (with respect to outputs), ``"raw_gradients"`` (of parameters, as backward
        left them: before clipping) and ``"optimizer_state"``. Losses and learning rates are always kept.
    collections : iterable of str or Collection, optional
        Record only these: ``"weights"``, ``"biases"``, ``"gradients"``, ``"updates"``, ``"activations"``, ``"inputs"``,
        ``"optimizer_state"``, ``"losses"``, or your own. Without `signals`, their signals are taken.
    rules : iterable of Rule, optional
        Instead of :func:`tensorstats.rules.default_rules`.
    suppress : str, Suppression, or several of them, optional
        Findings that are known and meant to be: ``"dead-units"``, ``"dead-units:encoder"`` (a rule, and a module or a
        pattern), a :class:`tensorstats.rules.Suppression`, or what :func:`tensorstats.rules.load_baseline` returns.
        They call nobody, and are found under ``suppressed``.
    histograms : bool
        Also keep a LogLinear histogram of everything recorded: of all steps together and of single ones.
    units : {"activations", "all", "none"}
        Of which modules the activity of every unit of the output is kept, which is what dead and saturated units are
        told from; ``"all"`` keeps that of inputs too.
    mask : tensor or callable, optional
        Which positions of inputs, outputs and their gradients count: a tensor of the shape of their first dimensions
        (``[batch, time]``), true where there is no padding, or a function ``(name, tensor) -> mask or None``. Set
        ``monitor.mask`` for a new one each step.
    scaler : torch.amp.GradScaler, optional
        Undoes the scale in ``"raw_gradients"`` and ``"output_gradients"``. One of this class is heard without being
        handed over; all other signals are unscaled in any case.
    on_finding : callable, "raise", "warn" or "breakpoint", optional
        A callable is called with every new :class:`Finding`. ``"raise"`` raises :class:`FindingError` out of the
        optimizer's step: before it changes a weight when an output or a gradient is not finite, after it for anything
        else (without an optimizer, and of a step that was left, out of the next call of the model). ``"breakpoint"``
        opens the debugger at the module whose output is the first that is not finite, and at the end of the step for
        everything else. What an accelerator counted is told one step later: ``"raise"`` raises out of the next step of
        the optimizer, before it changes a weight, everything else happens at its end; what the last step found is told
        by ``close()``.
    backend : {"auto", "core", "torch"}
        ``"torch"`` forces the path of accelerators.
    ranks : None, "merge" or "local", optional
        ``None`` merges the ranks of ``torch.distributed`` where it is initialised with two or more. Outputs and their
        gradients are then those of all batches together, sharded parameters (FSDP2, DTensor) whole, and equal copies
        (DistributedDataParallel) counted once; ``Monitor.ranks`` gives what each rank had. Every rank must watch, with
        the same schedule; one that does not costs the others a wait of at most a minute, once. ``"local"`` exchanges
        nothing and leaves sharded tensors out.

    Returns
    -------
    Monitor
        A context manager; ``close()`` detaches it.

    Raises
    ------
    TypeError, ValueError
        For arguments of the wrong kind. Once attached, the monitor raises nothing into the training loop but what
        `on_finding` asks for; its own errors are in ``errors``.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with watch(model, optimizer) as monitor:
    ...     for _ in range(3):
    ...         optimizer.zero_grad()
    ...         model(torch.ones(2, 4)).mean().backward()
    ...         optimizer.step()
    >>> monitor.names("outputs"), monitor.step
    (['0', '1', '2'], 3)
    """
    options = resolve_options(
        every=every,
        start=start,
        stop=stop,
        steps=steps,
        eval_schedule=eval_schedule,
        start_step=start_step,
        modules=modules,
        signals=signals,
        collections=collections,
        rules=rules,
        suppress=suppress,
        histograms=histograms,
        units=units,
        mask=mask,
        scaler=scaler,
        loss_fn=loss_fn,
        on_finding=on_finding,
        backend=backend,
        ranks=ranks,
    )
    targets = resolve_targets(model, optimizer)
    for other in loops_alike(targets, options):
        _replace(other)
    return Monitor(targets, options)


def _replace(other: TrainingLoop) -> None:
    """A second monitor would record the same again: a cell of a notebook was run once more."""
    with contextlib.suppress(FindingError):  # what it found can still be read
        other.close()
    warnings.warn(
        "this model was already watched in the same way: the earlier monitor is closed, and what it recorded stays "
        "readable; close() it before, or use `with`, to say so yourself",
        WatchWarning,
        stacklevel=3,
    )


# Every option, and what it is where it is not given.
DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(watch).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
}
