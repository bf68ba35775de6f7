//! Owns the counters of one thread for an edge table, and the counts of what is in no bin. Knows nothing of tensors, dtypes or threads.

use super::bins_block::BlockKernel;
use super::wide::Wide;
use crate::histogram_edges::{Edges, Grid};
use crate::level::Level;

/// Counters that stay in the first-level cache allow eight copies; beyond that two have to do.
const MANY_COPIES_SLOTS: usize = 1024;

/// Values after which 32-bit counters are emptied into 64-bit ones.
const FLUSH: u64 = 1 << 31;

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
    pub(super) unsafe fn count<W: Wide>(&mut self, p: *const W, len: usize) {
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

/// The counters of one thread for one edge table.
pub struct RankCounter<'a> {
    pub(super) edges: &'a Edges,
    /// Counters of each rank (how many edges are at most the value), `copies` side by side.
    pub(super) table: Vec<u32>,
    copies: usize,
    pending: u64,
    pub(super) ranks: Vec<u64>,
    /// NaN and infinities.
    pub specials: Specials,
}

impl<'a> RankCounter<'a> {
    /// All zero.
    pub fn new(edges: &'a Edges) -> Self {
        let slots = edges.values().len() + 1;
        let copies = if slots <= MANY_COPIES_SLOTS { 8 } else { 2 };
        Self {
            edges,
            table: vec![0; slots * copies],
            copies,
            pending: 0,
            ranks: vec![0; slots],
            specials: Specials::default(),
        }
    }

    /// Counts a block of at most [`super::BLOCK`] values.
    ///
    /// # Safety
    /// `p` must be readable for `len` elements; it need not be aligned.
    pub unsafe fn block<W: Wide>(&mut self, level: Level, p: *const W, len: usize, grid: Grid) {
        let method = self.edges.method(grid);
        self.pending += len as u64;
        if self.copies == 8 {
            level.run(BlockKernel::<W, 8> { p, len, method, counter: self });
        } else {
            level.run(BlockKernel::<W, 2> { p, len, method, counter: self });
        }
        if self.pending > FLUSH {
            self.flush();
        }
    }

    /// Counts `times` values whose rank is known; a last edge is its own business.
    pub fn add(&mut self, rank: usize, times: u64) {
        if let Some(count) = self.ranks.get_mut(rank) {
            *count = count.wrapping_add(times);
        }
    }

    fn flush(&mut self) {
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
