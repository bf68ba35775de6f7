"""The rules of the watcher: statistic, limit and verdict apart; knows summaries and unit activities, never torch."""

from __future__ import annotations

from tensorstats.rules.base import Measurement, Rule
from tensorstats.rules.catalogue import explain, rule_ids
from tensorstats.rules.fed import LossKind, LossState, LossStep
from tensorstats.rules.finding import Finding, Status
from tensorstats.rules.gradients import ExplodingGradient, GradientsKept, VanishingGradient
from tensorstats.rules.judge import Judge, default_rules
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
from tensorstats.rules.suppression import Suppression, load_baseline, save_baseline
from tensorstats.rules.targets import BroadcastLoss, IgnoredTargets, SameTargets, TargetRange
from tensorstats.rules.tensors import (
    InputMean,
    PoorInitialization,
    SimilarAcrossRuns,
    StalledTraining,
    TensorVariance,
    TokenShare,
)
from tensorstats.rules.units import AllZeroOutput, DeadUnits, SaturatedActivation
from tensorstats.rules.validation import Overfit, TrainEvalGap
from tensorstats.rules.view import (
    Evaluation,
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
    "ActivationBeforeLoss",
    "AllZeroOutput",
    "BroadcastLoss",
    "CollapsedWeights",
    "ConstantOutput",
    "DeadUnits",
    "DecayedRate",
    "Evaluation",
    "ExplodingGradient",
    "Finding",
    "FlatLoss",
    "FlatLosses",
    "Frozen",
    "GradientsKept",
    "IgnoredTargets",
    "InputMean",
    "Judge",
    "LossKind",
    "LossState",
    "LossStep",
    "Measurement",
    "ModuleView",
    "NoGradient",
    "NonFinite",
    "NotLearning",
    "NotLogProbabilities",
    "OddRank",
    "Offender",
    "OneClassPredicted",
    "OtherModel",
    "OutputView",
    "Overfit",
    "ParameterView",
    "PoorInitialization",
    "RankSpread",
    "ReplicasDiffer",
    "Rule",
    "SameTargets",
    "SaturatedActivation",
    "SimilarAcrossRuns",
    "SkippedSteps",
    "Skips",
    "SoftmaxOverBatch",
    "SoftmaxOverOne",
    "StalledTraining",
    "Status",
    "StepView",
    "StillStatistics",
    "Suppression",
    "SymmetricUnits",
    "TargetRange",
    "TensorVariance",
    "TokenShare",
    "TrainEvalGap",
    "TrainedInEvalMode",
    "Unchanged",
    "UpdateRatio",
    "VanishingGradient",
    "WildStart",
    "default_rules",
    "explain",
    "load_baseline",
    "rule_ids",
    "save_baseline",
]
