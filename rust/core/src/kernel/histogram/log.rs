//! Owns the counting of wide floats by the top bits of their magnitude. Knows nothing of tensors, dtypes or threads.
//!
//! The table covers the octaves seen so far, so that a small tensor costs little and a big one stays in cache. Zeros, NaN, infinities
//! and subnormals of the format are counted apart: for them the table has a few slots that nobody reads. Blocks with many subnormal `f32`
//! are counted as `f64`, where those are normal numbers.

use crate::Dtype;
use crate::kernel::grid::BLOCK;
use crate::kernel::histogram::fast::{GROUP, Room, prefetch_group};
use crate::kernel::histogram::ranks::Specials;
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::level::{Kernel, Level};
use crate::simd::wide::Wide;
use crate::state::log_counts::LogCounts;

/// Counters side by side for each bin, so that equal neighbours do not wait for each other.
const COPIES: usize = 4;

/// Bins beyond which one copy has to do: with more the table would outgrow the cache (and 8 MB).
const MANY_COPIES_BINS: usize = 1 << 17;

/// Values below which clearing and adding up the copies takes longer than counting.
const MANY_VALUES: u64 = 1 << 16;

/// Slots beyond the bins for what is counted apart: one for each lane and sign, so that zeros do not wait for each other.
const APART: usize = 2 * LANES;

/// Octaves added to what a table needs when other values follow: a new smallest magnitude is seen every now and then, a new largest
/// one rarely.
const SPARE_BELOW: u32 = 6;
const SPARE_ABOVE: u32 = 1;

/// Values after which 32-bit counters are emptied into 64-bit ones.
const FLUSH: u64 = 1 << 31;

/// One subnormal value in so many makes counting the next block as `f64` pay.
const MANY_SUBNORMALS: u32 = 32;

/// The counters of one thread.
pub struct LogCounter {
    precision: u32,
    /// First octave of the table.
    first: u32,
    /// Octaves in the table.
    octaves: u32,
    /// Bins by magnitude, the negative one after the positive one, and [`APART`] slots; each `copies` times.
    table: Vec<u32>,
    copies: usize,
    pending: u64,
    /// Values since the beginning.
    seen: u64,
    /// Bytes to read ahead.
    ahead: usize,
    counts: LogCounts,
    /// NaN and infinities.
    pub specials: Specials,
    /// Whether the last block had many subnormal values: the next likely has too.
    subnormals: bool,
    /// For such blocks, what is counted of them as `f64`.
    wider: Option<Box<Wider>>,
}

/// The counters of blocks that are counted as `f64`.
struct Wider {
    counter: LogCounter,
    room: Vec<f64>,
}

impl LogCounter {
    /// All zero.
    pub fn new(precision: u8, ahead: usize) -> Self {
        Self {
            precision: u32::from(precision),
            first: 0,
            octaves: 0,
            table: vec![0; APART],
            copies: 1,
            pending: 0,
            seen: 0,
            ahead,
            counts: LogCounts::new(precision),
            specials: Specials::default(),
            subnormals: false,
            wider: None,
        }
    }

    /// Counts a block of at most [`BLOCK`] values.
    ///
    /// # Safety
    /// `p` must be readable for `len` elements; it need not be aligned.
    pub unsafe fn block<W: Wide>(&mut self, level: Level, p: *const W, len: usize) {
        if self.subnormals {
            // SAFETY: as the caller vouches.
            unsafe { self.wider_block(level, p, len) };
            return;
        }
        if self.octaves == 0 {
            let unusual = level.run(UnusualKernel { p, len });
            if unusual.zero + unusual.nonfinite() == len as u32 {
                self.counts.zeros += u64::from(unusual.zero);
                self.specials.add(&unusual.specials());
                return;
            }
            self.cover::<W>(level.run(RangeKernel { p, len, window: Window::EMPTY }), len == BLOCK);
        }
        if self.copies == 1 && self.seen >= MANY_VALUES && self.bins() <= MANY_COPIES_BINS {
            self.flush();
            self.clear();
        }
        let apart = if self.copies == COPIES {
            level.run(CountKernel::<W, COPIES> { p, len, counter: self })
        } else {
            level.run(CountKernel::<W, 1> { p, len, counter: self })
        };
        self.pending += len as u64;
        self.seen += len as u64;
        self.counts.zeros += u64::from(apart.zeros);
        if apart.all > apart.zeros {
            let unusual = level.run(UnusualKernel { p, len });
            self.specials.add(&unusual.specials());
            if apart.all > apart.zeros + unusual.nonfinite() {
                let window = self.window::<W>();
                level.run(RestKernel { p, len, window, counter: self });
                self.cover::<W>(level.run(RangeKernel { p, len, window }), true);
                self.subnormals = W::DTYPE == Dtype::F32 && unusual.subnormal > len as u32 / MANY_SUBNORMALS;
            }
        }
        if self.pending > FLUSH {
            self.flush();
        }
    }

