"""The rules of the watcher: statistic, limit and verdict apart; knows summaries and unit activities, never torch."""

from __future__ import annotations

from tensorstats.rules.base import Measurement, Rule
from tensorstats.rules.catalogue import explain, rule_ids
from tensorstats.rules.finding import Finding, Status
from tensorstats.rules.gradients import ExplodingGradient, GradientsKept, VanishingGradient
from tensorstats.rules.judge import Judge, default_rules
from tensorstats.rules.losses import FlatLoss
from tensorstats.rules.modules import StillStatistics, TrainedInEvalMode
from tensorstats.rules.nonfinite import NonFinite
from tensorstats.rules.parameters import Frozen, NoGradient, Unchanged, UpdateRatio
from tensorstats.rules.ranks import OddRank, OtherModel, ReplicasDiffer
from tensorstats.rules.rates import DecayedRate
from tensorstats.rules.skipped import SkippedSteps
from tensorstats.rules.suppression import Suppression, load_baseline, save_baseline
from tensorstats.rules.tensors import (
    InputMean,
    PoorInitialization,
    SimilarAcrossRuns,
    StalledTraining,
    TensorVariance,
    TokenShare,
)
from tensorstats.rules.units import AllZeroOutput, DeadUnits, SaturatedActivation
from tensorstats.rules.view import (
    FlatLosses,
    ModuleView,
    Offender,
    OutputView,
    ParameterView,
    RankSpread,
    Skips,
    StepView,
)
from tensorstats.rules.weights import CollapsedWeights, SymmetricUnits

__all__ = [
    "AllZeroOutput",
    "CollapsedWeights",
    "DeadUnits",
    "DecayedRate",
    "ExplodingGradient",
    "Finding",
    "FlatLoss",
    "FlatLosses",
    "Frozen",
    "GradientsKept",
    "InputMean",
    "Judge",
    "Measurement",
    "ModuleView",
    "NoGradient",
    "NonFinite",
    "OddRank",
    "Offender",
    "OtherModel",
    "OutputView",
    "ParameterView",
    "PoorInitialization",
    "RankSpread",
    "ReplicasDiffer",
    "Rule",
    "SaturatedActivation",
    "SimilarAcrossRuns",
    "SkippedSteps",
    "Skips",
    "StalledTraining",
    "Status",
    "StepView",
    "StillStatistics",
    "Suppression",
    "SymmetricUnits",
    "TensorVariance",
    "TokenShare",
    "TrainedInEvalMode",
    "Unchanged",
    "UpdateRatio",
    "VanishingGradient",
    "default_rules",
    "explain",
    "load_baseline",
    "rule_ids",
    "save_baseline",
]
