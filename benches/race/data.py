"""The tensors of the peers' bench and their exact answers. Knows nothing of peers.

A tensor is one tile of 65,536 values repeated as often as its size needs: filling 1 GiB then costs a copy, and the
exact answer of the whole follows from counting the tile's values.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

TILE = 65_536
DTYPES = ("float32", "bfloat16", "float16", "float64", "int8", "float8_e4m3fn")
# Bins of the histogram task.
BINS, LOW, HIGH = 64, -4.0, 4.0


@dataclass(frozen=True)
class Case:
    """One tensor and what is asked of it: a "summary" or a "histogram"."""

    work: str
    dtype: str
    look: str
    size: int

    @property
    def count(self) -> int:
        return self.size // numpy_dtype(self.dtype).itemsize

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.work} {self.dtype} {self.look} {size_name(self.size)}"


def size_name(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


def numpy_dtype(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name, name))


def _normal(random: np.random.Generator) -> np.ndarray:
    return random.standard_normal(TILE)


def _zeros(random: np.random.Generator) -> np.ndarray:
    return random.standard_normal(TILE) * (random.random(TILE) < 0.1)


def _constant(_: np.random.Generator) -> np.ndarray:
    return np.full(TILE, 1.5)


def _octaves(random: np.random.Generator) -> np.ndarray:
    # A standard deviation of ten powers of two: two of them to either side are 40 octaves.
    return np.exp2(10 * random.standard_normal(TILE))


LOOKS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "normal": _normal,
    "zeros": _zeros,
    "constant": _constant,
    "octaves": _octaves,
    "nan": _normal,
    "subnormal": _normal,
}


@functools.cache
def tile(dtype: str, look: str) -> np.ndarray:
    """65,536 values of a kind, finite in the dtype."""
    random = np.random.default_rng(0)
    values = LOOKS[look](random)
    form = numpy_dtype(dtype)
    if dtype == "int8":
        return np.clip(np.rint(values * 30), -128, 127).astype(form)
    largest = float(ml_dtypes.finfo(form).max)
    array = np.clip(values, -largest, largest).astype(form)
    if look == "subnormal":
        tiny = float(ml_dtypes.finfo(form).smallest_subnormal)
        array[random.random(TILE) < 0.05] = np.array(3 * tiny).astype(form)
    return array


def fill(case: Case) -> np.ndarray:
    """The tensor of a case in memory of its own, every page touched."""
    part = tile(case.dtype, case.look)
    array = np.empty(case.count, numpy_dtype(case.dtype))
    whole = case.count // TILE * TILE
    array[:whole].reshape(-1, TILE)[:] = part
    array[whole:] = part[: case.count - whole]
    if case.look == "nan" and case.dtype != "int8":
        array[-1] = np.nan
    return array


def _oracle() -> Any:
    """The exact oracle of the tests, which this bench shares."""
    tests = str(Path(__file__).resolve().parents[2] / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    import oracle

    return oracle


def exact(case: Case) -> dict[str, Any]:
    """The exact answers, each rounded once to a float."""
    part = tile(case.dtype, case.look)
    array_of_one_round = fill(Case(case.work, case.dtype, case.look, case.size % (TILE * part.itemsize) or part.nbytes))
    rounds = (case.count - array_of_one_round.size) // TILE
    if case.work == "histogram":
        counted = np.histogram(array_of_one_round.astype(np.float64), bins=BINS, range=(LOW, HIGH))[0]
        whole = np.histogram(part.astype(np.float64), bins=BINS, range=(LOW, HIGH))[0]
        return {"values": (counted + rounds * whole).tolist()}
    oracle = _oracle()
    patterns = Counter(oracle.bits_of(array_of_one_round))
    for bits, times in Counter(oracle.bits_of(part)).items() if rounds else ():
        patterns[bits] += times * rounds
    found = oracle.Oracle(patterns, case.dtype)
    sums = {name: oracle.to_float(getattr(found, name)) for name in ("sum", "mean", "l1", "l2")}
    return {**found.counts, **found.extremes, **sums, "var": oracle.to_float(found.var())}