    /// Counts a block with subnormal values as `f64`.
    ///
    /// # Safety
    /// As for [`LogCounter::block`].
    #[cold]
    unsafe fn wider_block<W: Wide>(&mut self, level: Level, p: *const W, len: usize) {
        let precision = self.counts.precision();
        let wider = self
            .wider
            .get_or_insert_with(|| Box::new(Wider { counter: LogCounter::new(precision, 0), room: vec![0.0; BLOCK] }));
        let len = len.min(BLOCK);
        let subnormal = level.run(WidenKernel { p, room: &mut wider.room[..len], ahead: self.ahead });
        // SAFETY: the room was just filled.
        unsafe { wider.counter.block(level, wider.room.as_ptr(), len) };
        self.subnormals = subnormal > len as u32 / MANY_SUBNORMALS;
    }

    /// Makes the table hold a range of magnitudes found in a block, and some more in case others follow.
    fn cover<W: Wide>(&mut self, range: Option<(u64, u64)>, others_follow: bool) {
        let Some((smallest, largest)) = range else { return };
        let octave = |magnitude: u64| ((magnitude >> W::MANTISSA) as i64 + i64::from(W::OCTAVE_BIAS)) as u32;
        let (mut low, mut end) = (octave(smallest), octave(largest) + 1);
        if others_follow {
            // Octaves of normal numbers only: subnormals have fewer leading bits and infinities none, they are counted apart.
            low = low.saturating_sub(SPARE_BELOW).max(octave(W::MIN_NORMAL));
            end = (end + SPARE_ABOVE).min(octave(W::INFINITY));
        }
        self.flush();
        if self.octaves > 0 {
            (low, end) = (low.min(self.first), end.max(self.first + self.octaves));
        }
        (self.first, self.octaves) = (low, end - low);
        self.clear();
    }

    fn bins(&self) -> usize {
        (2 * self.octaves as usize) << self.precision
    }

    /// An empty table for the octaves, with as many copies as pay.
    fn clear(&mut self) {
        let bins = self.bins();
        self.copies = if bins <= MANY_COPIES_BINS && self.seen >= MANY_VALUES { COPIES } else { 1 };
        self.table.clear();
        self.table.resize((bins + APART) * self.copies, 0);
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
        // What lies beyond the bins is dropped: it was counted apart.
        let table = &self.table[..self.bins() * self.copies];
        if self.copies == COPIES {
            let (pairs, _) = table.as_chunks::<{ 2 * COPIES }>();
            let sum = |copies: &[u32]| copies.iter().map(|&n| u64::from(n)).sum();
            let sums = pairs.iter().map(|pair| [sum(&pair[..COPIES]), sum(&pair[COPIES..])]);
            self.counts.add_octaves(self.first, self.octaves, sums);
        } else {
            let (pairs, _) = table.as_chunks::<2>();
            self.counts.add_octaves(self.first, self.octaves, pairs.iter().map(|pair| pair.map(u64::from)));
        }
        self.table.fill(0);
        self.pending = 0;
    }

