"""The checks of ``ts.preflight``, causes before what follows from them."""

from __future__ import annotations

from tensorstats.preflight.checks import (
    counts,
    data,
    feeding,
    flow,
    gradients,
    labels,
    learning,
    losses,
    modes,
    optimizers,
    outputs,
    weights,
)
from tensorstats.preflight.checks.check import Check
from tensorstats.preflight.checks.reference import Reference

__all__ = ["default_checks"]


def default_checks(*, reference: bool = False) -> list[Check]:
    """All checks with their default limits; with `reference` also the comparison with a linear model.

    Examples
    --------
    >>> [check.id for check in default_checks()][:3]
    ['data-nonfinite', 'expected-size', 'leaking-feature']
    """
    checks: list[Check] = [
        data.NonFiniteData(),
        counts.Expected(),
        data.LeakingFeature(),
        labels.OneClass(),
        labels.Imbalance(),
        data.ConstantFeatures(),
        data.DuplicateFeatures(),
        outputs.OneUnitSoftmax(),
        feeding.Broadcast(),
        flow.SamplesMix(),
        flow.FutureLeaks(),
        flow.Unshifted(),
        feeding.LossInput(),
        feeding.TargetValues(),
        outputs.OutputRange(),
        losses.LossSign(),
        optimizers.NotInOptimizer(),
        optimizers.OptimizerSettings(),
        data.FeatureScales(),
        data.InputRange(),
        labels.TargetScale(),
        outputs.NonFinite(),
        weights.SymmetricUnits(),
        weights.DeadAtStart(),
        weights.ScaleThroughDepth(),
        weights.SaturatedAtStart(),
        losses.FlatLoss(),
        losses.IgnoredTargets(),
        gradients.NoGradient(),
        gradients.VanishingGradient(),
        modes.EvalDiffers(),
        modes.StrongDropout(),
        modes.NormStatistics(),
        losses.Reduction(),
        losses.InitialLoss(),
        optimizers.WeightDecay(),
        optimizers.LearningRate(),
        learning.InputIgnored(),
        gradients.ZeroGradient(),
        learning.OutputsAlike(),
        weights.LinearNetwork(),
        learning.Overfit(),
        modes.TrainEval(),
        learning.Generalises(),
    ]
    if reference:
        checks.append(Reference())
    return checks
