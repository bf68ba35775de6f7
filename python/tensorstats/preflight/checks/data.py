"""The checks on the inputs: values that are no numbers, features that say nothing, tell all, or lie scales apart."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tensorstats.preflight.checks.check import Check, Measurement, Skip, Subject

__all__ = ["ConstantFeatures", "DuplicateFeatures", "FeatureScales", "InputRange", "LeakingFeature", "NonFiniteData"]

# Of more samples than these no statistic here gets better.
_MOST_SAMPLES = 4096
_FEWEST_SAMPLES = 16
_FEWEST_OF_A_CLASS = 5
_MOST_CLASSES = 100
# Their share by chance in sparse data is estimated from so many features at least.
_MOST_FEATURES = 4096


class NonFiniteData(Check):
    """NaN or infinities among inputs or targets."""

    id = "data-nonfinite"
    asks = "is every input and target a finite number?"
    why = "One such value makes the loss and then every weight NaN."
    advice = (
        "Find where it comes from (a division by a deviation of 0, a missing value, a log of 0) and mend or drop it."
    )
    leads_to = frozenset({"nonfinite", "overfit", "input-ignored", "initial-loss", "learning-rate", "eval-differs"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Count them by tensor."""
        for name, tensor in subject.data.tensors():
            if tensor.is_floating_point():
                bad = int((~tensor.isfinite()).sum())
                first = (~tensor.isfinite()).nonzero()[0].tolist() if bad else []
                yield Measurement(name, bad, f"{bad} of {tensor.numel()} values are not finite, the first at {first}.")


