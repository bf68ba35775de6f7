"""What can be read from a monitor, during the run and after it; records nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tensorstats._core import Histogram, Summary, UnitActivity
from tensorstats.report import LINES, Report, Row, format_report, format_table
from tensorstats.rules import Finding, Judge
from tensorstats.run.choosing import COLLECTIONS, SCALARS, SIGNALS, Collection
from tensorstats.run.record import Mode, RunRecord
from tensorstats.run.series import EXTRA_FIELDS, SignalLog, read_number

__all__ = ["Reading"]


class Reading:
    """Names, series, totals, findings and tables of a run.

    Attributes
    ----------
    settle : callable
        Takes in what has been recorded and not been read yet.
    steps : callable
        How many steps there were.
    """

    def __init__(
        self, record: RunRecord, errors: list[str], judge: Judge, collections: tuple[Collection, ...] | None
    ) -> None:
        self._record = record
        self._errors = errors
        self._judge = judge
        self._collections = collections
        self.settle: Callable[[], None] = lambda: None
        self.steps: Callable[[], int] = lambda: 0

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, earliest first; one finding per rule and place."""
        self.settle()
        return self._judge.findings

    @property
    def suppressed(self) -> list[Finding]:
        """What was found and is known, as ``suppress=`` says."""
        self.settle()
        return self._judge.suppressed

    @property
    def found(self) -> int:
        """How many findings there are, without taking in what is on its way."""
        return len(self._judge.findings)

    @property
    def errors(self) -> list[str]:
        """The watcher's own errors; none of them reached the training loop."""
        self.settle()
        return list(self._errors)

    def names(self, signal: str, *, mode: Mode = "train") -> list[str]:
        """The names recorded for a signal, in the order in which they first appeared.

        Parameters
        ----------
        signal : str
            One of the signals of ``ts.watch``, ``"losses"`` or ``"learning_rates"``.
        mode : {"train", "eval"}
        """
        if signal in SCALARS:
            self.settle()
            return list(self._record.scalars[signal])
        return list(self._log_of(signal, mode).modules)

    def collection(self, name: str) -> list[tuple[str, str]]:
        """The recorded tensors of a collection, built in or given to ``ts.watch``, as pairs of signal and name.

        Raises
        ------
        KeyError
            If there is no such collection; the message lists all of them.
        """
        known = {**COLLECTIONS, **{collection.name: collection for collection in self._collections or ()}}
        if name not in known:
            raise KeyError(f"no collection {name!r}; accepted are {', '.join(known)}")
        wanted = known[name]
        return [
            (signal, tensor)
            for signal in (*SIGNALS, *SCALARS)
            for tensor in self.names(signal)
            if wanted.takes(signal, tensor)
        ]

    def series(
        self, signal: str, name: str, field: str | None = None, *, mode: Mode = "train"
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """One number over the recorded steps.

        Parameters
        ----------
        signal : str
            One of the signals of ``ts.watch``, ``"losses"`` or ``"learning_rates"``.
        name : str
            One of ``names(signal)``.
        field : str
            A field of :class:`Summary`, ``"std"``, ``"var"``, ``"zero_fraction"``, ``"dead_fraction"``,
            ``"saturated_fraction"`` (of outputs) or ``"update_ratio"`` (of updates); NaN where it does not apply.
            Losses and learning rates have only a ``"value"``. None for ``"rms"``, or the ``"value"``.
        mode : {"train", "eval"}

        Returns
        -------
        steps : int64 array
        values : float64 array
            As long as `steps`. A long series is thinned evenly; totals are not.
        """
        if signal in SCALARS:
            self.settle()
            if name not in self._record.scalars[signal]:
                raise KeyError(_nothing(name, signal, list(self._record.scalars[signal])))
            if field not in (None, "value"):
                raise KeyError(f"{signal} have no field {field!r}; accepted is value")
            return self._record.scalars[signal][name].series()
        return self._find(signal, name, mode).series(name, field or "rms")

    def latest(self, signal: str, name: str, *, mode: Mode = "train") -> Summary:
        """The summary of the last recorded step in which `name` appeared."""
        return self._find(signal, name, mode).latest(name)

    def latest_number(self, signal: str, name: str, field: str, *, mode: Mode = "train") -> float:
        """One field of that step, as named in `series`; NaN where it does not apply."""
        log = self._find(signal, name, mode)
        return log.latest_extra(name, field) if field in EXTRA_FIELDS else read_number(log.latest(name), field)

    def total(self, signal: str, name: str, *, mode: Mode = "train") -> Summary:
        """The summary over all recorded steps."""
        return self._find(signal, name, mode).total(name)

    def units(self, name: str, *, signal: str = "outputs", mode: Mode = "train") -> UnitActivity:
        """The unit activity of the output `name` over all recorded steps."""
        units = self._find(signal, name, mode).units.get(name)
        if units is None:
            raise KeyError(
                f"the output {name!r} has no units: it is not that of an activation (watch with units='all'), not "
                "floating point, or their number changes"
            )
        return units.copy()

    def histogram(self, signal: str, name: str, *, mode: Mode = "train") -> Histogram:
        """The histogram over all recorded steps; needs ``ts.watch(..., histograms=True)``."""
        histogram = self._find(signal, name, mode).histograms.totals.get(name)
        if histogram is None:
            raise KeyError(f"no histogram of {signal} {name!r}: watch with histograms=True")
        return histogram.copy()

    def histograms(
        self, signal: str, name: str, *, mode: Mode = "train"
    ) -> tuple[npt.NDArray[np.int64], list[Histogram]]:
        """Steps, and the histogram of each; needs ``ts.watch(..., histograms=True)``.

        Those of single steps have 16 bins to an octave (``LogLinear(4)``), and a long run keeps evenly spaced steps
        alone: at most 255 of a signal, and fewer, down to eight, where they take more than 4 MiB.
        ``ts.plot.ridgeline(dict(zip(steps, histograms)))`` draws them.
        """
        series = self._find(signal, name, mode).histograms
        if name not in series.totals:
            raise KeyError(f"no histogram of {signal} {name!r}: watch with histograms=True")
        return series.series(name)

    def table(self, *, sort: str | None = None, match: str | None = None, all: bool = False) -> str:
        """The last recorded step as a text table: outputs, weights and gradients of every layer.

        Parameters
        ----------
        sort : {"min", "max", "mean", "std", "zeros", "nan", "inf", "norm", "dead"}, optional
            The column by which rows are ordered instead, the most conspicuous first.
        match : str, optional
            Only rows in which this regular expression matches the layer, its type or the tensor.
        all : bool
            A line for every tensor. Otherwise the table is one screen long: layers whose names differ in numbers alone
            are counted together where there are more, and a last line says what was left out.

        Raises
        ------
        ValueError
            For another column, or a regular expression that is none.
        """
        return format_table(self._rows(), sort=sort, match=match, limit=None if all else LINES - 4)

    def report(self, *, all: bool = False) -> Report:
        """The verdict, the findings in words, then the table: one screen, the worst first, or everything (`all`).

        Returns
        -------
        Report
            A ``str`` that also has ``findings``, ``ok``, ``to_json()`` and ``to_sarif()``.
        """
        return format_report(
            self._rows(),
            self.findings,
            self.errors,
            judged=f"{self.steps()} steps",
            suppressed=self.suppressed,
            all=all,
        )

    def _rows(self) -> list[Row]:
        self.settle()
        rows = []
        for signal, suffix in (("outputs", ""), ("parameters", ""), ("gradients", " grad")):
            log = self._record.logs["train"][signal]
            for name, module in log.modules.items():
                rest = name.removeprefix(module)
                tensor = f"output{rest}" if signal == "outputs" else rest.removeprefix(".") + suffix
                kind = self._record.module_types.get(module, "")
                rows.append(Row(module, kind, tensor, log.latest(name), log.latest_extra(name, "dead_fraction")))
        return rows

    def _log_of(self, signal: str, mode: Mode) -> SignalLog:
        self.settle()
        if mode not in self._record.logs:
            raise KeyError(f"no mode {mode!r}; accepted are {', '.join(self._record.logs)}")
        if signal not in self._record.logs[mode]:
            raise KeyError(f"no signal {signal!r}; accepted are {', '.join((*SIGNALS, *SCALARS))}")
        return self._record.logs[mode][signal]

    def _find(self, signal: str, name: str, mode: Mode) -> SignalLog:
        log = self._log_of(signal, mode)
        if name not in log.modules:
            raise KeyError(_nothing(name, signal, list(log.modules)))
        return log


def _nothing(name: str, signal: str, names: list[str]) -> str:
    return f"nothing recorded under {name!r} in {signal}; recorded are {', '.join(names) or 'no names'}"
