"""One recorded step after its last tensor was read: everything that is its own until it is kept; decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from tensorstats.device.numbers import Numbers
from tensorstats.rules import Skips
from tensorstats.run.histograms import StepHistograms
from tensorstats.torch.record.collect import PendingList
from tensorstats.torch.record.losses import StepLosses
from tensorstats.torch.record.optimizer import OptimizerRecorder
from tensorstats.torch.record.outputs import OutputRecorder
from tensorstats.torch.record.parameters import ParameterRecorder
from tensorstats.torch.record.raw import RawGradientRecorder

__all__ = ["RecordedStep"]


@dataclass(slots=True)
class RecordedStep:
    """A step as the recorders left it, and what else has to be known of its end."""

    number: int
    ended_by: str  # for messages
    outputs: OutputRecorder
    parameters: ParameterRecorder
    raw: RawGradientRecorder
    optimizer_state: OptimizerRecorder
    pending: PendingList
    losses: StepLosses
    rates: dict[int, float | None] | None  # learning rates by the identity of the parameter; None without an optimizer
    gradients_kept: bool | Numbers | None  # on its way from a device where it is neither
    histograms: dict[str, StepHistograms]  # by signal
    skips: Skips | None  # of all steps up to this one
    abandoned: bool  # it was left before an optimizer stepped
    begun_late: bool  # its forward pass ran before it was recorded
    waits: bool = field(init=False)  # something was on a device when the step ended
    held: bool = False  # the next step has begun: parameters and their gradients are not this step's any more

    def __post_init__(self) -> None:
        self.waits = len(self.pending) > 0 or self.losses.on_devices or isinstance(self.gradients_kept, Numbers)

    def hold(self) -> None:
        """Take the step out of the recorders, so that the next one changes nothing in it."""
        self.pending = self.pending.take()
        self.outputs = self.outputs.take()
        self.parameters = self.parameters.take()
        self.raw = self.raw.take()
        self.optimizer_state = self.optimizer_state.take()
        self.held = True

    def settle_tables(self) -> None:
        """Take in the histograms that were counted on devices."""
        for recorder in (self.outputs, self.parameters, self.raw, self.optimizer_state):
            recorder.settle_tables()
