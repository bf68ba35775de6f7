"""The monitor that ``ts.watch`` returns: what its user can ask and tell it; hears, counts and judges nothing itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar

import torch

from tensorstats._core import Summary
from tensorstats.rules import Finding, Judge
from tensorstats.rules.fed import LossState
from tensorstats.run.reading import Reading
from tensorstats.run.record import Mode, RunRecord
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.masks import Mask
from tensorstats.torch.attach.schedule import Schedule
from tensorstats.torch.attach.targets import Targets
from tensorstats.torch.loop import TrainingLoop
from tensorstats.torch.options import Options, check_eval_schedule, check_mask, check_schedule

__all__ = ["Monitor"]

P = ParamSpec("P")
T = TypeVar("T")


def _reads(method: Callable[Concatenate[Reading, P], T]) -> Callable[Concatenate[Monitor, P], T]:
    """A method of the reading interface, asked of the monitor that holds it."""

    @wraps(method)
    def ask(monitor: Monitor, /, *arguments: P.args, **keywords: P.kwargs) -> T:
        return method(monitor._reading, *arguments, **keywords)

    return ask


class Monitor:
    """Watches models while they are trained. Made by :func:`tensorstats.watch`.

    With an optimizer a step lasts from the end of one ``optimizer.step()`` to the end of the next; with several, until
    all have stepped, or until one of them is about to step again; without one, from one call of the (first) model in
    training mode to the next. Module hooks exist only during recorded steps, so the steps between cost next to nothing.

    What is in CPU memory is kept and judged at the end of its step. Numbers of a step on an accelerator are copied to
    the host from there on and read at the end of the next step, so that nothing waits for the device; reading from the
    monitor, and closing it, read them at once (with several ranks only closing does, since all must take part).
    """

    def __init__(self, targets: Targets, options: Options) -> None:
        self._guard = guard = Guard()
        guard.holds = options.on_finding is not None
        self._judge = judge = Judge(options.rules, options.suppressions)
        record = RunRecord()
        self._reading = reading = Reading(record, guard.errors, judge, options.collections)
        self._loop = loop = TrainingLoop(targets, options, guard, judge, record)
        record.module_types = loop.watched.module_types
        reading.settle = loop.settle
        reading.steps = lambda: loop.steps.state.step

    # --- what can be read ---------------------------------------------------------------------------------------------

    names = _reads(Reading.names)
    collection = _reads(Reading.collection)
    series = _reads(Reading.series)
    latest = _reads(Reading.latest)
    latest_number = _reads(Reading.latest_number)
    total = _reads(Reading.total)
    units = _reads(Reading.units)
    histogram = _reads(Reading.histogram)
    histograms = _reads(Reading.histograms)
    table = _reads(Reading.table)
    report = _reads(Reading.report)

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, earliest first; one finding per rule and place."""
        return self._reading.findings

    @property
    def suppressed(self) -> list[Finding]:
        """What was found and is known, as ``suppress=`` says."""
        return self._reading.suppressed

    @property
    def ok(self) -> bool:
        """Whether nothing failed so far; warnings do not count."""
        return all(finding.status != "failure" for finding in self.findings)

    @property
    def errors(self) -> list[str]:
        """The watcher's own errors; none of them reached the training loop."""
        return self._reading.errors

    @property
    def step(self) -> int:
        """Steps seen so far, ``start_step`` included."""
        return self._loop.steps.state.step

    @property
    def skipped(self) -> int:
        """Steps that were skipped: left out by a gradient scaler, or left by the loop before an optimizer stepped."""
        return self._loop.steps.abandonment.skips.skipped

    def ranks(self, signal: str, name: str) -> list[Summary | None]:
        """What each rank had of a tensor in the last recorded step, in the order of ranks; None for one without it.

        With one rank, or ``ranks="local"``, the list has this rank's summary alone. A rank holds its own batch of an
        output, its shard of a sharded parameter, its copy of any other.
        """
        latest = self.latest(signal, name)
        return list(self._loop.steps.reduction.latest.get((signal, name), [latest]))

    # --- what can be changed while it watches -------------------------------------------------------------------------

    @property
    def schedule(self) -> Schedule:
        """Which steps are recorded; may be replaced, from the next step on."""
        return self._loop.steps.schedule

    @schedule.setter
    def schedule(self, schedule: Schedule) -> None:
        check_schedule(schedule)
        self._loop.steps.schedule = schedule

    @property
    def eval_schedule(self) -> Schedule | None:
        """Which calls of the model in eval mode are recorded, counted from 0; None for none."""
        return self._loop.evaluation.schedule

    @eval_schedule.setter
    def eval_schedule(self, schedule: Schedule | None) -> None:
        check_eval_schedule(schedule)
        self._loop.evaluation.set_schedule(schedule)

    @property
    def mask(self) -> Mask:
        """Which positions of outputs count, see ``ts.watch``; may be set before every forward pass."""
        return self._loop.steps.mask

    @mask.setter
    def mask(self, mask: Mask) -> None:
        check_mask(mask)
        self._loop.steps.mask = mask

    # --- what it can be told ------------------------------------------------------------------------------------------

    def log_loss(
        self,
        loss: float | torch.Tensor,
        name: str = "loss",
        *,
        predictions: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
    ) -> None:
        """Tell the monitor a loss of this step, so that findings can say whether the run learns.

        Parameters
        ----------
        loss : float or torch.Tensor
            One number. A tensor on a device travels with the numbers of its step, so that nothing waits for it.
        name : str
            Only the series called ``"loss"`` decides whether a run learns; others are kept beside it.
        predictions, targets : torch.Tensor, optional
            What the loss was computed from, of any shape that the loss takes. Which loss it is is told from the values
            (cross entropy, negative log-likelihood, binary cross entropy with and without logits, squared and absolute
            error, smooth L1; a constant factor does not matter). Nothing of them is kept but counts; only recorded
            steps look at them. A loss module needs no such call: ``ts.watch(..., loss_fn=criterion)``.
        """
        try:
            self._loop.log_loss(loss, name, predictions, targets)
        except Exception as error:
            self._guard.report("log_loss", error)

    def log_validation(
        self,
        loss: float | torch.Tensor,
        *,
        predictions: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
    ) -> None:
        """Tell the monitor a loss of data that the model is not trained on.

        All between two steps are one point of the curve, the mean of them, whether batches or whole evaluations are
        told. With ``loss_fn=`` its calls without gradients are taken for this curve, until this is called.

        Parameters
        ----------
        loss : float or torch.Tensor
            One number.
        predictions, targets : torch.Tensor, optional
            What it was computed from, as in `log_loss`.
        """
        try:
            self._loop.log_validation(loss, predictions, targets)
        except Exception as error:
            self._guard.report("log_validation", error)

    def loss_state(self, *, mode: Mode = "train") -> LossState:
        """What the loss was given so far: class counts, confusion counts, ranges, errors, and the best constant's loss.

        Of recorded steps, or of validation for ``mode="eval"``. ``series("losses", "constant")`` is the best constant's
        loss beside ``series("losses", "loss")``.

        Returns
        -------
        LossState
            A copy.
        """
        self._loop.settle()
        judge = self._judge
        return copy.deepcopy(judge.losses.state if mode == "train" else judge.validation.state)

    def begin_batch(self, **inputs: object) -> None:
        """Tell the monitor that a micro-batch begins, where the loop does not call the watched model itself.

        A loop that calls ``model(...)`` need not: the call says it. One that calls only the model's parts (a
        LightningModule's ``training_step``, say) does, or every micro-batch would count as a further call of each part.

        Parameters
        ----------
        **inputs
            What goes in, under the names by which a finding shall call it; tensors, however nested.
        """
        try:
            self._loop.begin_batch(inputs)
        except Exception as error:
            self._guard.report("begin_batch", error)

    def state_dict(self) -> dict[str, int]:
        """What a resumed run needs to keep the schedule's phase: pass it to ``load_state_dict``."""
        return {"version": 1, "step": self.step, "eval_calls": self._loop.evaluation.calls}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on counting where another run stopped; call it between steps.

        Raises
        ------
        ValueError
            For a state of another version.
        """
        if state.get("version") != 1:
            raise ValueError(f"state must be of version 1, got {state.get('version')!r}")
        self._loop.go_on_at(int(state["step"]), int(state["eval_calls"]))

    def close(self) -> None:
        """Remove every hook; what was recorded stays readable. Closing twice is allowed.

        The last step of an accelerator is read, and its findings are told, here.
        """
        self._loop.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._loop.leave()

    def __repr__(self) -> str:
        loop = self._loop
        state = "closed" if loop.steps.state.closed else "watching"
        models = ", ".join(
            f"{name}: {type(model).__name__}" if name else type(model).__name__
            for name, model in loop.watched.targets.models.items()
        )
        return (
            f"<Monitor {state} {models}: {len(loop.watched.modules)} modules, step {self.step}, "
            f"{self._reading.found} findings, {len(self._guard.errors)} errors>"
        )
