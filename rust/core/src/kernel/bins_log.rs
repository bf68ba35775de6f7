//! Owns the counting of wide floats by the top bits of their magnitude. Knows nothing of tensors, dtypes or threads.
//!
//! The table covers the octaves seen so far, so that a small tensor costs little and a big one stays in cache. Zeros, NaN, infinities
//! and subnormals of the format are counted apart: for them the table has a few slots that nobody reads.

use super::bins::Specials;
use super::lanes::{LANES, Lanes};
use super::prefetch::{AHEAD, LINE, prefetch};
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
            table: vec![0; LANES],
            copies: 1,
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
        if self.octaves == 0 {
            self.cover::<W>(level.run(RangeKernel { p, len, window: Window::EMPTY }), len);
        }
        let apart = if self.copies == COPIES {
            level.run(CountKernel::<W, COPIES> { p, len, counter: self })
        } else {
            level.run(CountKernel::<W, 1> { p, len, counter: self })
        };
        self.pending += len as u64;
        self.counts.zeros += u64::from(apart.zeros);
        if apart.all > apart.zeros {
            let window = self.window::<W>();
            level.run(RestKernel { p, len, window, counter: self });
            self.cover::<W>(level.run(RangeKernel { p, len, window }), len);
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

    /// Makes the table hold a range of magnitudes found in a block of `len` values.
    fn cover<W: Wide>(&mut self, range: Option<(W, W)>, len: usize) {
        let Some((smallest, largest)) = range else { return };
        let octave = |magnitude: u64| ((magnitude >> W::MANTISSA) as i64 + i64::from(W::OCTAVE_BIAS)) as u32;
        let (low, high) = (octave(smallest.magnitude()), octave(largest.magnitude()));
        let end = self.first + self.octaves;
        self.flush();
        if self.octaves == 0 {
            (self.first, self.octaves) = (low, high + 1 - low);
        } else {
            // Never below the octaves of normal numbers: subnormals have fewer leading bits there and are counted apart.
            let spare = low.saturating_sub(SPARE_OCTAVES).max(octave(W::MIN_NORMAL));
            let first = if low < self.first { spare } else { self.first };
            self.octaves = end.max(high + 1) - first;
            self.first = first;
        }
        let bins = (2 * self.octaves as usize) << self.precision;
        self.copies = if bins <= MANY_COPIES_BINS && len >= FEW_VALUES { COPIES } else { 1 };
        self.table.clear();
        self.table.resize((bins + LANES) * self.copies, 0);
    }

    /// Which values the table holds.
    fn window<W: Wide>(&self) -> Window {
        Window {
            shift: W::MANTISSA - self.precision,
            base: self.first.wrapping_sub(W::OCTAVE_BIAS as u32) << self.precision,
            half: self.octaves << self.precision,
        }
    }

    fn flush(&mut self) {
        if self.pending == 0 {
            return;
        }
        let half = (self.octaves as usize) << self.precision;
        let table = &self.table;
        let place = |negative: bool, i: usize| if negative { half + i } else { i };
        if self.copies == COPIES {
            let (table, _) = table.as_chunks::<COPIES>();
            let sum = |copies: &[u32; COPIES]| copies.iter().map(|&n| u64::from(n)).sum();
            self.counts.add_octaves(self.first, half, |sign, i| table.get(place(sign, i)).map_or(0, sum));
        } else {
            let count = |sign, i| table.get(place(sign, i)).map_or(0, |&n| u64::from(n));
            self.counts.add_octaves(self.first, half, count);
        }
        self.table.fill(0);
        self.pending = 0;
    }

    /// Adds everything counted but `specials` to some counts, and begins anew; the table keeps its memory, not its octaves.
    pub fn move_into(&mut self, counts: &mut LogCounts) {
        self.flush();
        let mine = LogCounts::new(self.counts.precision());
        counts.take_in(core::mem::replace(&mut self.counts, mine));
        (self.first, self.octaves) = (0, 0);
    }
}

/// The leading bits that a table holds, of either sign.
#[derive(Clone, Copy)]
struct Window {
    shift: u32,
    base: u32,
    half: u32,
}

impl Window {
    const EMPTY: Self = Self { shift: 0, base: 0, half: 0 };

