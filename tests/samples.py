"""Arrays of every dtype, layout and class of value for the tests. Knows nothing of what is computed from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from oracle import FLOATS, INTEGERS

if TYPE_CHECKING:
    from collections.abc import Callable

FLOAT_DTYPES = ("float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2")
INTEGER_DTYPES = (*INTEGERS, "bool")
DTYPES = (*FLOAT_DTYPES, *INTEGER_DTYPES)
NARROW_FLOATS = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def numpy_dtype(name: str) -> np.dtype:
    """The numpy dtype of a name, from `ml_dtypes` where numpy has none."""
    return np.dtype(getattr(ml_dtypes, name, name))


def from_bits(patterns: np.ndarray, dtype: str) -> np.ndarray:
    """An array whose elements have the given bit patterns."""
    form = numpy_dtype(dtype)
    return np.ascontiguousarray(patterns.astype(f"u{form.itemsize}")).view(form)


def all_patterns(dtype: str) -> np.ndarray:
    """Every value of an 8- or 16-bit dtype, once."""
    return from_bits(np.arange(2 ** (8 * numpy_dtype(dtype).itemsize), dtype=np.uint32), dtype)


def random_bits(dtype: str, size: int, seed: int = 0) -> np.ndarray:
    """Uniformly random bit patterns: NaN, infinities and subnormals included, magnitudes over the whole range."""
    random = np.random.default_rng(seed)
    if dtype == "bool":
        return random.integers(0, 2, size).astype(bool)
    return from_bits(random.integers(0, 2 ** (8 * numpy_dtype(dtype).itemsize), size, dtype=np.uint64), dtype)


def ordinary(dtype: str, size: int, seed: int = 0) -> np.ndarray:
    """What tensors usually hold: normal values and zeros for floats, the whole range for integers."""
    if dtype not in FLOATS:
        return random_bits(dtype, size, seed)
    random = np.random.default_rng(seed)
    return (random.standard_normal(size) * (random.random(size) > 0.2)).astype(numpy_dtype(dtype))


def mixed(dtype: str, size: int, seed: int = 0) -> np.ndarray:
    """Ordinary values with a few of every other class among them: NaN, infinities, both zeros, subnormals, extremes."""
    array = ordinary(dtype, size, seed)
    if dtype not in FLOATS or size == 0:
        return array
    width = 8 * array.dtype.itemsize
    form = FLOATS[dtype]
    top = ((2**form.exponent_bits - 1) << form.mantissa_bits) - 1  # the largest finite value of an IEEE format
    sign = 1 << (width - 1)
    special = [0, sign, 1, sign | 1, 2**form.mantissa_bits - 1, 2**form.mantissa_bits, top, sign | top]
    special += [top + 1, sign | (top + 1), top + 2, sign | (2 ** (width - 1) - 1)]
    random = np.random.default_rng(seed + 1)
    places = random.permutation(size)[: max(1, size // 10)]
    array.view(f"u{array.dtype.itemsize}")[places] = np.resize(np.array(special, dtype=np.uint64), len(places))
    return array


def _misaligned(block: np.ndarray) -> np.ndarray:
    """The same values one byte past an aligned address."""
    memory = np.frombuffer(b"\0" + block.tobytes(), dtype=np.uint8)
    return memory[1:].view(block.dtype).reshape(block.shape)


def _read_only(block: np.ndarray) -> np.ndarray:
    view = block.view()
    view.flags.writeable = False
    return view


# From a C-contiguous block of shape (12, 7, 20) to a view of the kind.
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": lambda block: block,
    "flat": lambda block: block.reshape(-1),
    "transposed": lambda block: block.T,
    "permuted": lambda block: block.transpose(1, 2, 0),
    "fortran": np.asfortranarray,
    "inner-step-2": lambda block: block[:, :, ::2],
    "inner-step-7": lambda block: block.reshape(-1)[::7],
    "outer-step-3": lambda block: block[::3],
    "middle-step-2": lambda block: block[:, ::2],
    "inner-slice": lambda block: block[:, :, 3:16],
    "middle-slice": lambda block: block[:, 2:5],
    "reversed": lambda block: block[::-1, ::-1, ::-1],
    "reversed-inner": lambda block: block[:, :, ::-1],
    "reversed-middle-step-2": lambda block: block[:, ::-2],
    "stride-0-outer": lambda block: np.broadcast_to(block[0], (9, *block.shape[1:])),
    "stride-0-inner": lambda block: np.broadcast_to(block[:, :, :1], (*block.shape[:2], 33)),
    "stride-0-all": lambda block: np.broadcast_to(block[3, 3, 3], (5, 6, 7)),
    "new-axes": lambda block: block[None, :, None, :, :, None],
    "zero-dimensional": lambda block: block[1, 2, 3, ...],
    "one-element": lambda block: block[1:2, 2:3, 3:4],
    "empty": lambda block: block[:, :0],
    "misaligned": _misaligned,
    "misaligned-step-2": lambda block: _misaligned(block)[:, :, ::2],
    "read-only": _read_only,
}


def block_of(dtype: str, seed: int = 0) -> np.ndarray:
    """The block that `LAYOUTS` expects."""
    return mixed(dtype, 12 * 7 * 20, seed).reshape(12, 7, 20)
