"""The peers that are torch: usual calls, fastest spelling, compiled. Knows nothing of processes and reports."""

# ruff: noqa: ARG002 - a method takes what the interface says

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

from race.adapter import Peer, UnsupportedError, torch_tensor
from race.data import BINS, HIGH, LOW

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from race.data import Case

FLOATS = ("float32", "bfloat16", "float16", "float64")


def usual(x: Any) -> tuple[Any, ...]:
    """The nine calls people write."""
    return (
        *(x.min(), x.max(), x.mean(), x.std(correction=0), x.norm(2), x.norm(1)),
        *(x.isnan().sum(), x.isinf().sum(), (x == 0).sum()),
    )


def fastest(x: Any) -> tuple[Any, ...]:
    """The same content in the calls that are fastest one by one."""
    import torch

    low, high = torch.aminmax(x)
    return (
        *(low, high, x.mean(), x.std(correction=0), torch.linalg.vector_norm(x), torch.linalg.vector_norm(x, 1)),
        *(torch.count_nonzero(x.isnan()), torch.count_nonzero(x.isinf()), x.numel() - torch.count_nonzero(x)),
    )


class _Torch(Peer):
    """What all torch reports have in common: their numbers."""

    package, ruler = "torch", True

    def answer(self, result: Any) -> dict[str, Any]:
        names = ("min", "max", "mean", "std", "l2", "l1", "nan_count", "inf", "zero_count")
        found = dict(zip(names, (r.item() if hasattr(r, "item") else r for r in result), strict=True))
        del found["inf"]
        found["var"] = found.pop("std") ** 2
        return found


class _Eager(_Torch, abc.ABC):
    @abc.abstractmethod
    def function(self) -> Callable[[Any], Any]:
        """The function of one tensor that gives the report."""

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        x = torch_tensor(array)
        function = self.function()
        # Integers and fp8 have no mean, std or norm: today's answer is an upcast.
        return (lambda: function(x)) if case.dtype in FLOATS else (lambda: function(x.float()))


class TorchEager(_Eager):
    name = "torch eager"

    def function(self) -> Callable[[Any], Any]:
        return usual


class TorchFastest(_Eager):
    name = "torch fastest spelling"

    def function(self) -> Callable[[Any], Any]:
        return fastest


class TorchCompile(_Torch):
    name = "torch.compile"

    def __init__(self) -> None:
        self.compiled: dict[Case, Any] = {}

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        import torch

        x = torch_tensor(array)
        widen = case.dtype not in FLOATS

        def report(x: Any) -> Any:
            return usual(x.float() if widen else x)

        if case not in self.compiled:
            # Compiled for this very shape, the best case for the compiler.
            torch._dynamo.reset()
            self.compiled[case] = torch.compile(report, fullgraph=True, dynamic=False)
        return lambda: self.compiled[case](x)


class TorchSum(Peer):
    """The ruler: one read of the memory, one number."""

    name, package = "torch.sum", "torch"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        import torch

        x = torch_tensor(array)
        if case.dtype == "float8_e4m3fn":
            # torch cannot sum fp8; its bytes take the same reading.
            x = x.view(torch.uint8)
        return lambda: torch.sum(x)

    def answer(self, result: Any) -> dict[str, Any]:
        return {}


class TorchHistc(Peer):
    name, package, work = "torch.histc", "torch", "histogram"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        import torch

        if case.dtype not in FLOATS:
            raise UnsupportedError(f"no {case.dtype}")
        x = torch_tensor(array)
        return lambda: torch.histc(x, BINS, LOW, HIGH)

    def answer(self, result: Any) -> dict[str, Any]:
        return {"values": [int(n) for n in result.tolist()]}


class TorchHistogram(Peer):
    name, package, work = "torch.histogram", "torch", "histogram"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        import torch

        if case.dtype not in ("float32", "float64"):
            raise UnsupportedError(f"no {case.dtype}")
        x = torch_tensor(array)
        return lambda: torch.histogram(x, BINS, range=(LOW, HIGH))

    def answer(self, result: Any) -> dict[str, Any]:
        return {"values": [int(n) for n in result.hist.tolist()]}
