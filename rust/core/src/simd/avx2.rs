//! Owns the lanes of AVX2 with FMA and F16C. Knows nothing of what is computed with them.

#[allow(clippy::wildcard_imports, reason = "every line below is an intrinsic; a list would repeat the file")]
use core::arch::x86_64::*;

use crate::simd::array_scan::{ArrayScanF64, report16};
use crate::simd::lanes::{LANES, Lanes, Scan, ScanReport};

/// AVX2 registers; a value proves that the CPU has them.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

/// Wraps an intrinsic call.
macro_rules! intrinsic {
    ($call:expr) => {{
        // SAFETY: `Avx2` and the scans below are only made inside a function that enables these features after they were detected
        // (`level::run_avx2`); memory operands are vouched for by the callers of the unsafe functions.
        unsafe { $call }
    }};
}

/// Applies an expression to each of the four registers.
macro_rules! each {
    ($i:ident => $call:expr) => {
        intrinsic!([
            {
                const $i: usize = 0;
                $call
            },
            {
                const $i: usize = 1;
                $call
            },
            {
                const $i: usize = 2;
                $call
            },
            {
                const $i: usize = 3;
                $call
            }
        ])
    };
}

impl Avx2 {
    /// The token, for a function that has the features enabled.
    ///
    /// # Safety
    /// The CPU must have the features.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub fn here() -> Self {
        Self(())
    }
}

/// Clears the sign bits.
#[inline(always)]
fn magnitude(x: __m256d) -> __m256d {
    intrinsic!(_mm256_andnot_pd(_mm256_set1_pd(-0.0), x))
}

/// The bits of sixteen `f32` as `f64`.
#[inline(always)]
fn widen_f32(bits: [__m256i; 2]) -> [__m256d; 4] {
    intrinsic!({
        let [a, b] = [_mm256_castsi256_ps(bits[0]), _mm256_castsi256_ps(bits[1])];
        [
            _mm256_cvtps_pd(_mm256_castps256_ps128(a)),
            _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(a)),
            _mm256_cvtps_pd(_mm256_castps256_ps128(b)),
            _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(b)),
        ]
    })
}

impl Lanes for Avx2 {
    type F64 = [__m256d; 4];
    type ScanF32 = ScanF32;
    type Scan16 = Scan16;
    // There is no unsigned 64-bit minimum before AVX-512; the array form compiles to compares and blends.
    type ScanF64 = ArrayScanF64;
    const FUSED: bool = false;

    #[inline(always)]
    fn splat(self, value: f64) -> Self::F64 {
        [intrinsic!(_mm256_set1_pd(value)); 4]
    }

    #[inline(always)]
    fn of_array(self, values: [f64; LANES]) -> Self::F64 {
        let p = values.as_ptr();
        each!(I => _mm256_loadu_pd(p.add(4 * I)))
    }

    #[inline(always)]
    fn to_array(self, values: Self::F64) -> [f64; LANES] {
        let mut out = [0.0; LANES];
        let p = out.as_mut_ptr();
        each!(I => _mm256_storeu_pd(p.add(4 * I), values[I]));
        out
    }

    #[inline(always)]
    fn add(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        each!(I => _mm256_add_pd(a[I], b[I]))
    }

    #[inline(always)]
    fn sub(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        each!(I => _mm256_sub_pd(a[I], b[I]))
    }

    #[inline(always)]
    fn mul(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        each!(I => _mm256_mul_pd(a[I], b[I]))
    }

    #[inline(always)]
    fn abs(self, a: Self::F64) -> Self::F64 {
        [magnitude(a[0]), magnitude(a[1]), magnitude(a[2]), magnitude(a[3])]
    }

    #[inline(always)]
    fn add_exact_square(self, sum: Self::F64, x: Self::F64) -> Self::F64 {
        each!(I => _mm256_fmadd_pd(x[I], x[I], sum[I]))
    }

