"""The one way in: checks the arguments of ``ts.watch`` and makes the monitor."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from tensorstats.rules import Finding, Rule
from tensorstats.torch.modules import ModuleChoice
from tensorstats.torch.monitor import Monitor
from tensorstats.torch.reading import SIGNALS
from tensorstats.torch.schedule import Schedule
from tensorstats.torch.states import Backend

__all__ = ["watch"]


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    every: int = 1,
    start: int = 0,
    stop: int | None = None,
    modules: ModuleChoice = None,
    signals: Iterable[str] = SIGNALS,
    rules: Iterable[Rule] | None = None,
    histograms: bool = False,
    on_finding: Callable[[Finding], object] | None = None,
    backend: Backend = "auto",
) -> Monitor:
    """A monitor of `model` while it is trained.

    Parameters
    ----------
    model : torch.nn.Module
        Watched through forward hooks. Nothing is kept alive and no result changes; calls in eval mode are not counted.
    optimizer : torch.optim.Optimizer, optional
        Its ``step`` ends a step: gradients are read right before (after accumulation and unscaling), parameters and
        updates right after. Without it a step is one call of the model in training mode.
    every, start, stop : int
        Steps `start`, `start + every`, ... before `stop` are recorded; the others cost nothing.
    modules : None, type, tuple of types, str or callable, optional
        ``None`` watches all modules without children; otherwise module types, a regular expression on the name, or a
        function ``(name, module) -> bool``. Parameters are those of the watched modules.
    signals : iterable of str
        Of ``"outputs"``, ``"parameters"``, ``"gradients"``, ``"updates"``.
    rules : iterable of Rule, optional
        Instead of :func:`tensorstats.rules.default_rules`.
    histograms : bool
        Also keep a LogLinear histogram of everything recorded.
    on_finding : callable, optional
        Called with every new :class:`Finding`.
    backend : {"auto", "core", "torch"}
        ``"torch"`` forces the path of accelerators.

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
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    # torch.compile wraps the model; its modules and parameters are those of the original.
    original = getattr(model, "_orig_mod", None)
    if isinstance(original, nn.Module):
        model = original
    if optimizer is not None and not hasattr(optimizer, "register_step_post_hook"):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer or None, got {type(optimizer).__name__}")
    wanted = frozenset([signals] if isinstance(signals, str) else signals)
    if not wanted <= set(SIGNALS):
        raise ValueError(f"signals must be of {', '.join(SIGNALS)}, got {', '.join(sorted(wanted - set(SIGNALS)))}")
    return Monitor(
        model,
        optimizer,
        schedule=Schedule(every, start, stop),
        modules=modules,
        signals=wanted,
        rules=rules,
        histograms=histograms,
        on_finding=on_finding,
        backend=backend,
    )
