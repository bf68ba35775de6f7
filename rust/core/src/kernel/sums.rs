//! Owns lane-wise sums: plain within a block, compensated across blocks. Knows nothing of what is summed.

use super::lanes::{LANES, Lanes, Widen};
use crate::double::Double;

/// Sixteen sums, each an unevaluated pair.
#[derive(Clone, Copy)]
pub(super) struct PairLanes<L: Lanes> {
    hi: L::F64,
    lo: L::F64,
}

impl<L: Lanes> PairLanes<L> {
    #[inline(always)]
    pub(super) fn zero(lanes: L) -> Self {
        Self { hi: lanes.splat(0.0), lo: lanes.splat(0.0) }
    }

    /// Adds sixteen numbers; what rounding loses goes to the low halves (Knuth's `TwoSum`, then Neumaier's carry).
    #[inline(always)]
    pub(super) fn add(&mut self, lanes: L, x: L::F64) {
        let sum = lanes.add(self.hi, x);
        let x_part = lanes.sub(sum, self.hi);
        let hi_part = lanes.sub(sum, x_part);
        let lost = lanes.add(lanes.sub(self.hi, hi_part), lanes.sub(x, x_part));
        self.hi = sum;
        self.lo = lanes.add(self.lo, lost);
    }

    /// Adds another pair, lane by lane.
    #[inline(always)]
    pub(super) fn add_pair(&mut self, lanes: L, other: Self) {
        self.add(lanes, other.hi);
        self.lo = lanes.add(self.lo, other.lo);
    }

    /// The sum over all lanes: halves are added to each other, the same tree at every level.
    #[inline(always)]
    pub(super) fn fold(self, lanes: L) -> Double {
        fold(lanes.to_array(self.hi), lanes.to_array(self.lo))
    }
}

/// Not inlined: scalar code that needs no CPU feature, called three times per chunk.
#[inline(never)]
fn fold(hi: [f64; LANES], lo: [f64; LANES]) -> Double {
    let mut pairs: [Double; LANES] = core::array::from_fn(|i| Double::new(hi[i], lo[i]));
    let mut half = LANES / 2;
    while half > 0 {
        let (left, right) = pairs.split_at_mut(half);
        for (a, b) in left.iter_mut().zip(right) {
            *a = a.add(*b);
        }
        half /= 2;
    }
    pairs[0]
}

/// Whether every lane is a finite number.
#[inline(always)]
pub(super) fn all_finite<L: Lanes>(lanes: L, x: L::F64) -> bool {
    // The difference of a finite number with itself is zero, of anything else NaN; one NaN survives every addition.
    let zeros = lanes.to_array(lanes.sub(x, x));
    zeros.iter().sum::<f64>() == 0.0
}

/// The last `n < 16` elements as lanes, filled up with `fill`.
///
/// # Safety
/// `p` must be readable for `n` elements.
#[inline(always)]
pub(super) unsafe fn widen_tail<L: Lanes, E: Widen>(lanes: L, p: *const E, n: usize, fill: f64) -> L::F64 {
    let mut values = [fill; LANES];
    for (i, value) in values.iter_mut().enumerate().take(n) {
        // SAFETY: the caller vouches for `n` elements.
        *value = unsafe { p.add(i).read_unaligned() }.to_f64();
    }
    lanes.of_array(values)
}