class ConstantFeatures(Check):
    """Features that are the same in every sample, beyond what is expected in sparse data."""

    id = "constant-features"
    asks = "do the features vary?"
    default_limit = 0.45
    status = "warning"
    why = "What never varies tells samples apart no more than an empty column does."
    advice = "Look at a row of what enters the model: is a slice overwritten, a join empty, or a column cast to 0?"

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the share of features that are constant, less those that sparse data leaves out by chance."""
        for name, x in _features(subject):
            constant = (x == x[:1]).all(0)
            count, features = int(constant.sum()), x.shape[1]
            if features < 4:
                continue
            # How often a varying feature differs from its usual value; Chao's estimate of what was never seen to.
            often = (x[:, ~constant] != x[:, ~constant].median(0).values).sum(0)
            once, twice = int((often <= 1).sum()), int((often == 2).sum())
            chance = once * once / (2 * max(twice, 1))
            share = max(count - chance, 0.0) / features
            # With a gap between those that never vary and those that often do, it is no matter of rare values.
            rare = float((often < 0.1 * len(x)).float().mean()) if often.numel() else 0.0
            note = f"{count} of {features} features have one value in all {len(x)} samples."
            yield Measurement(name, share, note, status="failure" if rare < 0.1 and count < features else None)


class DuplicateFeatures(Check):
    """Features that are copies of others."""

    id = "duplicate-features"
    asks = "is every feature there once?"
    default_limit = 0.25
    status = "warning"
    why = "Copies count twice in every weight decay and every distance, and often hide that another column was meant."
    advice = "Was a column joined twice, or one written over its neighbours?"

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the share of varying features that equal an earlier one."""
        for name, x in _features(subject):
            varying = x[:, (x != x[:1]).any(0)]
            # Two features that differ from the usual in one or two samples are alike by chance.
            often = (varying != varying.median(0).values).sum(0)
            varying = varying[:, often >= max(3, len(x) // 20)]
            if varying.shape[1] < 4:
                continue
            copies = varying.shape[1] - torch.unique(varying, dim=1).shape[1]
            note = f"{copies} of {varying.shape[1]} features that vary are copies of another."
            yield Measurement(name, copies / varying.shape[1], note)


class LeakingFeature(Check):
    """A feature that is the target, or one class of it, but for its scale."""

    id = "leaking-feature"
    asks = "is the target missing from the features?"
    default_limit = 0.995
    why = "A model that copies it looks perfect and fails where the target is not known yet."
    advice = "Take the column out, and whatever was computed from the target."

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Correlate every feature with the target and with each class."""
        wanted = _target_columns(subject)
        for name, x in _features(subject):
            if len(x) != len(wanted):
                continue
            exact = not subject_is_classification(subject)
            if exact and x.shape[1] < 2:
                continue  # one number from one other is what a fit of a line is
            correlation = _correlations(x, wanted).abs()
            best = correlation.max(1).values
            place = int(best.argmax())
            note = f"Feature {place} correlates with the target at {float(best[place]):.4f}: it gives it away."
            yield Measurement(name, float(best[place]), note, limit=max(self.limit, 1 - 1e-5) if exact else None)


class FeatureScales(Check):
    """Features of one input whose spreads lie orders of magnitude apart, fed to a layer as they are."""

    id = "feature-scales"
    asks = "are the features of one input on one scale?"
    default_limit = 1e3
    status = "warning"
    why = "One learning rate cannot suit both: the large ones decide everything and the small ones are hardly read."
    advice = "Standardise each feature with the mean and deviation of the training set, or begin with a normalisation."
    leads_to = frozenset(
        {"input-range", "initial-loss", "scale-through-depth", "overfit", "learning-rate", "vanishing-gradient"}
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the largest spread over the smallest, of what the first layer is fed."""
        x = _fed(subject)
        if x.ndim != 2 or x.shape[1] < 2:
            raise Skip("what the first layer is fed has no features side by side")
        spread = x.double().std(0)
        varying = spread[spread > 1e-12 * x.double().abs().amax(0)]
        if len(varying) < 2:
            raise Skip("fewer than two features vary")
        ratio = float(varying.max() / varying.min())
        # Rare values have small spreads without being on another scale: their extremes tell.
        size = x.double().abs().amax(0)[spread > 0]
        ratio = min(ratio, float(size.max() / size[size > 0].min()) if bool((size > 0).any()) else ratio)
        note = f"The spreads of its features reach from {float(varying.min()):.2g} to {float(varying.max()):.2g}."
        yield Measurement("inputs", ratio, note)


class InputRange(Check):
    """Inputs far from unit size, fed to a layer that nothing normalises after."""

    id = "input-range"
    asks = "are inputs of a size that layers are initialised for?"
    default_limit = 20.0
    status = "warning"
    why = "Weights are initialised for inputs of about unit size; the first layer and its gradients are off by as much."
    advice = "Divide by the deviation of the training set (pixels by 255), or begin with a normalisation."
    leads_to = frozenset(
        {
            "initial-loss",
            "scale-through-depth",
            "overfit",
            "learning-rate",
            "saturated-at-start",
            "dead-at-start",
            "vanishing-gradient",
            "network-is-linear",
            "target-scale",
        }
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Take the root mean square of what the first layer is fed, or its inverse where that is small."""
        x = _fed(subject).double()
        rms = float(x.square().mean().sqrt())
        if rms == 0:
            raise Skip("the first layer is fed zeros alone")
        yield Measurement("inputs", rms, f"Values of about {rms:.3g} reach the first layer.")
        spread = float((x - x.mean(0)).square().mean().sqrt())
        if spread > 0:
            note = f"Values that differ between samples by {spread:.2g} alone reach the first layer."
            yield Measurement("inputs", 1 / spread, note, limit=5 * self.limit)


def subject_is_classification(subject: Subject) -> bool:
    """Whether targets are classes."""
    if subject.view is not None:
        return subject.view.classes > 0
    targets = subject.data.targets
    return isinstance(targets, torch.Tensor) and not targets.is_floating_point()


def _features(subject: Subject) -> Iterator[tuple[str, torch.Tensor]]:
    """Every input that is a table of samples and features with fractions, as float64, thinned out."""
    found = False
    for name, tensor in subject.data.tensors():
        if not name.startswith("inputs") or not tensor.is_floating_point() or tensor.ndim != 2:
            continue
        if (
            tensor.shape[0] < _FEWEST_SAMPLES
            or tensor.shape[0] != subject.data.size
            or tensor.shape[1] > _MOST_FEATURES
        ):
            continue
        found = True
        yield name, _thinned(tensor).detach().double().cpu().nan_to_num()
    if not found:
        raise Skip(f"no input is a table of at least {_FEWEST_SAMPLES} samples by features")


def _thinned(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[:: -(-len(tensor) // _MOST_SAMPLES)]


def _target_columns(subject: Subject) -> torch.Tensor:
    """The target as numbers, and each class apart: ``[samples, columns]``."""
    targets = subject.data.targets
    if not isinstance(targets, torch.Tensor) or targets.ndim == 0 or targets.numel() != len(targets):
        raise Skip("targets are not one number a sample")
    y = _thinned(targets.detach().reshape(-1, 1)).double().cpu().nan_to_num()
    if not subject_is_classification(subject):
        return y
    classes, counts = y.unique(return_counts=True)
    # A rare value in the only sample of a rare class is chance.
    common = classes[(counts >= _FEWEST_OF_A_CLASS) & (counts <= len(y) - _FEWEST_OF_A_CLASS)]
    if len(common) == 0:
        raise Skip(f"no class has {_FEWEST_OF_A_CLASS} samples")
    whole = [y] if len(common) > 1 else []
    return torch.cat([*whole, (y == common[:_MOST_CLASSES]).double()], 1)


def _correlations(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Pearson's, ``[features, columns]``; 0 for what is constant."""
    x, y = x - x.mean(0), y - y.mean(0)
    x, y = x / x.norm(dim=0).clamp_min(1e-300), y / y.norm(dim=0).clamp_min(1e-300)
    return x.T @ y


def _fed(subject: Subject) -> torch.Tensor:
    """What the first layer with weights was fed, unless a normalisation comes before or right after it."""
    calls = subject.first.seen.of("weights", "norm", "activation")
    place = next((i for i, call in enumerate(calls) if call.kind == "weights"), None)
    if place is None or calls[place].input is None:
        raise Skip("no linear or convolutional layer was called through torch.nn.functional")
    if any(call.kind == "norm" for call in calls[: place + 2]):
        raise Skip("a normalisation makes the first layer's output independent of the scale")
    fed = calls[place].input
    assert fed is not None
    inputs = [tensor for name, tensor in subject.batch.tensors() if name.startswith("inputs")]
    if not any(tensor.is_floating_point() for tensor in inputs):
        raise Skip("inputs are tokens")
    return fed
