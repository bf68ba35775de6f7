"""Checks what ``ts.watch`` is asked for, before anything is attached; watches nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import torch

from tensorstats.device.backend import Backend, check_backend
from tensorstats.rules import Rule, Suppression, default_rules
from tensorstats.rules.suppression import resolve_suppressions
from tensorstats.run.choosing import DEFAULT_SIGNALS, SCALARS, SIGNALS, Collection, resolve_collections
from tensorstats.torch.actions import Action, OnFinding
from tensorstats.torch.attach.criterion import check_loss_fn
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.masks import Mask
from tensorstats.torch.attach.modules import ModuleChoice
from tensorstats.torch.attach.schedule import Schedule, check_whole
from tensorstats.torch.ranks.reduction import Ranks, check_ranks
from tensorstats.torch.record.units import Units

__all__ = ["Options", "check_eval_schedule", "check_mask", "check_options", "check_schedule", "resolve_options"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a monitor is made with; each is described at ``ts.watch``."""

    schedule: Schedule
    eval_schedule: Schedule | None
    start_step: int
    modules: ModuleChoice
    signals: frozenset[str]
    collections: tuple[Collection, ...] | None
    rules: list[Rule] | None
    suppressions: tuple[Suppression, ...]
    histograms: bool
    units: Units
    mask: Mask
    scaler: Any
    loss_fn: Any
    on_finding: OnFinding
    backend: Backend
    ranks: Ranks


def resolve_options(
    *,
    every: Any,
    start: Any,
    stop: Any,
    steps: Any,
    eval_schedule: Any,
    start_step: Any,
    modules: Any,
    signals: Any,
    collections: Any,
    rules: Any,
    suppress: Any,
    histograms: Any,
    units: Any,
    mask: Any,
    scaler: Any,
    loss_fn: Any,
    on_finding: Any,
    backend: Any,
    ranks: Any,
) -> Options:
    """What a monitor is made with, of what ``ts.watch`` was given.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it was and what is accepted.
    """
    check_whole(start_step=start_step)
    if start_step < 0:
        raise ValueError(f"start_step must be a step from 0 on, got {start_step}")
    check_eval_schedule(eval_schedule)
    if not isinstance(histograms, bool):
        raise TypeError(f"histograms must be True or False, got {histograms!r}")
    if units not in ("activations", "all", "none"):
        raise ValueError(f"units must be 'activations', 'all' or 'none', got {units!r}")
    check_mask(mask)
    if not (scaler is None or (hasattr(scaler, "is_enabled") and hasattr(scaler, "get_scale"))):
        raise TypeError(f"scaler must be a torch.amp.GradScaler or None, got {scaler!r}")
    check_loss_fn(loss_fn)
    if isinstance(modules, str):
        try:
            re.compile(modules)
        except re.error as error:
            raise ValueError(f"modules={modules!r} is no regular expression: {error}") from None
    Action(on_finding, Guard())
    check_backend(backend)
    check_ranks(ranks)
    if collections is not None and not isinstance(collections, Iterable):
        raise TypeError(f"collections must be names or Collection objects, got {collections!r}")
    chosen = resolve_collections(collections)
    resolved_rules = _resolve_rules(rules)
    return Options(
        schedule=Schedule(every, start, stop, steps),
        eval_schedule=eval_schedule,
        start_step=start_step,
        modules=modules,
        signals=_resolve_signals(signals, chosen),
        collections=chosen,
        rules=resolved_rules,
        suppressions=resolve_suppressions(suppress, [rule.id for rule in resolved_rules or default_rules()]),
        histograms=histograms,
        units=units,
        mask=mask,
        scaler=scaler,
        loss_fn=loss_fn,
        on_finding=on_finding,
        backend=backend,
        ranks=ranks,
    )


def check_schedule(schedule: object) -> None:
    """Refuse what is no schedule.

    Raises
    ------
    TypeError
    """
    if not isinstance(schedule, Schedule):
        raise TypeError(f"schedule must be a Schedule, such as ts.torch.Schedule(every=10), got {schedule!r}")


def check_eval_schedule(schedule: object) -> None:
    """Refuse what is neither a schedule nor None.

    Raises
    ------
    TypeError
    """
    if schedule is not None and not isinstance(schedule, Schedule):
        raise TypeError(f"eval_schedule must be a Schedule or None, got {schedule!r}")


def check_mask(mask: object) -> None:
    """Refuse what is no mask.

    Raises
    ------
    TypeError
    """
    if not (mask is None or isinstance(mask, torch.Tensor) or callable(mask)):
        raise TypeError(f"mask must be a tensor, a callable(name, x) or None, got {mask!r}")


def _resolve_signals(signals: Any, chosen: Any) -> frozenset[str]:
    if signals is None:
        named = [signal for collection in chosen or () for signal in collection.signals]
        signals = DEFAULT_SIGNALS if chosen is None else [signal for signal in named if signal not in SCALARS]
    given = [signals] if isinstance(signals, str) or not isinstance(signals, Iterable) else list(signals)
    unknown = [signal for signal in given if not (isinstance(signal, str) and signal in SIGNALS)]
    if unknown:
        raise ValueError(f"signals must be of {', '.join(SIGNALS)}, got {', '.join(map(str, unknown))}")
    return frozenset(given)


def _resolve_rules(rules: Any) -> list[Rule] | None:
    if rules is None:
        return None
    if isinstance(rules, (str, Rule)) or not isinstance(rules, Iterable):
        raise TypeError(f"rules must be several Rule objects or None, got {rules!r}")
    given = list(rules)
    for rule in given:
        if not isinstance(rule, Rule):
            hint = f"; did you mean {rule.__name__}()?" if isinstance(rule, type) and issubclass(rule, Rule) else ""
            raise TypeError(f"rules must be Rule objects, such as DeadUnits(), got {rule!r}{hint}")
    return given


def check_options(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a callback, looked at when it is made: long before there is anything to watch.

    What can be gone through only once is made a list, since a callback may watch several runs.

    Raises
    ------
    TypeError, ValueError
        As `resolve_options`, and for a name that is no option.
    """
    for name in options:
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, n=1)
            hint = f"; did you mean {near[0]}=?" if near else ""
            raise TypeError(f"{name!r} is no option of ts.watch; accepted are {', '.join(defaults)}{hint}")
    kept = {
        name: list(value) if isinstance(value, Iterator) and not isinstance(value, Sized) else value
        for name, value in options.items()
    }
    resolve_options(**{**defaults, **kept})
    return kept
