"""What a loss was fed, counted over a run, and what the best constant would lose on it; knows no torch and no limit.

A constant is the simplest model there is: the class frequencies for a cross entropy, the mean for a squared error, the
median for an absolute error, the base rate for a binary cross entropy. A run that is no better has learnt nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tensorstats._core import Summary

__all__ = ["CLASS_LOSSES", "PLAIN_LOSSES", "LossKind", "LossState", "LossStep", "varies"]

CROSS_ENTROPY = "cross entropy"
NLL = "negative log-likelihood"
BCE = "binary cross entropy"
BCE_LOGITS = "binary cross entropy with logits"
SQUARED = "squared error"
ABSOLUTE = "absolute error"
HUBER = "Huber loss"

CLASS_LOSSES = (CROSS_ENTROPY, NLL)
PLAIN_LOSSES = (SQUARED, ABSOLUTE, HUBER)  # a difference, element by element

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LossKind:
    """Which loss it is, as far as the best constant depends on it.

    Attributes
    ----------
    name : str
        One of ``"cross entropy"``, ``"negative log-likelihood"``, ``"binary cross entropy"``, ``"binary cross entropy
        with logits"``, ``"squared error"``, ``"absolute error"``, ``"Huber loss"``; empty for any other.
    weights : tuple of float or None
        Of the classes, or of the positive answers of a binary cross entropy.
    smoothing : float
        The share of each label that goes to all classes alike.
    comparable : bool
        False where elements are weighted in a way that is not known here: then no constant is.
    """

    name: str = ""
    weights: tuple[float, ...] | None = None
    smoothing: float = 0.0
    comparable: bool = True


@dataclass(slots=True)
class LossStep:
    """What was counted of one call, or of all calls of a step together.

    Attributes
    ----------
    value : float
        The loss per target, NaN where it is not known.
    count : int
        Targets that counted; of classes, those not ignored.
    ignored : int
        Targets that the loss leaves out.
    prediction_shape, target_shape : tuple of int
        Of the last call.
    predictions, targets, error : Summary or None
        Of the values; `error` is predictions less targets where the shapes agree.
    classes : int
        How many there are; 0 where targets are no classes.
    target_counts, predicted_counts : int64 array or None
        By class; predictions are the largest of each row.
    confusion : int64 array or None
        ``[target, prediction]``.
    column_sums, column_squares : float64 array or None
        Of targets less `LossState.shift`, by column.
    spread : float
        The largest difference that an output shows between two samples of a batch, over the largest magnitude.
    rows_off, columns_off, scores_off : float
        The largest distance from 1 of the sum of a row, of a column over the batch, and from 0 of the logarithm of the
        sum of the exponentials of a row; NaN where there are none.
    beyond : tuple of int
        How many targets are below -1, below 0, above 1.
    constant : float
        Of an absolute error or a Huber loss: what the mean of the medians of the batches before loses.
    batch : int
        Samples: the size of the first dimension.
    varied : bool
        Whether the targets of any call were of several values, or there was but one of them.
    """

    kind: LossKind
    value: float = math.nan
    count: int = 0
    ignored: int = 0
    prediction_shape: tuple[int, ...] = ()
    target_shape: tuple[int, ...] = ()
    predictions: Summary | None = None
    targets: Summary | None = None
    error: Summary | None = None
    classes: int = 0
    target_counts: Counts | None = None
    predicted_counts: Counts | None = None
    confusion: Counts | None = None
    column_sums: npt.NDArray[np.float64] | None = None
    column_squares: npt.NDArray[np.float64] | None = None
    spread: float = math.nan
    rows_off: float = math.nan
    columns_off: float = math.nan
    scores_off: float = math.nan
    beyond: tuple[int, int, int] = (0, 0, 0)
    constant: float = math.nan
    batch: int = 0
    varied: bool = True

    @property
    def broadcasts(self) -> bool:
        """Whether shapes differ and broadcast to something larger than both."""
        shapes = self.prediction_shape, self.target_shape
        try:
            together = np.broadcast_shapes(*shapes)
        except ValueError:
            return False
        return math.prod(together) > max(math.prod(shape) for shape in shapes)

    def merge(self, other: LossStep) -> None:
        """Take in a further call of the same step."""
        total = self.count + other.count
        if total:
            self.value = (self.value * self.count + other.value * other.count) / total
            self.constant = (self.constant * self.count + other.constant * other.count) / total
        self.count = total
        self.ignored += other.ignored
        self.prediction_shape, self.target_shape = other.prediction_shape, other.target_shape
        for name in ("predictions", "targets", "error"):
            mine, its = getattr(self, name), getattr(other, name)
            if mine is not None and its is not None:
                mine.merge(its)
            else:
                setattr(self, name, None)
        self.classes = max(self.classes, other.classes)
        for name in ("target_counts", "predicted_counts", "confusion", "column_sums", "column_squares"):
            setattr(self, name, _sum(getattr(self, name), getattr(other, name)))
        for name in ("spread", "rows_off", "columns_off", "scores_off"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        low, negative, high = (mine + its for mine, its in zip(self.beyond, other.beyond, strict=True))
        self.beyond = low, negative, high
        self.batch = max(self.batch, other.batch)
        self.varied = self.varied or other.varied


def varies(step: LossStep) -> bool:
    """Whether the targets of a step are not all one."""
    if step.target_counts is not None:
        return int((step.target_counts > 0).sum()) > 1
    return step.targets is not None and step.targets.min < step.targets.max


def _sum(mine: npt.NDArray[np.float64] | None, other: npt.NDArray[np.float64] | None) -> object:
    """The sum of two arrays of counts, of which one may know fewer classes."""
    if mine is None or other is None:
        return None
    if mine.shape == other.shape:
        return mine + other
    size = tuple(max(pair) for pair in zip(mine.shape, other.shape, strict=True))
    total = np.zeros(size, dtype=mine.dtype)
    for array in (mine, other):
        total[tuple(slice(length) for length in array.shape)] += array
    return total


@dataclass(slots=True)
class LossState:
    """Everything counted of a loss since watching began: the steps one by one as two numbers, the rest as sums.

    Attributes
    ----------
    steps : list of int
        The recorded steps in which the loss was called.
    values : list of float
        The loss of each, per target.
    latest : LossStep
        The last one.
    first : LossStep
        The first one.
    samples : int
        Targets so far.
    shift : float
        What targets are measured from: the mean of the first batch, so that squares lose no digits.
    """

    latest: LossStep = field(default_factory=lambda: LossStep(LossKind()))
    first: LossStep = field(default_factory=lambda: LossStep(LossKind()))
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    samples: int = 0
    ignored: int = 0
    shift: float = 0.0
    targets: Summary = field(default_factory=Summary)
    predictions: Summary = field(default_factory=Summary)
    error: Summary = field(default_factory=Summary)
    target_counts: Counts | None = None
    predicted_counts: Counts | None = None
    confusion: Counts | None = None
    beyond: tuple[int, int, int] = (0, 0, 0)
    _sums: npt.NDArray[np.float64] | None = None
    _squares: npt.NDArray[np.float64] | None = None
    _constants: float = 0.0  # the sum over the targets of batches that had one
    _constants_of: int = 0  # so many targets
    _constant: float | None = None  # kept until the next step
    _varied: bool = False

    def add(self, number: int, step: LossStep) -> None:
        """One more recorded step."""
        first = not self.steps
        if first:
            self.first = step
        self.latest = step
        self.steps.append(number)
        self.values.append(step.value)
        self.samples += step.count
        self.ignored += step.ignored
        for name in ("targets", "predictions", "error"):
            counted = getattr(step, name)
            if counted is not None:
                getattr(self, name).merge(counted)
        for name in ("target_counts", "predicted_counts", "confusion"):
            its = getattr(step, name)
            setattr(self, name, its if first else _sum(getattr(self, name), its))
        self._add_columns(step, first=first)
        if not math.isnan(step.constant):
            self._constants += step.constant * step.count
            self._constants_of += step.count
        low, negative, high = (mine + its for mine, its in zip(self.beyond, step.beyond, strict=True))
        self.beyond = low, negative, high
        self._varied = self._varied or step.varied
        self._constant = None

    def _add_columns(self, step: LossStep, *, first: bool) -> None:
        sums, squares = step.column_sums, step.column_squares
        if first or sums is None or squares is None or self._sums is None or self._squares is None:
            self._sums, self._squares = (sums, squares) if first else (None, None)
            return
        if sums.shape != self._sums.shape:  # columns mean nothing where their number changes: all values alike
            self._sums, self._squares = self._sums.sum(keepdims=True), self._squares.sum(keepdims=True)
            sums, squares = sums.sum(keepdims=True), squares.sum(keepdims=True)
        self._sums = self._sums + sums
        self._squares = self._squares + squares

    def rescale(self, factor: float) -> None:
        """The losses so far were so many times the loss per target, and of another kind than it seemed."""
        self.values = [value / factor for value in self.values]
        self._constants, self._constants_of = 0.0, 0

    # --- the best constant --------------------------------------------------------------------------------------------

    @property
    def kind(self) -> LossKind:
        """Which loss it is."""
        return self.latest.kind

    @property
    def constant(self) -> float:
        """What the best constant loses on all targets so far, per target; NaN where that is not known.

        Examples
        --------
        >>> state = LossState()
        >>> state.add(0, LossStep(LossKind("cross entropy"), 0.7, 4, classes=2, target_counts=np.array([1, 3])))
        >>> round(state.constant, 4)
        0.5623
        """
        if self._constant is None:
            self._constant = self._find_constant()
        return self._constant

    def _find_constant(self) -> float:
        kind = self.kind
        if not kind.comparable or self.samples == 0 or not self._varied:
            # Where the targets of each call are all the same they are no data but a side, as in adversarial training.
            return math.nan
        if kind.name in CLASS_LOSSES:
            return _of_classes(kind, self.target_counts)
        if kind.name in (BCE, BCE_LOGITS):
            return self._of_answers(kind)
        if kind.name == SQUARED:
            return self._variance()
        if kind.name in PLAIN_LOSSES:
            return self._constants / self._constants_of if self._constants_of else math.nan
        return math.nan

    def _of_answers(self, kind: LossKind) -> float:
        if self._sums is None:
            return math.nan
        share = np.clip(self._sums * self._sums.size / self.samples + self.shift, 0.0, 1.0)
        weight = np.array(1.0 if kind.weights is None else kind.weights)
        if weight.ndim and weight.size not in (1, share.size):
            return math.nan
        yes, no = share * weight, 1.0 - share
        return float(np.mean(-_xlogy(yes, yes / (yes + no)) - _xlogy(no, no / (yes + no))))

    def _variance(self) -> float:
        if self._sums is None or self._squares is None:
            return math.nan
        count = self.samples / self._sums.size
        return float(np.mean(np.maximum(self._squares / count - (self._sums / count) ** 2, 0.0)))

    # --- how the run compares -----------------------------------------------------------------------------------------

    def recent(self, share: int = 10, fewest: int = 10) -> float:
        """The mean loss of the last tenth of the steps, at least of `fewest`."""
        count = max(fewest, len(self.values) // share)
        return _mean(self.values[-count:])

    @property
    def gain(self) -> float:
        """How much better than the best constant the last steps were, as a share of what that loses; NaN: not known."""
        constant = self.constant
        return 1.0 - self.recent() / constant if constant > 0.0 else math.nan

    @property
    def gain_at_most(self) -> float:
        """The gain that the last third of the steps may stand for: theirs, and two standard errors; NaN: not known."""
        constant = self.constant
        if not constant > 0.0:
            return math.nan
        late = np.array(self.values[-max(10, min(len(self.values) // 3, 100)) :])
        return 1.0 - (float(late.mean()) - 2.0 * float(late.std()) / math.sqrt(len(late))) / constant

    def stands_still(self, since: int = 0, *, least: float) -> bool:
        """Whether the loss of the last third of the steps is not lower than that of the third before.

        Lower is by more than `least` of what the constant loses, and by more than three standard errors.
        """
        size = min((len(self.values) - since) // 3, 100)
        if size < 10:
            return False
        late, early = np.array(self.values[-size:]), np.array(self.values[-2 * size : -size])
        error = math.sqrt((late.var() + early.var()) / size)
        return not float(early.mean() - late.mean()) > max(least * self.constant, 3.0 * error)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _xlogy(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x > 0.0, x * np.log(y), 0.0)


def _of_classes(kind: LossKind, counts: Counts | None) -> float:
    """Of class frequencies, weighted and smoothed as torch does it."""
    if counts is None or not counts.sum():
        return math.nan
    shares = counts / counts.sum()
    weights = np.ones(len(shares)) if kind.weights is None else np.array(kind.weights)
    if len(weights) != len(shares):
        return math.nan
    wanted = ((1.0 - kind.smoothing) * shares + kind.smoothing / len(shares)) * weights
    return float(-_xlogy(wanted, wanted / wanted.sum()).sum() / (shares * weights).sum())
