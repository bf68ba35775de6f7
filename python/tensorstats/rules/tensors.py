"""Rules to ask for, on any tensor or on the run: what is right there depends on the model; knows no torch."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tensorstats._core import Summary
from tensorstats.rules import limits
from tensorstats.rules.base import Measurement, Rule, describe
from tensorstats.rules.view import StepView

__all__ = ["InputMean", "PoorInitialization", "SimilarAcrossRuns", "StalledTraining", "TensorVariance", "TokenShare"]


class _TensorRule(Rule):
    """A rule on the tensors of one signal whose names match a regular expression."""

    def __init__(
        self, *, signal: str, match: str = "", limit: float | None = None, patience: int | None = None
    ) -> None:
        super().__init__(limit=limit, patience=patience)
        self.signal = signal
        self._match = re.compile(match)

    def chosen(self, view: StepView) -> Iterator[tuple[str, str, Summary]]:
        """Name, module and summary of the tensors that it looks at."""
        for name, module, summary in view.tensors(self.signal):
            if self._match.search(name) and summary.count:
                yield name, module, summary


class TensorVariance(_TensorRule):
    """Tensors whose variance is above a maximum or below a minimum.

    Not invariant under the scale of what it looks at: the bounds are the user's.

    Parameters
    ----------
    limit : float, default 10
        The largest variance allowed.
    minimum : float, default 1e-5
        The smallest one.
    signal : str, default "outputs"
        A signal of ``ts.watch`` that is recorded.
    match : str
        A regular expression on the tensor's name.
    """

    id = "tensor-variance"
    default_limit = limits.VARIANCE_HIGH
    why = "Values that hardly differ carry nothing, values far apart saturate what comes after."
    advice = "Initialise by the width of the layer, put a normalisation after it, or scale what goes in."

    def __init__(
        self,
        *,
        limit: float | None = None,
        minimum: float = limits.VARIANCE_LOW,
        signal: str = "outputs",
        match: str = "",
        patience: int | None = None,
    ) -> None:
        super().__init__(signal=signal, match=match, limit=limit, patience=patience)
        self.minimum = minimum

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Measure the variance of every chosen tensor."""
        for name, _, summary in self.chosen(view):
            variance = float(summary.var())
            if math.isnan(variance):
                continue
            low = variance < self.minimum
            yield Measurement(
                name,
                variance,
                f"The variance is {variance:.3g}, {'below' if low else 'above'} what is allowed. {self.why}",
                self.minimum if low else None,
                key="low" if low else "high",
            )

    def verdict(self, measurement: Measurement) -> bool:
        """Outside the two bounds."""
        return measurement.value < self.minimum or measurement.value > self.limit


class InputMean(_TensorRule):
    """Inputs whose mean is not near 0, once enough samples have been seen; needs the signal ``"inputs"``.

    Not invariant under the scale of the data: that is what it looks at. Layers that normalise what they are given do
    not mind, which is why this is no default rule.

    Parameters
    ----------
    limit : float, default 0.2
        The largest distance of the mean from 0.
    samples : int, default 500
        How many have to be seen before (the first dimension of the input).
    match : str
        A regular expression on the input's name, such as ``"conv1"``. The first input of the model by default.
    """

    id = "input-mean"
    default_limit = limits.INPUT_MEAN
    why = "Inputs that all lie on one side push the first layer's gradients in one direction."
    advice = "Subtract the mean of the training data, channel by channel, and divide by its standard deviation."

    def __init__(
        self,
        *,
        limit: float | None = None,
        samples: int = limits.INPUT_MEAN_SAMPLES,
        match: str = "",
        patience: int | None = None,
    ) -> None:
        super().__init__(signal="inputs", match=match, limit=limit, patience=patience)
        self.samples = samples
        self._by_name = bool(match)
        self._seen: dict[str, tuple[int, Summary]] = {}

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Measure the mean of all that has been seen of an input."""
        for name, _, summary in self.chosen(view):
            if "float" not in (summary.dtype or ""):
                continue
            number, total = self._seen.get(name, (0, Summary()))
            number += summary.shape[0] if summary.shape else 1
            self._seen[name] = number, total.merge(summary)
            if number >= self.samples:
                mean = float(total.mean)
                note = f"The mean of {number} samples is {mean:.3g}. {self.why}"
                yield Measurement(name, abs(mean), note)
            if not self._by_name:
                return


class TokenShare(_TensorRule):
    """Sequences most of which are one token, 0: padding; needs the signal ``"inputs"``.

    A share: invariant under the width, the batch size and the scale of the loss.

    Parameters
    ----------
    limit : float, default 0.5
        The largest share of zeros in an integer input.
    match : str
        A regular expression on the input's name.
    """

    id = "token-share"
    default_limit = limits.TOKEN_SHARE
    why = "The model spends most of its time on padding, and learns to expect it."
    advice = "Put sequences of like length into one batch, cut them shorter, or pack several into one."

    def __init__(self, *, limit: float | None = None, match: str = "", patience: int | None = None) -> None:
        super().__init__(signal="inputs", match=match, limit=limit, patience=patience)

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Measure the share of zeros in every integer input."""
        for name, _, summary in self.chosen(view):
            if "int" in (summary.dtype or ""):
                share = summary.zero_count / summary.count
                yield Measurement(name, share, f"{share:.0%} of its tokens are 0. {self.why}")


