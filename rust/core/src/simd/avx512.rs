//! Owns the lanes of AVX-512 (F, BW, DQ, VL, CD: Skylake-X, Zen 4 and later). Knows nothing of what is computed with them.

#[allow(clippy::wildcard_imports, reason = "every line below is an intrinsic; a list would repeat the file")]
use core::arch::x86_64::*;

use crate::dtype::element::Element;
use crate::simd::array_scan::report16;
use crate::simd::byte_sums::{ByteSums, Code};
use crate::simd::bytes_avx512;
use crate::simd::lanes::{LANES, Lanes, Scan, ScanReport};
use crate::simd::select_avx512;

/// AVX-512 registers; a value proves that the CPU has them.
#[derive(Clone, Copy, Debug)]
pub struct Avx512 {
    /// Whether the CPU has VBMI too, which the sums of 8-bit floats alone make use of: the rest is compiled once.
    vbmi: bool,
}

/// Wraps an intrinsic call.
macro_rules! intrinsic {
    ($call:expr) => {{
        // SAFETY: `Avx512` and the scans below are only made inside a function that enables these features after they were detected
        // (`level::run_avx512`); memory operands are vouched for by the callers of the unsafe functions.
        unsafe { $call }
    }};
}

impl Avx512 {
    /// The token, for a function that has the features enabled.
    ///
    /// # Safety
    /// The CPU must have the features, and VBMI where `vbmi` says so.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub unsafe fn here(vbmi: bool) -> Self {
        Self { vbmi }
    }
}

/// `x` where finite, `fallback` elsewhere.
#[inline(always)]
fn keep_finite(x: __m512d, fallback: __m512d) -> __m512d {
    intrinsic!({
        let finite = _mm512_cmp_pd_mask::<_CMP_LE_OQ>(_mm512_abs_pd(x), _mm512_set1_pd(f64::MAX));
        _mm512_mask_blend_pd(finite, fallback, x)
    })
}

/// Sixteen `f32` as `f64`.
#[inline(always)]
fn widen_f32(x: __m512) -> [__m512d; 2] {
    intrinsic!([_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(x))])
}

impl Lanes for Avx512 {
    type F64 = [__m512d; 2];
    type ScanF32 = ScanF32;
    type Scan16 = Scan16;
    type ScanF64 = ScanF64;
    const FUSED: bool = true;

    #[inline(always)]
    fn splat(self, value: f64) -> Self::F64 {
        [intrinsic!(_mm512_set1_pd(value)); 2]
    }

    #[inline(always)]
    fn of_array(self, values: [f64; LANES]) -> Self::F64 {
        let p = values.as_ptr();
        intrinsic!([_mm512_loadu_pd(p), _mm512_loadu_pd(p.add(8))])
    }

    #[inline(always)]
    fn to_array(self, values: Self::F64) -> [f64; LANES] {
        let mut out = [0.0; LANES];
        let p = out.as_mut_ptr();
        intrinsic!({
            _mm512_storeu_pd(p, values[0]);
            _mm512_storeu_pd(p.add(8), values[1]);
        });
        out
    }

    #[inline(always)]
    fn add(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        intrinsic!([_mm512_add_pd(a[0], b[0]), _mm512_add_pd(a[1], b[1])])
    }

    #[inline(always)]
    fn sub(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        intrinsic!([_mm512_sub_pd(a[0], b[0]), _mm512_sub_pd(a[1], b[1])])
    }

    #[inline(always)]
    fn mul(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        intrinsic!([_mm512_mul_pd(a[0], b[0]), _mm512_mul_pd(a[1], b[1])])
    }

    #[inline(always)]
    fn abs(self, a: Self::F64) -> Self::F64 {
        intrinsic!([_mm512_abs_pd(a[0]), _mm512_abs_pd(a[1])])
    }

    #[inline(always)]
    fn add_exact_square(self, sum: Self::F64, x: Self::F64) -> Self::F64 {
        intrinsic!([_mm512_fmadd_pd(x[0], x[0], sum[0]), _mm512_fmadd_pd(x[1], x[1], sum[1])])
    }

    #[inline(always)]
    fn upper<const H: usize>(self, a: Self::F64) -> Self::F64 {
        let [low, high] = a;
        match H {
            8 => [high, low],
            4 => [intrinsic!(_mm512_shuffle_f64x2::<0b01_00_11_10>(low, low)), high],
            2 => [intrinsic!(_mm512_shuffle_f64x2::<0b10_11_00_01>(low, low)), high],
            _ => [intrinsic!(_mm512_permute_pd::<0b01_01_01_01>(low)), high],
        }
    }