    #[inline(always)]
    fn upper<const H: usize>(self, a: Self::F64) -> Self::F64 {
        let [first, second, third, fourth] = a;
        match H {
            8 => [third, fourth, first, second],
            4 => [second, first, third, fourth],
            2 => [intrinsic!(_mm256_permute2f128_pd::<1>(first, first)), second, third, fourth],
            _ => [intrinsic!(_mm256_permute_pd::<0b0101>(first)), second, third, fourth],
        }
    }

    #[inline(always)]
    fn finite_or(self, x: Self::F64, fallback: Self::F64) -> Self::F64 {
        let largest = intrinsic!(_mm256_set1_pd(f64::MAX));
        each!(I => _mm256_blendv_pd(fallback[I], x[I], _mm256_cmp_pd::<_CMP_LE_OQ>(magnitude(x[I]), largest)))
    }

    #[inline(always)]
    unsafe fn load_f32(self, p: *const f32) -> Self::F64 {
        each!(I => _mm256_cvtps_pd(_mm_loadu_ps(p.add(4 * I))))
    }

    #[inline(always)]
    unsafe fn load_f64(self, p: *const f64) -> Self::F64 {
        each!(I => _mm256_loadu_pd(p.add(4 * I)))
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> Self::F64 {
        each!(I => {
            let bits = _mm_cvtepu16_epi32(_mm_loadl_epi64(p.add(4 * I).cast()));
            _mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32::<16>(bits)))
        })
    }

    #[inline(always)]
    unsafe fn load_bf16_round(self, p: *const u16) -> [Self::F64; 2] {
        let [a, b] = intrinsic!([_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(16).cast())]);
        intrinsic!({
            let upper = _mm256_set1_epi32(!0xffff);
            [
                widen_f32([_mm256_slli_epi32::<16>(a), _mm256_slli_epi32::<16>(b)]),
                widen_f32([_mm256_and_si256(a, upper), _mm256_and_si256(b, upper)]),
            ]
        })
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Self::F64 {
        each!(I => _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64(p.add(4 * I).cast()))))
    }
}

/// Scan of eight `f32` a step.
#[derive(Clone, Copy, Debug)]
pub struct ScanF32 {
    min: __m256,
    max: __m256,
    absmin_less_one: __m256i,
    zero: __m256i,
    positive: __m256i,
}

/// The lanes of a register of 32-bit numbers.
#[inline(always)]
fn lanes_u32(register: __m256i) -> [u32; 8] {
    let mut out = [0_u32; 8];
    intrinsic!(_mm256_storeu_si256(out.as_mut_ptr().cast(), register));
    out
}

/// The lanes of a register of 16-bit numbers.
#[inline(always)]
fn lanes_u16(register: __m256i) -> [u16; 16] {
    let mut out = [0_u16; 16];
    intrinsic!(_mm256_storeu_si256(out.as_mut_ptr().cast(), register));
    out
}

impl Scan for ScanF32 {
    type Bits = u32;
    const STEP: usize = 8;

    #[inline(always)]
    fn new() -> Self {
        intrinsic!(Self {
            min: _mm256_set1_ps(f32::INFINITY),
            max: _mm256_set1_ps(f32::NEG_INFINITY),
            absmin_less_one: _mm256_set1_epi32(-1),
            zero: _mm256_setzero_si256(),
            positive: _mm256_setzero_si256(),
        })
    }

