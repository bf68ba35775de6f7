//! Owns the chunk kernel of f16, bf16, f32 and f64. Knows nothing of 8-bit floats, integers or threads.
//!
//! Per block a fast tier assumes that all values are finite and normal. Sums then tell whether that was true (a NaN or infinity makes
//! the sum of magnitudes non-finite), the smallest magnitude tells about subnormals, and only such a block is looked at again.

use core::mem::MaybeUninit;

use super::central::recentre;
use super::lanes::{Glance, LANES, Lanes, Scan, ScanReport, Steps, WideFloat};
use super::prefetch::{AHEAD, LINE, prefetch};
use super::sums::{PairLanes, all_finite, fold_all, widen_tail};
use super::{BLOCK, CHUNK, Moments};
use crate::Dtype;
use crate::double::{Double, exponent, scalb};
use crate::number::Number;
use crate::stats::{Counts, Extremes, Stats};

/// Elements per round of the fast tier: a common multiple of every scan's step.
const ROUND: usize = 32;

/// Magnitudes in `[2^-200, 2^200]` can be raised to the fourth power and added 2^60 times without leaving the range of `f64`.
const SAFE_EXPONENT: i32 = 200;

/// A mean of squares more than this many times the variance means that raw sums would lose over ten bits: measure from the mean then.
const CANCELLATION: f64 = 1024.0;

struct Chunk<L: Lanes> {
    sum: PairLanes<L>,
    l1: PairLanes<L>,
    squares: PairLanes<L>,
    counts: Counts,
    min: f64,
    max: f64,
    absmin: f64,
    /// Whether a zero was met.
    zeros: bool,
}

/// # Safety
/// `p` must be readable for `len` elements; it need not be aligned.
#[inline(always)]
pub(super) unsafe fn chunk<L: Lanes, E: WideFloat>(lanes: L, p: *const E, len: usize, moments: Moments) -> Stats {
    let zero = PairLanes::zero(lanes);
    let mut chunk = Chunk {
        sum: zero,
        l1: zero,
        squares: zero,
        counts: Counts::default(),
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        absmin: f64::INFINITY,
        zeros: false,
    };
    let mut start = 0;
    while start < len {
        let n = BLOCK.min(len - start);
        // SAFETY: the block lies inside the chunk.
        unsafe { chunk.block(lanes, p.add(start), n, len == CHUNK) };
        start += n;
    }
    // SAFETY: as the caller vouches.
    unsafe { chunk.finish(lanes, p, len, moments) }
}

impl<L: Lanes> Chunk<L> {
    /// `far` says that the memory behind the block will be wanted next.
    ///
    /// # Safety
    /// `p` must be readable for `n` elements, at least one.
    #[inline(always)]
    unsafe fn block<E: WideFloat>(&mut self, lanes: L, p: *const E, n: usize, far: bool) {
        // Zeros rarely come alone: once a block of the chunk had one, glances are left out.
        let (mut glance, mut scan) = (E::Glance::<L>::new(), E::Scan::<L>::new());
        // SAFETY: as the caller vouches.
        let (fast, padding) =
            unsafe { if self.zeros { look(lanes, &mut scan, p, n, far) } else { look(lanes, &mut glance, p, n, far) } };
        if !all_finite(lanes, fast.l1) {
            // SAFETY: as the caller vouches.
            unsafe { self.unusual_block(lanes, p, n) };
            return;
        }
        self.sums::<E>(lanes, &fast);
        let seen = if self.zeros { None } else { glance.seen(n as u64 + padding, E::decode) };
        let report = seen.unwrap_or_else(|| {
            if !self.zeros {
                self.zeros = true;
                // SAFETY: as the caller vouches.
                unsafe { scan_block(&mut scan, p, n) };
            }
            scan.report(E::decode)
        });
        // SAFETY: a block has elements.
        let last = unsafe { p.add(n - 1).read_unaligned() };
        self.scanned(report, n as u64, padding, last.to_f64());
        if report.absmin < E::MIN_NORMAL {
            for i in 0..n {
                // SAFETY: inside the block.
                self.counts.subnormal += u64::from(unsafe { p.add(i).read_unaligned() }.is_subnormal());
            }
        }
    }