class PoorInitialization(Rule):
    """Layers of one network whose outputs differ in variance by more than ten times, in the first steps.

    Heads, gates and branches that are born small differ on purpose, which is why this is no default rule. A ratio:
    invariant under the scale of the data and of the loss.
    """

    id = "poor-initialization"
    default_limit = limits.INITIAL_VARIANCE_RATIO
    default_patience = limits.INITIAL_PATIENCE
    symptom = True
    why = "Signals that grow or shrink from layer to layer make gradients do the same on the way back."
    advice = "Use torch.nn.init.kaiming_normal_ before ReLU, xavier_uniform_ before tanh, or a normalisation between."

    def __init__(
        self, *, limit: float | None = None, patience: int | None = None, steps: int = limits.INITIAL_STEPS
    ) -> None:
        super().__init__(limit=limit, patience=patience)
        self.steps = steps
        self._seen = 0

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Measure the largest variance over the smallest, of the outputs of layers with weights."""
        self._seen += 1
        if self._seen > self.steps:
            return
        with_weights = {parameter.module for parameter in view.parameters if parameter.dimensions >= 2}
        found = [
            (float(output.summary.var()), output)
            for output in view.outputs
            if output.module in with_weights and output.summary.finite_count > 1
        ]
        found = [entry for entry in found if entry[0] > 0]
        if len(found) > 1:
            low, high = min(found, key=lambda entry: entry[0]), max(found, key=lambda entry: entry[0])
            note = (
                f"The variance is {high[0]:.3g} there and {low[0]:.3g} at {describe(low[1].module, view)}. {self.why}"
            )
            yield Measurement(high[1].name, high[0] / low[0], note)


class _Run(Protocol):
    """A monitor, or whatever is read like one."""

    def names(self, signal: str, /) -> list[str]:
        """What was recorded."""

    def series(
        self, signal: str, name: str, field: str | None = None, /
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Steps and values."""


class SimilarAcrossRuns(Rule):
    """Tensors that are not what they were at the same step of another run.

    Two runs of one program with one seed are equal; the first place that differs is where to look. The steps that the
    other run did not record are passed over.

    Parameters
    ----------
    other : Monitor
        The other run.
    limit : float, default 0
        The largest difference of the root mean square, relative to the other run's.
    signals : iterable of str
        Of those recorded by both.
    """

    id = "similar-across-runs"
    why = "With the same seed, data and versions both would be equal to the last bit."
    advice = (
        "Look at what comes before the first place that differs: seeds, the order of the data, another version, "
        "operations that are not deterministic (torch.use_deterministic_algorithms)."
    )
    symptom = False
    once = True

    def __init__(
        self,
        other: _Run,
        *,
        limit: float | None = None,
        signals: Iterable[str] = ("outputs", "gradients", "parameters"),
        patience: int | None = None,
    ) -> None:
        super().__init__(limit=limit, patience=patience)
        self._known: dict[str, dict[str, dict[int, float]]] = {}
        for signal in signals:
            of_signal = {name: other.series(signal, name) for name in other.names(signal)}
            self._known[signal] = {
                name: dict(zip(steps.tolist(), values.tolist(), strict=True))
                for name, (steps, values) in of_signal.items()
            }

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Yield the first tensor that differs."""
        for signal, known in self._known.items():
            for name, _, summary in view.tensors(signal):
                was = known.get(name, {}).get(view.step)
                now = float(summary.rms)
                if was is None or now == was or (math.isnan(now) and math.isnan(was)):
                    continue
                difference = abs(now - was) / abs(was) if was else math.inf
                if not difference <= self.limit:
                    note = f"The root mean square of its {signal} is {now:.9g}, and was {was:.9g}. {self.why}"
                    yield Measurement(name, difference, note)
                    return


class StalledTraining(Rule):
    """A step that ends so many seconds after the one before it.

    It is told when the step has ended at last: a loop that never goes on has nobody to tell. Not invariant under the
    speed of the machine: the limit is the user's.

    Parameters
    ----------
    limit : float, default 1800
        Seconds.
    """

    id = "stalled-training"
    default_limit = limits.STALLED_SECONDS
    symptom = False
    why = "A data loader, a file system or another rank was waited for."
    advice = "Look at what the loop does between two steps: loading, checkpoints, evaluation; py-spy dump shows it."

    def __init__(self, *, limit: float | None = None, patience: int | None = None) -> None:
        super().__init__(limit=limit, patience=patience)
        self._last: float | None = None

    def statistic(self, view: StepView) -> Iterable[Measurement]:
        """Measure the seconds since the last recorded step ended."""
        now = time.monotonic()
        if self._last is not None:
            seconds = now - self._last
            yield Measurement("the loop", seconds, partial(self._sentence, seconds, view.step))
        self._last = now

    def _sentence(self, seconds: float, step: int) -> str:
        return f"Step {step} ended {seconds:.1f} s after the recorded step before it. {self.why}"
