//! Owns the byte sums of AVX-512: sixty-four 8-bit values a step, no code counting. Knows nothing of statistics beyond the sums.
//!
//! An 8-bit float is looked up by its magnitude in tables of 128 entries: one table for each byte of its value in units and of the square
//! of that. VBMI does so in one instruction; without it, entries are looked up in pairs. Bytes are added up by `vpsadbw`, which sums eight
//! of them into 64 bits, so nothing can overflow.

#[allow(clippy::wildcard_imports, reason = "every line below is an intrinsic; a list would repeat the file")]
use core::arch::x86_64::*;

use crate::simd::byte_sums::{ByteSums, Code, Form, units};

/// Wraps an intrinsic call.
macro_rules! intrinsic {
    ($call:expr) => {{
        // SAFETY: reached only through `Avx512`, whose existence proves the features; memory operands are vouched for by the callers of
        // the unsafe functions.
        unsafe { $call }
    }};
}

/// Bytes per step.
const STEP: usize = 64;

/// # Safety
/// The CPU must have AVX-512 (F, BW), and VBMI too where `vbmi` says so; `p` must be readable for `len` bytes.
#[inline(always)]
pub(crate) unsafe fn byte_sums<E: Code>(p: *const u8, len: usize, vbmi: bool) -> ByteSums {
    let mut sums = ByteSums::EMPTY;
    let whole = len - len % STEP;
    // SAFETY: as the caller vouches.
    unsafe {
        match E::FORM {
            Form::Unsigned => integers::<false, false>(p, whole, &mut sums),
            Form::Bool => integers::<false, true>(p, whole, &mut sums),
            Form::Signed => integers::<true, false>(p, whole, &mut sums),
            Form::Float { .. } if vbmi => floats_with_vbmi::<E>(p, whole, &mut sums),
            Form::Float { .. } => any_floats::<E, InPairs>(p, whole, &mut sums),
        }
        for i in whole..len {
            sums.add_code::<E>(*p.add(i), 1);
        }
    }
    sums
}

/// The sum of the eight 64-bit lanes.
#[inline(always)]
fn total(register: __m512i) -> i64 {
    intrinsic!(_mm512_reduce_add_epi64(register))
}

/// The lanes of a register of bytes.
#[inline(always)]
fn lanes_u8(register: __m512i) -> [u8; STEP] {
    let mut out = [0_u8; STEP];
    intrinsic!(_mm512_storeu_si512(out.as_mut_ptr().cast(), register));
    out
}

