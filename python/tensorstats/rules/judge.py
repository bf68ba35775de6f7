"""Turns measurements into findings: patience, one finding per rule and place, warning or failure; knows no torch."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tensorstats.rules import limits
from tensorstats.rules.base import EVERYWHERE, ROOT, Measurement, Rule, Told, sentence
from tensorstats.rules.finding import Finding
from tensorstats.rules.gradients import ExplodingGradient, GradientsKept, VanishingGradient
from tensorstats.rules.learning import NotLearning, WildStart
from tensorstats.rules.losses import FlatLoss
from tensorstats.rules.modules import StillStatistics, TrainedInEvalMode
from tensorstats.rules.nonfinite import NonFinite
from tensorstats.rules.parameters import Frozen, NoGradient, Unchanged, UpdateRatio
from tensorstats.rules.predictions import (
    ActivationBeforeLoss,
    ConstantOutput,
    NotLogProbabilities,
    OneClassPredicted,
    SoftmaxOverBatch,
    SoftmaxOverOne,
)
from tensorstats.rules.ranks import OddRank, OtherModel, ReplicasDiffer
from tensorstats.rules.rates import DecayedRate
from tensorstats.rules.skipped import SkippedSteps
from tensorstats.rules.suppression import Suppression
from tensorstats.rules.targets import BroadcastLoss, IgnoredTargets, SameTargets, TargetRange
from tensorstats.rules.trends import LossTrend, ValidationTrend
from tensorstats.rules.units import AllZeroOutput, DeadUnits, SaturatedActivation
from tensorstats.rules.validation import Overfit, TrainEvalGap
from tensorstats.rules.view import StepView
from tensorstats.rules.weights import CollapsedWeights, SymmetricUnits

__all__ = ["Judge", "LossTrend", "default_rules"]


def default_rules() -> list[Rule]:
    """The rules of ``ts.watch``, causes before what follows from them: findings of one step are told in this order.

    Examples
    --------
    >>> [rule.id for rule in default_rules()][:3]
    ['non-finite', 'broadcast-loss', 'softmax-over-one']
    """
    return [
        NonFinite(),
        BroadcastLoss(),
        SoftmaxOverOne(),
        SoftmaxOverBatch(),
        ActivationBeforeLoss(),
        NotLogProbabilities(),
        TargetRange(),
        SameTargets(),
        IgnoredTargets(),
        ReplicasDiffer(),
        OtherModel(),
        OddRank(),
        GradientsKept(),
        Frozen(),
        NoGradient(),
        TrainedInEvalMode(),
        StillStatistics(),
        SymmetricUnits(),
        CollapsedWeights(),
        DecayedRate(),
        AllZeroOutput(),
        DeadUnits(),
        ExplodingGradient(),
        SaturatedActivation(),
        VanishingGradient(),
        UpdateRatio(),
        Unchanged(),
        SkippedSteps(),
        WildStart(),
        TrainEvalGap(),
        Overfit(),
        ConstantOutput(),
        OneClassPredicted(),
        FlatLoss(),
        NotLearning(),
    ]


@dataclass(slots=True)
class _Streak:
    """How long a place has broken a rule."""

    begin: int
    length: int = 0


class _Streaks(dict[str, dict[str, _Streak]]):
    """The streaks of a rule that go on, by place and key; what is in here are the rule's suspects."""

    def go_on(self, measurement: Measurement, step: int) -> _Streak:
        """One more recorded step in which a place breaks the rule."""
        streak = self.setdefault(measurement.where, {}).setdefault(measurement.key, _Streak(step))
        streak.length += 1
        return streak

    def end(self, measurement: Measurement) -> None:
        """A place is within the limit."""
        keys = self.get(measurement.where)
        if keys is not None:
            keys.pop(measurement.key, None)
            if not keys:
                del self[measurement.where]


