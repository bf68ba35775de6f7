//! Owns the second look at a chunk: sums of powers of differences from a given centre. Knows nothing of how the centre was found.
//!
//! With the centre at the rounded mean this is the corrected two-pass algorithm, which keeps the variance where raw sums of squares
//! would cancel.

use crate::dtype::Dtype;
use crate::kernel::grid::BLOCK;
use crate::kernel::summary::sums::{PairLanes, fold_all, widen_tail};
use crate::number::double::{Double, scalb};
use crate::simd::lanes::{LANES, Lanes, Widen};
use crate::state::stats::Stats;

/// Sums of `d`, `d²`, `d³`, `d⁴` over finite elements, with `d = x / 2^scale - centre`.
struct Powers {
    d1: Double,
    d2: Double,
    d3: Double,
    d4: Double,
}

/// Replaces sum and central moments of `stats` by ones measured from the mean it has. `stats` must hold the chunk's counts and sum.
///
/// # Safety
/// `p` must be readable for `len` elements; it need not be aligned.
#[inline(always)]
pub(super) unsafe fn recentre<L: Lanes, E: Widen>(lanes: L, p: *const E, len: usize, four: bool, stats: &mut Stats) {
    let n = stats.counts.finite() as f64;
    let centre = stats.scaled_mean().value();
    // SAFETY: the caller vouches for `len` readable elements.
    let powers = unsafe {
        match (four, stats.scale != 0) {
            (false, false) => powers::<L, E, false, false>(lanes, p, len, centre, 0),
            (false, true) => powers::<L, E, false, true>(lanes, p, len, centre, stats.scale),
            (true, false) => powers::<L, E, true, false>(lanes, p, len, centre, 0),
            (true, true) => powers::<L, E, true, true>(lanes, p, len, centre, stats.scale),
        }
    };
    // Where the differences are small against the values, their sum beats the plain one of the first look. f64 was compensated there.
    if !E::DTYPE.is_integer() && E::DTYPE != Dtype::F64 && 16.0 * powers.d2.value() < stats.squares.value() {
        stats.sum = Double { hi: centre, lo: 0.0 }.times(n).add(powers.d1);
    }
    let shift = powers.d1.value() / n;
    let (s2, s3, s4) = (powers.d2.value(), powers.d3.value(), powers.d4.value());
    stats.m2 = powers.d2.add(Double { hi: -(shift * powers.d1.value()), lo: 0.0 });
    if four {
        stats.m3 = s3 - 3.0 * shift * s2 + 2.0 * n * shift * shift * shift;
        stats.m4 = s4 - 4.0 * shift * s3 + 6.0 * shift * shift * s2 - 3.0 * n * shift * shift * shift * shift;
    }
}

/// How a value becomes a difference from the centre.
#[derive(Clone, Copy)]
struct Difference<L: Lanes, const SCALED: bool> {
    centre: L::F64,
    /// Two factors whose product is `2^-scale`: one alone might not be a number.
    factors: [L::F64; 2],
}

impl<L: Lanes, const SCALED: bool> Difference<L, SCALED> {
    /// Zero where `x` is not finite.
    #[inline(always)]
    fn of(self, lanes: L, x: L::F64) -> L::F64 {
        let x = if SCALED { lanes.mul(lanes.mul(x, self.factors[0]), self.factors[1]) } else { x };
        lanes.sub(lanes.finite_or(x, self.centre), self.centre)
    }
}

/// Plain sums of the first two or four powers within a block.
struct BlockPowers<L: Lanes, const FOUR: bool>([L::F64; 4]);

impl<L: Lanes, const FOUR: bool> BlockPowers<L, FOUR> {
    #[inline(always)]
    fn add(&mut self, lanes: L, d: L::F64) {
        let square = lanes.mul(d, d);
        self.0[0] = lanes.add(self.0[0], d);
        self.0[1] = lanes.add(self.0[1], square);
        if FOUR {
            self.0[2] = lanes.add(self.0[2], lanes.mul(square, d));
            self.0[3] = lanes.add(self.0[3], lanes.mul(square, square));
        }
    }
}

/// # Safety
/// `p` must be readable for `len` elements.
#[inline(always)]
unsafe fn powers<L: Lanes, E: Widen, const FOUR: bool, const SCALED: bool>(
    lanes: L,
    p: *const E,
    len: usize,
    centre: f64,
    scale: i32,
) -> Powers {
    let half = scale / 2;
    let difference = Difference::<L, SCALED> {
        centre: lanes.splat(centre),
        factors: [lanes.splat(scalb(1.0, -half)), lanes.splat(scalb(1.0, half - scale))],
    };
    let mut total = [PairLanes::zero(lanes); 4];
    let mut start = 0;
    while start < len {
        let n = BLOCK.min(len - start);
        let whole = n - n % LANES;
        let mut sums = BlockPowers::<L, FOUR>([lanes.splat(0.0); 4]);
        let mut i = 0;
        while i < whole {
            // SAFETY: sixteen elements before `whole` are inside the block.
            sums.add(lanes, difference.of(lanes, unsafe { E::widen(lanes, p.add(start + i)) }));
            i += LANES;
        }
        if whole < n {
            // A NaN counts as the centre, so it pads without adding anything.
            // SAFETY: the rest of the block.
            let tail = unsafe { widen_tail(lanes, p.add(start + whole), n - whole, f64::NAN) };
            sums.add(lanes, difference.of(lanes, tail));
        }
        let mut k = 0;
        while k < if FOUR { 4 } else { 2 } {
            total[k].add(lanes, sums.0[k]);
            k += 1;
        }
        start += n;
    }
    let [d1, d2, d3, d4] = total;
    let [d3, d4] = if FOUR { fold_all(lanes, [d3, d4]) } else { [Double::ZERO; 2] };
    let [d1, d2] = fold_all(lanes, [d1, d2]);
    Powers { d1, d2, d3, d4 }
}
