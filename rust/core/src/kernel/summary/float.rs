//! Owns the chunk kernel of f16, bf16, f32 and f64. Knows nothing of 8-bit floats, integers or threads.
//!
//! Per block a fast tier assumes that all values are finite and normal. Sums then tell whether that was true (a NaN or infinity makes
//! the sum of magnitudes non-finite), the smallest magnitude tells about subnormals, and only such a block is looked at again.

use core::mem::MaybeUninit;
use core::ops::Sub;

use crate::Dtype;
use crate::kernel::grid::{BLOCK, Moments};
use crate::kernel::summary::central::recentre;
use crate::kernel::summary::sums::{PairLanes, all_finite, fold_all, widen_tail};
use crate::number::Number;
use crate::number::double::{Double, exponent, scalb};
use crate::simd::as_wide::AsWide;
use crate::simd::lanes::{LANES, Lanes, Scan, ScanReport, WideFloat};
use crate::simd::prefetch::{LINE, prefetch};
use crate::state::stats::{Counts, Extremes, Stats};

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
    /// Whether the last block had values that are not finite: the next likely has too, and is looked at in one pass.
    unusual: bool,
}

/// # Safety
/// `p` must be readable for `len` elements; it need not be aligned.
#[inline(always)]
pub(crate) unsafe fn chunk<L: Lanes, E: WideFloat>(lanes: L, p: *const E, len: usize, moments: Moments) -> Stats {
    let mut chunk = Chunk::new(lanes);
    let mut start = 0;
    while start < len {
        let n = BLOCK.min(len - start);
        // SAFETY: the block lies inside the chunk.
        unsafe { chunk.block(lanes, p.add(start), n, |_| ()) };
        start += n;
    }
    // SAFETY: as the caller vouches.
    unsafe { chunk.finish(lanes, p, len, moments) }
}

/// A chunk and its differences from `old`, in turn block by block: a block of differences is counted while it is in the first-level cache,
/// and memory is read all the while.
///
/// # Safety
/// `new` and `old` must be readable and `differences` writable for `len` elements; the first two need not be aligned.
#[inline(always)]
pub(super) unsafe fn change<L: Lanes, E>(
    lanes: L,
    new: *const E,
    old: *const E,
    differences: *mut E::Wide,
    len: usize,
) -> [Stats; 2]
where
    E: WideFloat + AsWide<Wide: WideFloat + Sub<Output = E::Wide>>,
{
    let (mut values, mut updates) = (Chunk::new(lanes), Chunk::new(lanes));
    let mut start = 0;
    while start < len {
        let n = BLOCK.min(len - start);
        // SAFETY: the block lies inside the chunk.
        unsafe {
            values.block(lanes, new.add(start), n, |i| prefetch_round(old.wrapping_add(start + i)));
            subtract(new.add(start), old.add(start), differences.add(start), n);
            let next = new.wrapping_add(start + BLOCK);
            updates.block(lanes, differences.add(start).cast_const(), n, |i| prefetch_round(next.wrapping_add(i)));
        }
        start += n;
    }
    // SAFETY: as the caller vouches.
    unsafe {
        [
            values.finish(lanes, new, len, Moments::Two),
            updates.finish(lanes, differences.cast_const(), len, Moments::Two),
        ]
    }
}

impl<L: Lanes> Chunk<L> {
    #[inline(always)]
    fn new(lanes: L) -> Self {
        let zero = PairLanes::zero(lanes);
        Self {
            sum: zero,
            l1: zero,
            squares: zero,
            counts: Counts::default(),
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            absmin: f64::INFINITY,
            unusual: false,
        }
    }