/// # Safety
/// `p` must be readable for `len` bytes, a multiple of [`STEP`], at most 2^19 so that 32-bit sums of squares cannot overflow.
#[inline(always)]
unsafe fn integers<const SIGNED: bool, const BOOL: bool>(p: *const u8, len: usize, sums: &mut ByteSums) {
    if len == 0 {
        return;
    }
    let nothing = intrinsic!(_mm512_setzero_si512());
    let one = intrinsic!(_mm512_set1_epi8(1));
    let bias = intrinsic!(_mm512_set1_epi8(i8::MIN));
    let (mut raw_sum, mut l1, mut squares) = (nothing, nothing, [nothing; 2]);
    // Signed bytes are compared as biased unsigned ones.
    let (mut min, mut max, mut absmin_less_one) =
        (intrinsic!(_mm512_set1_epi8(-1)), nothing, intrinsic!(_mm512_set1_epi8(-1)));
    let (mut zero, mut positive) = (0_u64, 0_u64);
    let mut i = 0;
    while i < len {
        intrinsic!({
            let mut x = _mm512_loadu_si512(p.add(i).cast());
            if BOOL {
                x = _mm512_min_epu8(x, one);
            }
            let ordered = if SIGNED { _mm512_xor_si512(x, bias) } else { x };
            let magnitude = if SIGNED { _mm512_abs_epi8(x) } else { x };
            raw_sum = _mm512_add_epi64(raw_sum, _mm512_sad_epu8(ordered, nothing));
            min = _mm512_min_epu8(min, ordered);
            max = _mm512_max_epu8(max, ordered);
            absmin_less_one = _mm512_min_epu8(absmin_less_one, _mm512_sub_epi8(magnitude, one));
            zero += u64::from(_mm512_testn_epi8_mask(x, x).count_ones());
            if SIGNED {
                l1 = _mm512_add_epi64(l1, _mm512_sad_epu8(magnitude, nothing));
                positive += u64::from(_mm512_cmpgt_epi8_mask(x, nothing).count_ones());
            }
            let (low, high) = (_mm512_unpacklo_epi8(magnitude, nothing), _mm512_unpackhi_epi8(magnitude, nothing));
            squares[0] = _mm512_add_epi32(squares[0], _mm512_madd_epi16(low, low));
            squares[1] = _mm512_add_epi32(squares[1], _mm512_madd_epi16(high, high));
        });
        i += STEP;
    }
    let offset = if SIGNED { 128 } else { 0 };
    let n = len as u64;
    sums.sum += total(raw_sum) - offset * len as i64;
    sums.l1 += if SIGNED { total(l1) } else { total(raw_sum) };
    for half in squares {
        let wide = intrinsic!(_mm512_add_epi64(
            _mm512_cvtepu32_epi64(_mm512_castsi512_si256(half)),
            _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64::<1>(half))
        ));
        sums.squares += i128::from(total(wide));
    }
    sums.min = sums.min.min(lanes_u8(min).into_iter().fold(i64::MAX, |a, b| a.min(i64::from(b))) - offset);
    sums.max = sums.max.max(lanes_u8(max).into_iter().fold(i64::MIN, |a, b| a.max(i64::from(b))) - offset);
    let less_one = lanes_u8(absmin_less_one).into_iter().fold(u8::MAX, core::cmp::Ord::min);
    if less_one < u8::MAX {
        sums.absmin = sums.absmin.min(i64::from(less_one) + 1);
    }
    let positive = if SIGNED { positive } else { n - zero };
    sums.counts.zero += zero;
    sums.counts.positive += positive;
    sums.counts.negative += n - zero - positive;
}

/// Tables by magnitude: byte `k` of the value in units, and of its square.
struct Tables<E>(core::marker::PhantomData<E>);

impl<E: Code> Tables<E> {
    const VALUES: [[u8; 128]; 8] = Self::bytes(false);
    const SQUARES: [[u8; 128]; 8] = Self::bytes(true);

    const fn bytes(squared: bool) -> [[u8; 128]; 8] {
        let mut tables = [[0; 128]; 8];
        let mut magnitude = 0;
        while magnitude < 128 {
            let units = E::FORM.units(magnitude as u8);
            let number = if squared { units * units } else { units };
            let mut byte = 0;
            while byte < 8 {
                tables[byte][magnitude] = (number >> (8 * byte)) as u8;
                byte += 1;
            }
            magnitude += 1;
        }
        tables
    }
}