class Judge:
    """Applies rules to recorded steps and keeps what they found.

    Each judge works on its own copies of the rules, since rules keep what they saw.
    """

    def __init__(self, rules: Iterable[Rule] | None = None, suppressions: Iterable[Suppression] = ()) -> None:
        self.suppressions = tuple(suppressions)
        self.rules: list[Rule] = [copy.deepcopy(rule) for rule in (default_rules() if rules is None else rules)]
        self.losses = LossTrend()
        self.validation = ValidationTrend(self.losses)
        self._streaks: defaultdict[str, _Streaks] = defaultdict(_Streaks)
        for rule in self.rules:
            if rule.selective:
                rule.suspects = self._streaks[rule.id] if self._may_select(rule) else EVERYWHERE
        self._found: dict[tuple[str, str], Told] = {}
        self._new: set[tuple[str, str]] = set()  # found, or become a failure, in the step that is judged
        self._interval = 1
        self._silenced: set[tuple[str, str, str]] = set()
        self._poisoned = False
        self._poisoned_until = 0  # the last step in which weights were not finite
        self._judged = 0  # recorded steps

    def _may_select(self, rule: Rule) -> bool:
        """Whether what a selective rule leaves out is sure to break no limit.

        It is not when a subclass has changed the statistic or the verdict, or when another rule has the same id, since
        streaks are then common to both.
        """
        owner = next(owner for owner in type(rule).__mro__ if {"statistic", "verdict"} & vars(owner).keys())
        return "selective" in vars(owner) and [other.id for other in self.rules].count(rule.id) == 1

    def judge(self, view: StepView) -> list[Finding]:
        """The findings that are new with this step."""
        self.losses.judged()
        if self._poisoned and view.parameters_nonfinite:
            # As long as weights are NaN every number is an echo of the same fault.
            self._poisoned_until = view.step
            return []
        if self._poisoned:
            self._recover()
        view.learning = partial(self.losses.after, len(self.losses.values))
        view.loss_rose = self.losses.rose()
        view.flat_losses = self.losses.flat()
        view.evaluations = self.validation.evaluations
        if view.previous_step is not None:
            self._interval = view.step - view.previous_step
        self._new.clear()
        self._judged += 1
        for rule in self.rules:
            if not view.parameters_nonfinite or rule.reads_nonfinite:
                self._apply(rule, view)
        self._poisoned, self._poisoned_until = view.parameters_nonfinite, view.step
        if not self._new:
            return []
        new = self._new
        return [finding for finding in self.findings if (finding.rule, finding.where) in new]

    def _apply(self, rule: Rule, view: StepView) -> None:
        broken: list[tuple[Measurement, int]] = []
        for measurement in rule.statistic(view):
            if not rule.verdict(measurement):
                self._streaks[rule.id].end(measurement)
                continue
            streak = self._streaks[rule.id].go_on(measurement, view.step)
            key = (rule.id, measurement.where, measurement.key)
            patience = rule.patience if measurement.patience is None else measurement.patience
            self._go_on(rule, measurement.where, view.step, again=streak.length >= patience)
            if streak.length >= patience and key not in self._silenced:
                begin = streak.begin if measurement.step is None else measurement.step
                broken.append((measurement, begin))
                self._silenced.add(key)
        if view.offender is not None and isinstance(rule, NonFinite):
            # An echo of what was found is no new place.
            self._go_on(rule, view.offender.where if view.offender.standing else None, view.step, again=True)
        if broken and not (rule.once and any(found == rule.id for found, _ in self._found)):
            self._tell(rule, broken, view)

    def _recover(self) -> None:
        """A checkpoint was loaded: what was found lasted until then."""
        for rule in self.rules:
            if isinstance(rule, NonFinite):
                self._go_on(rule, None, self._poisoned_until, again=True)

    def _go_on(self, rule: Rule, where: str | None, step: int, *, again: bool) -> None:
        """Note that what was found lasts; where the worst place stands for all, or `where` is None, at any place.

        What was over begins `again` only when it has lasted as long as the rule asks for.
        """
        for place, told in self._found.items():
            here = place[0] == rule.id and (rule.once or where is None or self._is_of(told, where))
            if here and (again or not self._is_over(told, rule)):
                self._found[place] = replace(told, last=step, last_judged=self._judged)

    @staticmethod
    def _is_of(told: Told, where: str) -> bool:
        """Whether a measurement at a place is one of those that were gathered into a finding."""
        return told.finding.where == where or where in told.members

    def _is_over(self, told: Told, rule: Rule) -> bool:
        """Whether it has not been so for longer than it took to be told; what went wrong with the weights is not."""
        return not self._poisoned and self._judged - told.last_judged >= max(rule.patience, limits.OVER_STEPS)

    def _tell(self, rule: Rule, broken: Sequence[tuple[Measurement, int]], view: StepView) -> None:
        begin = min(step for _, step in broken)
        members = frozenset(measurement.where for measurement, _ in broken)
        for measurement in rule.gather([measurement for measurement, _ in broken], view):
            place = (rule.id, measurement.where)
            known = self._found.get(place)
            status = measurement.status or rule.status
            if known is not None and (known.finding.status, status) != ("warning", "failure"):
                continue
            self._new.add(place)
            advise = getattr(rule, "advise", None)
            finding = Finding(
                rule=rule.id,
                status=status,
                where=measurement.where,
                step=begin if known is None else known.finding.step,
                value=measurement.value,
                limit=rule.limit if measurement.limit is None else measurement.limit,
                why=sentence(measurement) or rule.why,
                advice=advise(view) if advise is not None else rule.advice,
            )
            # A module stands for the parameters below it that were measured, the worst place for all.
            below = frozenset(name for name in members if _is_below(name, measurement.where))
            mine = below or members
            self._found[place] = Told(
                finding, measurement.key, measurement.order, view.step, self._interval, self._judged, mine
            )

    @property
    def poisoned(self) -> bool:
        """Whether the weights were not finite at the last recorded step: nothing is judged from then on."""
        return self._poisoned

    @property
    def findings(self) -> list[Finding]:
        """All findings but those that follow from others and those that are suppressed, earliest first, causes first.

        A symptom in a run that does not learn is a failure.
        """
        return [finding for finding in self._all_findings() if not self._is_suppressed(finding)]

    @property
    def suppressed(self) -> list[Finding]:
        """The findings that are known and meant to be, with what follows from them."""
        return (
            [finding for finding in self._all_findings() if self._is_suppressed(finding)] if self.suppressions else []
        )

    def _is_suppressed(self, finding: Finding) -> bool:
        return any(suppression.covers(finding) for suppression in self.suppressions)

    def _all_findings(self) -> list[Finding]:
        rules = {rule.id: (place, rule) for place, rule in enumerate(self.rules)}
        does_not_learn = self._does_not_learn()
        causes: list[tuple[Told, list[Told]]] = []

        def order(told: Told) -> tuple[bool, int, int]:
            place, rule = rules[told.finding.rule]
            return rule.follows_any, told.finding.step, place

        for told in sorted(self._found.values(), key=order):
            rule = rules[told.finding.rule][1]
            follows = [
                consequences
                for cause, consequences in causes
                if rules[cause.finding.rule][1].explains(cause, told)
                or (rule.follows_any and self._may_be_why(cause, rules[cause.finding.rule][1]))
            ]
            if follows:
                follows[0].append(told)
            else:
                causes.append((told, []))
        found = []
        for cause, consequences in causes:
            rule = rules[cause.finding.rule][1]
            # It lasts as long as anything that follows from it.
            over = all(self._is_over(told, rules[told.finding.rule][1]) for told in (cause, *consequences))
            status = cause.finding.status
            if does_not_learn and rule.symptom and (rule.lasting or not over):
                status = "failure"
            elif over:
                status = "warning"
            found.append(
                replace(
                    cause.finding,
                    status=status,
                    consequences=_summed_up([told.finding for told in consequences]),
                    last_step=max(told.last for told in (cause, *consequences)),
                    over=over,
                )
            )
        return found

    def _may_be_why(self, cause: Told, rule: Rule) -> bool:
        """Whether a finding may be why a run goes wrong: it lasts, tells more than that, and nobody means it to be."""
        tells = not rule.follows_any and (rule.symptom or cause.finding.status == "failure")
        return tells and not self._is_over(cause, rule) and not self._is_suppressed(cause.finding)

    def _does_not_learn(self) -> bool:
        """What the losses say; without them, whether some parameter provably stands still."""
        learning = self.losses.learning
        if learning is not None:
            return not learning
        return any(rule == Unchanged.id and told.finding.status == "failure" for (rule, _), told in self._found.items())


def _is_below(name: str, where: str) -> bool:
    """Whether a place is another one or in it."""
    return where in (ROOT, name) or name.startswith(where + ".")


def _summed_up(findings: Sequence[Finding]) -> tuple[str, ...]:
    """One line per rule: where and since when."""
    lines = []
    for rule in dict.fromkeys(finding.rule for finding in findings):
        mine = [finding for finding in findings if finding.rule == rule]
        places = ", ".join(finding.where for finding in mine)
        lines.append(f"{rule} at {places}, since step {min(finding.step for finding in mine)}")
    return tuple(lines)
