"""One recorded step after its last tensor was read, until it is plain data; numbers may still be on devices."""

from __future__ import annotations

from dataclasses import dataclass, field

from tensorstats.device.numbers import Numbers
from tensorstats.rules import ModuleView, Skips, StepView
from tensorstats.run.histograms import StepHistograms
from tensorstats.run.step import SignalStep, Step
from tensorstats.torch.record.collect import PendingList
from tensorstats.torch.record.counted_outputs import CountedOutputs
from tensorstats.torch.record.counted_parameters import CountedParameters, GroupRates
from tensorstats.torch.record.criterion import CriterionStep
from tensorstats.torch.record.losses import StepLosses
from tensorstats.torch.record.recorder import Counted
from tensorstats.torch.record.recorders import Recorders

__all__ = ["RecordedStep"]


@dataclass(slots=True)
class RecordedStep:
    """What the recorders counted in a step, and what else has to be known of its end.

    Attributes
    ----------
    counted : tuple of Counted
        By every recorder, that of modules and that of parameters among them.
    outputs, parameters
        These two, for the rules.
    """

    number: int
    ended_by: str  # for messages
    recorders: Recorders
    losses: StepLosses
    criterion: CriterionStep
    validation: CriterionStep  # the calls without gradients before the end of this step
    rates: dict[int, GroupRates] | None  # by the identity of the parameter; None without an optimizer
    gradients_kept: bool | Numbers | None  # on its way from a device where it is neither
    skips: Skips | None  # of all steps up to this one
    abandoned: bool  # it was left before an optimizer stepped
    begun_late: bool  # its forward pass ran before it was recorded
    modules: list[ModuleView]  # what those are set to that work differently in eval mode
    trains_in_eval: bool | None  # whether the training happens in eval mode; None: not known
    counted: tuple[Counted, ...] = field(init=False)
    outputs: CountedOutputs = field(init=False)
    parameters: CountedParameters = field(init=False)
    pending: PendingList = field(init=False)
    histograms: dict[str, StepHistograms] = field(init=False)  # by signal
    waits: bool = field(init=False)  # something was on a device when the step ended
    held: bool = False  # the next step has begun: parameters and their gradients are not this step's any more

    def __post_init__(self) -> None:
        recorders = self.recorders
        self.counted = tuple(recorder.counted for recorder in recorders.all)
        self.outputs, self.parameters = recorders.outputs.counted, recorders.parameters.counted
        self.pending = recorders.pending
        self.histograms = {signal: series.step for signal, series in recorders.histograms.items()}
        self.waits = (
            len(self.pending) > 0
            or self.losses.on_devices
            or self.criterion.on_devices
            or self.validation.on_devices
            or isinstance(self.gradients_kept, Numbers)
        )

    def hold(self) -> None:
        """Take the step out of the recorders, so that the next one changes nothing in it."""
        self.pending = self.pending.take()
        self.recorders.let_go()
        self.held = True

    def settle(self) -> None:
        """Take in the histograms that were counted on devices."""
        for counted in self.counted:
            counted.settle()

    def rows(self) -> dict[str, SignalStep]:
        """What was counted, by signal; everything is on the host now."""
        return {signal: rows for counted in self.counted for signal, rows in counted.rows().items()}

    def plain(self, view: StepView, rows: dict[str, SignalStep]) -> Step:
        """What is kept of it."""
        if "updates" in rows:
            ratios = {of.name: of.update_ratio for of in view.parameters if of.update is not None}
            rows["updates"].extras = {"update_ratio": ratios}
        return Step(self.number, rows, self.histograms, view)
