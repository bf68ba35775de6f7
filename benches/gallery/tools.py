"""What a program sees as `ts`: tensorstats as its author would call it, or nothing; the peers are elsewhere."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Nothing", "TensorStats", "Told", "Tool"]


@dataclass(frozen=True)
class Told:
    """One thing that a tool said. `at` is the step at which it said so: -1 before the loop, None at the end of it."""

    status: str
    rule: str
    where: str
    at: int | None
    text: str

    def row(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


class Quiet:
    """A monitor that hears everything and says nothing."""

    step = 0

    def log_loss(self, loss: Any, *, predictions: Any = None, targets: Any = None) -> None:
        """Nothing."""

    def log_validation(self, loss: Any, *, predictions: Any = None, targets: Any = None) -> None:
        """Nothing."""


class Tool:
    """What a program calls; a tool overrides what it has."""

    name = "nothing"

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.errors: list[str] = []
        self.preflight_seconds = 0.0

    def preflight(self, model: Any, batch: Any, loss_fn: Any, optimizer: Any = None) -> None:
        """Look at a model before it is trained; how long that took is kept."""
        began = time.process_time()
        try:
            self._preflight(model, batch, loss_fn, optimizer)
        except Exception as error:
            self.errors.append(f"preflight: {type(error).__name__}: {error}"[:300])
        self.preflight_seconds += time.process_time() - began

    def _preflight(self, model: Any, batch: Any, loss_fn: Any, optimizer: Any) -> None:
        """Nothing, unless a tool does."""

    @contextlib.contextmanager
    def watch(self, model: Any, optimizer: Any = None, *, loss_fn: Any = None, **_options: Any) -> Iterator[Any]:
        """Look at a loop."""
        del model, optimizer, loss_fn
        yield Quiet()


class Nothing(Tool):
    """The program alone: what it costs and what it learns without any tool."""


class TensorStats(Tool):
    """This package, with its defaults."""

    name = "tensorstats"

    def _preflight(self, model: Any, batch: Any, loss_fn: Any, optimizer: Any) -> None:
        import tensorstats as ts

        report = ts.preflight(model, batch, loss_fn, optimizer=optimizer)
        self.told += [_told(finding, -1) for finding in report.findings]

    @contextlib.contextmanager
    def watch(self, model: Any, optimizer: Any = None, **options: Any) -> Iterator[Any]:
        import tensorstats as ts

        first: dict[tuple[str, str], int] = {}
        monitor = ts.watch(
            model,
            optimizer,
            on_finding=lambda finding: first.setdefault((finding.rule, finding.where), monitor.step),
            **options,
        )
        try:
            with monitor:
                yield monitor
        finally:
            monitor.close()
            # What it says of the loop (a model in eval mode, a step left out) stands there too, and is no error.
            self.errors += [error for error in monitor.errors if re.search(r"\b\w*(Error|Exception)\b", error)]
            self.told += [_told(finding, first.get((finding.rule, finding.where))) for finding in monitor.findings]


def _told(finding: Any, at: int | None) -> Told:
    status = "fail" if finding.status == "failure" else "warn"
    return Told(status, finding.rule, finding.where, at, finding.why)