    #[inline(always)]
    unsafe fn step(&mut self, p: *const u32) {
        intrinsic!({
            let bits = _mm256_loadu_si256(p.cast());
            let x = _mm256_castsi256_ps(bits);
            let nothing = _mm256_setzero_si256();
            let magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fff_ffff));
            self.min = _mm256_min_ps(x, self.min);
            self.max = _mm256_max_ps(x, self.max);
            self.absmin_less_one =
                _mm256_min_epu32(self.absmin_less_one, _mm256_sub_epi32(magnitude, _mm256_set1_epi32(1)));
            // A true comparison is -1: subtracting it counts.
            self.zero = _mm256_sub_epi32(self.zero, _mm256_cmpeq_epi32(magnitude, nothing));
            self.positive = _mm256_sub_epi32(self.positive, _mm256_cmpgt_epi32(bits, nothing));
        });
    }

    #[inline(always)]
    fn report(self, decode: impl Fn(u32) -> f64) -> ScanReport {
        let less_one = lanes_u32(self.absmin_less_one).into_iter().fold(u32::MAX, core::cmp::Ord::min);
        let value = f32::from_bits;
        let min = lanes_u32(intrinsic!(_mm256_castps_si256(self.min)))
            .into_iter()
            .fold(f32::INFINITY, |a, b| if value(b) < a { value(b) } else { a });
        let max = lanes_u32(intrinsic!(_mm256_castps_si256(self.max)))
            .into_iter()
            .fold(f32::NEG_INFINITY, |a, b| if value(b) > a { value(b) } else { a });
        ScanReport {
            min: decode(min.to_bits()),
            max: decode(max.to_bits()),
            absmin: if less_one == u32::MAX { f64::INFINITY } else { decode(less_one + 1) },
            zero: lanes_u32(self.zero).iter().map(|&n| u64::from(n)).sum(),
            positive: lanes_u32(self.positive).iter().map(|&n| u64::from(n)).sum(),
        }
    }
}

/// Scan of sixteen 16-bit floats a step; see [`report16`] for the three integers.
#[derive(Clone, Copy, Debug)]
pub struct Scan16 {
    max_unsigned: __m256i,
    max_signed: __m256i,
    min_unsigned: __m256i,
    absmin_less_one: __m256i,
    zero: __m256i,
    positive: __m256i,
}

impl Scan for Scan16 {
    type Bits = u16;
    const STEP: usize = 16;

    #[inline(always)]
    fn new() -> Self {
        intrinsic!(Self {
            max_unsigned: _mm256_setzero_si256(),
            max_signed: _mm256_set1_epi16(i16::MIN),
            min_unsigned: _mm256_set1_epi16(-1),
            absmin_less_one: _mm256_set1_epi16(-1),
            zero: _mm256_setzero_si256(),
            positive: _mm256_setzero_si256(),
        })
    }

    #[inline(always)]
    unsafe fn step(&mut self, p: *const u16) {
        intrinsic!({
            let bits = _mm256_loadu_si256(p.cast());
            let nothing = _mm256_setzero_si256();
            let magnitude = _mm256_and_si256(bits, _mm256_set1_epi16(0x7fff));
            self.max_unsigned = _mm256_max_epu16(self.max_unsigned, bits);
            self.max_signed = _mm256_max_epi16(self.max_signed, bits);
            self.min_unsigned = _mm256_min_epu16(self.min_unsigned, bits);
            self.absmin_less_one =
                _mm256_min_epu16(self.absmin_less_one, _mm256_sub_epi16(magnitude, _mm256_set1_epi16(1)));
            self.zero = _mm256_sub_epi16(self.zero, _mm256_cmpeq_epi16(magnitude, nothing));
            self.positive = _mm256_sub_epi16(self.positive, _mm256_cmpgt_epi16(bits, nothing));
        });
    }

    #[inline(always)]
    fn report(self, decode: impl Fn(u16) -> f64) -> ScanReport {
        report16(
            lanes_u16(self.max_unsigned).into_iter().fold(0, core::cmp::Ord::max),
            lanes_u16(self.max_signed).into_iter().fold(i16::MIN, |a, b| a.max(b as i16)),
            lanes_u16(self.min_unsigned).into_iter().fold(u16::MAX, core::cmp::Ord::min),
            lanes_u16(self.absmin_less_one).into_iter().fold(u16::MAX, core::cmp::Ord::min),
            lanes_u16(self.zero).iter().map(|&n| u64::from(n)).sum(),
            lanes_u16(self.positive).iter().map(|&n| u64::from(n)).sum(),
            decode,
        )
    }
}
