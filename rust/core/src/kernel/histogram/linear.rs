//! Owns the counting of values into bins of a power of two's width. Knows nothing of tensors, dtypes or threads.
//!
//! Per block the extremes are found first: they say whether the table still covers what there is. Then the bin of a value is the whole
//! part of the value times a power of two, which is exact: no edge has to be looked at.

use crate::Dtype;
use crate::kernel::grid::BLOCK;
use crate::kernel::histogram::ranks;
use crate::kernel::histogram::ranks::Specials;
use crate::number::Number;
use crate::simd::as_wide::AsWide;
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::level::in_standard_mode;
use crate::simd::level::{Kernel, Level};
use crate::simd::prefetch::{LINE, prefetch};
use crate::simd::scaled::Scaled;
use crate::simd::wide::Wide;
use crate::state::linear_counts::{LinearCounts, Span};

/// Values after which 32-bit counters are emptied into 64-bit ones.
const FLUSH: u64 = 1 << 31;

/// Values below which clearing and adding up the copies takes longer than counting.
const FEW_VALUES: usize = 2048;

/// The counters of one thread.
pub struct LinearCounter {
    bins: u64,
    /// From the smallest to the largest value seen; `None` before the first.
    seen: Option<Span>,
    /// The bins that the table has room for; at least those of `seen`.
    window: Span,
    /// Counters of the window's bins, and [`LANES`] slots for what is not finite; each `copies` times.
    table: Vec<u32>,
    copies: usize,
    pending: u64,
    counts: LinearCounts,
    /// NaN and infinities.
    pub specials: Specials,
}

impl LinearCounter {
    /// All zero.
    pub fn new(bins: u64) -> Self {
        Self {
            bins,
            seen: None,
            window: Span { exponent: 0, low: 0, high: -1 },
            table: Vec::new(),
            copies: 1,
            pending: 0,
            counts: LinearCounts::new(bins),
            specials: Specials::default(),
        }
    }

    /// Counts a block of at most [`BLOCK`] values.
    ///
    /// # Safety
    /// `p` must be readable for `len` elements; it need not be aligned.
    pub unsafe fn block<W: Scaled>(&mut self, level: Level, p: *const W, len: usize) {
        let extent = level.run(ExtentKernel { p, len });
        if extent.nonfinite > 0 {
            // SAFETY: the caller vouches for `len` elements.
            in_standard_mode(|| unsafe { self.specials.count(p, len) });
        }
        let number = |x: W| Number::Float(in_standard_mode(|| x.to_f64()));
        let (min, max) = (number(extent.min), number(extent.max));
        let finite = len as u64 - u64::from(extent.nonfinite);
        if finite == 0 {
            return;
        }
        if min.compare(max).is_eq() {
            self.counts.add(min, finite);
            return;
        }
        self.cover(min, max, len);
        if self.copies == 8 {
            level.run(FloatKernel::<W, 8> { p, len, counter: self });
        } else {
            level.run(FloatKernel::<W, 2> { p, len, counter: self });
        }
        self.counted(len);
    }

    /// Counts a block of at most [`BLOCK`] 64-bit integers, some of which may not fit a float.
    ///
    /// # Safety
    /// `p` must be readable for `len` elements; it need not be aligned.
    pub unsafe fn integers<E: AsWide>(&mut self, level: Level, p: *const E, len: usize) {
        let (low, high) = level.run(IntExtentKernel { p, len });
        let smallest = if E::DTYPE == Dtype::I64 { i128::from(i64::MIN) } else { 0 };
        let value = |above: u64| Number::Int(smallest + i128::from(above));
        if low > high {
            return;
        }
        if low == high {
            self.counts.add(value(low), len as u64);
            return;
        }
        self.cover(value(low), value(high), len);
        if self.copies == 8 {
            level.run(IntKernel::<E, 8> { p, len, counter: self });
        } else {
            level.run(IntKernel::<E, 2> { p, len, counter: self });
        }
        self.counted(len);
    }