/// How a table of 128 bytes is read.
trait LookUp {
    /// The entries for sixty-four magnitudes.
    fn look_up(table: &'static [u8; 128], magnitudes: __m512i) -> __m512i;
}

/// The two halves of a table.
#[inline(always)]
fn halves(table: &'static [u8; 128]) -> [__m512i; 2] {
    let p = table.as_ptr();
    intrinsic!([_mm512_loadu_si512(p.cast()), _mm512_loadu_si512(p.add(STEP).cast())])
}

/// By VBMI's `vpermi2b`; used in [`floats_with_vbmi`] alone.
struct AtOnce;

impl LookUp for AtOnce {
    #[inline(always)]
    fn look_up(table: &'static [u8; 128], magnitudes: __m512i) -> __m512i {
        let [low, high] = halves(table);
        intrinsic!(_mm512_permutex2var_epi8(low, magnitudes, high))
    }
}

/// By BW's `vpermi2w`: a magnitude without its last bit finds a pair of entries, and the last bit chooses between them.
struct InPairs;

impl LookUp for InPairs {
    #[inline(always)]
    fn look_up(table: &'static [u8; 128], magnitudes: __m512i) -> __m512i {
        // Bytes at odd places, the upper ones of their words.
        const UPPER: __mmask64 = 0xaaaa_aaaa_aaaa_aaaa;
        let [low, high] = halves(table);
        intrinsic!({
            // Of an index only the lowest six bits count, so what is left of the other byte of the word does no harm.
            let of_lower = _mm512_permutex2var_epi16(low, _mm512_srli_epi16::<1>(magnitudes), high);
            let of_upper = _mm512_permutex2var_epi16(low, _mm512_srli_epi16::<9>(magnitudes), high);
            let first = _mm512_mask_blend_epi8(UPPER, of_lower, _mm512_slli_epi16::<8>(of_upper));
            let second = _mm512_mask_blend_epi8(UPPER, _mm512_srli_epi16::<8>(of_lower), of_upper);
            _mm512_mask_blend_epi8(_mm512_test_epi8_mask(magnitudes, _mm512_set1_epi8(1)), first, second)
        })
    }
}

/// Compiled with VBMI, which the code around the call is not, and with all that it is compiled with: masks are counted by `popcnt`.
///
/// # Safety
/// As for [`floats`], and the CPU must have VBMI.
#[target_feature(
    enable = "avx2,fma,f16c,bmi1,bmi2,popcnt,lzcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vbmi"
)]
unsafe fn floats_with_vbmi<E: Code>(p: *const u8, len: usize, sums: &mut ByteSums) {
    // SAFETY: as the caller vouches.
    unsafe { any_floats::<E, AtOnce>(p, len, sums) }
}

/// # Safety
/// As for [`floats`].
#[inline(always)]
unsafe fn any_floats<E: Code, T: LookUp>(p: *const u8, len: usize, sums: &mut ByteSums) {
    // SAFETY: as the caller vouches.
    unsafe {
        if let Form::Float { mantissa: 3, .. } = E::FORM {
            // Values below 2^18 units, squares below 2^36.
            floats::<E, T, 3, 5>(p, len, sums);
        } else {
            // Values below 2^32 units, squares below 2^64.
            floats::<E, T, 4, 8>(p, len, sums);
        }
    }
}