    /// A block with NaN or infinities (or f64 values so large that their sum is one). Non-finite values are counted, the scan sees
    /// another value of the block in their place, and sums see zero.
    ///
    /// # Safety
    /// `p` must be readable for `n` elements, at most [`BLOCK`].
    #[inline(always)]
    unsafe fn unusual_block<E: WideFloat>(&mut self, lanes: L, p: *const E, n: usize) {
        let bits: *const E::Bits = p.cast();
        // SAFETY: inside the block, for each index below `n`.
        let at = |i: usize| unsafe { bits.add(i).read_unaligned() };
        let Some(first) = (0..n).map(at).find(|&b| b & E::MAGNITUDE < E::INFINITY) else {
            self.count_nonfinite(E::INFINITY, E::NEG_INFINITY, E::MAGNITUDE, (0..n).map(at));
            return;
        };
        self.count_nonfinite(E::INFINITY, E::NEG_INFINITY, E::MAGNITUDE, (0..n).map(at));
        let mut stand_in = [first; BLOCK];
        let mut replaced = 0_u64;
        for (i, slot) in stand_in.iter_mut().enumerate().take(n) {
            let bits = at(i);
            let finite = bits & E::MAGNITUDE < E::INFINITY;
            *slot = if finite { bits } else { first };
            replaced += u64::from(!finite);
        }
        let mut scan = E::Scan::<L>::new();
        let padded = n.next_multiple_of(ROUND);
        let mut i = 0;
        while i < padded {
            // SAFETY: `padded` is at most BLOCK, a multiple of ROUND.
            unsafe { step_round::<E, _>(&mut scan, stand_in.as_ptr().add(i).cast()) };
            i += ROUND;
        }
        let copies = replaced + (padded - n) as u64;
        self.scanned(scan.report(E::decode), n as u64 - replaced, copies, E::decode(first));
        for &bits in &stand_in[..n] {
            let x = E::decode(bits).abs();
            self.counts.subnormal += u64::from(x > 0.0 && x < E::MIN_NORMAL);
        }
        let stand_in = E::decode(first).abs();
        self.counts.subnormal -= if stand_in > 0.0 && stand_in < E::MIN_NORMAL { replaced } else { 0 };

        let nothing = lanes.splat(0.0);
        let mut fast = FastSums::new(lanes);
        let whole = n - n % LANES;
        let mut i = 0;
        while i < whole {
            // SAFETY: sixteen elements before `whole` are inside the block.
            fast.add::<E>(lanes, lanes.finite_or(unsafe { E::widen(lanes, p.add(i)) }, nothing));
            i += LANES;
        }
        // SAFETY: the rest of the block.
        fast.add::<E>(lanes, lanes.finite_or(unsafe { widen_tail(lanes, p.add(whole), n - whole, 0.0) }, nothing));
        self.sums::<E>(lanes, &fast);
    }

    /// Adds the NaN and infinities among some bits to the counts.
    #[inline(always)]
    fn count_nonfinite<B: Copy + Ord + core::ops::BitAnd<Output = B>>(
        &mut self,
        infinity: B,
        neg_infinity: B,
        magnitude: B,
        values: impl Iterator<Item = B>,
    ) {
        let (mut nan, mut posinf, mut neginf) = (0_u32, 0_u32, 0_u32);
        for bits in values {
            nan += u32::from(bits & magnitude > infinity);
            posinf += u32::from(bits == infinity);
            neginf += u32::from(bits == neg_infinity);
        }
        self.counts.nan += u64::from(nan);
        self.counts.posinf += u64::from(posinf);
        self.counts.neginf += u64::from(neginf);
    }

    /// Takes in what a scan found among `n` values and some `copies` of one of them.
    #[inline(always)]
    fn scanned(&mut self, report: ScanReport, n: u64, copies: u64, copied: f64) {
        let zero = report.zero - if copied == 0.0 { copies } else { 0 };
        let positive = report.positive - if copied > 0.0 { copies } else { 0 };
        self.counts.zero += zero;
        self.counts.positive += positive;
        self.counts.negative += n - zero - positive;
        self.min = if report.min < self.min { report.min } else { self.min };
        self.max = if report.max > self.max { report.max } else { self.max };
        self.absmin = if report.absmin < self.absmin { report.absmin } else { self.absmin };
    }

    /// Takes in the sums of a block.
    #[inline(always)]
    fn sums<E: WideFloat>(&mut self, lanes: L, fast: &FastSums<L>) {
        if E::DTYPE == Dtype::F64 {
            self.sum.add_pair(lanes, fast.pair);
        } else {
            self.sum.add(lanes, fast.sum);
        }
        self.l1.add(lanes, fast.l1);
        self.squares.add(lanes, fast.squares);
    }

