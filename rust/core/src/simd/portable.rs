//! Owns the lanes that run on any CPU, as plain arrays the compiler may vectorise. Knows no intrinsics.

use crate::dtype::element::F16;
use crate::simd::array_scan::{ArrayScan16, ArrayScanF32, ArrayScanF64};
use crate::simd::lanes::{LANES, Lanes};

/// Registers of no particular CPU.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

impl Lanes for Portable {
    type F64 = [f64; LANES];
    type ScanF32 = ArrayScanF32;
    type Scan16 = ArrayScan16;
    type ScanF64 = ArrayScanF64;
    const FUSED: bool = false;

    #[inline(always)]
    fn splat(self, value: f64) -> Self::F64 {
        [value; LANES]
    }

    #[inline(always)]
    fn of_array(self, values: [f64; LANES]) -> Self::F64 {
        values
    }

    #[inline(always)]
    fn to_array(self, values: Self::F64) -> [f64; LANES] {
        values
    }

    #[inline(always)]
    fn add(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        core::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        core::array::from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        core::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn abs(self, a: Self::F64) -> Self::F64 {
        core::array::from_fn(|i| a[i].abs())
    }

    #[inline(always)]
    fn add_exact_square(self, sum: Self::F64, x: Self::F64) -> Self::F64 {
        core::array::from_fn(|i| sum[i] + x[i] * x[i])
    }

    #[inline(always)]
    fn finite_or(self, x: Self::F64, fallback: Self::F64) -> Self::F64 {
        core::array::from_fn(|i| if x[i].abs() <= f64::MAX { x[i] } else { fallback[i] })
    }

    #[inline(always)]
    unsafe fn load_f32(self, p: *const f32) -> Self::F64 {
        // SAFETY: the caller vouches for sixteen readable elements.
        core::array::from_fn(|i| f64::from(unsafe { p.add(i).read_unaligned() }))
    }

    #[inline(always)]
    unsafe fn load_f64(self, p: *const f64) -> Self::F64 {
        // SAFETY: the caller vouches for sixteen readable elements.
        core::array::from_fn(|i| unsafe { p.add(i).read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> Self::F64 {
        // SAFETY: the caller vouches for sixteen readable elements.
        core::array::from_fn(|i| f64::from(f32::from_bits(u32::from(unsafe { p.add(i).read_unaligned() }) << 16)))
    }

    #[inline(always)]
    unsafe fn load_bf16_round(self, p: *const u16) -> [Self::F64; 2] {
        // SAFETY: the caller vouches for thirty-two readable elements.
        let value = |i: usize| f64::from(f32::from_bits(u32::from(unsafe { p.add(i).read_unaligned() }) << 16));
        [core::array::from_fn(|i| value(2 * i)), core::array::from_fn(|i| value(2 * i + 1))]
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Self::F64 {
        // SAFETY: the caller vouches for sixteen readable elements.
        core::array::from_fn(|i| f64::from(F16(unsafe { p.add(i).read_unaligned() }).to_f32()))
    }
}