    #[inline(always)]
    fn finite_or(self, x: Self::F64, fallback: Self::F64) -> Self::F64 {
        [keep_finite(x[0], fallback[0]), keep_finite(x[1], fallback[1])]
    }

    #[inline(always)]
    unsafe fn byte_sums<E: Code>(self, p: *const u8, len: usize) -> Option<ByteSums> {
        // SAFETY: `self` proves the features; the caller vouches for the bytes.
        Some(unsafe { bytes_avx512::byte_sums::<E>(p, len, self.vbmi) })
    }

    #[inline(always)]
    unsafe fn select<E: Element>(self, p: *const E, mask: *const u8, len: usize, out: *mut E) -> usize {
        // SAFETY: `self` proves the features; the caller vouches for the memory.
        unsafe { select_avx512::select(p, mask, len, out) }
    }

    #[inline(always)]
    unsafe fn load_f32(self, p: *const f32) -> Self::F64 {
        widen_f32(intrinsic!(_mm512_loadu_ps(p)))
    }

    #[inline(always)]
    unsafe fn load_f64(self, p: *const f64) -> Self::F64 {
        intrinsic!([_mm512_loadu_pd(p), _mm512_loadu_pd(p.add(8))])
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> Self::F64 {
        widen_f32(intrinsic!({
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }))
    }

    #[inline(always)]
    unsafe fn load_bf16_round(self, p: *const u16) -> [Self::F64; 2] {
        let pairs = intrinsic!(_mm512_loadu_si512(p.cast()));
        [
            widen_f32(intrinsic!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)))),
            widen_f32(intrinsic!(_mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(!0xffff))))),
        ]
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Self::F64 {
        widen_f32(intrinsic!(_mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))))
    }
}

/// Scan of sixteen `f32` a step.
#[derive(Clone, Copy, Debug)]
pub struct ScanF32 {
    min: __m512,
    max: __m512,
    absmin_less_one: __m512i,
    zero: u64,
    positive: u64,
}

impl Scan for ScanF32 {
    type Bits = u32;
    const STEP: usize = 16;

    #[inline(always)]
    fn new() -> Self {
        intrinsic!(Self {
            min: _mm512_set1_ps(f32::INFINITY),
            max: _mm512_set1_ps(f32::NEG_INFINITY),
            absmin_less_one: _mm512_set1_epi32(-1),
            zero: 0,
            positive: 0,
        })
    }

    #[inline(always)]
    unsafe fn step(&mut self, p: *const u32) {
        intrinsic!({
            let bits = _mm512_loadu_si512(p.cast());
            let x = _mm512_castsi512_ps(bits);
            let one = _mm512_set1_epi32(1);
            let magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fff_ffff));
            self.min = _mm512_min_ps(x, self.min);
            self.max = _mm512_max_ps(x, self.max);
            self.absmin_less_one = _mm512_min_epu32(self.absmin_less_one, _mm512_sub_epi32(magnitude, one));
            self.zero += u64::from(_mm512_testn_epi32_mask(magnitude, magnitude).count_ones());
            self.positive += u64::from(_mm512_cmpgt_epi32_mask(bits, _mm512_setzero_si512()).count_ones());
        });
    }

    #[inline(always)]
    fn report(self, decode: impl Fn(u32) -> f64) -> ScanReport {
        intrinsic!({
            let less_one = _mm512_reduce_min_epu32(self.absmin_less_one);
            ScanReport {
                min: decode(_mm512_reduce_min_ps(self.min).to_bits()),
                max: decode(_mm512_reduce_max_ps(self.max).to_bits()),
                absmin: if less_one == u32::MAX { f64::INFINITY } else { decode(less_one + 1) },
                zero: self.zero,
                positive: self.positive,
            }
        })
    }
}

/// Scan of thirty-two 16-bit floats a step; see [`report16`] for the three integers.
#[derive(Clone, Copy, Debug)]
pub struct Scan16 {
    max_unsigned: __m512i,
    max_signed: __m512i,
    min_unsigned: __m512i,
    absmin_less_one: __m512i,
    zero: u64,
    positive: u64,
}