    /// # Safety
    /// `p` must be readable for `len` elements: the ones that were counted.
    #[inline(always)]
    unsafe fn finish<E: WideFloat>(self, lanes: L, p: *const E, len: usize, moments: Moments) -> Stats {
        let mut stats = Stats { counts: self.counts, ..Stats::default() };
        let n = self.counts.finite();
        if n == 0 {
            return stats;
        }
        // A zero extreme is +0, whatever the sign of the zeros: adding +0 turns -0 into it.
        let (min, max) = (self.min + 0.0, self.max + 0.0);
        let absmin = (self.absmin < f64::INFINITY).then_some(Number::Float(self.absmin));
        stats.extremes = Some(Extremes { min: Number::Float(min), max: Number::Float(max), absmin });
        let absmax = min.abs().max(max.abs());
        if absmax == 0.0 {
            return stats;
        }
        if E::DTYPE == Dtype::F64 && exponent(absmax).abs() > SAFE_EXPONENT {
            stats.scale = exponent(absmax);
            // SAFETY: as the caller vouches.
            unsafe { scaled_sums(lanes, p, len, &mut stats) };
        } else {
            [stats.sum, stats.l1, stats.squares] = fold_all(lanes, [self.sum, self.l1, self.squares]);
        }
        if min == max {
            // All finite values are equal: the sum is a product and every central moment is zero.
            stats.sum = Double { hi: scalb(min, -stats.scale), lo: 0.0 }.times(n as f64);
            return stats;
        }
        let squares = stats.squares.value();
        let m2 = squares - stats.scaled_mean().value() * stats.sum.value();
        if moments == Moments::Four || m2 * CANCELLATION < squares || !m2.is_finite() {
            // SAFETY: as the caller vouches.
            unsafe { recentre(lanes, p, len, moments == Moments::Four, &mut stats) };
        } else {
            stats.m2 = Double { hi: m2, lo: 0.0 };
        }
        stats
    }
}

/// The sums of one block.
struct FastSums<L: Lanes> {
    /// Plain sum, for everything that widens exactly with bits to spare.
    sum: L::F64,
    /// Compensated sum, for f64.
    pair: PairLanes<L>,
    l1: L::F64,
    squares: L::F64,
}

impl<L: Lanes> FastSums<L> {
    #[inline(always)]
    fn new(lanes: L) -> Self {
        let zero = lanes.splat(0.0);
        Self { sum: zero, pair: PairLanes::zero(lanes), l1: zero, squares: zero }
    }

    #[inline(always)]
    fn add<E: WideFloat>(&mut self, lanes: L, x: L::F64) {
        self.add_some::<E, 0, SUMS>(lanes, x);
    }

    /// Adds to the sums from number `FROM` up to number `TO`, not included.
    #[inline(always)]
    fn add_some<E: WideFloat, const FROM: usize, const TO: usize>(&mut self, lanes: L, x: L::F64) {
        let f64s = E::DTYPE == Dtype::F64;
        if FROM == 0 {
            if f64s {
                self.pair.add(lanes, x);
            } else {
                self.sum = lanes.add(self.sum, x);
            }
        }
        if FROM <= 1 && TO > 1 {
            self.l1 = lanes.add(self.l1, lanes.abs(x));
        }
        if TO > 2 {
            self.squares =
                if f64s { lanes.add(self.squares, lanes.mul(x, x)) } else { lanes.add_exact_square(self.squares, x) };
        }
    }

    /// # Safety
    /// `p` must be readable for [`ROUND`] elements.
    #[inline(always)]
    unsafe fn round<E: WideFloat, const FROM: usize, const TO: usize>(&mut self, lanes: L, p: *const E) {
        // SAFETY: as the caller vouches.
        let [a, b] = unsafe { E::widen_round(lanes, p) };
        self.add_some::<E, FROM, TO>(lanes, a);
        self.add_some::<E, FROM, TO>(lanes, b);
    }

    /// # Safety
    /// `p` must be readable for `whole` elements, a multiple of [`ROUND`].
    #[inline(always)]
    unsafe fn rounds<E: WideFloat, const FROM: usize, const TO: usize>(&mut self, lanes: L, p: *const E, whole: usize) {
        let mut i = 0;
        while i < whole {
            // SAFETY: as the caller vouches.
            unsafe { self.round::<E, FROM, TO>(lanes, p.add(i)) };
            i += ROUND;
        }
    }
}

/// Sum, sum of magnitudes, sum of squares.
const SUMS: usize = 3;

