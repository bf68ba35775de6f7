//! Owns the counting of values beyond two bounds. Knows nothing of tensors, threads or where the bounds came from.

use crate::kernel::histogram::ranks::Specials;
use crate::simd::as_wide::AsWide;
use crate::simd::lanes::Lanes;
use crate::simd::level::Kernel;
use crate::simd::wide::Wide;

/// How many values break which bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// NaN and infinities.
    pub specials: Specials,
    /// Finite values below the lower bound.
    pub below: u64,
    /// Finite values above the upper bound.
    pub above: u64,
}

impl Tally {
    /// Sum of both.
    pub fn add(&mut self, other: &Self) {
        self.specials.add(&other.specials);
        self.below += other.below;
        self.above += other.above;
    }
}

/// Floats against bounds of their own type.
pub struct BoundsKernel<W> {
    /// First value.
    pub p: *const W,
    /// How many; below 2^32.
    pub len: usize,
    /// Smallest value allowed; NaN for none.
    pub low: W,
    /// Largest value allowed; NaN for none.
    pub high: W,
}

impl<W: Wide> Kernel for BoundsKernel<W> {
    type Output = Tally;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> Tally {
        let (mut below, mut above, mut nonfinite) = (0_u32, 0_u32, 0_u32);
        for i in 0..self.len {
            // SAFETY: whoever made the kernel vouches for `len` elements.
            let x = unsafe { self.p.add(i).read_unaligned() };
            let finite = x.abs() < W::INF;
            below += u32::from(finite & (x < self.low));
            above += u32::from(finite & (x > self.high));
            nonfinite += u32::from(!finite);
        }
        let mut tally = Tally { below: u64::from(below), above: u64::from(above), ..Tally::default() };
        if nonfinite > 0 {
            // SAFETY: as above.
            unsafe { tally.specials.count(self.p, self.len) };
        }
        tally
    }
}

/// 64-bit integers against bounds counted from their smallest value.
pub struct IntBoundsKernel<E> {
    /// First value.
    pub p: *const E,
    /// How many; below 2^32.
    pub len: usize,
    /// Smallest value allowed.
    pub low: u64,
    /// Largest value allowed.
    pub high: u64,
}

impl<E: AsWide> Kernel for IntBoundsKernel<E> {
    type Output = Tally;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> Tally {
        let (mut below, mut above) = (0_u64, 0_u64);
        for i in 0..self.len {
            // SAFETY: whoever made the kernel vouches for `len` elements.
            let x = unsafe { self.p.add(i).read_unaligned() }.above_smallest();
            below += u64::from(x < self.low);
            above += u64::from(x > self.high);
        }
        Tally { below, above, ..Tally::default() }
    }
}
