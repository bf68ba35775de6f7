"""What a peer looks like to the worker, and the first of them. Knows nothing of processes and reports."""

# ruff: noqa: ARG002 - a method takes what the interface says

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from race.data import BINS, HIGH, LOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from race.data import Case


class UnsupportedError(Exception):
    """The peer cannot do this case; the message says why."""


class Peer(ABC):
    """One way to get the numbers. Made once per worker process."""

    name: ClassVar[str]
    package: ClassVar[str]
    work: ClassVar[str] = "summary"
    # Whether this worker also times torch.sum, as a ruler in the same process and on the same buffer.
    ruler: ClassVar[bool] = False

    @classmethod
    def version(cls) -> str:
        return importlib.metadata.version(cls.package)

    @abstractmethod
    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        """A function to be timed. Whatever costs no pass over the data (a view, a wrapper) may be done here."""

    @abstractmethod
    def answer(self, result: Any) -> dict[str, Any]:
        """The numbers in a result of that function, by the names of `tensorstats.Summary`. Not timed."""


def require(case: Case, *dtypes: str) -> None:
    if case.dtype not in dtypes:
        raise UnsupportedError(f"no {case.dtype}")


def torch_tensor(array: np.ndarray) -> Any:
    """A torch tensor on the memory of an array, `ml_dtypes` included."""
    import torch

    dtype = getattr(torch, array.dtype.name)
    return torch.from_numpy(array.view(f"i{array.dtype.itemsize}")).view(dtype)


class Tensorstats(Peer):
    name, package, ruler = "tensorstats", "tensorstats", True

    def __init__(self) -> None:
        from tensorstats import _core

        if _core.build_profile != "release":
            raise UnsupportedError(f"refusing to time a {_core.build_profile} build; hint: make develop")

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        import tensorstats as ts

        return lambda: ts.summary(array)

    def answer(self, result: Any) -> dict[str, Any]:
        names = ("count", "nan_count", "posinf_count", "neginf_count", "zero_count", "negative_count", "positive_count")
        more = ("subnormal_count", "min", "max", "absmax", "absmin", "sum", "mean", "l1", "l2")
        return {**{name: getattr(result, name) for name in names + more}, "var": result.var()}


class TensorstatsHistogram(Tensorstats):
    name, work = "tensorstats histogram", "histogram"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        import tensorstats as ts

        if not hasattr(ts, "histogram"):
            raise UnsupportedError("this build has no histogram")
        return lambda: ts.histogram(array, bins=BINS, range=(LOW, HIGH))

    def answer(self, result: Any) -> dict[str, Any]:
        return {"values": result.values().tolist()}


class Numpy(Peer):
    """The usual calls; types that numpy computes in too narrowly are widened to float32 first, as a user must."""

    name, package = "numpy", "numpy"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        narrow = case.dtype not in ("float32", "float64")

        def run() -> Any:
            x = array.astype(np.float32) if narrow else array
            return (
                *(x.min(), x.max(), x.mean(), x.var(), np.isnan(x).sum(), np.isinf(x).sum()),
                *(np.count_nonzero(x), np.linalg.norm(x), x.size),
            )

        return run

    def answer(self, result: Any) -> dict[str, Any]:
        names = ("min", "max", "mean", "var", "nan_count", "inf", "nonzero", "l2", "size")
        found = dict(zip(names, (r.item() if hasattr(r, "item") else r for r in result), strict=True))
        found["zero_count"] = found.pop("size") - found.pop("nonzero")
        del found["inf"]
        return found


class NumpyHistogram(Peer):
    name, package, work = "numpy histogram", "numpy", "histogram"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        narrow = case.dtype in ("bfloat16", "float8_e4m3fn")
        return lambda: np.histogram(array.astype(np.float32) if narrow else array, bins=BINS, range=(LOW, HIGH))

    def answer(self, result: Any) -> dict[str, Any]:
        return {"values": result[0].tolist()}


class Scipy(Peer):
    name, package = "scipy.stats.describe", "scipy"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        from scipy import stats

        narrow = case.dtype not in ("float32", "float64")
        return lambda: stats.describe(array.astype(np.float32) if narrow else array, ddof=0)

    def answer(self, result: Any) -> dict[str, Any]:
        low, high = result.minmax
        return {"count": result.nobs, "min": float(low), "max": float(high)} | {
            "mean": float(result.mean),
            "var": float(result.variance),
        }
