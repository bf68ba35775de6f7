"""Puts the numbers of all ranks in the place of this rank's when a recorded step is closed; merges nothing itself.

What is merged how: outputs, inputs and gradients of outputs are those of each rank's own batch, and all count. Sharded
parameters (DTensor, as FSDP2 makes them) and their gradients, updates and moments are put together from their parts.
Parameters that are not sharded and equal on all ranks count once.

An exchange needs every rank at the same point of its loop. Whether steps are closed where they end or one step later is
therefore decided by all ranks together, at their first exchange, and nothing that one rank does alone (reading, above
all) closes a step.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch.nn.parallel import DistributedDataParallel

from tensorstats._core import Histogram, Summary, TensorSlot, UnitActivity
from tensorstats.rules import Offender, RankSpread
from tensorstats.torch.collect import Collector, Place, TensorStep
from tensorstats.torch.ranks import Entry, Merged, RankError, RankGroup, merge_ranks, pack
from tensorstats.torch.record_parameters import FIELDS
from tensorstats.torch.sharded import is_distributed, local_part

if TYPE_CHECKING:
    from tensorstats.torch.monitor import Monitor
    from tensorstats.torch.recorded_step import RecordedStep

__all__ = ["Ranks", "Reduction", "Shards"]

Ranks: TypeAlias = Literal["merge", "local"] | None

# Of sharded tensors, by signal and name: the number of the copy that this rank's part belongs to, and whether the part
# counts here. The part itself is not kept: it may be an activation.
Shards: TypeAlias = dict[tuple[str, str], tuple[int, bool]]

_NUMBERS = itertools.count()
_REPLICATED = ("parameters", "gradients", "updates", "raw_gradients", "optimizer_state", "initial")
_NEWS = ("initial", "offender", "gradient offender", "waits")  # entries that are no recorded tensor


class Reduction:
    """The connection of one monitor to those of the other ranks; does nothing where there are none."""

    def __init__(self, monitor: Monitor, ranks: Ranks) -> None:
        if ranks not in (None, "merge", "local"):
            raise ValueError(f"ranks must be 'merge', 'local' or None, got {ranks!r}")
        self._monitor = monitor
        self._group = None if ranks == "local" else RankGroup.of_world(next(_NUMBERS))
        if ranks == "merge" and self._group is None:
            raise ValueError("ranks='merge' needs torch.distributed to be initialised with two ranks or more")
        self._shards: Shards = {}  # of the step that is being recorded
        self.waits = False  # some rank counts on a device: steps are closed one step after their end, on all ranks
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

    def _locator(self, signal: str) -> Any:
        return lambda name, tensor: self.locate(signal, name, tensor)

    def locate(self, signal: str, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The part of a tensor on this rank; remembers whose part it is."""
        if not is_distributed(tensor):
            return tensor
        part = local_part(tensor)
        self._shards[(signal, name)] = (part.copy, part.counts)
        return part.local

    def take_shards(self) -> Shards:
        """Those of the step that ends."""
        taken, self._shards = self._shards, {}
        return taken

    def model_called(self) -> None:
        """The model runs: perhaps inside DistributedDataParallel, whose copies of parameters must be equal."""
        if getattr(DistributedDataParallel, "_active_ddp_module", None) is not None:
            self._copies_are_equal = True

    # --- the end of a step --------------------------------------------------------------------------------------------

    def reduce(self, step: RecordedStep) -> None:
        """Exchange the step with the other ranks; on failure go on with the numbers of this rank, and say so."""
        if self._group is None:
            return
        try:
            messages = self._group.gather(pack(step.number, self._entries(step)))
            merged = merge_ranks(messages, copies_are_equal=self._expects_equal_copies())
        except RankError as error:
            self.leave(str(error))
            self.drop_shards(step)
            return
        self._apply(step, merged)

    def leave(self, reason: str) -> None:
        """Go on alone."""
        if self._group is None:
            return
        consequence = "from here on, numbers are of this rank alone, and sharded tensors are left out"
        self._monitor._guard.note("the other ranks", f"{reason}; {consequence}")
        self._group = None
        self._set_up(active=False)

    def _expects_equal_copies(self) -> bool:
        modules = self._monitor._targets.root.modules()
        return self._copies_are_equal or any(isinstance(module, DistributedDataParallel) for module in modules)

    def _entries(self, step: RecordedStep) -> list[Entry]:
        assert self._group is not None
        rank, shards = self._group.rank, step.shards
        entries: list[Entry] = []

        def add(signal: str, name: str, state: Any, kind: str = "summary", about: tuple[str, ...] = ()) -> None:
            replicated = signal in _REPLICATED
            copy, counts = shards.get((signal, name), (rank, True))
            entries.append(Entry(signal, name, state if counts else None, kind, copy, replicated, about))

        for signal, collector in step.outputs._collectors.items():
            for path, tensor in collector.steps.items():
                about = (tensor.place.name, str(tensor.call))
                if not tensor.counted:
                    continue  # nobody can count it
                add(signal, path, tensor.summary, about=about)
                if tensor.units is not None and tensor.units.part is not None:
                    add(signal, path, tensor.units.part, "units", about)
        for name, parameter in step.parameters.steps.items():
            for signal, what in FIELDS.items():
                state = getattr(parameter, what)
                if state is not None:
                    add(signal, name, state)
            if parameter.initial_norm == parameter.initial_norm:
                if ("parameters", name) in shards:
                    shards[("initial", name)] = shards[("parameters", name)]
                # The norm of the whole is the norm of the norms of its parts.
                norm = Summary().update(torch.tensor([parameter.initial_norm], dtype=torch.float64))
                add("initial", name, norm)
        for name, row in step.raw.rows.items():
            add("raw_gradients", name, row.summary)
        for name, summary in step.optimizer_state.rows.items():
            add("optimizer_state", name, summary)
        for signal, histograms in step.histograms.items():
            for name, histogram in (histograms.apart or {}).items():
                add(signal, name, histogram, "histogram")
        offenders = (step.outputs.offenders.first, step.outputs.offenders.gradient)
        for which, offender in zip(("offender", "gradient offender"), offenders, strict=True):
            if offender is not None:
                entries.append(Entry(which, str(rank), None, about=(json.dumps(asdict(offender)),)))
        if step.waits:
            entries.append(Entry("waits", str(rank), None))
        return entries

    def _apply(self, step: RecordedStep, merged: Mapping[tuple[str, str, str], Merged]) -> None:
        self.latest.clear()
        self.spreads = []
        self.waits = self.waits or any(signal == "waits" for signal, _, _ in merged)
        collectors = step.outputs._collectors
        tensors: dict[str, dict[str, TensorStep]] = {signal: {} for signal in collectors}
        histograms: dict[str, dict[str, Histogram]] = {signal: {} for signal in step.histograms}
        for (signal, name, kind), result in merged.items():
            if kind == "summary" and signal not in _NEWS:
                self.latest[(signal, name)] = result.ranks
                replicated = result.entry.replicated
                held = [state if isinstance(state, Summary) else None for state in result.ranks]
                # Raw gradients are read before data parallelism has made them equal.
                differs = result.differs and signal != "raw_gradients"
                self.spreads.append(RankSpread(name, signal, held, replicated, differs))
            if isinstance(result.state, Histogram):
                histograms.setdefault(signal, {})[name] = result.state
            elif signal in tensors:
                self._apply_output(collectors[signal], tensors[signal], result)
            elif isinstance(result.state, Summary):
                self._apply_parameter(step, signal, name, result.state)
        for signal, found in tensors.items():
            collectors[signal].steps = found
        for signal, of_step in step.histograms.items():
            of_step.apart = histograms[signal]
        offenders = step.outputs.offenders
        offenders.first = self._first_offender("offender", merged)
        offenders.gradient = self._first_offender("gradient offender", merged)

    def _apply_output(self, collector: Collector, tensors: dict[str, TensorStep], result: Merged) -> None:
        name = result.entry.name
        module_name, call = result.entry.about
        module = self._monitor._modules.get(module_name)
        if module is None:
            return  # of a part of the model that this rank does not have
        tensor = tensors.get(name, collector.steps.get(name))
        if tensor is None:
            tensor = TensorStep(name, Place(module_name, module), int(call))
        tensors[name] = tensor
        if isinstance(result.state, Summary):
            tensor.summary = result.state
        elif isinstance(result.state, UnitActivity):
            tensor.units = collector.take_units(name, result.state)

    @staticmethod
    def _apply_parameter(step: RecordedStep, signal: str, name: str, state: Summary) -> None:
        if signal == "raw_gradients":
            step.raw.rows.setdefault(name, TensorSlot()).summary = state
        elif signal == "optimizer_state":
            step.optimizer_state.put(name, state)
        else:
            parameter = step.parameters.steps.get(name)
            if parameter is not None and signal == "initial":
                parameter.initial_norm = state.l2
            elif signal in FIELDS:
                step.parameters.put(signal, name, state)

    @staticmethod
    def _first_offender(which: str, merged: Mapping[tuple[str, str, str], Merged]) -> Offender | None:
        found = {int(name): result.entry.about[0] for (signal, name, _), result in merged.items() if signal == which}
        if not found:
            return None
        given: dict[str, Any] = json.loads(found[min(found)])
        index = None if given["index"] is None else tuple(given["index"])
        ranks = ", ".join(map(str, sorted(found)))
        return Offender(**{**given, "index": index, "origin": f"{given['origin']} Seen on rank {ranks}."})

    def drop_shards(self, step: RecordedStep) -> None:
        """Without the other ranks, what this rank holds of a sharded tensor does not count."""
        if self._group is not None or not step.shards:
            return
        for signal, collector in step.outputs._collectors.items():
            collector.steps = {path: t for path, t in collector.steps.items() if (signal, path) not in step.shards}
            collector._tables = [(path, t) for path, t in collector._tables if (signal, path) not in step.shards]
        for signal, histograms in step.histograms.items():
            apart = histograms.apart or {}
            for name in [name for name in apart if (signal, name) in step.shards]:
                del apart[name]
        parameters = step.parameters
        parameters._tables = [entry for entry in parameters._tables if entry[:2] not in step.shards]
        for signal in FIELDS:
            for name in parameters.steps:
                if (signal, name) in step.shards:
                    parameters.drop(signal, name)
        for name in [name for name in step.raw.rows if ("raw_gradients", name) in step.shards]:
            del step.raw.rows[name]
        for name in [name for name in step.optimizer_state.rows if ("optimizer_state", name) in step.shards]:
            step.optimizer_state.drop(name)