/// Looks at a block and sums it. Returns the sums, and by how many copies of its last element the look was filled up.
///
/// # Safety
/// `p` must be readable for `n` elements, at least one.
#[inline(always)]
unsafe fn look<L: Lanes, E: WideFloat, S: Steps<Bits = E::Bits>>(
    lanes: L,
    steps: &mut S,
    p: *const E,
    n: usize,
    far: bool,
) -> (FastSums<L>, u64) {
    let mut fast = FastSums::new(lanes);
    let whole = n - n % ROUND;
    // SAFETY: every load lies inside the first `whole` elements, or in the padded rest.
    unsafe {
        let mut i = 0;
        while i < whole {
            if far {
                for line in 0..size_of::<[E; ROUND]>() / LINE {
                    prefetch(p.add(i).wrapping_byte_add(AHEAD + line * LINE));
                }
            }
            step_round::<E, S>(steps, p.add(i));
            if L::SUMS_PER_LOOP == SUMS {
                fast.round::<E, 0, SUMS>(lanes, p.add(i));
            }
            i += ROUND;
        }
        match L::SUMS_PER_LOOP {
            1 => {
                fast.rounds::<E, 0, 1>(lanes, p, whole);
                fast.rounds::<E, 1, 2>(lanes, p, whole);
                fast.rounds::<E, 2, 3>(lanes, p, whole);
            }
            // The compensated sum of f64 takes two sets of registers, and what is on the way between them.
            2 if E::DTYPE == Dtype::F64 => {
                fast.rounds::<E, 0, 1>(lanes, p, whole);
                fast.rounds::<E, 1, 3>(lanes, p, whole);
            }
            2 => {
                fast.rounds::<E, 0, 2>(lanes, p, whole);
                fast.rounds::<E, 2, 3>(lanes, p, whole);
            }
            _ => {}
        }
        if whole == n {
            return (fast, 0);
        }
        // Zeros add nothing to sums; a look would see them.
        let zeros = Padded::new(p.add(whole), n - whole);
        fast.round::<E, 0, SUMS>(lanes, zeros.0.as_ptr().cast());
        step_round::<E, S>(steps, zeros.with_copies(n - whole).0.as_ptr().cast());
    }
    (fast, (ROUND - n % ROUND) as u64)
}

/// # Safety
/// `p` must be readable for `n` elements, at least one.
#[inline(always)]
unsafe fn scan_block<E: WideFloat, S: Steps<Bits = E::Bits>>(steps: &mut S, p: *const E, n: usize) {
    let whole = n - n % ROUND;
    // SAFETY: as for `look`.
    unsafe {
        let mut i = 0;
        while i < whole {
            step_round::<E, S>(steps, p.add(i));
            i += ROUND;
        }
        if whole < n {
            let padded = Padded::new(p.add(whole), n - whole).with_copies(n - whole);
            step_round::<E, S>(steps, padded.0.as_ptr().cast());
        }
    }
}

/// The rest of a block, filled up to a round.
#[derive(Clone, Copy)]
struct Padded<E>([E; ROUND]);

impl<E: WideFloat> Padded<E> {
    /// Filled up with zeros.
    ///
    /// # Safety
    /// `p` must be readable for `rest` elements, fewer than [`ROUND`].
    #[inline(always)]
    unsafe fn new(p: *const E, rest: usize) -> Self {
        let mut padded = MaybeUninit::<[E; ROUND]>::zeroed();
        let slots: *mut E = padded.as_mut_ptr().cast();
        // SAFETY: as the caller vouches; all-zero bits are a valid element.
        unsafe {
            core::ptr::copy_nonoverlapping(p.cast::<u8>(), slots.cast::<u8>(), rest * size_of::<E>());
            Self(padded.assume_init())
        }
    }

    /// Filled up with the last of `rest` elements, at least one.
    #[inline(always)]
    fn with_copies(mut self, rest: usize) -> Self {
        let last = self.0[(rest - 1) % ROUND];
        let mut i = rest;
        while i < ROUND {
            self.0[i] = last;
            i += 1;
        }
        self
    }
}

/// # Safety
/// `p` must be readable for [`ROUND`] elements.
#[inline(always)]
unsafe fn step_round<E: WideFloat, S: Steps<Bits = E::Bits>>(steps: &mut S, p: *const E) {
    let mut i = 0;
    while i < ROUND {
        // SAFETY: STEP divides ROUND.
        unsafe { steps.step(p.add(i).cast()) };
        i += S::STEP;
    }
}

/// Sums of a chunk whose magnitudes would leave the range of `f64` when squared: everything is divided by `2^scale` first.
///
/// # Safety
/// `p` must be readable for `len` elements.
#[inline(always)]
unsafe fn scaled_sums<L: Lanes, E: WideFloat>(lanes: L, p: *const E, len: usize, stats: &mut Stats) {
    let half = stats.scale / 2;
    let factors = [lanes.splat(scalb(1.0, -half)), lanes.splat(scalb(1.0, half - stats.scale))];
    let nothing = lanes.splat(0.0);
    let zero = PairLanes::zero(lanes);
    let (mut sum, mut l1, mut squares) = (zero, zero, zero);
    let mut i = 0;
    while i < len {
        let n = LANES.min(len - i);
        // SAFETY: `n` elements from `i` on are inside the chunk.
        let x = unsafe { widen_tail(lanes, p.add(i), n, 0.0) };
        let x = lanes.mul(lanes.mul(lanes.finite_or(x, nothing), factors[0]), factors[1]);
        sum.add(lanes, x);
        l1.add(lanes, lanes.abs(x));
        squares.add(lanes, lanes.mul(x, x));
        i += n;
    }
    [stats.sum, stats.l1, stats.squares] = fold_all(lanes, [sum, l1, squares]);
}
