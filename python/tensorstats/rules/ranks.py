"""The rules on ranks: copies that must be equal, ranks with another model or with other outputs; knows no torch."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule, sentence
from tensorstats.rules.view import RankSpread, StepView

__all__ = ["OddRank", "OtherModel", "ReplicasDiffer"]


class ReplicasDiffer(Rule):
    """Copies of a parameter, or of its gradient, that data parallelism keeps equal and that are not.

    Invariant under every scale, the width and the batch size: bits are compared.
    """

    id = "replicas-differ"
    status = "failure"
    symptom = False
    once = True
    why = (
        "Every rank applies the same update to the same weights, so the copies must be equal bit for bit; from now on "
        "the ranks train different models."
    )
    advice = (
        "Look for what only some ranks do: a parameter changed or loaded after DistributedDataParallel was built, an "
        "optimizer over other parameters, a step taken under no_sync, gradients changed by a rank's own norm."
    )

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Count the ranks that differ from most."""
        for spread in view.ranks:
            if not spread.differs:
                continue
            odd = spread.odd_ranks()
            listed = ", ".join(map(str, odd))
            rest = next((s for rank, s in enumerate(spread.ranks) if s is not None and rank not in odd), None)
            norms = " and ".join(f"{s.l2:.6g}" for s in (rest, spread.ranks[odd[0]] if odd else None) if s is not None)
            what = {"parameters": "The values", "gradients": "The gradient", "updates": "The update"}
            note = (
                f"{what.get(spread.signal, 'The values')} of {spread.name} on rank {listed} differ from those of the "
                f"other ranks (norms {norms}). {self.why}"
            )
            yield Measurement(spread.name, float(len(odd)), note=note, key=spread.signal)

    def gather(self, broken: Sequence[Measurement], _view: StepView, /) -> Sequence[Measurement]:
        """The first of them stands for all: what differs once differs everywhere soon."""
        return broken[:1]


class OtherModel(Rule):
    """Layers that have the same name on several ranks and are not the same, or that a rank does not have.

    Invariant under every scale and the batch size: no value is looked at.
    """

    id = "other-model"
    symptom = False
    once = True
    why = "Numbers of what is not the same are not merged: they are each rank's own, see monitor.ranks(signal, name)."
    advice = (
        "Where every rank is meant to train the same model, look at what builds it from the rank: a width, a number of "
        "layers, a dtype, a checkpoint. Where ranks hold different parts on purpose, give the parts names of their own "
        "or watch with ranks='local'."
    )

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Count the ranks on which a tensor is something else, or missing."""
        for spread in view.ranks:
            if spread.unlike:
                yield Measurement(spread.name, float(_minority(spread.unlike)), note=_words(spread), key=spread.signal)
            elif spread.lacking:
                listed = ", ".join(map(str, spread.lacking))
                note = f"{spread.name} is no parameter of the model on rank {listed}."
                yield Measurement(spread.name, float(len(spread.lacking)), note=note, key=spread.signal)

    def gather(self, broken: Sequence[Measurement], _view: StepView, /) -> Sequence[Measurement]:
        """The first of them stands for all, and names the others."""
        first = broken[0]
        others = list(dict.fromkeys(found.where for found in broken if found.where != first.where))
        more = f" The same goes for {', '.join(others[:_NAMED])}" if others else ""
        more += f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        first.note = f"{sentence(first)}{more}{'.' if others else ''} {self.why}"
        return [first]


# So many names are told; the others are counted.
_NAMED = 4


def _minority(kinds: Mapping[int, str]) -> int:
    """How many ranks have something else than most."""
    counts = Counter(kinds.values())
    return len(kinds) - max(counts.values())


def _words(spread: RankSpread) -> str:
    """What a tensor is on which ranks: ``0.bias is float32[16] on rank 0 and float32[24] on rank 1`` and the like."""
    ranks: dict[str, list[int]] = {}
    for rank, kind in spread.unlike.items():
        ranks.setdefault(kind, []).append(rank)
    listed = [f"{kind or 'another'} on rank {', '.join(map(str, those))}" for kind, those in ranks.items()]
    if len(listed) == 1:
        return f"{spread.name} is of other units or bins on some of ranks {', '.join(map(str, spread.unlike))}."
    return f"{spread.name} is {', '.join(listed[:-1])} and {listed[-1]}."


class OddRank(Rule):
    """A rank whose outputs are much larger or smaller than those of the others, step after step.

    A ratio of root mean squares: invariant under the scale of the loss and of the data, the width and the batch size.
    """

    id = "odd-rank"
    default_limit = limits.ODD_RANK_RATIO
    default_patience = limits.ODD_RANK_PATIENCE
    once = True
    why = "Ranks see batches of the same data and run the same weights, so their outputs have about the same size."
    advice = (
        "Look at that rank's data: another folder, another normalisation, an empty or repeated shard; and at its "
        "weights and random state if they are not kept equal."
    )

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Compare each rank's root mean square with the median of the others'."""
        for spread in view.ranks:
            if spread.replicated or spread.signal != "outputs":
                continue
            sizes = {rank: s.rms for rank, s in enumerate(spread.ranks) if s is not None and s.rms > 0}
            if len(sizes) < 2:
                continue
            worst, ratio = _most_unlike(sizes)
            others = statistics.median(size for rank, size in sizes.items() if rank != worst)
            note = (
                f"The output of {spread.name} on rank {worst} has a root mean square of {sizes[worst]:.4g}, where the "
                f"other ranks have {others:.4g}. {self.why}"
            )
            yield Measurement(spread.name, ratio, note=note)

    def gather(self, broken: Sequence[Measurement], _view: StepView, /) -> Sequence[Measurement]:
        """The first module stands for those that it feeds."""
        return broken[:1]


def _most_unlike(sizes: dict[int, float]) -> tuple[int, float]:
    """The rank farthest from the median of the others, and by what factor (at least 1); of two, the second."""
    found = (0, 0.0)
    for rank, size in sizes.items():
        others = statistics.median(other for place, other in sizes.items() if place != rank)
        distance = abs(math.log(size / others))
        if distance >= found[1]:
            found = (rank, distance)
    return found[0], math.exp(found[1])