    fn counted(&mut self, len: usize) {
        self.pending += len as u64;
        if self.pending > FLUSH {
            self.flush();
        }
    }

    /// Makes the table hold everything between two values found in a block of `len`.
    fn cover(&mut self, min: Number, max: Number, len: usize) {
        let range = Span::of(min).union(Span::of(max), self.bins);
        let seen = self.seen.map_or(range, |seen| seen.union(range, self.bins));
        self.seen = Some(seen);
        let window = self.window;
        let holds = window.exponent == seen.exponent && window.low <= seen.low && window.high >= seen.high;
        if holds && !self.table.is_empty() {
            return;
        }
        self.flush();
        // Few values: no room beyond them. Many: the spare bins on both sides, but no number of a bin that a float would round.
        let spare = if len < FEW_VALUES { 0 } else { self.bins.saturating_sub(seen.bins() as u64) as i64 };
        let (low, high) = (seen.low - spare / 2, seen.high + spare - spare / 2);
        let exact = low.unsigned_abs().max(high.unsigned_abs()) < 1 << f32::MANTISSA;
        self.window = if exact { Span { low, high, ..seen } } else { seen };
        self.copies = if self.window.bins() <= ranks::MANY_COPIES_SLOTS { 8 } else { 2 };
        self.table.clear();
        self.table.resize((self.window.bins() + LANES) * self.copies, 0);
    }

    fn flush(&mut self) {
        if self.pending == 0 {
            return;
        }
        let sums: Vec<u64> = self
            .table
            .chunks_exact(self.copies)
            .take(self.window.bins())
            .map(|copies| copies.iter().map(|&n| u64::from(n)).sum())
            .collect();
        self.counts.add_all(self.window.exponent, self.window.low, &sums);
        self.table.fill(0);
        self.pending = 0;
    }

    /// Adds everything counted but `specials` to some counts, and begins anew; the table keeps its memory, not its bins.
    pub fn move_into(&mut self, counts: &mut LinearCounts) {
        self.flush();
        counts.merge(&self.counts);
        self.counts = LinearCounts::new(self.bins);
        self.seen = None;
        self.table.clear();
    }
}

/// What a block holds.
struct Extent<W> {
    min: W,
    max: W,
    nonfinite: u32,
}

struct ExtentKernel<W> {
    p: *const W,
    len: usize,
}

impl<W: Scaled> Kernel for ExtentKernel<W> {
    type Output = Extent<W>;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> Extent<W> {
        // Arrays of lanes: a single running minimum would have to wait for itself, value by value.
        let (mut min, mut max, mut nonfinite) = ([W::INF; LANES], [W::NEG_INF; LANES], [0_u32; LANES]);
        let mut look = |lane: usize, x: W| {
            let finite = x.abs() < W::INF;
            let (low, high) = if finite { (x, x) } else { (W::INF, W::NEG_INF) };
            min[lane] = if low < min[lane] { low } else { min[lane] };
            max[lane] = if high > max[lane] { high } else { max[lane] };
            nonfinite[lane] += u32::from(!finite);
        };
        let whole = self.len - self.len % LANES;
        let mut start = 0;
        while start < whole {
            for lane in 0..LANES {
                // SAFETY: `LinearCounter::block` vouches for `len` elements.
                look(lane, unsafe { self.p.add(start + lane).read_unaligned() });
            }
            start += LANES;
        }
        for i in whole..self.len {
            // SAFETY: as above.
            look(i - whole, unsafe { self.p.add(i).read_unaligned() });
        }
        Extent {
            min: min.into_iter().fold(W::INF, |a, b| if b < a { b } else { a }),
            max: max.into_iter().fold(W::NEG_INF, |a, b| if b > a { b } else { a }),
            nonfinite: nonfinite.iter().sum(),
        }
    }
}

struct IntExtentKernel<E> {
    p: *const E,
    len: usize,
}

