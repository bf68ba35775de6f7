//! Owns lane-wise sums: plain within a block, compensated across blocks. Knows nothing of what is summed.

use crate::number::double::Double;
use crate::simd::lanes::{LANES, Lanes, Widen};

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
        let [sum] = fold_all(lanes, [self]);
        sum
    }
}

/// [`PairLanes::fold`] of several at once: each waits for its own additions, which overlap with those of the others.
#[inline(always)]
pub(super) fn fold_all<L: Lanes, const N: usize>(lanes: L, pairs: [PairLanes<L>; N]) -> [Double; N] {
    let mut tree = pairs;
    let mut k = 0;
    while k < N {
        (tree[k].hi, tree[k].lo) = two_sum_lanes(lanes, pairs[k].hi, pairs[k].lo);
        k += 1;
    }
    halve::<L, 8, N>(lanes, &mut tree);
    halve::<L, 4, N>(lanes, &mut tree);
    halve::<L, 2, N>(lanes, &mut tree);
    halve::<L, 1, N>(lanes, &mut tree);
    let mut sums = [Double::ZERO; N];
    let mut k = 0;
    while k < N {
        let (hi, lo) = (lanes.to_array(tree[k].hi)[0], lanes.to_array(tree[k].lo)[0]);
        // A sum on the way that was not finite leaves none at the end; only then the slow way, which knows what to do about it.
        sums[k] = if hi.is_finite() {
            Double { hi, lo }
        } else {
            fold_any(&lanes.to_array(pairs[k].hi), &lanes.to_array(pairs[k].lo))
        };
        k += 1;
    }
    sums
}

/// As [`crate::number::double::two_sum`].
#[inline(always)]
fn two_sum_lanes<L: Lanes>(lanes: L, a: L::F64, b: L::F64) -> (L::F64, L::F64) {
    let sum = lanes.add(a, b);
    let b_part = lanes.sub(sum, a);
    let a_part = lanes.sub(sum, b_part);
    (sum, lanes.add(lanes.sub(a, a_part), lanes.sub(b, b_part)))
}

/// As [`crate::number::double::two_sum`], for `|a| >= |b|`.
#[inline(always)]
fn quick_two_sum_lanes<L: Lanes>(lanes: L, a: L::F64, b: L::F64) -> (L::F64, L::F64) {
    let sum = lanes.add(a, b);
    (sum, lanes.sub(b, lanes.sub(sum, a)))
}

/// Adds pairs `H..2 * H` to pairs `0..H`, by the steps of [`Double::add`].
#[inline(always)]
fn halve<L: Lanes, const H: usize, const N: usize>(lanes: L, tree: &mut [PairLanes<L>; N]) {
    let mut k = 0;
    while k < N {
        let PairLanes { hi, lo } = tree[k];
        let (s, e) = two_sum_lanes(lanes, hi, lanes.upper::<H>(hi));
        let (t, f) = two_sum_lanes(lanes, lo, lanes.upper::<H>(lo));
        let (s, e) = quick_two_sum_lanes(lanes, s, lanes.add(e, t));
        let (hi, lo) = quick_two_sum_lanes(lanes, s, lanes.add(e, f));
        tree[k] = PairLanes { hi, lo };
        k += 1;
    }
}

/// The fold of sums that may be infinite.
#[cold]
#[inline(never)]
fn fold_any(hi: &[f64; LANES], lo: &[f64; LANES]) -> Double {
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
