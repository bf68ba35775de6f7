//! Owns the chunk kernel of 16-, 32- and 64-bit integers. Sums are exact. Knows nothing of floats' special values.

use crate::kernel::grid::{BLOCK, Moments};
use crate::kernel::summary::central::recentre;
use crate::kernel::summary::sums::{PairLanes, widen_tail};
use crate::number::Number;
use crate::simd::lanes::{LANES, Lanes, Widen};
use crate::state::stats::{Counts, Extremes, Stats};

/// What the kernel needs of an integer type. A value is `high * 2^32 + low` with a non-negative low part for 64-bit types, so that 4,096
/// of either part fit an `i64`; narrower types are all low part.
pub(crate) trait Integer: Widen + Ord {
    const MIN: Self;
    const MAX: Self;
    fn low(self) -> i64;
    fn high(self) -> i64;
    fn is_zero(self) -> bool;
    fn is_positive(self) -> bool;
    /// `|x| - 1`, wrapping for zero to the largest number.
    fn magnitude_less_one(self) -> u64;
    /// Both parts of `|x|`.
    fn magnitude_parts(self) -> (i64, i64);
}

macro_rules! integer {
    ($($type:ty, $unsigned:ty;)*) => {$(
        impl Integer for $type {
            const MIN: Self = <$type>::MIN;
            const MAX: Self = <$type>::MAX;

            #[inline(always)]
            fn low(self) -> i64 {
                if <$type>::BITS == 64 { (self as i64) & 0xffff_ffff } else { self as i64 }
            }

            #[inline(always)]
            fn high(self) -> i64 {
                // The shift is arithmetic for signed and logical for unsigned types; it is never taken for narrow ones.
                if <$type>::BITS == 64 { (self >> (<$type>::BITS / 2)) as i64 } else { 0 }
            }

            #[inline(always)]
            fn is_zero(self) -> bool {
                self == 0
            }

            #[inline(always)]
            fn is_positive(self) -> bool {
                self > 0
            }

            #[inline(always)]
            fn magnitude_less_one(self) -> u64 {
                u64::from(<$type as Magnitude>::magnitude(self)).wrapping_sub(1)
            }

            #[inline(always)]
            fn magnitude_parts(self) -> (i64, i64) {
                let magnitude: $unsigned = <$type as Magnitude>::magnitude(self);
                (magnitude.low(), magnitude.high())
            }
        }
    )*};
}

/// `|x|` in the unsigned type of the same width.
trait Magnitude {
    type Unsigned;
    fn magnitude(self) -> Self::Unsigned;
}

macro_rules! magnitude {
    ($($signed:ty, $unsigned:ty;)*) => {$(
        impl Magnitude for $signed {
            type Unsigned = $unsigned;
            #[inline(always)]
            fn magnitude(self) -> $unsigned {
                self.unsigned_abs()
            }
        }
        impl Magnitude for $unsigned {
            type Unsigned = $unsigned;
            #[inline(always)]
            fn magnitude(self) -> $unsigned {
                self
            }
        }
    )*};
}
magnitude!(i16, u16; i32, u32; i64, u64;);
integer!(i16, u16; i32, u32; i64, u64; u16, u16; u32, u32; u64, u64;);

/// # Safety
/// `p` must be readable for `len` elements; it need not be aligned.
#[inline(always)]
pub(crate) unsafe fn chunk<L: Lanes, E: Integer>(lanes: L, p: *const E, len: usize, moments: Moments) -> Stats {
    let mut stats = Stats::default();
    if len == 0 {
        return stats;
    }
    let (mut min, mut max, mut less_one) = (E::MAX, E::MIN, u64::MAX);
    let mut squares = PairLanes::zero(lanes);
    let mut start = 0;
    while start < len {
        let n = BLOCK.min(len - start);
        // SAFETY: the block lies inside the chunk.
        let block = unsafe { Block::of(lanes, p.add(start), n) };
        min = min.min(block.min);
        max = max.max(block.max);
        less_one = less_one.min(block.magnitude_less_one);
        squares.add(lanes, block.squares);
        stats.int_sum += block.sum;
        stats.int_l1 += block.l1;
        stats.counts.add(&block.counts);
        start += n;
    }
    let absmin = (less_one != u64::MAX).then(|| Number::Int(i128::from(less_one) + 1));
    stats.extremes = Some(Extremes { min: Number::Int(min.to_i128()), max: Number::Int(max.to_i128()), absmin });
    stats.squares = squares.fold(lanes);
    if min < max {
        // SAFETY: as the caller vouches.
        unsafe { recentre(lanes, p, len, moments == Moments::Four, &mut stats) };
    }
    stats
}

/// Statistics of one block.
struct Block<L: Lanes, E> {
    min: E,
    max: E,
    magnitude_less_one: u64,
    counts: Counts,
    sum: i128,
    l1: i128,
    squares: L::F64,
}

impl<L: Lanes, E: Integer> Block<L, E> {
    /// # Safety
    /// `p` must be readable for `n` elements.
    #[inline(always)]
    unsafe fn of(lanes: L, p: *const E, n: usize) -> Self {
        let (mut min, mut max, mut less_one) = (E::MAX, E::MIN, u64::MAX);
        let (mut zero, mut positive) = (0_u64, 0_u64);
        let (mut low, mut high, mut abs_low, mut abs_high) = (0_i64, 0_i64, 0_i64, 0_i64);
        for i in 0..n {
            // SAFETY: the caller vouches for `n` elements.
            let x = unsafe { p.add(i).read_unaligned() };
            min = min.min(x);
            max = max.max(x);
            less_one = less_one.min(x.magnitude_less_one());
            zero += u64::from(x.is_zero());
            positive += u64::from(x.is_positive());
        }
        for i in 0..n {
            // SAFETY: as above.
            let x = unsafe { p.add(i).read_unaligned() };
            let magnitude = x.magnitude_parts();
            low += x.low();
            high += x.high();
            abs_low += magnitude.0;
            abs_high += magnitude.1;
        }
        let mut squares = lanes.splat(0.0);
        let whole = n - n % LANES;
        let mut i = 0;
        while i < whole {
            // SAFETY: sixteen elements before `whole` are inside the block.
            let x = unsafe { E::widen(lanes, p.add(i)) };
            squares = lanes.add(squares, lanes.mul(x, x));
            i += LANES;
        }
        // SAFETY: the rest of the block.
        let x = unsafe { widen_tail(lanes, p.add(whole), n - whole, 0.0) };
        squares = lanes.add(squares, lanes.mul(x, x));
        let counts = Counts { zero, positive, negative: n as u64 - zero - positive, ..Counts::default() };
        let whole = |low: i64, high: i64| i128::from(low) + (i128::from(high) << 32);
        Self {
            min,
            max,
            magnitude_less_one: less_one,
            counts,
            sum: whole(low, high),
            l1: whole(abs_low, abs_high),
            squares,
        }
    }
}
