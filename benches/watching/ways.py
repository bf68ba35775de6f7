"""The ways of watching a training: ours and those of others. Each tells what it has seen; none knows of times."""

# ruff: noqa: ARG002, B027 - a way takes what the interface says, and does without what it does not need

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

if TYPE_CHECKING:
    from torch import nn

    from watching.trainings import Run

__all__ = ["WAYS", "MissingError", "Way", "make"]


class MissingError(Exception):
    """The package of this way is not installed."""


class Way(ABC):
    """One way of watching. Made once per process, on its own copy of the model.

    `block` is the number of steps that are timed together: those of one period of its schedule.
    """

    package: ClassVar[str] = "torch"
    block: ClassVar[int] = 1
    reads: ClassVar[str] = ""  # for the table
    hook: type[Any] | None = None  # the class all of whose calls are the watching, once attached

    @classmethod
    def version(cls) -> str:
        try:
            return importlib.metadata.version(cls.package)
        except importlib.metadata.PackageNotFoundError:
            raise MissingError(f"{cls.package} is not installed") from None

    @abstractmethod
    def attach(self, run: Run) -> None:
        """Begin to watch."""

    def after_backward(self, loss: float) -> None:
        """Called between the backward pass and the optimizer's step."""

    @abstractmethod
    def check(self, steps: int) -> str:
        """What is wrong with what was seen in `steps` steps; empty when it is as it should be."""

    def close(self) -> None:
        """Let go."""


class Nothing(Way):
    """Bare against bare: what the measurement itself gets wrong."""

    reads = "nothing"

    def attach(self, run: Run) -> None:
        """Nothing to do."""

    def check(self, steps: int) -> str:
        return ""


class Watch(Way):
    """`ts.watch` with every signal it has."""

    package = "tensorstats"
    every, start, histograms = 1, 0, False
    signals: tuple[str, ...] = ()  # all of them
    reads = "every signal"

    def attach(self, run: Run) -> None:
        import tensorstats as ts
        from tensorstats import _core
        from tensorstats.run.choosing import SIGNALS
        from tensorstats.torch.attach.guard import GuardedHook

        if _core.build_profile != "release":
            raise MissingError(f"refusing to time a {_core.build_profile} build; hint: make develop")
        self.signals = self.signals or SIGNALS
        self.hook = GuardedHook
        self.monitor = ts.watch(
            run.model,
            run.optimizer,
            every=self.every,
            start=self.start,
            signals=self.signals,
            histograms=self.histograms,
        )

    def check(self, steps: int) -> str:
        monitor = self.monitor
        if monitor.errors or monitor.findings:
            return f"a healthy training led to {monitor.errors} {[str(finding) for finding in monitor.findings]}"
        wanted = len(range(self.start, steps, self.every))
        if wanted == 0:
            seen = [name for signal in self.signals for name in monitor.names(signal)]
            return f"recorded {seen} in steps that are not due" if seen else ""
        for signal in self.signals:
            names = monitor.names(signal)
            if not names:
                return f"nothing recorded of {signal}"
            for name in names:
                recorded = monitor.total(signal, name)
                if recorded.finite_count == 0:
                    return f"no value of {signal} {name}"
                if len(monitor.series(signal, name, "mean")[0]) != wanted and wanted < 1000:
                    return f"{signal} {name} has {len(monitor.series(signal, name, 'mean')[0])} steps of {wanted}"
                if self.histograms and monitor.histogram(signal, name).count == 0:
                    return f"the histogram of {signal} {name} is empty"
        return ""

    def close(self) -> None:
        self.monitor.close()


class WatchDefault(Watch):
    """The signals that one gets without asking."""

    reads = "outputs, weights, their gradients and updates"

    def attach(self, run: Run) -> None:
        from tensorstats.run.choosing import DEFAULT_SIGNALS

        self.signals = DEFAULT_SIGNALS
        super().attach(run)


class WatchHistograms(Watch):
    histograms = True
    reads = "every signal, with histograms"


class WatchThree(WatchHistograms):
    signals = ("outputs", "parameters", "gradients")
    reads = "outputs, weights and their gradients, with histograms"


class WatchEvery10(Watch):
    block = every = 10


class WatchHistogramsEvery10(WatchHistograms):
    block = every = 10


class WatchIdle(Watch):
    start = 10**9
    reads = "armed, no step is due"


