"""The rules on weights as a whole: units that are all alike, matrices that shrink to nothing; knows no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from tensorstats.rules import limits
from tensorstats.rules.base import ROOT, Measurement, Rule, group_by_module, place_of
from tensorstats.rules.view import ParameterView, StepView

__all__ = ["CollapsedWeights", "SymmetricUnits"]


class SymmetricUnits(Rule):
    """A weight all of whose rows, one a unit, are the same numbers but for rounding, and stay so while it is trained.

    A matrix that starts at 0, or a scale that starts at 1, has equal rows too, and leaves them with the first steps.

    Invariant under every scale, the width and the batch size: it asks whether, not how much.
    """

    id = "symmetric-units"
    default_patience = limits.SYMMETRIC_PATIENCE
    status = "failure"
    symptom = False
    leads_to = frozenset({"flat-loss", "vanishing-gradient"})
    why = (
        "Units that start alike get the same gradient and stay alike: the layer has as many as it has columns of "
        "memory, and the use of one."
    )
    advice = (
        "Initialise with random numbers: torch's default, or torch.nn.init.kaiming_normal_ and xavier_uniform_. A "
        "constant is for biases and scales alone."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._seen: set[str] = set()  # weights whose rows were alike so far

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield 1 for every weight that changes and whose rows are all the same."""
        for parameter in view.parameters:
            if parameter.row_spread is None:
                if parameter.name in self._seen:
                    self._seen.remove(parameter.name)
                    yield Measurement(parameter.name, 0.0)
                continue
            self._seen.add(parameter.name)
            moved = 0.0 if parameter.update is None else float(parameter.update.absmax)
            alike = parameter.row_spread <= limits.SYMMETRIC_SPREAD * moved and moved > 0
            yield Measurement(parameter.name, float(alike), partial(self._sentence, parameter))

    def _sentence(self, parameter: ParameterView) -> str:
        return f"All {parameter.rows} rows of {parameter.name} are alike, and every step changes them alike. {self.why}"

    def gather(self, broken: Sequence[Measurement], view: StepView, /) -> Sequence[Measurement]:
        """The first of them: the others follow from it, or are its like."""
        return broken[:1] if len(broken) == 1 else _together(broken, view, self.why)


class CollapsedWeights(Rule):
    """Weight matrices that shrink to a small part of their first norm, more than half of all there are.

    Invariant under the scale of the loss and of the data, the width and the batch size: a norm against its own start.
    """

    id = "collapsed-weights"
    selective = True
    default_limit = limits.COLLAPSED_NORM
    default_patience = limits.COLLAPSED_PATIENCE
    leads_to = frozenset(
        {"dead-units", "all-zero", "vanishing-gradient", "unchanged", "flat-loss", "update-ratio", "not-learning"}
    )
    why = (
        "Something pulls all of them to 0 more strongly than the loss holds them: what the layers return fades, and "
        "the model says the same to every input."
    )
    advice = (
        "Lower weight_decay (0.01 for AdamW, 1e-4 for SGD are usual; it is multiplied with the weight at every step), "
        "and any penalty on weights that is added to the loss; leave decay out of biases and norms."
    )

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._first: dict[str, tuple[int, float]] = {}

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Measure the share of its first norm that the median weight still has."""
        shares = []
        for parameter in view.parameters:
            if parameter.dimensions < 2 or parameter.value is None or not parameter.in_optimizer:
                continue
            norm = float(parameter.value.l2)
            before = parameter.norm_before if parameter.norm_before == parameter.norm_before else norm
            step, first = self._first.setdefault(parameter.name, (view.step, before))
            if first > 0:
                shares.append((norm / first, step, parameter))
        if len(shares) >= limits.COLLAPSED_FEWEST_WEIGHTS:
            shares.sort(key=lambda entry: entry[0])
            share, step, parameter = shares[len(shares) // 2]
            if share >= self.limit and ROOT not in self.suspects:
                return
            yield Measurement(ROOT, share, partial(self._sentence, share, len(shares), parameter), step=step)

    def verdict(self, measurement: Measurement) -> bool:
        """Below the limit."""
        return measurement.value < self.limit

    def _sentence(self, share: float, number: int, parameter: ParameterView) -> str:
        decay = f" The optimizer's weight_decay is {parameter.weight_decay:g}." if parameter.weight_decay else ""
        return (
            f"More than half of {number} weights have shrunk to {share:.2g} of their first norm or less, "
            f"{place_of(parameter)} among them.{decay} {self.why}"
        )


def _together(broken: Sequence[Measurement], view: StepView, why: str) -> list[Measurement]:
    """One measurement per module all of whose weights are concerned."""
    names = [parameter.name for parameter in view.parameters if parameter.dimensions >= 2]
    groups = group_by_module([measurement.where for measurement in broken], names)
    return [
        Measurement(
            where,
            1.0,
            f"In {', '.join(members[:4])}{' and others' if members[4:] else ''} all rows are alike, and every step "
            f"changes them alike. {why}",
        )
        for where, members in groups.items()
    ]
