//! Owns the counters of one thread for an edge table, and the counts of what is in no bin. Knows nothing of tensors, dtypes or threads.

use crate::axis::edges::Edges;
use crate::simd::wide::Wide;

/// Counters that stay in the first-level cache allow eight copies; beyond that four have to do.
pub(super) const MANY_COPIES_SLOTS: usize = 1024;

/// What is counted beside the bins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Specials {
    /// Not a number.
    pub nan: u64,
    /// Positive infinity.
    pub posinf: u64,
    /// Negative infinity.
    pub neginf: u64,
}

impl Specials {
    /// Sum of both.
    pub fn add(&mut self, other: &Self) {
        self.nan = self.nan.wrapping_add(other.nan);
        self.posinf = self.posinf.wrapping_add(other.posinf);
        self.neginf = self.neginf.wrapping_add(other.neginf);
    }

    /// Counts a block in which there are some.
    ///
    /// # Safety
    /// `p` must be readable for `len` elements.
    #[inline(always)]
    pub(crate) unsafe fn count<W: Wide>(&mut self, p: *const W, len: usize) {
        let (mut nan, mut posinf, mut neginf) = (0_u32, 0_u32, 0_u32);
        for i in 0..len {
            // SAFETY: inside.
            let x = unsafe { p.add(i).read_unaligned() };
            nan += u32::from(x.magnitude() > W::INFINITY);
            posinf += u32::from(x == W::INF);
            neginf += u32::from(x.magnitude() == W::INFINITY && x.is_negative());
        }
        self.nan += u64::from(nan);
        self.posinf += u64::from(posinf);
        self.neginf += u64::from(neginf);
    }
}

/// Counters that are quicker to count into than those of ranks, [`FASTER_COPIES`] side by side, and slower to add up.
pub(super) enum Faster {
    /// Not in use.
    None,
    /// Of each pair of ranks: one increment for two values.
    Pairs(Vec<u32>),
    /// Of each slot of a table of cells, for values of `f32` or else of `f64`.
    Cells {
        /// The counters.
        table: Vec<u32>,
        /// Whether values are `f32`.
        single: bool,
    },
}

/// As many as let neighbours with the same value be counted without waiting for each other.
pub(super) const FASTER_COPIES: usize = 4;

/// The counters of one thread for one edge table.
pub struct RankCounter<'a> {
    pub(super) edges: &'a Edges,
    /// Counters of each rank (how many edges are at most the value), `copies` side by side.
    pub(super) table: Vec<u32>,
    pub(super) copies: usize,
    pub(super) pending: u64,
    pub(super) ranks: Vec<u64>,
    /// Counters of what takes the place of ranks after many values.
    pub(super) faster: Faster,
    /// Blocks before pairs are tried again.
    pub(super) pause: u32,
    /// Bytes to read ahead.
    pub(super) ahead: usize,
    /// NaN and infinities.
    pub specials: Specials,
}

/// Counters of each rank, side by side.
fn copies_of(slots: usize) -> usize {
    if slots <= MANY_COPIES_SLOTS { 8 } else { 4 }
}

/// What the counters of one thread take for so many ranks, tables that find ranks faster aside: those are bounded.
pub(crate) fn bytes_of_counter(slots: usize) -> u64 {
    slots as u64 * (size_of::<u64>() + copies_of(slots) * size_of::<u32>()) as u64
}

impl<'a> RankCounter<'a> {
    /// All zero.
    pub fn new(edges: &'a Edges, ahead: usize) -> Self {
        let slots = edges.values().len() + 1;
        let copies = copies_of(slots);
        Self {
            edges,
            table: vec![0; slots * copies],
            copies,
            pending: 0,
            ranks: vec![0; slots],
            faster: Faster::None,
            pause: 0,
            ahead,
            specials: Specials::default(),
        }
    }

    /// Counts `times` values whose rank is known; a last edge is its own business.
    pub fn add(&mut self, rank: usize, times: u64) {
        if let Some(count) = self.ranks.get_mut(rank) {
            *count = count.wrapping_add(times);
        }
    }

    pub(super) fn flush(&mut self) {
        if self.pending == 0 {
            return;
        }
        for (total, counts) in self.ranks.iter_mut().zip(self.table.chunks_exact_mut(self.copies)) {
            for count in counts {
                *total = total.wrapping_add(u64::from(*count));
                *count = 0;
            }
        }
        self.pending = 0;
        let add = |ranks: &mut Vec<u64>, rank: usize, times: u64| {
            if let Some(count) = ranks.get_mut(rank) {
                *count = count.wrapping_add(times);
            }
        };
        let sums = |table: &[u32]| -> Vec<u64> {
            let (copies, _) = table.as_chunks::<FASTER_COPIES>();
            copies.iter().map(|copies| copies.iter().map(|&n| u64::from(n)).sum()).collect()
        };
        match core::mem::replace(&mut self.faster, Faster::None) {
            Faster::None => {}
            Faster::Pairs(table) => {
                let slots = self.ranks.len();
                for (pair, times) in sums(&table).into_iter().enumerate().filter(|&(_, n)| n > 0) {
                    add(&mut self.ranks, pair / slots, times);
                    add(&mut self.ranks, pair % slots, times);
                }
            }
            Faster::Cells { table, single } => {
                let Some(cells) = self.edges.cells(single) else { return };
                for (&rank, times) in cells.ranks.iter().zip(sums(&table)) {
                    add(&mut self.ranks, rank as usize, times);
                }
            }
        }
    }

    /// Counts by rank: below the first edge, then the bins, then beyond the last edge. NaN is in none of them.
    pub fn flushed(&mut self) -> &[u64] {
        self.flush();
        &self.ranks
    }

    /// Forgets all counts by rank.
    pub fn clear(&mut self) {
        self.flush();
        self.ranks.fill(0);
    }

    /// Counts NaN and infinities of a block that has `some` of them, and takes NaN out of the rank that it was counted in.
    ///
    /// # Safety
    /// `p` must be readable for `len` elements.
    #[inline(always)]
    pub(super) unsafe fn count_specials<W: Wide>(&mut self, p: *const W, len: usize, some: u32, nan_rank: usize) {
        if some == 0 {
            return;
        }
        let before = self.specials.nan;
        // SAFETY: as the caller vouches.
        unsafe { self.specials.count(p, len) };
        let nan = self.specials.nan - before;
        if let Some(count) = self.ranks.get_mut(nan_rank) {
            *count = count.wrapping_sub(nan);
        }
    }

    pub(super) fn move_counts(&mut self, from: usize, to: usize, times: u32) {
        // Wrapping: the counts themselves may still wait in the table.
        let times = u64::from(times);
        if times == 0 {
            return;
        }
        if let Some(count) = self.ranks.get_mut(from) {
            *count = count.wrapping_sub(times);
        }
        self.add(to, times);
    }
}