    /// Adds everything counted but `specials` to some counts, and begins anew; the table keeps its memory, not its octaves.
    pub fn move_into(&mut self, counts: &mut LogCounts) {
        self.flush();
        let mine = LogCounts::new(self.counts.precision());
        counts.take_in(core::mem::replace(&mut self.counts, mine));
        if let Some(mut wider) = self.wider.take() {
            wider.counter.move_into(counts);
            self.specials.add(&wider.counter.specials);
        }
        self.subnormals = false;
        (self.first, self.octaves, self.seen) = (0, 0, 0);
        self.clear();
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

/// Magnitude bits of the smallest and largest normal value of a block outside a window. Bits in lanes, since the compiler keeps the
/// order of comparisons of floats and would take one value at a time.
struct RangeKernel<W> {
    p: *const W,
    len: usize,
    window: Window,
}

impl<W: Wide> Kernel for RangeKernel<W> {
    type Output = Option<(u64, u64)>;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> Option<(u64, u64)> {
        let (mut min, mut max) = ([u64::MAX; LANES], [0; LANES]);
        let (shift, base, half) = (self.window.shift, u64::from(self.window.base), u64::from(self.window.half));
        let mut take = |lane: usize, x: W| {
            let bits = x.magnitude();
            let normal = bits.wrapping_sub(W::MIN_NORMAL) < W::INFINITY - W::MIN_NORMAL;
            let outside = normal & ((bits >> shift).wrapping_sub(base) >= half);
            min[lane] = min[lane].min(if outside { bits } else { u64::MAX });
            max[lane] = max[lane].max(if outside { bits } else { 0 });
        };
        let whole = self.len - self.len % LANES;
        for i in (0..whole).step_by(LANES) {
            // SAFETY: `LogCounter::block` vouches for `len` elements; an array is as readable as its elements.
            let values = unsafe { self.p.add(i).cast::<[W; LANES]>().read_unaligned() };
            for (lane, &x) in values.iter().enumerate() {
                take(lane, x);
            }
        }
        for i in whole..self.len {
            // SAFETY: as above.
            take(i - whole, unsafe { self.p.add(i).read_unaligned() });
        }
        let min = min.into_iter().fold(u64::MAX, u64::min);
        let max = max.into_iter().fold(0, u64::max);
        (max > 0).then_some((min, max))
    }
}

/// What a block holds beside normal numbers.
#[derive(Clone, Copy, Default)]
struct Unusual {
    nan: u32,
    posinf: u32,
    neginf: u32,
    zero: u32,
    subnormal: u32,
}

impl Unusual {
    fn nonfinite(self) -> u32 {
        self.nan + self.posinf + self.neginf
    }

    fn specials(self) -> Specials {
        Specials { nan: self.nan.into(), posinf: self.posinf.into(), neginf: self.neginf.into() }
    }
}

struct UnusualKernel<W> {
    p: *const W,
    len: usize,
}

impl<W: Wide> Kernel for UnusualKernel<W> {
    type Output = Unusual;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> Unusual {
        let mut found = Unusual::default();
        for i in 0..self.len {
            // SAFETY: `LogCounter::block` vouches for `len` elements.
            let x = unsafe { self.p.add(i).read_unaligned() };
            found.nan += u32::from(x.is_nan());
            found.posinf += u32::from(x == W::INF);
            found.neginf += u32::from(x == W::NEG_INF);
            found.zero += u32::from(x == W::ZERO);
            found.subnormal += u32::from(x.is_subnormal());
        }
        found
    }
}

/// Widens a block; gives the number of subnormal values in it.
struct WidenKernel<'a, W> {
    p: *const W,
    room: &'a mut [f64],
    ahead: usize,
}

impl<W: Wide> Kernel for WidenKernel<'_, W> {
    type Output = u32;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> u32 {
        let (mut p, mut subnormal) = (self.p, 0);
        for group in self.room.chunks_mut(GROUP) {
            prefetch_group(p, self.ahead);
            for (i, slot) in group.iter_mut().enumerate() {
                // SAFETY: `LogCounter::wider_block` vouches for as many elements as there is room for.
                let x = unsafe { p.add(i).read_unaligned() };
                subnormal += u32::from(x.is_subnormal());
                *slot = x.to_f64();
            }
            p = p.wrapping_add(group.len());
        }
        subnormal
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
        let window = self.counter.window::<W>();
        let ahead = self.counter.ahead;
        let half = window.half;
        let table = self.counter.table.as_mut_slice();
        let slot = |lane: usize, x: W| {
            let place = window.place(x).min(half + lane as u32);
            (2 * place + u32::from(x.is_negative())) * COPIES as u32
        };
        let mut increment = |slot: u32, copy: usize, times: u32| {
            // SAFETY: a slot is below `2 * half + APART`, and the table has `COPIES` counters for each.
            unsafe { *table.get_unchecked_mut(slot as usize + copy % COPIES) += times };
        };
        let whole = self.len - self.len % GROUP;
        let mut start = 0;
        while start < whole {
            prefetch_group(self.p.wrapping_add(start), ahead);
            let mut room = Room::<GROUP>::uninit();
            let slots: *mut u32 = room.as_mut_ptr().cast();
            let (mut first, mut different) = (0, 0);
            for i in 0..GROUP {
                // SAFETY: `LogCounter::block` vouches for `len` elements.
                let x = unsafe { self.p.add(start + i).read_unaligned() };
                let s = slot(i % LANES, x);
                first = if i == 0 { s } else { first };
                different |= s ^ first;
                // SAFETY: inside the room.
                unsafe { slots.add(i).write(s) };
            }
            start += GROUP;
            if different == 0 {
                // Equal values would wait for each other, copies or not.
                increment(first, 0, GROUP as u32);
                continue;
            }
            // SAFETY: all of it was just written.
            let (eights, _) = unsafe { room.assume_init_ref() }.as_chunks::<8>();
            for eight in eights {
                for (i, &slot) in eight.iter().enumerate() {
                    increment(slot, i, 1);
                }
            }
        }
        for i in whole..self.len {
            // SAFETY: as above.
            let x = unsafe { self.p.add(i).read_unaligned() };
            increment(slot(i % LANES, x), i, 1);
        }
        let mut all = 0;
        for count in table.iter_mut().skip(2 * half as usize * COPIES) {
            all += *count;
            *count = 0;
        }
        let mut zeros = 0;
        if all > 0 {
            for i in 0..self.len {
                // SAFETY: as above.
                zeros += u32::from(unsafe { self.p.add(i).read_unaligned() } == W::ZERO);
            }
        }
        Apart { zeros, all }
    }
}