    /// The place of a magnitude in the table; at least `half` when it is outside.
    #[inline(always)]
    fn place<W: Wide>(self, x: W) -> u32 {
        x.leading(self.shift, self.base)
    }
}

/// Smallest and largest normal magnitude of a block outside a window.
struct RangeKernel<W> {
    p: *const W,
    len: usize,
    window: Window,
}

impl<W: Wide> Kernel for RangeKernel<W> {
    type Output = Option<(W, W)>;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> Option<(W, W)> {
        let (mut min, mut max) = (W::INF, W::ZERO);
        for i in 0..self.len {
            // SAFETY: `LogCounter::block` vouches for `len` elements.
            let x = unsafe { self.p.add(i).read_unaligned() };
            let outside = x.is_normal() & (self.window.place(x) >= self.window.half);
            let (low, high) = if outside { (x.abs(), x.abs()) } else { (W::INF, W::ZERO) };
            min = if low < min { low } else { min };
            max = if high > max { high } else { max };
        }
        (max > W::ZERO).then_some((min, max))
    }
}

/// How many values of a block are not in the table.
struct Apart {
    zeros: u32,
    all: u32,
}

struct CountKernel<'a, W, const COPIES: usize> {
    p: *const W,
    len: usize,
    counter: &'a mut LogCounter,
}

impl<W: Wide, const COPIES: usize> Kernel for CountKernel<'_, W, COPIES> {
    type Output = Apart;

    /// The slot of a value is checked against the table with the value itself, in the same read: memory that others write to while it
    /// is counted gives wrong counts, never an access outside the table.
    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> Apart {
        const GROUP: usize = 8 * LANES;
        let window = self.counter.window::<W>();
        let half = window.half;
        let table = self.counter.table.as_mut_slice();
        let slot = |lane: usize, x: W| {
            let place = window.place(x);
            let bin = place.wrapping_add(if x.is_negative() { half } else { 0 });
            let slot = if place < half { bin } else { 2 * half + lane as u32 };
            slot * COPIES as u32
        };
        let mut increment = |slot: u32, copy: usize| {
            // SAFETY: a slot is below `2 * half + LANES`, and the table has `COPIES` counters for each.
            unsafe { *table.get_unchecked_mut(slot as usize + copy % COPIES) += 1 };
        };
        let mut apart = Apart { zeros: 0, all: 0 };
        let whole = self.len - self.len % GROUP;
        let mut start = 0;
        while start < whole {
            // Counting leaves the memory idle for so long that the hardware does not read ahead by itself.
            for line in 0..GROUP * size_of::<W>() / LINE {
                prefetch(self.p.wrapping_add(start + (AHEAD + line * LINE) / size_of::<W>()));
            }
            let mut slots = [0_u32; GROUP];
            let (mut zero, mut outside) = (0_u32, 0_u32);
            for (i, s) in slots.iter_mut().enumerate() {
                // SAFETY: `LogCounter::block` vouches for `len` elements.
                let x = unsafe { self.p.add(start + i).read_unaligned() };
                *s = slot(i % LANES, x);
                zero += u32::from(x == W::ZERO);
                outside += u32::from(window.place(x) >= half);
            }
            apart.zeros += zero;
            apart.all += outside;
            let (eights, _) = slots.as_chunks::<8>();
            for eight in eights {
                for (i, &slot) in eight.iter().enumerate() {
                    increment(slot, i);
                }
            }
            start += GROUP;
        }
        for i in whole..self.len {
            // SAFETY: as above.
            let x = unsafe { self.p.add(i).read_unaligned() };
            increment(slot(i % LANES, x), i);
            apart.zeros += u32::from(x == W::ZERO);
            apart.all += u32::from(window.place(x) >= half);
        }
        apart
    }
}

/// The values of a block that are neither zero nor in the table, one by one.
struct RestKernel<'a, W> {
    p: *const W,
    len: usize,
    window: Window,
    counter: &'a mut LogCounter,
}

impl<W: Wide> Kernel for RestKernel<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        for i in 0..self.len {
            // SAFETY: `LogCounter::block` vouches for `len` elements.
            let x = unsafe { self.p.add(i).read_unaligned() };
            if self.window.place(x) >= self.window.half && x != W::ZERO {
                self.counter.add(x.to_f64(), 1);
            }
        }
    }
}
