//! Owns the contract between kernels and registers: sixteen `f64` lanes, and a scan of raw bits. Knows nothing of any CPU.
//!
//! Every kernel adds element `i` of a block to lane `i % 16` with the same operations in the same order, so a level changes the speed
//! and never a bit of the result.

use core::ops::BitAnd;

use crate::dtype::element::{Bf16, Bool, Element, F8E4M3FN, F8E5M2, F16};
use crate::simd::byte_sums::{ByteSums, Code};
use crate::simd::select::select_any;

/// Sixteen `f64` numbers, however many registers that takes.
pub const LANES: usize = 16;

/// The registers of one SIMD level. A value proves that the CPU has the features.
pub trait Lanes: Copy {
    /// Sixteen `f64` lanes.
    type F64: Copy;
    /// Extremes and counts of `f32` bits.
    type ScanF32: Scan<Bits = u32>;
    /// Extremes and counts of 16-bit floats, bf16 and f16 alike.
    type Scan16: Scan<Bits = u16>;
    /// Extremes and counts of `f64`.
    type ScanF64: Scan<Bits = u64>;

    /// Whether there are registers enough to scan bits and sum in one loop; else two loops over a block that is in cache.
    const FUSED: bool;

    /// The same number in every lane.
    fn splat(self, value: f64) -> Self::F64;
    /// Lanes from memory order.
    fn of_array(self, values: [f64; LANES]) -> Self::F64;
    /// Lanes in memory order.
    fn to_array(self, values: Self::F64) -> [f64; LANES];
    /// `a + b`.
    fn add(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// `a - b`.
    fn sub(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// `a * b`, rounded: never fused with an addition, which would change bits between levels.
    fn mul(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// `|a|`.
    fn abs(self, a: Self::F64) -> Self::F64;
    /// `sum + x * x` for `x` whose square is exact in `f64` (anything that was an f32): fused or not, the bits are the same.
    fn add_exact_square(self, sum: Self::F64, x: Self::F64) -> Self::F64;
    /// Lane `i + H` moved to lane `i`, for `H` of 8, 4, 2 or 1 and `i` below `H`; the other lanes are unspecified.
    #[inline(always)]
    fn upper<const H: usize>(self, a: Self::F64) -> Self::F64 {
        let a = self.to_array(a);
        self.of_array(core::array::from_fn(|i| a[(i + H) % LANES]))
    }
    /// `x` where finite, `fallback` elsewhere.
    fn finite_or(self, x: Self::F64, fallback: Self::F64) -> Self::F64;

    /// Sums over 8-bit values, where the level has a faster way than counting codes.
    ///
    /// # Safety
    /// `p` must be readable for `len` bytes; `len` must be at most [`crate::kernel::CHUNK`].
    #[inline(always)]
    unsafe fn byte_sums<E: Code>(self, _p: *const u8, _len: usize) -> Option<ByteSums> {
        None
    }

    /// Copies the elements whose byte of the mask is not zero, in order; returns how many.
    ///
    /// # Safety
    /// `p` and `mask` must be readable for `len` elements and bytes, and `out` writable for `len` and [`crate::simd::select::SLACK`] elements.
    #[inline(always)]
    unsafe fn select<E: Element>(self, p: *const E, mask: *const u8, len: usize, out: *mut E) -> usize {
        // SAFETY: as the caller vouches.
        unsafe { select_any(p, mask, len, out) }
    }

    /// Widens sixteen `f32`.
    ///
    /// # Safety
    /// `p` must be readable for sixteen elements; it need not be aligned.
    unsafe fn load_f32(self, p: *const f32) -> Self::F64;
    /// Reads sixteen `f64`.
    ///
    /// # Safety
    /// As for [`Lanes::load_f32`].
    unsafe fn load_f64(self, p: *const f64) -> Self::F64;
    /// Widens sixteen bf16.
    ///
    /// # Safety
    /// As for [`Lanes::load_f32`].
    unsafe fn load_bf16(self, p: *const u16) -> Self::F64;
    /// Widens thirty-two bf16, the even-numbered elements first: on a register of pairs each half is one operation away.
    ///
    /// # Safety
    /// `p` must be readable for thirty-two elements; it need not be aligned.
    unsafe fn load_bf16_round(self, p: *const u16) -> [Self::F64; 2];
    /// Widens sixteen f16.
    ///
    /// # Safety
    /// As for [`Lanes::load_f32`].
    unsafe fn load_f16(self, p: *const u16) -> Self::F64;
}

/// What a scan of finite values found.
#[derive(Clone, Copy, Debug)]
pub struct ScanReport {
    /// Smallest value; the sign of a zero is unspecified.
    pub min: f64,
    /// Largest value; the sign of a zero is unspecified.
    pub max: f64,
    /// Smallest non-zero magnitude; infinite when every value is a zero.
    pub absmin: f64,
    /// How many values are +0 or -0.
    pub zero: u64,
    /// How many values are above zero.
    pub positive: u64,
}

/// Extremes and counts over floats that are all finite; what it reports otherwise is unspecified but harmless.
pub trait Scan: Copy {
    /// The bits of one float.
    type Bits: Copy;
    /// Elements per step; divides [`crate::kernel::BLOCK`].
    const STEP: usize;
    /// Nothing seen.
    fn new() -> Self;
    /// Takes in `STEP` floats.
    ///
    /// # Safety
    /// `p` must be readable for `STEP` elements; it need not be aligned. At most 65,535 steps may be taken.
    unsafe fn step(&mut self, p: *const Self::Bits);
    /// The result over all lanes; `decode` gives the value of bits.
    fn report(self, decode: impl Fn(Self::Bits) -> f64) -> ScanReport;
}

/// Elements that widen to `f64` lanes: every dtype, exactly, except integers beyond 2^53, which round to nearest.
pub trait Widen: Element {
    /// Widens sixteen elements.
    ///
    /// # Safety
    /// `p` must be readable for sixteen elements; it need not be aligned.
    #[inline(always)]
    unsafe fn widen<L: Lanes>(lanes: L, p: *const Self) -> L::F64 {
        // SAFETY: the caller vouches for sixteen readable elements.
        lanes.of_array(core::array::from_fn(|i| unsafe { p.add(i).read_unaligned() }.to_f64()))
    }

    /// Widens thirty-two elements, in whichever order is cheapest for the type; the same order at every level.
    ///
    /// # Safety
    /// `p` must be readable for thirty-two elements; it need not be aligned.
    #[inline(always)]
    unsafe fn widen_round<L: Lanes>(lanes: L, p: *const Self) -> [L::F64; 2] {
        // SAFETY: two times sixteen elements.
        unsafe { [Self::widen(lanes, p), Self::widen(lanes, p.add(LANES))] }
    }
}

/// Floats of 16 bits and more, which the fast kernels take; 8-bit floats are counted by code instead.
pub trait WideFloat: Widen {
    /// The bits of one value.
    type Bits: Copy + Ord + BitAnd<Output = Self::Bits>;
    /// Everything but the sign.
    const MAGNITUDE: Self::Bits;
    /// Positive infinity; a greater magnitude is NaN.
    const INFINITY: Self::Bits;
    /// Negative infinity.
    const NEG_INFINITY: Self::Bits;
    /// The scan of a level for this format.
    type Scan<L: Lanes>: Scan<Bits = Self::Bits>;
    /// Smallest normal magnitude.
    const MIN_NORMAL: f64;
    /// The value of bits.
    fn decode(bits: Self::Bits) -> f64;
}

macro_rules! wide_float {
    ($type:ty, $bits:ty, $infinity:expr, $scan:ident, $load:ident $(/ $load_round:ident)?, $min_normal:expr, $decode:expr) => {
        impl Widen for $type {
            #[inline(always)]
            unsafe fn widen<L: Lanes>(lanes: L, p: *const Self) -> L::F64 {
                // SAFETY: the caller vouches for sixteen readable elements.
                unsafe { lanes.$load(p.cast()) }
            }
            $(
                #[inline(always)]
                unsafe fn widen_round<L: Lanes>(lanes: L, p: *const Self) -> [L::F64; 2] {
                    // SAFETY: the caller vouches for thirty-two readable elements.
                    unsafe { lanes.$load_round(p.cast()) }
                }
            )?
        }

        impl WideFloat for $type {
            type Bits = $bits;
            const MAGNITUDE: $bits = <$bits>::MAX >> 1;
            const INFINITY: $bits = $infinity;
            const NEG_INFINITY: $bits = $infinity | !Self::MAGNITUDE;
            type Scan<L: Lanes> = L::$scan;
            const MIN_NORMAL: f64 = $min_normal;

            #[inline(always)]
            fn decode(bits: $bits) -> f64 {
                $decode(bits).to_f64()
            }
        }
    };
}
wide_float!(f32, u32, 0x7f80_0000, ScanF32, load_f32, f32::MIN_POSITIVE as f64, f32::from_bits);
wide_float!(f64, u64, 0x7ff0_0000_0000_0000, ScanF64, load_f64, f64::MIN_POSITIVE, f64::from_bits);
wide_float!(Bf16, u16, 0x7f80, Scan16, load_bf16 / load_bf16_round, f32::MIN_POSITIVE as f64, Bf16);
// 2^-14, the smallest normal half.
wide_float!(F16, u16, 0x7c00, Scan16, load_f16, 1.0 / 16384.0, F16);

macro_rules! widen_by_value {
    ($($type:ty),*) => {$(impl Widen for $type {})*};
}
widen_by_value!(Bool, F8E4M3FN, F8E5M2, u8, u16, u32, u64, i8, i16, i32, i64);