/// The numbers of a block that are neither zero nor in the table, one by one.
struct RestKernel<'a, W> {
    p: *const W,
    len: usize,
    window: Window,
    counter: &'a mut LogCounter,
}

impl<W: Wide> RestKernel<'_, W> {
    /// 1 for a value to be counted here, else 0.
    #[inline(always)]
    fn is_rest(&self, x: W) -> u32 {
        u32::from((self.window.place(x) >= self.window.half) & (x != W::ZERO) & (x.abs() < W::INF))
    }
}

impl<W: Wide> Kernel for RestKernel<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        let whole = self.len - self.len % LANES;
        for start in (0..whole).step_by(LANES) {
            // SAFETY: `LogCounter::block` vouches for `len` elements; an array is as readable as its elements.
            let values = unsafe { self.p.add(start).cast::<[W; LANES]>().read_unaligned() };
            // Most groups hold none.
            if values.iter().fold(0, |any, &x| any | self.is_rest(x)) == 0 {
                continue;
            }
            // They are set aside without a branch first: which values they are cannot be predicted.
            let mut aside = [W::ZERO; LANES];
            let mut count = 0;
            for x in values {
                aside[count % LANES] = x;
                count += self.is_rest(x) as usize;
            }
            for x in &aside[..count] {
                self.counter.counts.add(x.to_f64(), 1);
            }
        }
        for i in whole..self.len {
            // SAFETY: as above.
            let x = unsafe { self.p.add(i).read_unaligned() };
            if self.is_rest(x) != 0 {
                self.counter.counts.add(x.to_f64(), 1);
            }
        }
    }
}
