//! Owns the lanes of aarch64 NEON. Knows nothing of what is computed with them.

#[allow(clippy::wildcard_imports, reason = "every line below is an intrinsic; a list would repeat the file")]
use core::arch::aarch64::*;

use crate::dtype::element::F16;
use crate::simd::array_scan::{ArrayScan16, ArrayScanF32, ArrayScanF64};
use crate::simd::lanes::{LANES, Lanes};

/// NEON registers; a value proves that the CPU has them.
#[derive(Clone, Copy, Debug)]
pub struct Neon(());

/// Wraps an intrinsic call.
macro_rules! intrinsic {
    ($call:expr) => {{
        // SAFETY: NEON is part of every aarch64 CPU; memory operands are vouched for by the callers of the unsafe functions.
        unsafe { $call }
    }};
}

impl Neon {
    /// The token, for a function that has the feature enabled.
    ///
    /// # Safety
    /// The CPU must have the feature.
    #[inline]
    #[target_feature(enable = "neon")]
    pub fn here() -> Self {
        Self(())
    }
}

/// The result of one call for each of the eight registers.
#[inline(always)]
fn each(call: impl Fn(usize) -> float64x2_t) -> [float64x2_t; 8] {
    core::array::from_fn(call)
}

impl Lanes for Neon {
    type F64 = [float64x2_t; 8];
    // The array scans compile to NEON min, max, compare and subtract as they stand.
    type ScanF32 = ArrayScanF32;
    type Scan16 = ArrayScan16;
    type ScanF64 = ArrayScanF64;
    const FUSED: bool = false;

    #[inline(always)]
    fn splat(self, value: f64) -> Self::F64 {
        each(|_| intrinsic!(vdupq_n_f64(value)))
    }

    #[inline(always)]
    fn of_array(self, values: [f64; LANES]) -> Self::F64 {
        each(|i| intrinsic!(vld1q_f64(values.as_ptr().add(2 * i))))
    }

    #[inline(always)]
    fn to_array(self, values: Self::F64) -> [f64; LANES] {
        let mut out = [0.0; LANES];
        for (i, v) in values.into_iter().enumerate() {
            intrinsic!(vst1q_f64(out.as_mut_ptr().add(2 * i), v));
        }
        out
    }

    #[inline(always)]
    fn add(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        each(|i| intrinsic!(vaddq_f64(a[i], b[i])))
    }

    #[inline(always)]
    fn sub(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        each(|i| intrinsic!(vsubq_f64(a[i], b[i])))
    }

    #[inline(always)]
    fn mul(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        each(|i| intrinsic!(vmulq_f64(a[i], b[i])))
    }

    #[inline(always)]
    fn abs(self, a: Self::F64) -> Self::F64 {
        each(|i| intrinsic!(vabsq_f64(a[i])))
    }

    #[inline(always)]
    fn add_exact_square(self, sum: Self::F64, x: Self::F64) -> Self::F64 {
        each(|i| intrinsic!(vfmaq_f64(sum[i], x[i], x[i])))
    }

    #[inline(always)]
    fn finite_or(self, x: Self::F64, fallback: Self::F64) -> Self::F64 {
        each(|i| intrinsic!(vbslq_f64(vcaleq_f64(x[i], vdupq_n_f64(f64::MAX)), x[i], fallback[i])))
    }

    #[inline(always)]
    unsafe fn load_f32(self, p: *const f32) -> Self::F64 {
        each(|i| intrinsic!(vcvt_f64_f32(vld1_f32(p.add(2 * i)))))
    }

    #[inline(always)]
    unsafe fn load_f64(self, p: *const f64) -> Self::F64 {
        each(|i| intrinsic!(vld1q_f64(p.add(2 * i))))
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> Self::F64 {
        // SAFETY: the caller vouches for sixteen readable elements.
        let value = |i: usize| f64::from(f32::from_bits(u32::from(unsafe { p.add(i).read_unaligned() }) << 16));
        self.of_array(core::array::from_fn(value))
    }

    #[inline(always)]
    unsafe fn load_bf16_round(self, p: *const u16) -> [Self::F64; 2] {
        // SAFETY: the caller vouches for thirty-two readable elements.
        let value = |i: usize| f64::from(f32::from_bits(u32::from(unsafe { p.add(i).read_unaligned() }) << 16));
        [
            self.of_array(core::array::from_fn(|i| value(2 * i))),
            self.of_array(core::array::from_fn(|i| value(2 * i + 1))),
        ]
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Self::F64 {
        // SAFETY: the caller vouches for sixteen readable elements.
        let value = |i: usize| f64::from(F16(unsafe { p.add(i).read_unaligned() }).to_f32());
        self.of_array(core::array::from_fn(value))
    }
}
