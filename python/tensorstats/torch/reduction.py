"""Puts the numbers of all ranks in the place of this rank's at the end of a recorded step; merges nothing itself.

What is merged how: outputs, inputs and gradients of outputs are those of each rank's own batch, and all count. Sharded
parameters (DTensor, as FSDP2 makes them) and their gradients, updates and moments are put together from their parts.
Parameters that are not sharded and equal on all ranks count once.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch.nn.parallel import DistributedDataParallel

from tensorstats._core import Histogram, Summary, UnitActivity
from tensorstats.rules import Offender, RankSpread
from tensorstats.torch.collect import Collector, Place, TensorStep
from tensorstats.torch.ranks import Entry, Merged, RankError, RankGroup, merge_ranks, pack
from tensorstats.torch.sharded import Part, is_distributed, local_part

if TYPE_CHECKING:
    from tensorstats.torch.monitor import Monitor

__all__ = ["Ranks", "Reduction"]

Ranks: TypeAlias = Literal["merge", "local"] | None

_NUMBERS = itertools.count()
_WHATS = {"parameters": "value", "gradients": "gradient", "updates": "update"}


class Reduction:
    """The connection of one monitor to those of the other ranks; does nothing where there are none."""

    def __init__(self, monitor: Monitor, ranks: Ranks) -> None:
        if ranks not in (None, "merge", "local"):
            raise ValueError(f"ranks must be 'merge', 'local' or None, got {ranks!r}")
        self._monitor = monitor
        self._group = None if ranks == "local" else RankGroup.of_world(next(_NUMBERS))
        if ranks == "merge" and self._group is None:
            raise ValueError("ranks='merge' needs torch.distributed to be initialised with two ranks or more")
        self._parts: dict[tuple[str, str], Part] = {}
        self._copies_are_equal = False
        self.latest: dict[tuple[str, str], list[Any]] = {}
        self.spreads: list[RankSpread] = []
        self._set_up(active=self._group is not None)

    @property
    def active(self) -> bool:
        """Whether numbers are those of all ranks."""
        return self._group is not None

    def _set_up(self, *, active: bool) -> None:
        """Have the recorders count shards, and keep what belongs to a step apart from what came before."""
        monitor = self._monitor
        for signal, collector in monitor._outputs._collectors.items():
            collector.locate = self._locator(signal) if active else None
            collector.in_parts = active
        for recorder in (monitor._parameters, monitor._raw, monitor._optimizer_state):
            recorder.locate = self.locate if active else None
        for log in monitor._logs["train"].values():
            log.step_histograms = {} if active else None

    def _locator(self, signal: str) -> Any:
        return lambda name, tensor: self.locate(signal, name, tensor)

    def locate(self, signal: str, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The part of a tensor on this rank; remembers whose part it is."""
        if not is_distributed(tensor):
            return tensor
        part = local_part(tensor)
        self._parts[(signal, name)] = part
        return part.local

    def model_called(self) -> None:
        """The model runs: perhaps inside DistributedDataParallel, whose copies of parameters must be equal."""
        if getattr(DistributedDataParallel, "_active_ddp_module", None) is not None:
            self._copies_are_equal = True

    # --- the end of a step --------------------------------------------------------------------------------------------

    def reduce(self) -> None:
        """Exchange the step with the other ranks; on failure go on with the numbers of this rank, and say so."""
        if self._group is None:
            return
        try:
            messages = self._group.gather(pack(self._monitor.step, self._entries()))
            merged = merge_ranks(messages, copies_are_equal=self._expects_equal_copies())
        except RankError as error:
            consequence = "from here on, numbers are of this rank alone, and sharded tensors are left out"
            self._monitor._guard.note("the other ranks", f"{error}; {consequence}")
            self._leave()
            return
        self._apply(merged)
        self._parts.clear()

    def _expects_equal_copies(self) -> bool:
        modules = self._monitor._targets.root.modules()
        return self._copies_are_equal or any(isinstance(module, DistributedDataParallel) for module in modules)

    def _entry(self, signal: str, name: str, state: Any, kind: str = "summary", about: tuple[str, ...] = ()) -> Entry:
        assert self._group is not None
        part = self._parts.get((signal, name))
        replicated = signal in ("parameters", "gradients", "updates", "raw_gradients", "optimizer_state", "initial")
        if part is None:
            return Entry(signal, name, state, kind, self._group.rank, replicated, about)
        return Entry(signal, name, state if part.counts else None, kind, part.copy, replicated, about)

    def _entries(self) -> list[Entry]:
        monitor = self._monitor
        entries: list[Entry] = []
        for signal, collector in monitor._outputs._collectors.items():
            for path, step in collector.steps.items():
                about = (step.place.name, str(step.call))
                entries.append(self._entry(signal, path, step.summary, about=about))
                if step.units is not None and step.units.part is not None:
                    entries.append(self._entry(signal, path, step.units.part, "units", about))
        for name, parameter in monitor._parameters.steps.items():
            for signal, what in _WHATS.items():
                state = getattr(parameter, what)
                if state is not None:
                    entries.append(self._entry(signal, name, state))
            if parameter.initial_norm == parameter.initial_norm:
                part = self._parts.get(("parameters", name))
                if part is not None:
                    self._parts[("initial", name)] = part
                # The norm of the whole is the norm of the norms of its parts.
                norm = Summary().update(torch.tensor([parameter.initial_norm], dtype=torch.float64))
                entries.append(self._entry("initial", name, norm))
        entries += [self._entry("raw_gradients", name, row[0]) for name, row in monitor._raw._rows.items()]
        entries += [self._entry("optimizer_state", name, row) for name, row in monitor._optimizer_state._rows.items()]
        for signal, log in monitor._logs["train"].items():
            for name, histogram in (log.step_histograms or {}).items():
                entries.append(self._entry(signal, name, histogram, "histogram"))
        offenders = (monitor._outputs.offender, monitor._outputs.gradient_offender)
        for which, offender in zip(("offender", "gradient offender"), offenders, strict=True):
            if offender is not None:
                assert self._group is not None
                text = json.dumps(asdict(offender))
                entries.append(Entry(which, str(self._group.rank), None, about=(text,)))
        return entries

    def _apply(self, merged: Mapping[tuple[str, str, str], Merged]) -> None:
        monitor = self._monitor
        self.latest.clear()
        self.spreads = []
        steps: dict[str, dict[str, TensorStep]] = {signal: {} for signal in monitor._outputs._collectors}
        for (signal, name, kind), result in merged.items():
            if kind == "summary" and signal not in ("initial", "offender", "gradient offender"):
                self.latest[(signal, name)] = result.ranks
                replicated = result.entry.replicated
                held = [state if isinstance(state, Summary) else None for state in result.ranks]
                self.spreads.append(RankSpread(name, signal, held, replicated, result.differs))
            if isinstance(result.state, Histogram):
                empty = monitor._statistics.empty_histogram
                monitor._logs["train"][signal].total_histogram(name, empty).merge(result.state)
            elif signal in steps:
                self._apply_output(monitor._outputs._collectors[signal], steps[signal], result)
            elif isinstance(result.state, Summary):
                self._apply_parameter(signal, name, result.state)
        for signal, found in steps.items():
            monitor._outputs._collectors[signal].steps = found
        for log in monitor._logs["train"].values():
            log.step_histograms = {}
        self._apply_offenders(merged)

    def _apply_output(self, collector: Collector, steps: dict[str, TensorStep], result: Merged) -> None:
        name = result.entry.name
        module_name, call = result.entry.about
        module = self._monitor._modules.get(module_name)
        if module is None:
            return  # of a part of the model that this rank does not have
        step = steps.get(name, collector.steps.get(name))
        if step is None:
            step = TensorStep(name, Place(module_name, module), int(call))
        steps[name] = step
        if isinstance(result.state, Summary):
            step.summary = result.state
        elif isinstance(result.state, UnitActivity):
            step.units = collector.take_units(name, result.state)

    def _apply_parameter(self, signal: str, name: str, state: Summary) -> None:
        monitor = self._monitor
        if signal == "raw_gradients":
            monitor._raw._rows[name] = (state, None)
        elif signal == "optimizer_state":
            monitor._optimizer_state._rows[name] = state
        else:
            step = monitor._parameters.steps.get(name)
            if step is None:
                return
            if signal == "initial":
                step.initial_norm = state.l2
                return
            if signal in _WHATS:
                setattr(step, _WHATS[signal], state)
                step.has_gradient = step.has_gradient or signal == "gradients"

    def _apply_offenders(self, merged: Mapping[tuple[str, str, str], Merged]) -> None:
        outputs = self._monitor._outputs
        outputs.offender = self._first_offender("offender", merged)
        outputs.gradient_offender = self._first_offender("gradient offender", merged)

    @staticmethod
    def _first_offender(which: str, merged: Mapping[tuple[str, str, str], Merged]) -> Offender | None:
        found = {int(name): result.entry.about[0] for (signal, name, _), result in merged.items() if signal == which}
        if not found:
            return None
        given: dict[str, Any] = json.loads(found[min(found)])
        index = None if given["index"] is None else tuple(given["index"])
        ranks = ", ".join(map(str, sorted(found)))
        return Offender(**{**given, "index": index, "origin": f"{given['origin']} Seen on rank {ranks}."})

    def _leave(self) -> None:
        """Go on alone: what this rank holds of the step counts, parts of sharded tensors do not."""
        monitor = self._monitor
        self._group = None
        for signal, collector in monitor._outputs._collectors.items():
            for path, step in list(collector.steps.items()):
                if (signal, path) in self._parts:
                    del collector.steps[path]
                elif step.units is not None and step.units.part is not None:
                    step.units = collector.take_units(path, step.units.part)
        for signal, what in _WHATS.items():
            for name, parameter in monitor._parameters.steps.items():
                if (signal, name) in self._parts:
                    setattr(parameter, what, None)
        for signal, rows in (
            ("raw_gradients", monitor._raw._rows),
            ("optimizer_state", monitor._optimizer_state._rows),
        ):
            for name in [name for name in rows if (signal, name) in self._parts]:
                del rows[name]
        for signal, log in monitor._logs["train"].items():
            for name, histogram in (log.step_histograms or {}).items():
                if (signal, name) not in self._parts:
                    log.total_histogram(name, histogram).merge(histogram)
        self._parts.clear()
        self._set_up(active=False)