    /// Calls `ahead` with the number of the first element of every round: for hints.
    ///
    /// # Safety
    /// `p` must be readable for `n` elements.
    #[inline(always)]
    unsafe fn block<E: WideFloat>(&mut self, lanes: L, p: *const E, n: usize, ahead: impl Fn(usize)) {
        if self.unusual {
            // SAFETY: as the caller vouches.
            self.unusual = unsafe { self.unusual_block(lanes, p, n) };
            return;
        }
        let mut scan = E::Scan::<L>::new();
        let mut fast = FastSums::new(lanes);
        let whole = n - n % ROUND;
        // SAFETY: every load below lies inside the first `whole` elements.
        unsafe {
            if L::FUSED {
                let mut i = 0;
                while i < whole {
                    ahead(i);
                    scan_round::<E, L>(&mut scan, p.add(i));
                    fast.round(lanes, p.add(i));
                    i += ROUND;
                }
            } else {
                let mut i = 0;
                while i < whole {
                    ahead(i);
                    scan_round::<E, L>(&mut scan, p.add(i));
                    i += ROUND;
                }
                let mut i = 0;
                while i < whole {
                    fast.round(lanes, p.add(i));
                    i += ROUND;
                }
            }
        }
        let (mut padding, mut copied) = (0_u64, 0.0);
        if whole < n {
            let rest = n - whole;
            // Zeros add nothing to sums; for the scan the last element is repeated and its copies are taken off the counts.
            // SAFETY: all-zero bits are a valid element, and `rest` elements are readable at the end of the block.
            unsafe {
                let mut padded = MaybeUninit::<[E; ROUND]>::zeroed();
                let slots: *mut E = padded.as_mut_ptr().cast();
                core::ptr::copy_nonoverlapping(p.add(whole).cast::<u8>(), slots.cast::<u8>(), rest * size_of::<E>());
                fast.round(lanes, slots);
                let last = *slots.add(rest - 1);
                for j in rest..ROUND {
                    slots.add(j).write(last);
                }
                scan_round::<E, L>(&mut scan, slots);
                padding = (ROUND - rest) as u64;
                copied = last.to_f64();
            }
        }
        if !all_finite(lanes, fast.l1) {
            // SAFETY: as the caller vouches.
            self.unusual = unsafe { self.unusual_block(lanes, p, n) };
            return;
        }
        self.sums::<E>(lanes, &fast);
        let report = scan.report(E::decode);
        self.scanned(report, n as u64, padding, copied);
        if report.absmin < E::MIN_NORMAL {
            // SAFETY: as the caller vouches.
            unsafe { self.count_subnormals(p, n) };
        }
    }

    /// A block with NaN or infinities (or f64 values so large that their sum is one). Non-finite values are counted, the scan sees
    /// another value of the block in their place, and sums see zero. Returns whether there were any; without, the sums are those of an
    /// ordinary block, bit for bit.
    ///
    /// # Safety
    /// `p` must be readable for `n` elements, at most [`BLOCK`].
    #[inline(always)]
    unsafe fn unusual_block<E: WideFloat>(&mut self, lanes: L, p: *const E, n: usize) -> bool {
        let bits: *const E::Bits = p.cast();
        // SAFETY: inside the block, for each index below `n`.
        let at = |i: usize| unsafe { bits.add(i).read_unaligned() };
        // SAFETY: as the caller vouches.
        let Some(first) = (unsafe { first_finite::<E>(bits, n) }) else {
            let (mut posinf, mut neginf) = (0_u32, 0_u32);
            for i in 0..n {
                posinf += u32::from(at(i) == E::INFINITY);
                neginf += u32::from(at(i) == E::NEG_INFINITY);
            }
            self.nonfinite(n as u32, posinf, neginf);
            return true;
        };
        // What lies beyond the block stays as it is here: copies of `first`, which are taken off the counts.
        let mut stand_in = [first; BLOCK];
        let (mut replaced, mut posinf, mut neginf) = (0_u32, 0_u32, 0_u32);
        for (i, slot) in stand_in.iter_mut().enumerate().take(n) {
            let bits = at(i);
            let finite = bits & E::MAGNITUDE < E::INFINITY;
            *slot = if finite { bits } else { first };
            replaced += u32::from(!finite);
            posinf += u32::from(bits == E::INFINITY);
            neginf += u32::from(bits == E::NEG_INFINITY);
        }
        self.nonfinite(replaced, posinf, neginf);
        let nothing = lanes.splat(0.0);
        let mut scan = E::Scan::<L>::new();
        let mut fast = FastSums::new(lanes);
        let whole = n - n % ROUND;
        let mut i = 0;
        while i < whole {
            // SAFETY: a round before `whole` is inside the block and inside the room.
            unsafe {
                scan_round::<E, L>(&mut scan, stand_in.as_ptr().add(i).cast());
                let [a, b] = E::widen_round(lanes, p.add(i));
                fast.add::<E>(lanes, lanes.finite_or(a, nothing));
                fast.add::<E>(lanes, lanes.finite_or(b, nothing));
            }
            i += ROUND;
        }
        let mut padding = 0;
        if whole < n {
            padding = ROUND - (n - whole);
            // SAFETY: all-zero bits are a valid element, the rest of the block is readable, and BLOCK is a multiple of ROUND.
            unsafe {
                let mut padded = MaybeUninit::<[E; ROUND]>::zeroed();
                let slots: *mut E = padded.as_mut_ptr().cast();
                core::ptr::copy_nonoverlapping(
                    p.add(whole).cast::<u8>(),
                    slots.cast::<u8>(),
                    (n - whole) * size_of::<E>(),
                );
                let [a, b] = E::widen_round(lanes, slots.cast_const());
                fast.add::<E>(lanes, lanes.finite_or(a, nothing));
                fast.add::<E>(lanes, lanes.finite_or(b, nothing));
                scan_round::<E, L>(&mut scan, stand_in.as_ptr().add(whole).cast());
            }
        }
        let report = scan.report(E::decode);
        let copies = u64::from(replaced) + padding as u64;
        self.scanned(report, n as u64 - u64::from(replaced), copies, E::decode(first));
        if report.absmin < E::MIN_NORMAL {
            // SAFETY: as the caller vouches.
            unsafe { self.count_subnormals(p, n) };
        }
        self.sums::<E>(lanes, &fast);
        replaced > 0
    }