/// The lanes of a register of 16-bit numbers.
#[inline(always)]
fn lanes_u16(register: __m512i) -> [u16; 32] {
    let mut out = [0_u16; 32];
    intrinsic!(_mm512_storeu_si512(out.as_mut_ptr().cast(), register));
    out
}

impl Scan for Scan16 {
    type Bits = u16;
    const STEP: usize = 32;

    #[inline(always)]
    fn new() -> Self {
        intrinsic!(Self {
            max_unsigned: _mm512_setzero_si512(),
            max_signed: _mm512_set1_epi16(i16::MIN),
            min_unsigned: _mm512_set1_epi16(-1),
            absmin_less_one: _mm512_set1_epi16(-1),
            zero: 0,
            positive: 0,
        })
    }

    #[inline(always)]
    unsafe fn step(&mut self, p: *const u16) {
        intrinsic!({
            let bits = _mm512_loadu_si512(p.cast());
            let one = _mm512_set1_epi16(1);
            let magnitude = _mm512_and_si512(bits, _mm512_set1_epi16(0x7fff));
            self.max_unsigned = _mm512_max_epu16(self.max_unsigned, bits);
            self.max_signed = _mm512_max_epi16(self.max_signed, bits);
            self.min_unsigned = _mm512_min_epu16(self.min_unsigned, bits);
            self.absmin_less_one = _mm512_min_epu16(self.absmin_less_one, _mm512_sub_epi16(magnitude, one));
            self.zero += u64::from(_mm512_testn_epi16_mask(magnitude, magnitude).count_ones());
            self.positive += u64::from(_mm512_cmpgt_epi16_mask(bits, _mm512_setzero_si512()).count_ones());
        });
    }

    #[inline(always)]
    fn report(self, decode: impl Fn(u16) -> f64) -> ScanReport {
        report16(
            lanes_u16(self.max_unsigned).into_iter().fold(0, core::cmp::Ord::max),
            lanes_u16(self.max_signed).into_iter().fold(i16::MIN, |a, b| a.max(b as i16)),
            lanes_u16(self.min_unsigned).into_iter().fold(u16::MAX, core::cmp::Ord::min),
            lanes_u16(self.absmin_less_one).into_iter().fold(u16::MAX, core::cmp::Ord::min),
            self.zero,
            self.positive,
            decode,
        )
    }
}

/// Scan of eight `f64` a step.
#[derive(Clone, Copy, Debug)]
pub struct ScanF64 {
    min: __m512d,
    max: __m512d,
    absmin_less_one: __m512i,
    zero: u64,
    positive: u64,
}

impl Scan for ScanF64 {
    type Bits = u64;
    const STEP: usize = 8;

    #[inline(always)]
    fn new() -> Self {
        intrinsic!(Self {
            min: _mm512_set1_pd(f64::INFINITY),
            max: _mm512_set1_pd(f64::NEG_INFINITY),
            absmin_less_one: _mm512_set1_epi64(-1),
            zero: 0,
            positive: 0,
        })
    }

    #[inline(always)]
    unsafe fn step(&mut self, p: *const u64) {
        intrinsic!({
            let bits = _mm512_loadu_si512(p.cast());
            let x = _mm512_castsi512_pd(bits);
            let one = _mm512_set1_epi64(1);
            let magnitude = _mm512_and_si512(bits, _mm512_set1_epi64(i64::MAX));
            self.min = _mm512_min_pd(x, self.min);
            self.max = _mm512_max_pd(x, self.max);
            self.absmin_less_one = _mm512_min_epu64(self.absmin_less_one, _mm512_sub_epi64(magnitude, one));
            self.zero += u64::from(_mm512_testn_epi64_mask(magnitude, magnitude).count_ones());
            self.positive += u64::from(_mm512_cmpgt_epi64_mask(bits, _mm512_setzero_si512()).count_ones());
        });
    }

    #[inline(always)]
    fn report(self, decode: impl Fn(u64) -> f64) -> ScanReport {
        intrinsic!({
            let less_one = _mm512_reduce_min_epu64(self.absmin_less_one);
            ScanReport {
                min: decode(_mm512_reduce_min_pd(self.min).to_bits()),
                max: decode(_mm512_reduce_max_pd(self.max).to_bits()),
                absmin: if less_one == u64::MAX { f64::INFINITY } else { decode(less_one + 1) },
                zero: self.zero,
                positive: self.positive,
            }
        })
    }
}
