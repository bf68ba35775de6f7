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
from tensorstats.torch.record.counted_parameters import FIELDS
from tensorstats.torch.record.offender import StepOffenders
from tensorstats.torch.record.recorder import NORM_BEFORE, Told
from tensorstats.torch.record.step import RecordedStep

__all__ = ["Exchange", "drop_shards"]


# What may be to blame for a step that is not finite: an output, an input on a device, a gradient of an output.
_OFFENDERS = ("first", "given", "gradient")

# What recorders count; the rest of what ranks say is news, or the histograms of a step.
_COUNTED = ("summary", "units")


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
        parameters = {name: of_step.parameter for name, of_step in step.parameters.steps.items()}
        holdings = self._locator.holding(parameters, shards)
        entries: list[Entry] = []
        for counted in step.counted:
            for told in counted.told():
                histograms = step.histograms.get(told.signal)
                histogram = None if histograms is None else (histograms.apart or {}).get(told.name)
                if told.parameter is None:
                    entries += self._of_module(told, histogram, shards, rank)
                else:
                    holding = holdings.get(told.parameter, Holding())
                    identity = self._parameter_identity(told.parameter, parameters.get(told.parameter))
                    entries += _of_parameter(told, histogram, shards, rank, holding, identity)
        entries += _summands(shards)
        entries += self.of_offenders(step.outputs.offenders, rank)
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

    def _of_module(self, told: Told, histogram: Histogram | None, shards: Shards, rank: int) -> list[Entry]:
        key, module = (told.signal, told.name), told.about[0]
        copy, counts = shards.distributed.get(key, (rank, True))
        copies, among, piece = Copies.OWN, 0, None
        region = shards.regions.get(key)
        if key in shards.offsets and told.units is not None:
            piece = shards.offsets[key][told.units.dim]
        elif shards.region is not None and key not in shards.distributed:
            # All ranks of the mesh see the same data: what is no shard is a copy.
            copies = Copies.OWN if region is not None and region.sharded else Copies.ALIKE
            among = shards.region.among
            piece = region.place if region is not None and region.features else None
        identity = self._module_identity(module, told.units if piece is None else None)
        common = {"copy": copy, "copies": copies, "among": among, "identity": identity, "about": told.about}
        return _with_states(told, histogram, common, counts=counts, piece=piece or 0)

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
        counted = {signal: counted for counted in step.counted for signal in counted.signals}
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
                elif kind in _COUNTED and signal in counted:  # else only another rank was asked for it
                    counted[signal].put(signal, name, kind, result.state, result.entry.about)
            except Exception as error:
                self._guard.report(f"{signal} of {name} on all ranks", error)
        self.apply_offenders(step.outputs.offenders, merged)
        return _spreads(shards, merged, ranks)

    @staticmethod
    def apply_offenders(offenders: StepOffenders, merged: Mapping[tuple[str, str, str], Merged]) -> None:
        """Name the first of all ranks, and those that have any."""
        for which in _OFFENDERS:
            setattr(offenders, which, _first_offender(f"offender {which}", merged))

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


def _of_parameter(
    told: Told, histogram: Histogram | None, shards: Shards, rank: int, holding: Holding, identity: str
) -> list[Entry]:
    whole = rank if holding.copy is None else holding.copy
    shard = ("parameters" if told.signal == NORM_BEFORE else told.signal, told.name)
    copy, counts = shards.distributed.get(shard, (whole, True))
    copies = holding.copies
    if told.is_early and copies is Copies.EQUAL:
        copies = Copies.ALIKE if holding.copy is None else Copies.OWN
    common = {"copy": copy, "copies": copies, "among": holding.among, "identity": identity, "about": told.about}
    return _with_states(told, histogram, common, counts=counts)


def _with_states(
    told: Told, histogram: Histogram | None, common: dict[str, Any], *, counts: bool, piece: int = 0
) -> list[Entry]:
    """An entry for each kind of state; those that count on another rank are known here, and no more."""
    signal, name = told.signal, told.name
    entries = [Entry(signal, name, told.summary if counts else None, **common)]
    if told.units is not None:
        entries.append(Entry(signal, name, told.units if counts else None, "units", piece=piece, **common))
    if histogram is not None:
        entries.append(Entry(signal, name, histogram if counts else None, "histogram", **common))
    return entries


def _summands(shards: Shards) -> Iterable[Entry]:
    for (signal, name), summand in shards.summands.items():
        data = bytes(summand.tensor.cpu().contiguous().view(torch.uint8).numpy())
        dtype = str(summand.tensor.dtype).removeprefix("torch.")
        yield Entry(signal, name, data, "summand", summand.copy, piece=summand.place, about=(dtype,))


def _spreads(shards: Shards, merged: Mapping[tuple[str, str, str], Merged], ranks: Sequence[int]) -> list[RankSpread]:
    """Every tensor on every rank, for the rules."""
    results = [
        (signal, name, result)
        for (signal, name, kind), result in merged.items()
        if kind == "summary" and signal != NORM_BEFORE
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
    for counted in step.counted:
        counted.drop(shards.is_part)
    for signal, histograms in step.histograms.items():
        apart = histograms.apart or {}
        for name in [name for name in apart if shards.is_part((signal, name))]:
            del apart[name]
