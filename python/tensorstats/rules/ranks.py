"""The rules on ranks: copies that must be equal, and the rank whose outputs are unlike the others'; knows no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule
from tensorstats.rules.view import StepView

__all__ = ["OddRank", "ReplicasDiffer"]


class ReplicasDiffer(Rule):
    """Copies of a parameter, or of its gradient, that data parallelism keeps equal and that are not."""

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


class OddRank(Rule):
    """A rank whose outputs are much larger or smaller than those of the others, step after step."""

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
