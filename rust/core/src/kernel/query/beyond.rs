//! Owns the counting of magnitudes beyond given ones, as integers. Knows nothing of what the limits mean.

use crate::dtype::element::{Bf16, Bool, Element, F8E4M3FN, F8E5M2, F16};
use crate::kernel::grid::BLOCK;
use crate::simd::lanes::Lanes;
use crate::simd::level::{Kernel, Level};

/// Elements whose magnitude is an unsigned integer as wide as they are.
pub trait Magnitude: Element {
    /// That integer.
    type Bits: Bits;
    /// Bits without the sign for floats, `|x|` for integers, 1 for true.
    fn magnitude(self) -> Self::Bits;
}

/// Unsigned integers that magnitudes are compared as.
pub trait Bits: Copy {
    /// The low bits of a number.
    fn of(limit: u64) -> Self;

    /// How many of `len` elements are beyond each limit.
    ///
    /// # Safety
    /// `p` must be readable for `len` elements; `len` must be at most [`BLOCK`].
    unsafe fn beyond<E: Magnitude<Bits = Self>, const K: usize>(p: *const E, len: usize, limits: [Self; K])
    -> [u64; K];
}

macro_rules! bits {
    ($($type:ty: $part:expr;)*) => {$(
        impl Bits for $type {
            #[inline(always)]
            fn of(limit: u64) -> Self {
                limit as Self
            }

            #[inline(always)]
            unsafe fn beyond<E: Magnitude<Bits = Self>, const K: usize>(
                p: *const E,
                len: usize,
                limits: [Self; K],
            ) -> [u64; K] {
                let mut total = [0_u64; K];
                let mut start = 0;
                while start < len {
                    let end = len.min(start + $part);
                    // Counters as wide as the elements: comparing and counting are one instruction each.
                    let mut counts = [0 as $type; K];
                    for i in start..end {
                        // SAFETY: the caller vouches for `len` elements.
                        let magnitude = unsafe { p.add(i).read_unaligned() }.magnitude();
                        for k in 0..K {
                            counts[k] += <$type>::from(magnitude > limits[k]);
                        }
                    }
                    for k in 0..K {
                        total[k] += u64::from(counts[k]);
                    }
                    start = end;
                }
                total
            }
        }
    )*};
}
// Elements that a counter of the same width can take; whole registers for the bytes.
bits! {
    u8: 192;
    u16: BLOCK;
    u32: BLOCK;
    u64: BLOCK;
}

macro_rules! magnitude {
    ($($type:ty => $bits:ty, $x:ident => $body:expr;)*) => {$(
        impl Magnitude for $type {
            type Bits = $bits;

            #[inline(always)]
            fn magnitude(self) -> $bits {
                let $x = self;
                $body
            }
        }
    )*};
}
magnitude! {
    f32 => u32, x => x.to_bits() & (u32::MAX >> 1);
    f64 => u64, x => x.to_bits() & (u64::MAX >> 1);
    F16 => u16, x => x.0 & 0x7fff;
    Bf16 => u16, x => x.0 & 0x7fff;
    F8E4M3FN => u8, x => x.0 & 0x7f;
    F8E5M2 => u8, x => x.0 & 0x7f;
    Bool => u8, x => u8::from(x.0 != 0);
    u8 => u8, x => x;
    u16 => u16, x => x;
    u32 => u32, x => x;
    u64 => u64, x => x;
    i8 => u8, x => x.unsigned_abs();
    i16 => u16, x => x.unsigned_abs();
    i32 => u32, x => x.unsigned_abs();
    i64 => u64, x => x.unsigned_abs();
}

struct BeyondKernel<E, const K: usize> {
    p: *const E,
    len: usize,
    limits: [u64; K],
}

impl<E: Magnitude, const K: usize> Kernel for BeyondKernel<E, K> {
    type Output = [u64; K];

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> [u64; K] {
        let mut limits = [E::Bits::of(0); K];
        for (limit, wide) in limits.iter_mut().zip(self.limits) {
            *limit = E::Bits::of(wide);
        }
        // SAFETY: `count_beyond` vouches for the elements.
        unsafe { E::Bits::beyond::<E, K>(self.p, self.len, limits) }
    }
}

/// How many magnitudes are beyond each limit, NaN and infinities included; block by block, so that only the first limits wait for memory.
///
/// # Safety
/// `p` must be readable for `len` elements; it need not be aligned.
pub unsafe fn count_beyond<E: Magnitude>(level: Level, p: *const E, len: usize, limits: &[u64], counts: &mut [u64]) {
    let mut start = 0;
    while start < len {
        let n = BLOCK.min(len - start);
        let p = p.wrapping_add(start);
        for (limits, counts) in limits.chunks(3).zip(counts.chunks_mut(3)) {
            // SAFETY: a block of what the caller vouches for.
            unsafe {
                match limits.len() {
                    1 => add::<E, 1>(level, p, n, limits, counts),
                    2 => add::<E, 2>(level, p, n, limits, counts),
                    _ => add::<E, 3>(level, p, n, limits, counts),
                }
            }
        }
        start += n;
    }
}

/// Adds the counts of one block and `K` limits.
///
/// # Safety
/// `p` must be readable for `len` elements.
unsafe fn add<E: Magnitude, const K: usize>(level: Level, p: *const E, len: usize, limits: &[u64], counts: &mut [u64]) {
    let Ok(limits) = limits.try_into() else { return };
    for (count, found) in counts.iter_mut().zip(level.run(BeyondKernel::<E, K> { p, len, limits })) {
        *count += found;
    }
}