class Hooks(Way):
    """What people write by hand: hooks on every module without children, `.item()` for every number."""

    reads = "mean, std, min, max, norm of outputs, their gradients, weights, weight gradients"
    histograms = False

    def attach(self, run: Run) -> None:
        self.model = run.model
        self.seen: dict[str, list[tuple[float, ...]]] = {}
        self.handles: list[Any] = []
        for name, module in run.model.named_modules():
            if not any(True for _ in module.children()):
                self.handles.append(module.register_forward_hook(self._forward(name)))
                self.handles.append(module.register_full_backward_hook(self._backward(name)))

    def _forward(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            self._read(f"{name} output", output)

        return hook

    def _backward(self, name: str) -> Any:
        def hook(_module: nn.Module, _gradients: Any, gradients: tuple[torch.Tensor, ...]) -> None:
            self._read(f"{name} output gradient", gradients[0])

        return hook

    def _read(self, name: str, x: torch.Tensor) -> None:
        x = x.detach()
        numbers = [x.mean().item(), x.std().item(), x.min().item(), x.max().item(), x.norm().item()]
        if self.histograms:
            numbers += torch.histc(x, 64).tolist()
        self.seen.setdefault(name, []).append(tuple(numbers))

    def after_backward(self, loss: float) -> None:
        for name, parameter in self.model.named_parameters():
            self._read(name, parameter)
            if parameter.grad is not None:
                self._read(f"{name} gradient", parameter.grad)

    def check(self, steps: int) -> str:
        short = [name for name, values in self.seen.items() if len(values) != steps]
        return f"not seen at every step: {short}" if short or not self.seen else ""

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


class HooksHistograms(Hooks):
    reads = "the same, and torch.histc with 64 bins"
    histograms = True


class Wandb(Way):
    """`wandb.watch(log="all")` and the run's own `log`, offline."""

    package = "wandb"
    every = 1
    reads = "64-bin histograms of weights and their gradients"

    def attach(self, run: Run) -> None:
        os.environ["WANDB_SILENT"] = "true"
        import wandb

        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.run = wandb.init(mode="offline", dir=self.folder.name, project="bench")
        self.run.watch(run.model, log="all", log_freq=self.every)

    def after_backward(self, loss: float) -> None:
        self.run.log({"loss": loss})

    def check(self, steps: int) -> str:
        seen = [key for key in dict(self.run.summary) if key.startswith(("gradients/", "parameters/"))]
        return "" if seen else "no histogram was logged"

    def close(self) -> None:
        self.run.finish()
        self.folder.cleanup()


class WandbEvery10(Wandb):
    block = every = 10


class Torchinstruments(Way):
    package = "torchinstruments"
    every = 1
    reads = "mean, std, extremes, quartiles, shares, histograms of outputs and their gradients"

    def attach(self, run: Run) -> None:
        import torchinstruments

        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.model = run.model
        sampler = torchinstruments.EveryNForwardsSampler(self.every)
        torchinstruments.inject_observer(run.model, sampler=sampler, output_dir=self.folder.name)

    def check(self, steps: int) -> str:
        import torchinstruments

        torchinstruments.remove_observer(self.model)
        written = [path for path in Path(self.folder.name).rglob("*") if path.is_file() and path.stat().st_size]
        return "" if written else "nothing was written"

    def close(self) -> None:
        self.folder.cleanup()


class TorchinstrumentsEvery10(Torchinstruments):
    block = every = 10


class Pulsegrad(Way):
    package = "pulsegrad"
    every = 1
    reads = "moments, 64-bin log2 histogram, sampled percentiles of outputs, weights and their gradients"

    def attach(self, run: Run) -> None:
        import pulsegrad

        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.session = pulsegrad.watch(
            run.model, run.optimizer, run_dir=Path(self.folder.name), k=self.every, run_id="bench"
        )

    def check(self, steps: int) -> str:
        self.session.close()
        written = sum(path.stat().st_size for path in Path(self.folder.name).rglob("*") if path.is_file())
        return "" if written > 10_000 else f"only {written} bytes were written"

    def close(self) -> None:
        self.folder.cleanup()


class PulsegradEvery10(Pulsegrad):
    block = every = 10


WAYS: dict[str, type[Way]] = {
    "bare": Nothing,
    "ts.watch, idle": WatchIdle,
    "ts.watch, every 10": WatchEvery10,
    "ts.watch, every step, default signals": WatchDefault,
    "ts.watch, every step, three signals, histograms": WatchThree,
    "ts.watch, every step": Watch,
    "ts.watch, every step, histograms": WatchHistograms,
    "ts.watch, every 10, histograms": WatchHistogramsEvery10,
    "hooks with .item()": Hooks,
    "hooks with .item() and histc": HooksHistograms,
    "wandb.watch, every step": Wandb,
    "wandb.watch, every 10": WandbEvery10,
    "torchinstruments, every step": Torchinstruments,
    "torchinstruments, every 10": TorchinstrumentsEvery10,
    "pulsegrad, every step": Pulsegrad,
    "pulsegrad, every 10": PulsegradEvery10,
}


def make(name: str) -> Way:
    """A way by name, if its package is there."""
    way = WAYS[name]
    way.version()
    return way()
