"""What values would be in a narrower format: against whole numbers and fractions, and against the casts of others."""

from __future__ import annotations

import json
import pickle
from bisect import bisect_left
from collections import Counter
from fractions import Fraction
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tensorstats as ts
from conftest import LEVELS
from oracle import FLOATS, INTEGERS, bits_of, decode
from samples import FLOAT_DTYPES, all_patterns, from_bits, mixed, numpy_dtype, random_bits

FORMATS = ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16")
SCALES = (1.0, 0.1, 2.0**-9, 448 / 3.7, 1e30)
NARROW = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int8", "uint8", "int16", "uint16", "bool")
WIDE = ("float32", "float64", "int32", "uint32", "int64", "uint64")
KINDS = ("overflow", "normal", "subnormal", "flushed", "zero", "nonfinite")


@cache
def grid(format: str) -> tuple[int, ...]:
    """Every finite magnitude of a format in units of ``2**-scale``, and the next there would be after them."""
    form = FLOATS[format]
    values = [decode(bits, format) for bits in range(1 << (form.exponent_bits + form.mantissa_bits))]
    finite = [value for value in values if isinstance(value, int)]
    return (*finite, 2 * finite[-1] - finite[-2])


def becomes(numerator: int, denominator: int, format: str) -> str:
    """What an exact magnitude is after one rounding to the nearest of a format, ties to even."""
    if numerator == 0:
        return "zero"
    values, last = grid(format), len(grid(format)) - 1
    # The first value of the format that is at least as large, then the one before it where that is nearer.
    numerator <<= FLOATS[format].scale
    place = bisect_left(values, -(-numerator // denominator))
    if place > last:
        return "overflow"
    if place > 0:
        middle = (values[place - 1] + values[place]) * denominator
        if 2 * numerator < middle or (2 * numerator == middle and (place - 1) % 2 == 0):
            place -= 1
    if place == last:
        return "overflow"
    if place == 0:
        return "flushed"
    return "subnormal" if place < 2 ** FLOATS[format].mantissa_bits else "normal"


def expected(array: np.ndarray, format: str, scale: float) -> dict[str, int]:
    dtype = array.dtype.name
    by, denominator = scale.as_integer_ratio()
    denominator <<= FLOATS[dtype].scale if dtype in FLOATS else 0
    values = (decode(bits, dtype) for bits in bits_of(array))
    magnitudes = Counter(value if isinstance(value, str) else abs(value) for value in values)
    counts = dict.fromkeys(KINDS, 0)
    for value, times in magnitudes.items():
        counts["nonfinite" if isinstance(value, str) else becomes(value * by, denominator, format)] += times
    return counts


def found(fit: ts.FormatFit) -> dict[str, int]:
    assert sum(getattr(fit, kind) for kind in KINDS) == fit.count
    return {kind: getattr(fit, kind) for kind in KINDS}


# A count over all patterns moves by two when a threshold is one pattern off: equal counts are equal thresholds.
@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize("dtype", NARROW)
def test_every_pattern_of_the_narrow_dtypes(dtype: str, scale: float):
    patterns = all_patterns(dtype) if dtype != "bool" else np.array([False, True, True])
    s = ts.summary(patterns, formats=FORMATS, scale=scale)
    for format in FORMATS:
        assert found(s.fits(format)) == expected(patterns, format, scale), format


def around_thresholds(dtype: str, format: str, scale: float) -> np.ndarray:
    """Values of a wide dtype at and beside those where a format changes what it makes of them, and the specials."""
    mantissa, unit = FLOATS[format].mantissa_bits, Fraction(1, 2 ** FLOATS[format].scale)
    values = grid(format)
    pairs = [(0, 1), (2**mantissa - 1, 2**mantissa), (len(values) - 2, len(values) - 1)]
    places = [Fraction(values[a] + values[b], 2) * unit / Fraction(scale) for a, b in pairs]
    places += [values[place] * unit / Fraction(scale) for place in (1, 2**mantissa, len(values) - 2)]
    if dtype in INTEGERS:
        width, signed = INTEGERS[dtype]
        low, high = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if signed else (0, 2**width - 1)
        near = {sign * (round(place) + step) for place in places for step in range(-3, 4) for sign in (1, -1)}
        return np.array([n for n in sorted(near | {low, high, 0, 1}) if low <= n <= high], dtype=dtype)
    form = numpy_dtype(dtype)
    bits = np.dtype(f"u{form.itemsize}")
    top = (1 << (8 * form.itemsize - 1)) - 1
    patterns = {0, 1, top, ((2 ** FLOATS[dtype].exponent_bits - 1) << FLOATS[dtype].mantissa_bits)}
    with np.errstate(over="ignore", under="ignore"):
        for place in places:
            try:
                near = float(place)
            except OverflowError:
                continue
            centre = int(np.array([near], dtype=form).view(bits)[0])
            patterns |= {pattern for pattern in range(centre - 4, centre + 5) if 0 <= pattern <= top}
    signed = sorted(patterns | {pattern | (top + 1) for pattern in patterns})
    return np.array(signed, dtype=bits).view(form)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", WIDE)
def test_wide_dtypes_around_every_threshold(dtype: str, format: str, scale: float):
    array = around_thresholds(dtype, format, scale)
    assert found(ts.summary(array, formats=format, scale=scale).fits(format)) == expected(array, format, scale)
    for element in array:
        one = np.array([element])
        assert found(ts.summary(one, formats=format, scale=scale).fits(format)) == expected(one, format, scale), element


@pytest.mark.parametrize(
    ("value", "format", "kind"),
    [
        (464.0, "float8_e4m3fn", "normal"),
        (np.nextafter(464.0, 500.0), "float8_e4m3fn", "overflow"),
        (2.0**-10, "float8_e4m3fn", "flushed"),
        (np.nextafter(2.0**-10, 1.0), "float8_e4m3fn", "subnormal"),
        (61440.0, "float8_e5m2", "overflow"),
        (np.nextafter(61440.0, 0.0), "float8_e5m2", "normal"),
        (65520.0, "float16", "overflow"),
        (np.nextafter(65520.0, 0.0), "float16", "normal"),
        (2.0**-25, "float16", "flushed"),
        (2.0**-14, "float16", "normal"),
        (2.0**-14 - 2.0**-26, "float16", "normal"),  # below the smallest normal number, and rounds up to it
        (2.0**-14 - 2.0**-24, "float16", "subnormal"),
        (float.fromhex("0x1.ffp127"), "bfloat16", "overflow"),
        (float.fromhex("0x1.fefffep127"), "bfloat16", "normal"),
        (2.0**-134, "bfloat16", "flushed"),
        (-0.0, "bfloat16", "zero"),
        (-np.inf, "float16", "nonfinite"),
    ],
)
def test_the_thresholds_that_the_formats_are_known_by(value: float, format: str, kind: str):
    fit = ts.summary(np.array([value, -value]), formats=format).fits(format)
    assert found(fit) == {name: 2 if name == kind else 0 for name in KINDS}


# --- the casts of others ---------------------------------------------------------------------------------------------


def class_of(cast: np.ndarray, before: np.ndarray) -> dict[str, int]:
    """The classes of values that somebody else converted."""
    form = FLOATS[cast.dtype.name]
    magnitude = cast.view(f"u{cast.dtype.itemsize}") & ((1 << (8 * cast.dtype.itemsize - 1)) - 1)
    infinity = (2**form.exponent_bits - 1) << form.mantissa_bits
    values = [decode(bits, before.dtype.name) for bits in bits_of(before)]
    finite = np.array([not isinstance(value, str) for value in values])
    zero = np.array([value == 0 for value in values])
    lost = finite & (magnitude >= (0x7F if cast.dtype.name == "float8_e4m3fn" else infinity))
    flushed = finite & ~zero & (magnitude == 0)
    subnormal = finite & (magnitude > 0) & (magnitude < 2**form.mantissa_bits)
    sizes = {"overflow": lost, "subnormal": subnormal, "flushed": flushed, "zero": zero, "nonfinite": ~finite}
    counts = {kind: int(np.count_nonzero(which)) for kind, which in sizes.items()}
    return {"normal": len(before) - sum(counts.values()), **counts}


def cast_samples() -> list[np.ndarray]:
    narrow = [all_patterns(dtype) for dtype in ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")]
    return [*narrow, random_bits("float32", 50_000), *(around_thresholds("float32", f, 1.0) for f in FORMATS)]


@pytest.mark.parametrize("format", FORMATS)
def test_agrees_with_the_casts_of_ml_dtypes(format: str):
    for array in cast_samples():
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(numpy_dtype(format))
        assert found(ts.summary(array, formats=[format]).fits(format)) == class_of(cast, array), array.dtype


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_agrees_with_the_casts_of_torch(format: str):
    torch = pytest.importorskip("torch")
    for array in cast_samples():
        x = torch.from_numpy(array.astype(np.float32))
        bits = x.to(getattr(torch, format)).view(torch.int16 if "16" in format else torch.uint8).numpy()
        theirs = class_of(from_bits(bits.view(f"u{bits.itemsize}"), format), array.astype(np.float32))
        ours = found(ts.summary(x, formats=[getattr(torch, format)]).fits(getattr(torch, format)))
        if format.startswith("float8"):
            # What becomes of overflow has changed between versions of torch: NaN, infinity, or the largest value.
            for counts in (ours, theirs):
                counts["normal"] += counts.pop("overflow")
        assert ours == theirs, array.dtype


# --- one pass, any order ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("restore_simd_level")
@pytest.mark.parametrize("dtype", [*FLOAT_DTYPES, "int8", "uint16", "int32", "uint64", "bool"])
def test_every_level_and_thread_count_gives_the_same(dtype: str):
    array = np.concatenate([mixed(dtype, 300_000), random_bits(dtype, 100_003)])
    want = {format: found(ts.summary(array, formats=FORMATS, threads=1).fits(format)) for format in FORMATS}
    small = array[-5_000:]
    tail = {format: expected(small, format, 1.0) for format in FORMATS}
    plain = ts.summary(array)
    for level in LEVELS:
        ts._core.set_simd_level(level)
        for threads in range(1, 8):
            s = ts.summary(array, formats=FORMATS, threads=threads)
            assert {format: found(s.fits(format)) for format in FORMATS} == want
            # The other numbers are those of a plain summary, bit for bit.
            assert {**s.to_dict(), "version": 1, "formats": 0} == {**plain.to_dict(), "formats": 0}
        s = ts.summary(small, formats=FORMATS)
        assert {format: found(s.fits(format)) for format in FORMATS} == tail


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subnormals_count_when_the_caller_flushes_them(dtype: str):
    torch = pytest.importorskip("torch")
    array = np.concatenate([from_bits(np.arange(4000), dtype), random_bits(dtype, 1000)])
    want = {scale: ts.summary(array, formats=FORMATS, scale=scale).to_bytes() for scale in (1.0, 2.0**300, 5e-324)}
    if not torch.set_flush_denormal(True):
        pytest.skip("this machine cannot flush subnormals to zero")
    try:
        assert {s: ts.summary(array, formats=FORMATS, scale=s).to_bytes() for s in want} == want
    finally:
        torch.set_flush_denormal(False)


def test_strides_empty_and_zero_dimensional():
    array = mixed("float32", 6000).reshape(20, 300)
    views = (array.T, array[::-2, ::3], np.broadcast_to(array[:1], (7, 300)), array[:0], array[3, 4])
    for view in views:
        flat = np.ascontiguousarray(view)
        for format in FORMATS:
            fit = ts.summary(view, formats=FORMATS).fits(format)
            assert found(fit) == expected(flat, format, 1.0)
    nothing = ts.summary(array[:0], formats="float16").fits("float16")
    assert repr(nothing) == "float16: nothing counted"
    assert np.isnan(nothing.overflow_fraction)


# --- the state --------------------------------------------------------------------------------------------------------


def asked(**options: Any) -> ts.Summary:
    return ts.Summary(formats=("float16", "float8_e4m3fn"), **options)


def test_pieces_merge_to_the_whole():
    array = mixed("float64", 200_000)
    whole = ts.summary(array, formats=("float16", "float8_e4m3fn"), scale=0.5)
    parts = [asked(scale=0.5).update(array[:70_001]), asked(scale=0.5), asked(scale=0.5).update(array[70_001:])]
    merged = asked(scale=0.5)
    for part in parts:
        merged.merge(part)
    for format in whole.formats:
        assert merged.fits(format) == whole.fits(format)
        assert (parts[0] + parts[2]).fits(format) == whole.fits(format)
    # Different dtypes add up too.
    integers = np.array([-(2**40), 0, 3], dtype=np.int64)
    both = merged.copy().update(integers)
    assert both.fits("float16").overflow == whole.fits("float16").overflow + 1
    both.reset()
    assert (both.count, both.formats) == (0, ("float8_e4m3fn", "float16"))


def test_round_trips():
    state = asked(scale=3.0).update(mixed("bfloat16", 5000))
    for other in (
        state.copy(),
        pickle.loads(pickle.dumps(state)),
        ts.Summary.from_bytes(state.to_bytes()),
        ts.Summary.from_dict(json.loads(json.dumps(state.to_dict()))),
    ):
        assert other == state
        assert other.formats == ("float8_e4m3fn", "float16")
        assert [other.fits(f) for f in other.formats] == [state.fits(f) for f in state.formats]


def test_a_summary_without_formats_is_still_version_1():
    plain, kept = ts.summary(np.ones(3)), ts.summary(np.ones(3), formats="float16")
    assert (plain.to_bytes()[4], kept.to_bytes()[4]) == (1, 2)
    assert (plain.to_dict()["version"], kept.to_dict()["version"]) == (1, 2)
    assert "formats" not in plain.to_dict()
    assert plain != kept
    newer = bytearray(kept.to_bytes())
    newer[4] = 3
    with pytest.raises(ValueError, match=r"^serialised Summary has version 3, this build reads versions 1 to 2$"):
        ts.Summary.from_bytes(bytes(newer))


def test_damaged_counts_are_refused():
    state = ts.summary(np.array([1e9, 1.0, 0.0]), formats="float16")
    whole = state.to_dict()["formats"]
    for counts in ({"overflow": 3, "subnormal": 0, "flushed": 0}, {"overflow": 1, "subnormal": 1, "flushed": 1}):
        with pytest.raises(ValueError, match="contradict"):
            ts.Summary.from_dict({**state.to_dict(), "formats": {**whole, "counts": {"float16": counts}}})
    with pytest.raises(ValueError, match="scale must be finite and above 0, got: 0"):
        ts.Summary.from_dict({**state.to_dict(), "formats": {**whole, "scale": 0.0}})
    with pytest.raises(ValueError, match="lacks the key: formats"):
        ts.Summary.from_dict({key: value for key, value in state.to_dict().items() if key != "formats"})
    for cut in range(5, len(state.to_bytes())):
        with pytest.raises(ValueError):
            ts.Summary.from_bytes(state.to_bytes()[:cut])


def test_states_that_keep_other_formats_do_not_merge():
    text = r"cannot merge summaries that keep different formats: float8_e4m3fn, float16 \(scale 1\) and "
    for other, shown in (
        (ts.Summary(), "none"),
        (ts.Summary(formats="float16"), r"float16 \(scale 1\)"),
        (asked(scale=2.0), r"float8_e4m3fn, float16 \(scale 2\)"),
    ):
        state = asked().update(np.ones(4))
        before = state.to_bytes()
        with pytest.raises(ValueError, match=f"^{text}{shown}$"):
            state.merge(other.update(np.ones(3)))
        with pytest.raises(ValueError, match="different formats"):
            other + state
        assert state.to_bytes() == before


# --- what users see ---------------------------------------------------------------------------------------------------


def test_a_format_that_was_not_kept_says_how_to_ask():
    text = r"^what float16 would hold was not counted; ask for it with formats=\(\"float16\",\)$"
    for state in (ts.summary(np.ones(3)), ts.summary(np.ones(3), formats="bfloat16")):
        with pytest.raises(ValueError, match=text):
            state.fits("float16")


@pytest.mark.parametrize("name", ["float32", "int8", "int16"])
def test_other_formats_are_refused(name: str):
    text = f"^format must be one of float8_e4m3fn, float8_e5m2, float16, bfloat16; got: {name}$"
    with pytest.raises(ValueError, match=text):
        ts.summary(np.ones(3), formats=("float16", name))
    with pytest.raises(ValueError, match=text):
        ts.summary(np.ones(3)).fits(name)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_must_be_finite_and_above_zero(scale: float):
    with pytest.raises(ValueError, match=f"^scale must be finite and above 0, got: {scale:g}".replace("nan", "NaN")):
        ts.summary(np.ones(3), formats="float16", scale=scale)


def test_names_and_dtypes_mean_the_same():
    torch = pytest.importorskip("torch")
    want = ts.summary(np.ones(3), formats=FORMATS).to_bytes()
    types = [np.float16, np.dtype(ml_dtypes.bfloat16), torch.float8_e4m3fn, "torch.float8_e5m2", "float16"]
    assert ts.summary(np.ones(3), formats=iter(types)).to_bytes() == want
    assert ts.summary(np.ones(3), formats=torch.bfloat16).formats == ("bfloat16",)
    with pytest.raises(TypeError, match=r"unknown dtype: 3\.5"):
        ts.summary(np.ones(3), formats=[3.5])


def test_a_fit_reads_well():
    fit = ts.summary(np.array([1000.0, 1.0, 1e-3, 1e-9, 0.0, np.nan, 1, 1]), formats=("float8_e4m3fn",)).fits(
        "float8_e4m3fn"
    )
    text = "float8_e4m3fn: 12.5% overflow, 12.5% subnormal, 12.5% flushed to zero of n=8, 1 not finite!"
    assert repr(fit) == text
    assert (fit.overflow_fraction, fit.subnormal_fraction, fit.flushed_fraction) == (0.125, 0.125, 0.125)
    scaled = ts.summary(np.array([1.0]), formats="float16", scale=1e5).fits("float16")
    assert repr(scaled) == "float16 (scale 100000): 100% overflow, 0% subnormal, 0% flushed to zero of n=1"
    with pytest.raises(AttributeError):
        fit.count = 3


# --- other devices ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*NARROW, *WIDE])
def test_the_torch_path_gives_the_same(dtype: str):
    check_torch_path(dtype, "cpu")


@pytest.mark.cuda
def test_a_gpu_gives_the_same():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    for dtype in (*NARROW, *WIDE):
        check_torch_path(dtype, "cuda")


def check_torch_path(dtype: str, place: str) -> None:
    torch = pytest.importorskip("torch")
    from tensorstats.device import results as device

    narrow = dtype in NARROW and dtype != "bool"
    array = all_patterns(dtype) if narrow else random_bits(dtype, 40_000)
    if dtype in WIDE:
        array = np.concatenate([array, *(around_thresholds(dtype, format, 0.1) for format in FORMATS)])
    bits = torch.from_numpy(array.view(np.uint8).copy())
    x = (bits > 0) if dtype == "bool" else bits.view(getattr(torch, dtype))
    for scale in (1.0, 0.1):
        theirs = device.summary(x.to(place), formats=FORMATS, scale=scale)
        ours = ts.summary(x, formats=FORMATS, scale=scale)
        assert [theirs.fits(format) for format in FORMATS] == [ours.fits(format) for format in FORMATS]
    assert device.summary(x[:0].to(place), formats=FORMATS).fits("float16").count == 0
