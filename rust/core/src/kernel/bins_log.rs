//! Owns the counting of wide floats by the top bits of their magnitude. Knows nothing of tensors, dtypes or threads.
//!
//! The table covers the octaves seen so far, so that a small tensor costs little and a big one stays in cache. Zeros, NaN, infinities
//! and subnormals of the format are counted apart: for them the table has a few slots that nobody reads.

use super::bins::Specials;
use super::lanes::{LANES, Lanes};
use super::prefetch::{LINE, prefetch};
use super::wide::Wide;
use crate::histogram_log::LogCounts;
use crate::level::{Kernel, Level};

/// Counters side by side for each bin, so that equal neighbours do not wait for each other.
const COPIES: usize = 4;

/// Bins beyond which one copy has to do: with more the table would outgrow the cache (and 8 MB).
const MANY_COPIES_BINS: usize = 1 << 17;

/// Values below which clearing and adding up the copies takes longer than counting.
const FEW_VALUES: usize = 4096;

/// Octaves added below what a growing table needs, since data often creeps towards zero.
const SPARE_OCTAVES: u32 = 4;

/// Values after which 32-bit counters are emptied into 64-bit ones.
const FLUSH: u64 = 1 << 31;

/// The counters of one thread.
pub struct LogCounter {
    precision: u32,
    /// First octave of the table.
    first: u32,
    /// Octaves in the table.
    octaves: u32,
    /// Positive bins, negative bins, and [`LANES`] slots for what is counted apart; each `copies` times.
    table: Vec<u32>,
    copies: usize,
    pending: u64,
    counts: LogCounts,
    /// NaN and infinities.
    pub specials: Specials,
}

impl LogCounter {
    /// All zero.
    pub fn new(precision: u8) -> Self {
        Self {
            precision: u32::from(precision),
            first: 0,
            octaves: 0,
            table: Vec::new(),
            copies: COPIES,
            pending: 0,
            counts: LogCounts::new(precision),
            specials: Specials::default(),
        }
    }

    /// Counts a block of at most [`super::BLOCK`] values.
    ///
    /// # Safety
    /// `p` must be readable for `len` elements; it need not be aligned.
    pub unsafe fn block<W: Wide>(&mut self, level: Level, p: *const W, len: usize) {
        let look = level.run(LookKernel { p, len });
        self.counts.zeros += u64::from(look.zero);
        if look.normal > 0 {
            let octave = |x: W| ((x.magnitude() >> W::MANTISSA) as i64 + i64::from(W::OCTAVE_BIAS)) as u32;
            self.cover(octave(look.min), octave(look.max), len);
            if self.copies == COPIES {
                level.run(CountKernel::<W, COPIES> { p, len, counter: self });
            } else {
                level.run(CountKernel::<W, 1> { p, len, counter: self });
            }
            self.pending += len as u64;
        }
        if look.normal + look.zero < len as u32 {
            level.run(UnusualKernel { p, len, counter: self });
        }
        if self.pending > FLUSH {
            self.flush();
        }
    }

    /// Counts `times` times one value.
    pub fn add(&mut self, x: f64, times: u64) {
        if x.is_nan() {
            self.specials.nan += times;
        } else if x == f64::INFINITY {
            self.specials.posinf += times;
        } else if x == f64::NEG_INFINITY {
            self.specials.neginf += times;
        } else {
            self.counts.add(x, times);
        }
    }

    /// Makes the table hold these octaves, both included, for a block of `len` values.
    fn cover(&mut self, low: u32, high: u32, len: usize) {
        let end = self.first + self.octaves;
        if self.octaves > 0 && low >= self.first && high < end {
            return;
        }
        self.flush();
        if self.octaves == 0 {
            (self.first, self.octaves) = (low, high + 1 - low);
        } else {
            let first = if low < self.first { low.saturating_sub(SPARE_OCTAVES) } else { self.first };
            self.octaves = end.max(high + 1) - first;
            self.first = first;
        }
        let bins = (2 * self.octaves as usize) << self.precision;
        self.copies = if bins <= MANY_COPIES_BINS && len >= FEW_VALUES { COPIES } else { 1 };
        self.table.clear();
        self.table.resize((bins + LANES) * self.copies, 0);
    }

    fn flush(&mut self) {
        if self.pending == 0 {
            return;
        }
        let half = (self.octaves as usize) << self.precision;
        let sums = |part: &[u32]| -> Vec<u64> {
            if self.copies == COPIES {
                part.as_chunks::<COPIES>().0.iter().map(|c| c.iter().map(|&n| u64::from(n)).sum()).collect()
            } else {
                part.iter().map(|&n| u64::from(n)).collect()
            }
        };
        if let Some((positive, rest)) = self.table.split_at_checked(half * self.copies)
            && let Some(negative) = rest.get(..half * self.copies)
        {
            self.counts.add_octaves(self.first, &sums(negative), &sums(positive));
        }
        self.table.fill(0);
        self.pending = 0;
    }

