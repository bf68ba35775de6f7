"""The recorders of one monitor: one place for what is recorded of its steps, whatever the signal; puts on no hook."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tensorstats.device.backend import Statistics
from tensorstats.run.series import SignalLog
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.masks import Mask
from tensorstats.torch.attach.scaling import Scaling
from tensorstats.torch.attach.watched import WatchedModels
from tensorstats.torch.record.collect import Collector, PendingList
from tensorstats.torch.record.optimizer import OptimizerRecorder
from tensorstats.torch.record.outputs import OutputRecorder
from tensorstats.torch.record.parameters import ParameterRecorder
from tensorstats.torch.record.raw import RawGradientRecorder
from tensorstats.torch.record.recent import Recent
from tensorstats.torch.record.recorder import Opening, Recorder
from tensorstats.torch.record.units import Units, units_kept

__all__ = ["Recorders"]

_OF_MODULES = ("inputs", "outputs", "output_gradients")
_OF_PARAMETERS = ("parameters", "gradients", "updates")


class Recorders:
    """What counts the signals of the training steps.

    Attributes
    ----------
    pending : PendingList
        What has begun on devices in the open step.
    histograms : dict
        By signal; empty where none are kept.
    all : tuple of Recorder
        Those that record something, in the order in which signals are listed.
    """

    def __init__(
        self,
        statistics: Statistics,
        guard: Guard,
        watched: WatchedModels,
        logs: Mapping[str, SignalLog],
        scaling: Scaling,
        mask: Callable[[], Mask],
        *,
        histograms: bool,
        units: Units,
    ) -> None:
        self.pending = pending = PendingList(statistics)
        self.histograms = {signal: log.histograms for signal, log in logs.items()} if histograms else {}
        signals, chooses, recent = watched.signals, watched.chooses, Recent()
        collectors = {
            signal: Collector(
                statistics,
                guard,
                logs[signal].histograms,
                pending,
                histograms,
                units=units_kept(signal, units),
                what=signal.removesuffix("s").replace("_", " "),
                recent=recent,
            )
            for signal in _OF_MODULES
            if signal in signals
        }
        self.outputs = OutputRecorder(
            statistics,
            guard,
            collectors,
            pending,
            chooses,
            mask,
            scaling,
            lambda: watched.modules,
            # Who has chosen modules wants these and no others.
            watched.module_types.setdefault if watched.choice is None and "outputs" in signals else None,
        )
        of_parameters = {signal: logs[signal].histograms for signal in _OF_PARAMETERS if signal in signals}
        self.parameters = ParameterRecorder(statistics, guard, of_parameters, pending, chooses, histograms=histograms)
        self.raw = RawGradientRecorder(
            statistics, logs["raw_gradients"].histograms, pending, scaling, histograms=histograms
        )
        self.optimizer_state = OptimizerRecorder(
            statistics, guard, logs["optimizer_state"].histograms, pending, chooses, histograms=histograms
        )

        others = (self.raw, self.optimizer_state)
        self.all: tuple[Recorder, ...] = (
            self.outputs,
            self.parameters,
            *(r for r in others if signals.issuperset(r.signals)),
        )

    def begin(self, opening: Opening) -> None:
        """A recorded step begins."""
        for series in self.histograms.values():
            series.begin(apart=opening.apart)
        for recorder in self.all:
            recorder.begin(opening)

    def let_go(self) -> None:
        """The step that was counted is closed later: from now on, nothing changes in it."""
        for recorder in self.all:
            recorder.let_go()
