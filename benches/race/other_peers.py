"""The peers of other libraries, each in its best form. Knows nothing of processes and reports."""

# ruff: noqa: ARG002 - a method takes what the interface says

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from race.adapter import Peer, require
from race.data import BINS, HIGH, LOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from race.data import Case


class Polars(Peer):
    name, package = "polars", "polars"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        import polars as pl

        require(case, "float32", "float64", "int8")
        frame = pl.DataFrame({"x": array}).lazy()
        x = pl.col("x")
        query = frame.select(
            min=x.min(),
            max=x.max(),
            mean=x.mean(),
            var=x.var(ddof=0),
            # The magnitude of -128 is no int8.
            l1=(x.cast(pl.Int16) if case.dtype == "int8" else x).abs().sum(),
            nan_count=pl.lit(0) if case.dtype == "int8" else x.is_nan().sum(),
            zero_count=(x == 0).sum(),
        )
        return query.collect

    def answer(self, result: Any) -> dict[str, Any]:
        return dict(result.row(0, named=True))


class Pyarrow(Peer):
    name, package = "pyarrow", "pyarrow"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        import pyarrow as pa
        import pyarrow.compute as pc

        require(case, "float32", "float64", "int8")
        x = pa.array(array)

        def run() -> Any:
            ends = pc.min_max(x)
            nan = 0 if case.dtype == "int8" else pc.sum(pc.is_nan(x)).as_py()
            return ends["min"], ends["max"], pc.mean(x), pc.variance(x, ddof=0), pc.sum(x), nan

        return run

    def answer(self, result: Any) -> dict[str, Any]:
        values = [r.as_py() if hasattr(r, "as_py") else r for r in result]
        return dict(zip(("min", "max", "mean", "var", "sum", "nan_count"), values, strict=True))


class Bottleneck(Peer):
    name, package = "bottleneck", "Bottleneck"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        import bottleneck as bn

        require(case, "float32", "float64")
        return lambda: (bn.nanmin(array), bn.nanmax(array), bn.nanmean(array), bn.nanvar(array), bn.ss(array))

    def answer(self, result: Any) -> dict[str, Any]:
        low, high, mean, var, squares = (float(r) for r in result)
        return {"min": low, "max": high, "mean": mean, "var": var, "l2": squares**0.5}


class Numkong(Peer):
    """Sum and sum of squares, then both ends: two passes on one thread, all it has."""

    name, package = "numkong", "numkong"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        import numkong as nk

        x = nk.Tensor(array)
        return lambda: (nk.moments(x), nk.minmax(x), array.size)

    def answer(self, result: Any) -> dict[str, Any]:
        (total, squares), ends, count = result
        low, high = (ends[0], ends[2]) if ends is not None else (float("nan"), float("nan"))
        numbers = {"min": low, "max": high, "sum": total, "l2": float(squares) ** 0.5, "mean": float(total) / count}
        return {name: float(x) for name, x in numbers.items()}


class Duckdb(Peer):
    name, package = "duckdb", "duckdb"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        import duckdb
        import pyarrow as pa

        require(case, "float32", "float64", "int8")
        connection = duckdb.connect()
        connection.register("t", pa.table({"x": array}))
        # The magnitude of -128 is no int8; and integers are never NaN.
        wide, nan = ("x::INTEGER", "0") if case.dtype == "int8" else ("x", "count_if(isnan(x))")
        query = f"SELECT min(x), max(x), avg(x), var_pop(x), sum(abs({wide})), {nan}, count_if(x = 0) FROM t"
        return lambda: connection.execute(query).fetchone()

    def answer(self, result: Any) -> dict[str, Any]:
        names = ("min", "max", "mean", "var", "l1", "nan_count", "zero_count")
        return {name: float(x) for name, x in zip(names, result, strict=True)}


class BoostHistogram(Peer):
    name, package, work = "boost-histogram", "boost-histogram", "histogram"
    # 0 takes as many as the machine has.
    threads: ClassVar[int] = 0

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        import boost_histogram as bh

        require(case, "float32", "float64", "int8")
        axis = bh.axis.Regular(BINS, LOW, HIGH)
        return lambda: bh.Histogram(axis, storage=bh.storage.Int64()).fill(array, threads=self.threads)

    def answer(self, result: Any) -> dict[str, Any]:
        return {"values": [int(n) for n in result.view()]}


class BoostHistogramOneThread(BoostHistogram):
    name, threads = "boost-histogram, 1 thread", 1


class FastHistogram(Peer):
    name, package, work = "fast-histogram", "fast-histogram", "histogram"

    def prepare(self, case: Case, array: np.ndarray) -> Callable[[], Any]:
        from fast_histogram import histogram1d

        require(case, "float32", "float64", "int8")
        return lambda: histogram1d(array, bins=BINS, range=(LOW, HIGH))

    def answer(self, result: Any) -> dict[str, Any]:
        return {"values": [int(n) for n in result]}
