//! Owns the bit scans written over plain arrays, for every level that has no better one. Knows no intrinsics.

use crate::simd::lanes::{LANES, Scan, ScanReport};

macro_rules! float_array_scan {
    ($(#[$doc:meta])* $name:ident, $float:ty, $bits:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            min: [$float; LANES],
            max: [$float; LANES],
            absmin_less_one: [$bits; LANES],
            zero: [u32; LANES],
            positive: [u32; LANES],
        }

        impl Scan for $name {
            type Bits = $bits;
            const STEP: usize = LANES;

            #[inline(always)]
            fn new() -> Self {
                Self {
                    min: [<$float>::INFINITY; LANES],
                    max: [<$float>::NEG_INFINITY; LANES],
                    absmin_less_one: [<$bits>::MAX; LANES],
                    zero: [0; LANES],
                    positive: [0; LANES],
                }
            }

            #[inline(always)]
            unsafe fn step(&mut self, p: *const $bits) {
                for i in 0..LANES {
                    // SAFETY: the caller vouches for sixteen readable elements.
                    let x = <$float>::from_bits(unsafe { p.add(i).read_unaligned() });
                    self.min[i] = if x < self.min[i] { x } else { self.min[i] };
                    self.max[i] = if x > self.max[i] { x } else { self.max[i] };
                    let less_one = (x.to_bits() & (<$bits>::MAX >> 1)).wrapping_sub(1);
                    self.absmin_less_one[i] = self.absmin_less_one[i].min(less_one);
                    self.zero[i] += u32::from(x == 0.0);
                    self.positive[i] += u32::from(x > 0.0);
                }
            }

            #[inline(always)]
            fn report(self, decode: impl Fn($bits) -> f64) -> ScanReport {
                let min = self.min.into_iter().fold(<$float>::INFINITY, |a, b| if b < a { b } else { a });
                let max = self.max.into_iter().fold(<$float>::NEG_INFINITY, |a, b| if b > a { b } else { a });
                let less_one = self.absmin_less_one.into_iter().fold(<$bits>::MAX, core::cmp::Ord::min);
                ScanReport {
                    min: decode(min.to_bits()),
                    max: decode(max.to_bits()),
                    absmin: if less_one == <$bits>::MAX { f64::INFINITY } else { decode(less_one + 1) },
                    zero: self.zero.iter().map(|&n| u64::from(n)).sum(),
                    positive: self.positive.iter().map(|&n| u64::from(n)).sum(),
                }
            }
        }
    };
}
float_array_scan!(
    /// Scan of `f32` bits.
    ArrayScanF32,
    f32,
    u32
);
float_array_scan!(
    /// Scan of `f64` bits.
    ArrayScanF64,
    f64,
    u64
);

/// Scan of 16-bit floats. Two's complement order gives the largest non-negative value, unsigned order the most negative one, so three
/// running integers hold both ends whatever the exponent width is.
#[derive(Clone, Copy, Debug)]
pub struct ArrayScan16 {
    max_unsigned: [u16; LANES],
    max_signed: [i16; LANES],
    min_unsigned: [u16; LANES],
    absmin_less_one: [u16; LANES],
    zero: [u16; LANES],
    positive: [u16; LANES],
}

impl Scan for ArrayScan16 {
    type Bits = u16;
    const STEP: usize = LANES;

    #[inline(always)]
    fn new() -> Self {
        Self {
            max_unsigned: [0; LANES],
            max_signed: [i16::MIN; LANES],
            min_unsigned: [u16::MAX; LANES],
            absmin_less_one: [u16::MAX; LANES],
            zero: [0; LANES],
            positive: [0; LANES],
        }
    }

    #[inline(always)]
    unsafe fn step(&mut self, p: *const u16) {
        for i in 0..LANES {
            // SAFETY: the caller vouches for sixteen readable elements.
            let x = unsafe { p.add(i).read_unaligned() };
            let magnitude = x & 0x7fff;
            self.max_unsigned[i] = self.max_unsigned[i].max(x);
            self.max_signed[i] = self.max_signed[i].max(x as i16);
            self.min_unsigned[i] = self.min_unsigned[i].min(x);
            self.absmin_less_one[i] = self.absmin_less_one[i].min(magnitude.wrapping_sub(1));
            self.zero[i] += u16::from(magnitude == 0);
            self.positive[i] += u16::from((x as i16) > 0);
        }
    }

    #[inline(always)]
    fn report(self, decode: impl Fn(u16) -> f64) -> ScanReport {
        report16(
            self.max_unsigned.into_iter().fold(0, core::cmp::Ord::max),
            self.max_signed.into_iter().fold(i16::MIN, core::cmp::Ord::max),
            self.min_unsigned.into_iter().fold(u16::MAX, core::cmp::Ord::min),
            self.absmin_less_one.into_iter().fold(u16::MAX, core::cmp::Ord::min),
            self.zero.iter().map(|&n| u64::from(n)).sum(),
            self.positive.iter().map(|&n| u64::from(n)).sum(),
            decode,
        )
    }
}

/// Turns the three running integers into both ends.
#[inline(always)]
pub fn report16(
    max_unsigned: u16,
    max_signed: i16,
    min_unsigned: u16,
    absmin_less_one: u16,
    zero: u64,
    positive: u64,
    decode: impl Fn(u16) -> f64,
) -> ScanReport {
    // With no negative value the smallest is the unsigned minimum; with only negative ones the largest is the one of least magnitude,
    // which is the unsigned minimum too.
    let min = if max_unsigned >> 15 == 1 { max_unsigned } else { min_unsigned };
    let max = if max_signed >= 0 { max_signed as u16 } else { min_unsigned };
    ScanReport {
        min: decode(min),
        max: decode(max),
        absmin: if absmin_less_one == u16::MAX { f64::INFINITY } else { decode(absmin_less_one + 1) },
        zero,
        positive,
    }
}
