"""What can be read from a monitor, during the run and after it; records nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tensorstats._core import Histogram, Summary, UnitActivity
from tensorstats.report import Row, format_report, format_table
from tensorstats.rules import Finding, Judge
from tensorstats.torch.guard import Guard
from tensorstats.torch.record import Track

__all__ = ["SIGNALS", "Reading"]

SIGNALS = ("outputs", "parameters", "gradients", "updates")


class Reading:
    """The reading half of a monitor: names, series, totals, findings, tables."""

    def __init__(self, guard: Guard, judge: Judge, module_types: dict[str, str]) -> None:
        self.step = 0
        self._guard = guard
        self._judge = judge
        self._module_types = module_types
        self._tracks: dict[str, dict[str, Track]] = {signal: {} for signal in SIGNALS}

    def _track(self, signal: str, name: str, module: str) -> Track:
        """The track of a tensor, begun when it is new."""
        tracks = self._tracks[signal]
        if name not in tracks:
            tracks[name] = Track(module)
        return tracks[name]

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, earliest first; one finding per rule and place."""
        return self._judge.findings

    @property
    def errors(self) -> list[str]:
        """The watcher's own errors; none of them reached the training loop."""
        return list(self._guard.errors)

    def names(self, signal: str) -> list[str]:
        """The names recorded for a signal, in the order in which they first appeared.

        Parameters
        ----------
        signal : {"outputs", "parameters", "gradients", "updates"}
        """
        return list(self._tracks_of(signal))

    def series(self, signal: str, name: str, field: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """One number over the recorded steps.

        Parameters
        ----------
        signal : {"outputs", "parameters", "gradients", "updates"}
        name : str
            One of ``names(signal)``.
        field : str
            A field of :class:`Summary`, ``"std"``, ``"var"``, ``"zero_fraction"``, ``"dead_fraction"``,
            ``"saturated_fraction"`` (of outputs) or ``"update_ratio"`` (of updates); NaN where it does not apply.

        Returns
        -------
        steps : int64 array
        values : float64 array
            As long as `steps`. A long series is thinned evenly; totals are not.
        """
        return self._find(signal, name).series(field)

    def latest(self, signal: str, name: str) -> Summary:
        """The summary of the last recorded step in which `name` appeared."""
        latest = self._find(signal, name).latest
        assert latest is not None
        return latest

    def total(self, signal: str, name: str) -> Summary:
        """The summary over all recorded steps."""
        return self._find(signal, name).total.copy()

    def units(self, name: str) -> UnitActivity:
        """The unit activity of the output `name` over all recorded steps."""
        units = self._find("outputs", name).units
        if units is None:
            raise KeyError(f"the output {name!r} has no units: it is not floating point, or their number changes")
        return units.copy()

    def histogram(self, signal: str, name: str) -> Histogram:
        """The histogram over all recorded steps; needs ``ts.watch(..., histograms=True)``."""
        histogram = self._find(signal, name).histogram
        if histogram is None:
            raise KeyError(f"no histogram of {signal} {name!r}: watch with histograms=True")
        return histogram.copy()

    def table(self) -> str:
        """The last recorded step as a text table: outputs, weights and gradients of every layer."""
        return format_table(self._rows())

    def report(self) -> str:
        """The table and the findings in words."""
        return format_report(self._rows(), self.findings, self.errors, steps=self.step)

    def _rows(self) -> list[Row]:
        rows = []
        for signal, suffix in (("outputs", ""), ("parameters", ""), ("gradients", " grad")):
            for name, track in self._tracks[signal].items():
                if track.latest is None:
                    continue
                rest = name.removeprefix(track.module)
                tensor = f"output{rest}" if signal == "outputs" else rest.removeprefix(".") + suffix
                kind = self._module_types.get(track.module, "")
                rows.append(Row(track.module, kind, tensor, track.latest, track.extras[-1][0]))
        return rows

    def _tracks_of(self, signal: str) -> dict[str, Track]:
        if signal not in self._tracks:
            raise KeyError(f"no signal {signal!r}; accepted are {', '.join(SIGNALS)}")
        return self._tracks[signal]

    def _find(self, signal: str, name: str) -> Track:
        tracks = self._tracks_of(signal)
        if name not in tracks:
            raise KeyError(
                f"nothing recorded under {name!r} in {signal}; recorded are {', '.join(tracks) or 'no names'}"
            )
        return tracks[name]