    /// Adds values that are not finite to the counts.
    #[inline(always)]
    fn nonfinite(&mut self, all: u32, posinf: u32, neginf: u32) {
        self.counts.posinf += u64::from(posinf);
        self.counts.neginf += u64::from(neginf);
        // Fewer than none only where memory changed between two looks.
        self.counts.nan += u64::from(all.saturating_sub(posinf + neginf));
    }

    /// Adds the subnormal values of a block to the counts.
    ///
    /// # Safety
    /// `p` must be readable for `n` elements.
    #[inline(always)]
    unsafe fn count_subnormals<E: WideFloat>(&mut self, p: *const E, n: usize) {
        for i in 0..n {
            // SAFETY: inside the block.
            self.counts.subnormal += u64::from(unsafe { p.add(i).read_unaligned() }.is_subnormal());
        }
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

/// The first finite value among some bits. Whole groups are asked at once: a search that may end at any value takes them one by one.
///
/// # Safety
/// `bits` must be readable for `n` elements.
#[inline(always)]
unsafe fn first_finite<E: WideFloat>(bits: *const E::Bits, n: usize) -> Option<E::Bits> {
    const GROUP: usize = 64;
    // SAFETY: inside, for each index below `n`.
    let at = |i: usize| unsafe { bits.add(i).read_unaligned() };
    let is_finite = |bits: E::Bits| bits & E::MAGNITUDE < E::INFINITY;
    let mut start = 0;
    while start + GROUP <= n {
        if (start..start + GROUP).fold(false, |any, i| any | is_finite(at(i))) {
            break;
        }
        start += GROUP;
    }
    (start..n).map(at).find(|&bits| is_finite(bits))
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
        self.l1 = lanes.add(self.l1, lanes.abs(x));
        if E::DTYPE == Dtype::F64 {
            self.pair.add(lanes, x);
            self.squares = lanes.add(self.squares, lanes.mul(x, x));
        } else {
            self.sum = lanes.add(self.sum, x);
            self.squares = lanes.add_exact_square(self.squares, x);
        }
    }

    /// # Safety
    /// `p` must be readable for [`ROUND`] elements.
    #[inline(always)]
    unsafe fn round<E: WideFloat>(&mut self, lanes: L, p: *const E) {
        // SAFETY: as the caller vouches.
        let [a, b] = unsafe { E::widen_round(lanes, p) };
        self.add::<E>(lanes, a);
        self.add::<E>(lanes, b);
    }
}

/// Asks for as much memory as a round reads.
#[inline(always)]
fn prefetch_round<E>(p: *const E) {
    for line in 0..ROUND * size_of::<E>() / LINE {
        prefetch(p.wrapping_byte_add(line * LINE));
    }
}

/// # Safety
/// `p` must be readable for [`ROUND`] elements.
#[inline(always)]
unsafe fn scan_round<E: WideFloat, L: Lanes>(scan: &mut E::Scan<L>, p: *const E) {
    let step = <E::Scan<L> as Scan>::STEP;
    let mut i = 0;
    while i < ROUND {
        // SAFETY: STEP divides ROUND.
        unsafe { scan.step(p.add(i).cast()) };
        i += step;
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
        let x = unsafe { if n == LANES { E::widen(lanes, p.add(i)) } else { widen_tail(lanes, p.add(i), n, 0.0) } };
        let x = lanes.mul(lanes.mul(lanes.finite_or(x, nothing), factors[0]), factors[1]);
        sum.add(lanes, x);
        l1.add(lanes, lanes.abs(x));
        squares.add(lanes, lanes.mul(x, x));
        i += n;
    }
    [stats.sum, stats.l1, stats.squares] = fold_all(lanes, [sum, l1, squares]);
}

/// Writes down `new - old`, rounded once.
///
/// # Safety
/// `new` and `old` must be readable and `differences` writable for `len` elements; the first two need not be aligned.
#[inline(always)]
pub(super) unsafe fn subtract<E: AsWide<Wide: Sub<Output = E::Wide>>>(
    new: *const E,
    old: *const E,
    differences: *mut E::Wide,
    len: usize,
) {
    for i in 0..len {
        // SAFETY: as the caller vouches.
        unsafe { differences.add(i).write(new.add(i).read_unaligned().wide() - old.add(i).read_unaligned().wide()) };
    }
}
