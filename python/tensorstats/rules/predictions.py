"""The rules on predictions: what is done to them before the loss, and whether inputs matter; knows no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule
from tensorstats.rules.fed import BCE_LOGITS, CROSS_ENTROPY, NLL, LossStep, varies
from tensorstats.rules.finding import Status
from tensorstats.rules.targets import FOLLOWING, last_output
from tensorstats.rules.view import StepView

__all__ = [
    "ActivationBeforeLoss",
    "ConstantOutput",
    "NotLogProbabilities",
    "OneClassPredicted",
    "SoftmaxOverBatch",
    "SoftmaxOverOne",
]


def _precision(view: StepView) -> float:
    """How far from 1 a sum of probabilities may be."""
    narrow = any(parameter.dtype in ("float16", "bfloat16") for parameter in view.parameters)
    return limits.SUMS_TO_ONE_NARROW if narrow else limits.SUMS_TO_ONE


def _are_probabilities(step: LossStep) -> bool:
    """Whether all predictions lie between 0 and 1, and not all at one end."""
    predictions = step.predictions
    return predictions is not None and predictions.min >= 0.0 and 0.0 < predictions.max <= 1.0


class SoftmaxOverOne(Rule):
    """Predictions of one output that are exactly 1 for every sample: a softmax over a single value, or saturation.

    Invariant under the scale of the loss and of the data, the width and the batch size.
    """

    id = "softmax-over-one"
    default_patience = limits.ACTIVATION_PATIENCE
    status = "failure"
    symptom = False
    leads_to = FOLLOWING
    why = "A softmax over a single value is 1 whatever goes in, and passes no gradient back."
    advice = (
        "Use a sigmoid for one output (with nn.BCEWithLogitsLoss, none at all), or two outputs and nn.CrossEntropyLoss."
    )

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Say whether all outputs of this step were 1, or the classes of a cross entropy one."""
        fed = view.fed
        if fed is None:
            return
        step = fed.latest
        if step.classes == 1 and fed.kind.name == CROSS_ENTROPY:
            yield Measurement(
                "loss", 1.0, f"nn.CrossEntropyLoss has a softmax of its own, here over one class. {self.why}"
            )
            return
        single = len(step.prediction_shape) == 1 or step.prediction_shape[-1:] == (1,)
        given = step.predictions
        if single and given is not None and given.count > 1 and given.min == given.max == 1.0:
            output = last_output(view, step)
            place = "loss" if output is None else output.module
            yield Measurement(place, 1.0, f"All {given.count} predictions of this step were exactly 1. {self.why}")


class SoftmaxOverBatch(Rule):
    """Columns of the predictions that sum to 1 over the batch, while rows do not: a softmax along the wrong dimension.

    Invariant under the scale of the loss and of the data, the width and the batch size.
    """

    id = "softmax-over-batch"
    default_patience = limits.ACTIVATION_PATIENCE
    status = "failure"
    symptom = False
    leads_to = FOLLOWING
    why = "The samples of a batch compete with each other, and what is predicted for one depends on the others."
    advice = "Take the softmax over the classes: dim=1 (or -1), not dim=0."

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Say whether those of this step do."""
        fed = view.fed
        if fed is None:
            return
        step, precision = fed.latest, _precision(view)
        if step.batch < 2 or not _are_probabilities(step) or not step.columns_off <= precision:
            return
        if step.rows_off <= precision:
            return
        output = last_output(view, step)
        place = "loss" if output is None else output.module
        note = f"Predictions lie between 0 and 1 and sum to 1 over the {step.batch} samples of the batch. {self.why}"
        yield Measurement(place, 1.0, note)


# What an activation takes from the logits of a cross entropy, by its kind.
_CUTS: dict[str, tuple[str, Status]] = {
    "sigmoid": ("leaves differences of at most 1: the loss can never be sure, and stays far above 0", "failure"),
    "tanh": ("leaves differences of at most 2: the loss can never be sure, and stays above 0", "warning"),
    "relu": ("makes all classes alike whose logits are negative, and passes no gradient to them", "warning"),
}


class ActivationBeforeLoss(Rule):
    """An activation at the end of the model, before a loss that has it already or that needs what it takes away.

    A softmax before a cross entropy, a sigmoid before a binary cross entropy with logits: the loss takes them once
    more. A sigmoid, tanh or ReLU before a cross entropy bounds logits that need room; the last two warn.
    Log-probabilities before a cross entropy change nothing and are no finding.

    Invariant under the scale of the loss and of the data, the width and the batch size.
    """

    id = "activation-before-loss"
    default_patience = limits.ACTIVATION_PATIENCE
    status = "failure"
    symptom = False
    leads_to = FOLLOWING - {"train-eval-gap", "overfit"}
    why = (
        "The loss applies its own to what is a probability already: differences of at most 1 remain, so it can never "
        "be sure, the loss stays far above 0 and gradients are small."
    )
    advice = "Take the activation off the end of the model, or use a loss for probabilities (nn.BCELoss, nn.NLLLoss)."

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._low, self._high = math.inf, -math.inf

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Say whether the predictions of this step are probabilities although the loss takes logits."""
        fed = view.fed
        if fed is None or fed.latest.predictions is None:
            return
        step, given = fed.latest, fed.latest.predictions
        self._low, self._high = min(self._low, given.min), max(self._high, given.max)
        output = last_output(view, step)
        if fed.kind.name == CROSS_ENTROPY and step.classes != 1 and output is not None and output.kind in _CUTS:
            words, status = _CUTS[output.kind]
            note = f"The logits come out of '{output.module}' ({output.module_type}), which {words}."
            yield Measurement(output.module, 1.0, note, status=status)
            return
        if not _are_probabilities(step):
            return
        place = "loss" if output is None else output.module
        if fed.kind.name == CROSS_ENTROPY and step.classes != 1 and step.rows_off <= _precision(view):
            note = f"Every row of the predictions sums to 1, as after a softmax; the loss has its own. {self.why}"
            yield Measurement(place, 1.0, note)
        elif fed.kind.name == BCE_LOGITS:
            proven = output is not None and output.kind == "sigmoid"
            fills = self._low >= 0.0 and self._high <= 1.0 and self._high - self._low >= limits.SIGMOID_RANGE
            if proven or fills:
                note = (
                    f"All predictions lie between 0 and 1 ({self._low:.3g} to {self._high:.3g}), as after a sigmoid; "
                    f"the loss has one of its own. {self.why}"
                )
                patience = None if proven else limits.SIGMOID_RANGE_PATIENCE
                yield Measurement(place, 1.0, note, patience=patience)