impl<E: AsWide> Kernel for IntExtentKernel<E> {
    type Output = (u64, u64);

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> (u64, u64) {
        let (mut min, mut max) = (u64::MAX, 0);
        for i in 0..self.len {
            // SAFETY: `LinearCounter::integers` vouches for `len` elements.
            let above = unsafe { self.p.add(i).read_unaligned() }.above_smallest();
            min = above.min(min);
            max = above.max(max);
        }
        (min, max)
    }
}

/// Values whose bins are computed together.
const GROUP: usize = 8 * LANES;

/// Finds the slots of a block's values and counts them, group by group.
///
/// A slot is checked against the table with the value itself, in the same read: memory that others write to while it is counted gives
/// wrong counts, never an access outside the table.
///
/// # Safety
/// Every slot that `slot` gives for the numbers below `len` must be inside `table` when multiplied by `COPIES`.
#[inline(always)]
unsafe fn each_group<T, const COPIES: usize>(
    table: &mut [u32],
    p: *const T,
    len: usize,
    slot: impl Fn(usize, usize) -> u32,
) {
    let mut increment = |slot: u32, copy: usize| {
        // SAFETY: the caller vouches for the slots.
        unsafe { *table.get_unchecked_mut(slot as usize * COPIES + copy % COPIES) += 1 };
    };
    let whole = len - len % GROUP;
    let mut start = 0;
    while start < whole {
        // The next block: counting leaves the memory idle for so long that the hardware does not read ahead by itself.
        for line in 0..GROUP * size_of::<T>() / LINE {
            prefetch(p.wrapping_add(start + BLOCK).wrapping_byte_add(line * LINE));
        }
        let mut slots = [0_u32; GROUP];
        for (i, s) in slots.iter_mut().enumerate() {
            *s = slot(start + i, i % LANES);
        }
        let (eights, _) = slots.as_chunks::<8>();
        for eight in eights {
            for (i, &slot) in eight.iter().enumerate() {
                increment(slot, i);
            }
        }
        start += GROUP;
    }
    for i in whole..len {
        increment(slot(i, i % LANES), i);
    }
}

struct FloatKernel<'a, W, const COPIES: usize> {
    p: *const W,
    len: usize,
    counter: &'a mut LinearCounter,
}

impl<W: Scaled, const COPIES: usize> Kernel for FloatKernel<'_, W, COPIES> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        let Self { p, len, counter } = self;
        let (window, slots) = (counter.window, counter.window.bins());
        let factors = W::factors(window.exponent);
        let (first, bound) = (W::whole(window.low), W::whole(slots as i64));
        let slot = |i: usize, lane: usize| {
            // SAFETY: `LinearCounter::block` vouches for `len` elements.
            let x = unsafe { p.add(i).read_unaligned() };
            x.slot(factors, first, bound, (slots + lane) as u32)
        };
        // SAFETY: a slot is below `slots + LANES`, and the table has `COPIES` counters for each.
        unsafe { each_group::<W, COPIES>(&mut counter.table, p, len, slot) };
    }
}

struct IntKernel<'a, E, const COPIES: usize> {
    p: *const E,
    len: usize,
    counter: &'a mut LinearCounter,
}

impl<E: AsWide, const COPIES: usize> Kernel for IntKernel<'_, E, COPIES> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        let Self { p, len, counter } = self;
        let (window, slots) = (counter.window, counter.window.bins() as u64);
        let (up, down) = (window.exponent.clamp(0, 63), (-window.exponent).clamp(0, 63));
        let slot = |i: usize, lane: usize| {
            // SAFETY: `LinearCounter::integers` vouches for `len` elements.
            let above = unsafe { p.add(i).read_unaligned() }.above_smallest();
            let wide = if E::DTYPE == Dtype::I64 { (above ^ (1 << 63)) as i64 >> up } else { (above >> up) as i64 };
            // No bits are lost: bins narrower than one are kept only while their numbers stay below 2^53.
            let bin = wide << down;
            let place = bin.wrapping_sub(window.low) as u64;
            if place < slots { place as u32 } else { slots as u32 + lane as u32 }
        };
        // SAFETY: as for floats.
        unsafe { each_group::<E, COPIES>(&mut counter.table, p, len, slot) };
    }
}
