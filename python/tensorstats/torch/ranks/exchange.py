"""Turns a recorded step into what a rank tells the others, and what all of them told back into the step.

What is merged how: outputs, inputs and gradients of outputs are those of each rank's own batch, and all count. Sharded
parameters (FSDP, DTensor) and their gradients, updates and moments are put together from their parts. Copies that are
kept equal count once. What has another shape on another rank stays each rank's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from tensorstats._core import Histogram, Summary, UnitActivity
from tensorstats.device.backend import Statistics
from tensorstats.rules import Offender, RankSpread
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.watched import WatchedModels
from tensorstats.torch.ranks.copies import Holding
from tensorstats.torch.ranks.merge import Copies, Entry, Merged
from tensorstats.torch.ranks.parts import Locator, Shards
from tensorstats.torch.record.collect import Collector, Place, TensorStep
from tensorstats.torch.record.offender import StepOffenders
from tensorstats.torch.record.parameters import FIELDS
from tensorstats.torch.record.step import RecordedStep

__all__ = ["Exchange", "drop_shards"]


# What may be to blame for a step that is not finite: an output, an input on a device, a gradient of an output.
_OFFENDERS = ("first", "given", "gradient")


class Exchange:
    """The two halves of an exchange for one monitor."""

    def __init__(self, statistics: Statistics, guard: Guard, watched: WatchedModels, locator: Locator) -> None:
        self._statistics = statistics
        self._guard = guard
        self._watched = watched
        self._locator = locator
        self._identities: dict[str, tuple[int, str]] = {}  # by name, of the object it is told of

    # --- what this rank has -------------------------------------------------------------------------------------------

    def entries(self, step: RecordedStep, shards: Shards, rank: int) -> list[Entry]:
        """Everything that was counted in the step."""
        entries = list(self._of_modules(step, shards, rank))
        entries += self._of_parameters(step, shards, rank)
        entries += self.of_offenders(step.recorders.outputs.offenders, rank)
        if step.waits:
            entries.append(Entry("waits", str(rank), None, "news"))
        return entries

    @staticmethod
    def of_offenders(offenders: StepOffenders, rank: int) -> list[Entry]:
        """What is not finite, and was the first of it."""
        found = {which: getattr(offenders, which) for which in _OFFENDERS}
        return [
            Entry(f"offender {which}", str(rank), None, "news", about=(json.dumps(asdict(offender)),))
            for which, offender in found.items()
            if offender is not None
        ]

    def _of_modules(self, step: RecordedStep, shards: Shards, rank: int) -> Iterable[Entry]:
        for signal, collector in step.recorders.outputs.collectors.items():
            apart = step.histograms[signal].apart if signal in step.histograms else None
            for path, tensor in collector.steps.items():
                if not tensor.counted:
                    continue  # nobody can count it
                key = (signal, path)
                copy, counts = shards.distributed.get(key, (rank, True))
                copies, among, piece = Copies.OWN, 0, None
                units = None if tensor.units is None else tensor.units.part
                region = shards.regions.get(key)
                if key in shards.offsets and units is not None:
                    piece = shards.offsets[key][units.dim]
                elif shards.region is not None and key not in shards.distributed:
                    # All ranks of the mesh see the same data: what is no shard is a copy.
                    copies = Copies.OWN if region is not None and region.sharded else Copies.ALIKE
                    among = shards.region.among
                    piece = region.place if region is not None and region.features else None
                identity = self._module_identity(tensor.place.name, units if piece is None else None)
                about = (tensor.place.name, str(tensor.call))
                common: dict[str, Any] = {
                    "copy": copy,
                    "copies": copies,
                    "among": among,
                    "identity": identity,
                    "about": about,
                }
                yield Entry(signal, path, tensor.summary if counts else None, **common)
                if units is not None:
                    yield Entry(signal, path, units if counts else None, "units", piece=piece or 0, **common)
                if apart is not None and path in apart:
                    yield Entry(signal, path, apart[path] if counts else None, "histogram", **common)

    def _of_parameters(self, step: RecordedStep, shards: Shards, rank: int) -> Iterable[Entry]:
        steps = step.recorders.parameters.steps
        parameters = {name: parameter.parameter for name, parameter in steps.items()}
        holdings = self._locator.holding(parameters, shards)

        def entry(signal: str, name: str, owner: str, state: Any, kind: str = "summary") -> Entry:
            holding = holdings.get(owner, Holding())
            whole = rank if holding.copy is None else holding.copy
            copy, counts = shards.distributed.get((signal, name), (whole, True))
            copies = holding.copies
            if signal == "raw_gradients" and copies is Copies.EQUAL:
                # They are read before data parallelism has made them equal.
                copies = Copies.ALIKE if holding.copy is None else Copies.OWN
            identity = self._parameter_identity(owner, parameters.get(owner))
            return Entry(signal, name, state if counts else None, kind, copy, copies, holding.among, identity)

        for name, parameter in steps.items():
            for signal, what in FIELDS.items():
                state = getattr(parameter, what)
                if state is not None:
                    yield entry(signal, name, name, state)
            if parameter.initial_norm == parameter.initial_norm:
                if ("parameters", name) in shards.distributed:
                    shards.distributed[("initial", name)] = shards.distributed[("parameters", name)]
                # The norm of the whole is the norm of the norms of its parts.
                norm = Summary().update(torch.tensor([parameter.initial_norm], dtype=torch.float64))
                yield entry("initial", name, name, norm)
        for name, row in step.recorders.raw.counted.items():
            yield entry("raw_gradients", name, name, row.summary)
        for name, summary in step.recorders.optimizer_state.counted.items():
            yield entry("optimizer_state", name, name.rpartition(".")[0], summary)
        for signal, histograms in step.histograms.items():
            if signal not in step.recorders.outputs.collectors:
                for name, histogram in (histograms.apart or {}).items():
                    owner = name.rpartition(".")[0] if signal == "optimizer_state" else name
                    yield entry(signal, name, owner, histogram, "histogram")
        for (signal, name), summand in shards.summands.items():
            data = bytes(summand.tensor.cpu().contiguous().view(torch.uint8).numpy())
            dtype = str(summand.tensor.dtype).removeprefix("torch.")
            yield Entry(signal, name, data, "summand", summand.copy, piece=summand.place, about=(dtype,))

    def _module_identity(self, name: str, units: UnitActivity | None) -> str:
        """What a module is, as far as its outputs on several ranks must be of the same."""
        module = self._watched.modules.get(name)
        known = self._identities.get(name)
        if known is None or known[0] != id(module):
            self._identities[name] = known = (id(module), _shape_of(module))
        return known[1] if units is None or "[" in known[1] else f"{known[1]} of {units.units} units"

    def _parameter_identity(self, name: str, parameter: torch.Tensor | None) -> str:
        if parameter is None or getattr(parameter, "_fsdp_flattened", False):
            return ""
        key = f"{name} "  # no module has a blank at the end of its name
        known = self._identities.get(key)
        if known is None or known[0] != id(parameter):
            self._identities[key] = known = (id(parameter), _words(parameter))
        return known[1]

    # --- what all of them have ----------------------------------------------------------------------------------------

    def apply(
        self, step: RecordedStep, shards: Shards, merged: Mapping[tuple[str, str, str], Merged], ranks: Sequence[int]
    ) -> list[RankSpread]:
        """Put the numbers of all ranks in the place of this rank's; an error costs the tensor that it is about.

        Returns what the rules on ranks look at.
        """
        collectors = step.recorders.outputs.collectors
        before = {signal: collector.steps for signal, collector in collectors.items()}
        for collector in collectors.values():
            collector.steps = {}
        local = {signal: of_step.apart or {} for signal, of_step in step.histograms.items()}
        for of_step in step.histograms.values():
            of_step.apart = {}
        self._sum_up(merged)
        for (signal, name, kind), result in merged.items():
            try:
                if kind == "histogram":
                    histogram = local.get(signal, {}).get(name) if result.state is None else result.state
                    if signal in local and isinstance(histogram, Histogram):
                        step.histograms[signal].apart = {**(step.histograms[signal].apart or {}), name: histogram}
                elif signal in collectors:
                    self._put_output(collectors[signal], before[signal], result)
                elif isinstance(result.state, Summary):
                    self._put_parameter(step, signal, name, result.state)
            except Exception as error:
                self._guard.report(f"{signal} of {name} on all ranks", error)
        self.apply_offenders(step.recorders.outputs.offenders, merged)
        return _spreads(shards, merged, ranks)

    @staticmethod
    def apply_offenders(offenders: StepOffenders, merged: Mapping[tuple[str, str, str], Merged]) -> None:
        """Name the first of all ranks, and those that have any."""
        for which in _OFFENDERS:
            setattr(offenders, which, _first_offender(f"offender {which}", merged))

    def _put_output(self, collector: Collector, before: Mapping[str, TensorStep], result: Merged) -> None:
        name = result.entry.name
        module_name, call = result.entry.about
        module = self._watched.modules.get(module_name)
        if module is None:
            return  # of a part of the model that this rank does not have
        tensor = collector.steps.get(name) or before.get(name)
        if tensor is None:
            if result.state is None:
                return  # each rank has its own, and this one has none
            tensor = TensorStep(name, Place(module_name, module), int(call))
        collector.steps[name] = tensor
        if isinstance(result.state, Summary):
            tensor.summary = result.state
        elif isinstance(result.state, UnitActivity):
            tensor.units = collector.take_units(name, result.state)
        elif result.entry.kind == "units" and tensor.units is not None and tensor.units.part is not None:
            tensor.units = collector.take_units(name, tensor.units.part)

    def _put_parameter(self, step: RecordedStep, signal: str, name: str, state: Summary) -> None:
        if signal == "initial":
            parameter = step.recorders.parameters.steps.get(name)
            if parameter is not None:
                parameter.initial_norm = state.l2
        elif signal not in self._watched.signals:
            return  # only another rank was asked for it
        else:
            for recorder in step.recorders.all:
                if signal in recorder.signals:
                    recorder.put(signal, name, state)

    def _sum_up(self, merged: Mapping[tuple[str, str, str], Merged]) -> None:
        """Add up what every rank had a summand of, and count the sums."""
        for (signal, name, kind), result in merged.items():
            if kind != "summand":
                continue
            sums: dict[int, torch.Tensor] = {}
            for _, entry, data in result.news:
                summand = torch.frombuffer(bytearray(data), dtype=getattr(torch, entry.about[0]))
                sums[entry.piece] = sums[entry.piece] + summand if entry.piece in sums else summand
            whole = torch.cat([sums[piece] for piece in sorted(sums)])
            counted, histogram = merged.get((signal, name, "summary")), merged.get((signal, name, "histogram"))
            if counted is not None:
                counted.state = Summary().update(whole)
            if histogram is not None:
                histogram.state = self._statistics.empty_histogram.copy().update(whole)


def _spreads(shards: Shards, merged: Mapping[tuple[str, str, str], Merged], ranks: Sequence[int]) -> list[RankSpread]:
    """Every tensor on every rank, for the rules."""
    results = [
        (signal, name, result)
        for (signal, name, kind), result in merged.items()
        if kind == "summary" and signal != "initial"
    ]
    # Modules with weights that every rank has trained for itself; what they return is each rank's own too.
    own: set[str] = set()
    for signal, name, result in results:
        if signal in FIELDS and (result.own or result.identities):
            module = name.rpartition(".")[0]
            while module not in own:
                own.add(module)
                module = module.rpartition(".")[0]
    spreads = []
    for signal, name, result in results:
        held = [state if isinstance(state, Summary) else None for state in result.ranks]
        apart = result.entry.copies is not Copies.OWN or shards.is_part((signal, name))
        if signal == "outputs" and own:
            module = result.entry.about[0]
            apart = apart or module in own or module.rpartition(".")[0] in own
        lacking = tuple(rank for rank in ranks if rank not in result.holders) if signal == "parameters" else ()
        spreads.append(RankSpread(name, signal, held, apart, result.differs, result.identities, lacking))
    return spreads


def _first_offender(which: str, merged: Mapping[tuple[str, str, str], Merged]) -> Offender | None:
    found = {int(name): result.entry.about[0] for (signal, name, _), result in merged.items() if signal == which}
    if not found:
        return None
    given: dict[str, Any] = json.loads(found[min(found)])
    index = None if given["index"] is None else tuple(given["index"])
    ranks = ", ".join(map(str, sorted(found)))
    return Offender(**{**given, "index": index, "origin": f"{given['origin']} Seen on rank {ranks}."})


def _shape_of(module: nn.Module | None) -> str:
    """The class of a module and the shapes of the parameters that it holds itself."""
    if module is None:
        return ""
    held = list(module.parameters(recurse=False))
    words = [] if any(getattr(p, "_fsdp_flattened", False) for p in held) else [_words(p) for p in held]
    return " ".join([type(module).__name__, *words])


def _words(parameter: torch.Tensor) -> str:
    """Dtype and shape, as ``float32[16, 8]``."""
    dtype = str(parameter.dtype).removeprefix("torch.")
    try:
        return f"{dtype}{list(parameter.shape)}"
    except RuntimeError:
        return dtype  # a lazy one has no shape yet


def drop_shards(step: RecordedStep, shards: Shards) -> None:
    """Without the other ranks, what this rank holds of a sharded tensor does not count."""
    if not shards:
        return
    for recorder in step.recorders.all:
        recorder.drop(shards.is_part)
    for signal, histograms in step.histograms.items():
        apart = histograms.apart or {}
        for name in [name for name in apart if shards.is_part((signal, name))]:
            del apart[name]