class NotLogProbabilities(Rule):
    """A negative log-likelihood of what are no log-probabilities: logits, or probabilities without the logarithm.

    Invariant under the scale of the loss and of the data, the width and the batch size.
    """

    id = "not-log-probabilities"
    default_limit = limits.LOG_SUMS
    default_patience = limits.ACTIVATION_PATIENCE
    status = "failure"
    symptom = False
    leads_to = FOLLOWING
    why = "Such a loss has no lower end: it falls as outputs grow, whether or not they are right."
    advice = "Use nn.CrossEntropyLoss for logits, or put a log_softmax over the classes at the end of the model."

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield how far the rows are from log-probabilities."""
        fed = view.fed
        if fed is None or fed.kind.name != NLL or math.isnan(fed.latest.scores_off):
            return
        note = f"Exponentials of a row do not sum to 1: the logarithm is off by {fed.latest.scores_off:.3g}. {self.why}"
        yield Measurement("loss", fed.latest.scores_off, note)


class ConstantOutput(Rule):
    """Predictions that are the same for every sample of a batch while the targets are not.

    Invariant under the scale of the loss and of the data, the width and the batch size.
    """

    id = "constant-output"
    default_limit = limits.CONSTANT_OUTPUT
    default_patience = limits.CONSTANT_OUTPUT_PATIENCE
    follows_any = True
    leads_to = frozenset({"one-class-predicted", "flat-loss", "not-learning"})
    why = "The output does not depend on the input."
    advice = (
        "Look for a last layer that is dead or saturated, weights that are all zero or all alike, inputs that are all "
        "the same, or a normalisation over the wrong dimension."
    )

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield how much outputs differ between samples."""
        fed = view.fed
        if fed is None or fed.latest.batch < limits.FEWEST_SAMPLES or math.isnan(fed.latest.spread):
            return
        step = fed.latest
        if not varies(step):
            return
        note = f"Of {step.batch} samples no output differs by more than {step.spread:.2g} of the largest. {self.why}"
        yield Measurement("predictions", step.spread, note)

    def verdict(self, measurement: Measurement) -> bool:
        """Whether it is below the limit."""
        return measurement.value < self.limit


class OneClassPredicted(Rule):
    """One class is predicted for whole batches, over many steps, while the targets vary and the loss stands still.

    It becomes a failure when it lasts.

    Invariant under the scale of the loss and of the data, the width and the batch size.
    """

    id = "one-class-predicted"
    default_limit = limits.ONE_CLASS_SHARE
    default_patience = limits.ONE_CLASS_PATIENCE
    symptom = False
    follows_any = True
    leads_to = frozenset({"not-learning"})
    why = "The answer does not depend on the input; what is left is the frequency of the classes."
    advice = (
        "Do inputs and labels still belong together (a shuffle of one of them)? Are inputs scaled, and is the learning "
        "rate right? Where one class is far more frequent, weight the classes."
    )

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield the share of the class predicted most, in batches with several classes."""
        fed = view.fed
        if fed is None or fed.latest.predicted_counts is None or fed.latest.target_counts is None:
            return
        predicted, wanted = fed.latest.predicted_counts, fed.latest.target_counts
        if wanted.sum() < limits.FEWEST_SAMPLES or predicted.sum() == 0:
            return
        if wanted.max() > limits.ONE_CLASS_TARGETS * wanted.sum() or fed.gain >= 1.0 - limits.NOT_LEARNING_FRACTION:
            yield Measurement("predictions", 0.0)
            yield Measurement("predictions", 0.0, key="failure")
            return
        share = float(predicted.max() / predicted.sum())
        if share > self.limit and not fed.stands_still(least=limits.STANDS_STILL):
            share = 0.0
        note = (
            f"Class {int(predicted.argmax())} was predicted for {share:.0%} of the samples, and is that of "
            f"{float(wanted[int(predicted.argmax())] / wanted.sum()):.0%}. {self.why}"
        )
        yield Measurement("predictions", share, note)
        late = max(self.patience, limits.ONE_CLASS_FAILED_PATIENCE)
        yield Measurement("predictions", share, note, status="failure", patience=late, key="failure")