    /// Everything counted.
    pub fn finish(mut self) -> LogCounts {
        self.flush();
        self.counts
    }
}

/// What a first look at a block finds.
struct Look<W> {
    min: W,
    max: W,
    zero: u32,
    normal: u32,
}

struct LookKernel<W> {
    p: *const W,
    len: usize,
}

impl<W: Wide> Kernel for LookKernel<W> {
    type Output = Look<W>;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> Look<W> {
        let (mut min, mut max) = ([W::INF; LANES], [W::ZERO; LANES]);
        let (mut zero, mut normal) = ([0_u32; LANES], [0_u32; LANES]);
        let mut add = |lane: usize, x: W| {
            let (size, usual) = (x.abs(), x.is_normal());
            let (low, high) = if usual { (size, size) } else { (W::INF, W::ZERO) };
            min[lane] = if low < min[lane] { low } else { min[lane] };
            max[lane] = if high > max[lane] { high } else { max[lane] };
            zero[lane] += u32::from(x == W::ZERO);
            normal[lane] += u32::from(usual);
        };
        let whole = self.len - self.len % LANES;
        let mut i = 0;
        while i < whole {
            for lane in 0..LANES {
                // SAFETY: `LogCounter::block` vouches for `len` elements.
                add(lane, unsafe { self.p.add(i + lane).read_unaligned() });
            }
            i += LANES;
        }
        for i in whole..self.len {
            // SAFETY: as above.
            add(i - whole, unsafe { self.p.add(i).read_unaligned() });
        }
        Look {
            min: min.into_iter().fold(W::INF, |a, b| if b < a { b } else { a }),
            max: max.into_iter().fold(W::ZERO, |a, b| if b > a { b } else { a }),
            zero: zero.iter().sum(),
            normal: normal.iter().sum(),
        }
    }
}

struct CountKernel<'a, W, const COPIES: usize> {
    p: *const W,
    len: usize,
    counter: &'a mut LogCounter,
}

impl<W: Wide, const COPIES: usize> Kernel for CountKernel<'_, W, COPIES> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        const GROUP: usize = 4 * LANES;
        let counter = self.counter;
        let shift = W::MANTISSA - counter.precision;
        // Leading bits of the table's first bin; below the format's own octaves it wraps around, and so does the difference.
        let base = (counter.first.wrapping_sub(W::OCTAVE_BIAS as u32)) << counter.precision;
        let half = counter.octaves << counter.precision;
        let table = counter.table.as_mut_slice();
        let slot = |lane: usize, x: W| {
            let bin = x.leading(shift, base).wrapping_add(if x.is_negative() { half } else { 0 });
            let slot = if x.is_normal() { bin } else { 2 * half + (lane % LANES) as u32 };
            slot * COPIES as u32
        };
        let mut increment = |slot: u32, copy: usize| {
            // SAFETY: `cover` made room for every normal value of the block, for both signs, and for LANES slots more.
            unsafe { *table.get_unchecked_mut(slot as usize + copy % COPIES) += 1 };
        };
        let whole = self.len - self.len % GROUP;
        let mut slots = [0_u32; GROUP];
        let mut start = 0;
        while start < whole {
            // The next block is looked at from its start as soon as this one is counted.
            for line in 0..GROUP * size_of::<W>() / LINE {
                prefetch(self.p.wrapping_add(self.len + start + line * LINE / size_of::<W>()));
            }
            for (i, s) in slots.iter_mut().enumerate() {
                // SAFETY: `LogCounter::block` vouches for `len` elements.
                *s = slot(i, unsafe { self.p.add(start + i).read_unaligned() });
            }
            let (eights, _) = slots.as_chunks::<8>();
            for eight in eights {
                for (i, &slot) in eight.iter().enumerate() {
                    increment(slot, i);
                }
            }
            start += GROUP;
        }
        for i in 0..self.len - whole {
            // SAFETY: as above.
            increment(slot(i, unsafe { self.p.add(whole + i).read_unaligned() }), i);
        }
    }
}

/// NaN, infinities and subnormals of a block, one by one.
struct UnusualKernel<'a, W> {
    p: *const W,
    len: usize,
    counter: &'a mut LogCounter,
}

impl<W: Wide> Kernel for UnusualKernel<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        for i in 0..self.len {
            // SAFETY: `LogCounter::block` vouches for `len` elements.
            let x = unsafe { self.p.add(i).read_unaligned() };
            if !x.is_normal() && x != W::ZERO {
                self.counter.add(x.to_f64(), 1);
            }
        }
    }
}
