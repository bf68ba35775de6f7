"""The one way in: checks the arguments of ``ts.watch`` and makes the monitor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, SupportsIndex

from tensorstats.rules import Rule
from tensorstats.torch.actions import OnFinding
from tensorstats.torch.choosing import DEFAULT_SIGNALS, SCALARS, SIGNALS, Collection, resolve_collections
from tensorstats.torch.collect import Units
from tensorstats.torch.masks import Mask
from tensorstats.torch.modules import ModuleChoice
from tensorstats.torch.monitor import Monitor
from tensorstats.torch.reduction import Ranks
from tensorstats.torch.schedule import Schedule
from tensorstats.torch.states import Backend
from tensorstats.torch.targets import Models, Optimizers, resolve_targets

__all__ = ["watch"]


def watch(
    model: Models,
    optimizer: Optimizers = None,
    *,
    every: int | None = None,
    start: int = 0,
    stop: int | None = None,
    steps: Iterable[int] = (),
    eval_schedule: Schedule | None = None,
    start_step: int = 0,
    modules: ModuleChoice = None,
    signals: Iterable[str] | None = None,
    collections: Iterable[str | Collection] | None = None,
    rules: Iterable[Rule] | None = None,
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
        else (without an optimizer, out of the next call of the model). ``"breakpoint"`` opens the debugger at the
        module whose output is the first that is not finite, and at the end of the step for everything else. What an
        accelerator counted is told one step later: ``"raise"`` raises out of the next step of the optimizer, before it
        changes a weight, everything else happens at its end; what the last step found is told by ``close()``.
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
        For arguments of the wrong kind. Once attached, the monitor never raises into the training loop: see ``errors``.

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
    chosen = resolve_collections(collections)
    if signals is None:
        named = [signal for collection in chosen or () for signal in collection.signals]
        signals = DEFAULT_SIGNALS if chosen is None else [signal for signal in named if signal not in SCALARS]
    wanted = frozenset([signals] if isinstance(signals, str) else signals)
    if not wanted <= set(SIGNALS):
        raise ValueError(f"signals must be of {', '.join(SIGNALS)}, got {', '.join(sorted(wanted - set(SIGNALS)))}")
    if units not in ("activations", "all", "none"):
        raise ValueError(f"units must be 'activations', 'all' or 'none', got {units!r}")
    if isinstance(rules, Iterator):
        rules = list(rules)  # looked at twice: here and by the judge
    _check_kinds(
        whole={"every": every, "start": start, "stop": stop, "start_step": start_step},
        schedule=eval_schedule,
        rules=rules,
    )
    if start_step < 0:
        raise ValueError(f"start_step must be a step from 0 on, got {start_step}")
    return Monitor(
        resolve_targets(model, optimizer),
        schedule=Schedule(every, start, stop, steps),
        eval_schedule=eval_schedule,
        start_step=start_step,
        modules=modules,
        signals=wanted,
        collections=chosen,
        rules=rules,
        histograms=histograms,
        units=units,
        mask=mask,
        scaler=scaler,
        on_finding=on_finding,
        backend=backend,
        ranks=ranks,
    )


def _check_kinds(*, whole: Mapping[str, object], schedule: object, rules: object) -> None:
    """Refuse arguments of the wrong kind before anything is attached.

    Raises
    ------
    TypeError
        Naming the argument, what it was and what is accepted.
    """
    for name, value in whole.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, SupportsIndex)):
            raise TypeError(f"{name} must be a whole number of steps, got {value!r}")
    if schedule is not None and not isinstance(schedule, Schedule):
        raise TypeError(f"eval_schedule must be a Schedule or None, got {schedule!r}")
    if rules is None:
        return
    if isinstance(rules, (str, Rule)) or not isinstance(rules, Iterable):
        raise TypeError(f"rules must be several Rule objects or None, got {rules!r}")
    for rule in rules:
        if not isinstance(rule, Rule):
            hint = f"; did you mean {rule.__name__}()?" if isinstance(rule, type) and issubclass(rule, Rule) else ""
            raise TypeError(f"rules must be Rule objects, such as DeadUnits(), got {rule!r}{hint}")