/// # Safety
/// `p` must be readable for `len` bytes, a multiple of [`STEP`].
#[inline(always)]
unsafe fn floats<E: Code, T: LookUp, const VALUE: usize, const SQUARE: usize>(
    p: *const u8,
    len: usize,
    sums: &mut ByteSums,
) {
    let Form::Float { mantissa, first_infinite, first_nan } = E::FORM else { return };
    if len == 0 {
        return;
    }
    let (values, squares) = (const { &Tables::<E>::VALUES }, const { &Tables::<E>::SQUARES });
    let nothing = intrinsic!(_mm512_setzero_si512());
    let mut magnitude_sums = [nothing; VALUE];
    let mut negative_sums = [nothing; VALUE];
    let mut square_sums = [nothing; SQUARE];
    // Codes order like their values, sign apart: three running extremes hold both ends, as for 16-bit floats.
    let (mut max_unsigned, mut max_signed, mut min_unsigned) =
        (nothing, intrinsic!(_mm512_set1_epi8(i8::MIN)), intrinsic!(_mm512_set1_epi8(-1)));
    let mut absmin_less_one = intrinsic!(_mm512_set1_epi8(-1));
    // Magnitudes 1 up to the smallest normal one, less one each.
    let subnormals = (1 << mantissa) - 1;
    let (mut zero, mut positive, mut finite_count, mut nan) = (0_u64, 0_u64, 0_u64, 0_u64);
    let (mut posinf, mut subnormal) = (0_u64, 0_u64);
    let mut i = 0;
    while i < len {
        intrinsic!({
            let x = _mm512_loadu_si512(p.add(i).cast());
            let magnitude = _mm512_and_si512(x, _mm512_set1_epi8(0x7f));
            let less_one = _mm512_sub_epi8(magnitude, _mm512_set1_epi8(1));
            let finite = _mm512_cmplt_epu8_mask(magnitude, _mm512_set1_epi8(first_infinite as i8));
            let negative = _mm512_movepi8_mask(x);
            max_unsigned = _mm512_mask_max_epu8(max_unsigned, finite, max_unsigned, x);
            max_signed = _mm512_mask_max_epi8(max_signed, finite, max_signed, x);
            min_unsigned = _mm512_mask_min_epu8(min_unsigned, finite, min_unsigned, x);
            absmin_less_one = _mm512_mask_min_epu8(absmin_less_one, finite, absmin_less_one, less_one);
            let is_zero = _mm512_testn_epi8_mask(magnitude, magnitude);
            zero += u64::from(is_zero.count_ones());
            finite_count += u64::from(finite.count_ones());
            positive += u64::from((finite & !negative & !is_zero).count_ones());
            let is_nan = _mm512_cmpge_epu8_mask(magnitude, _mm512_set1_epi8(first_nan as i8));
            nan += u64::from(is_nan.count_ones());
            posinf += u64::from((!finite & !is_nan & !negative).count_ones());
            subnormal += u64::from(_mm512_cmplt_epu8_mask(less_one, _mm512_set1_epi8(subnormals)).count_ones());
            let mut byte = 0;
            while byte < VALUE {
                let found = T::look_up(&values[byte], magnitude);
                magnitude_sums[byte] = _mm512_add_epi64(magnitude_sums[byte], _mm512_sad_epu8(found, nothing));
                let found = _mm512_maskz_mov_epi8(negative, found);
                negative_sums[byte] = _mm512_add_epi64(negative_sums[byte], _mm512_sad_epu8(found, nothing));
                byte += 1;
            }
            let mut byte = 0;
            while byte < SQUARE {
                let found = T::look_up(&squares[byte], magnitude);
                square_sums[byte] = _mm512_add_epi64(square_sums[byte], _mm512_sad_epu8(found, nothing));
                byte += 1;
            }
        });
        i += STEP;
    }
    let mut l1 = 0;
    for byte in 0..VALUE {
        l1 += total(magnitude_sums[byte]) << (8 * byte);
        sums.sum -= 2 * (total(negative_sums[byte]) << (8 * byte));
    }
    sums.l1 += l1;
    sums.sum += l1;
    for (byte, sum) in square_sums.into_iter().enumerate() {
        sums.squares += i128::from(total(sum)) << (8 * byte);
    }
    let counts = &mut sums.counts;
    counts.nan += nan;
    counts.posinf += posinf;
    counts.neginf += len as u64 - finite_count - nan - posinf;
    counts.zero += zero;
    counts.positive += positive;
    counts.negative += finite_count - zero - positive;
    counts.subnormal += subnormal;
    if finite_count > 0 {
        let max_unsigned = lanes_u8(max_unsigned).into_iter().fold(0, core::cmp::Ord::max);
        let max_signed = lanes_u8(max_signed).into_iter().fold(i8::MIN, |a, b| a.max(b as i8));
        let min_unsigned = lanes_u8(min_unsigned).into_iter().fold(u8::MAX, core::cmp::Ord::min);
        let min = if max_unsigned >> 7 == 1 { max_unsigned } else { min_unsigned };
        let max = if max_signed >= 0 { max_signed as u8 } else { min_unsigned };
        sums.min = sums.min.min(units::<E>(min));
        sums.max = sums.max.max(units::<E>(max));
        let less_one = lanes_u8(absmin_less_one).into_iter().fold(u8::MAX, core::cmp::Ord::min);
        if less_one < u8::MAX {
            sums.absmin = sums.absmin.min(units::<E>(less_one + 1));
        }
    }
}
