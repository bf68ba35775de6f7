//! Owns the counting of a block of wide floats into the bins of an edge table. Knows nothing of tensors, dtypes or threads.
//!
//! Per group of 128 values the bins are computed without a branch and then counted one by one, each into its own copy of the counters:
//! on equal neighbours a single counter would make every increment wait for the one before it.

use crate::Dtype;
use crate::axis::edges::Grid;
use crate::axis::edges::{Edges, Method, Soft};
use crate::kernel::histogram::fast::{GROUP, Groups, count_cells, count_pairs, prefetch_group};
use crate::kernel::histogram::ranks::FASTER_COPIES;
use crate::kernel::histogram::ranks::{Faster, RankCounter};
use crate::simd::lanes::Lanes;
use crate::simd::level::Kernel;
use crate::simd::level::Level;
use crate::simd::wide::Wide;

/// Values after which a bigger table of counters, which counts faster, is worth clearing and adding up.
const MANY_VALUES: u64 = 1 << 17;

/// Values after which 32-bit counters are emptied into 64-bit ones.
const FLUSH: u64 = 1 << 31;

impl RankCounter<'_> {
    /// Counts a block of at most [`crate::kernel::grid::BLOCK`] values.
    ///
    /// # Safety
    /// `p` must be readable for `len` elements; it need not be aligned.
    pub unsafe fn block<W: Wide>(&mut self, level: Level, p: *const W, len: usize, grid: Grid) {
        let method = self.edges.method(grid);
        self.pending += len as u64;
        if self.pending > MANY_VALUES && matches!(self.faster, Faster::None) {
            self.hurry::<W>(method);
        }
        if self.copies == 8 {
            level.run(BlockKernel::<W, 8> { p, len, method, counter: self });
        } else {
            level.run(BlockKernel::<W, 4> { p, len, method, counter: self });
        }
        if self.pending > FLUSH {
            self.flush();
        }
    }

    /// Takes faster counters into use, where there are some for this axis and type.
    fn hurry<W: Wide>(&mut self, method: Method) {
        let single = W::DTYPE == Dtype::F32;
        let slots = self.ranks.len();
        if method == Method::Search {
            if let Some(cells) = self.edges.cells(single) {
                self.faster = Faster::Cells { table: vec![0; cells.ranks.len() * FASTER_COPIES], single };
            }
        } else if single && self.edges.narrow().is_some() {
            self.faster = Faster::Pairs(vec![0; slots * slots * FASTER_COPIES]);
        }
    }
}

/// Counts of one block that are taken from comparisons rather than from bins.
#[derive(Clone, Copy, Default)]
struct Apart {
    below: u32,
    at_stop: u32,
    soft: u32,
    nonfinite: u32,
}

/// Blocks that are counted by ranks alone after one in which pairs were often in doubt: the next ones likely are like it.
const PAUSE: u32 = 32;

/// One block, counted into the table.
pub(super) struct BlockKernel<'c, 'a, W, const COPIES: usize> {
    pub(super) p: *const W,
    pub(super) len: usize,
    pub(super) method: Method,
    pub(super) counter: &'c mut RankCounter<'a>,
}

impl<W: Wide, const COPIES: usize> Kernel for BlockKernel<'_, '_, W, COPIES> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        let Self { p, len, method, counter } = self;
        let (edges, ahead) = (counter.edges, counter.ahead);
        let last = edges.values().len();
        let single = W::DTYPE == Dtype::F32;
        let groups = match &mut counter.faster {
            Faster::Cells { table, single: of_single } if *of_single == single => {
                if let Some(cells) = edges.cells(single) {
                    // SAFETY: `RankCounter::block` vouches for `len` elements, and `RankCounter::hurry` made the table for these cells.
                    let nonfinite = unsafe { count_cells(p, len, cells, table, ahead) };
                    // SAFETY: as above.
                    unsafe { counter.count_specials(p, len, nonfinite, last) };
                    return;
                }
                Groups::all(len)
            }
            Faster::Pairs(table) if single && counter.pause == 0 => match edges.narrow() {
                Some(narrow) => {
                    // SAFETY: as above; `f32` is what `W` is.
                    let doubted = unsafe { count_pairs(p.cast(), len, narrow, last + 1, table, ahead) };
                    if doubted.starts().len() > len / GROUP / 4 {
                        counter.pause = PAUSE;
                    }
                    doubted
                }
                None => Groups::all(len),
            },
            _ => {
                counter.pause = counter.pause.saturating_sub(1);
                Groups::all(len)
            }
        };
        if groups.starts().is_empty() {
            return;
        }
        let soft = if let Method::Guess { soft, .. } = method { soft } else { None };
        let watch = Watch::new(edges, soft);
        let table = counter.table.as_mut_slice();
        // SAFETY: `RankCounter::block` vouches for `len` elements. A guess is clamped to the slots, a corrected guess is a bin whose bounds
        // hold the value, and a searched rank is at most the number of edges.
        let (apart, nan_rank, below_from) = unsafe {
            match method {
                Method::Guess { scale, .. } => {
                    let bin = GuessBin::new(edges, scale);
                    (
                        each_group::<W, COPIES>(
                            p,
                            len,
                            (&groups, ahead),
                            table,
                            watch,
                            |x| (bin.of(x) as u32, false),
                            |_, _| 0,
                        ),
                        1,
                        1,
                    )
                }
                Method::Compare { scale, doubt } => {
                    let (bin, lower) = (GuessBin::new(edges, scale), edges.lower());
                    let check = |i, x| corrected(lower, i, x);
                    (
                        each_group::<W, COPIES>(
                            p,
                            len,
                            (&groups, ahead),
                            table,
                            watch,
                            |x| bin.doubted(x, doubt),
                            check,
                        ),
                        1,
                        1,
                    )
                }
                Method::Search => {
                    let guide = edges.guide();
                    let rank = |x: W| (guide.rank(x.to_f64()) as u32, false);
                    (each_group::<W, COPIES>(p, len, (&groups, ahead), table, watch, rank, |_, _| 0), last, 0)
                }
            }
        };
        counter.move_counts(below_from, 0, if below_from == 0 { 0 } else { apart.below });
        counter.move_counts(last, last - 1, apart.at_stop);
        if let Some(soft) = soft {
            counter.move_counts(soft.guessed + 1, soft.right + 1, apart.soft);
        }
        // SAFETY: as above.
        unsafe { counter.count_specials(p, len, apart.nonfinite, nan_rank) };
    }
}

/// What is compared beside the search for a bin.
#[derive(Clone, Copy)]
struct Watch<W> {
    start: W,
    stop: W,
    from: W,
    to: W,
}

impl<W: Wide> Watch<W> {
    #[inline(always)]
    fn new(edges: &Edges, soft: Option<Soft>) -> Self {
        let nearest = W::at_least(edges.stop());
        // A last edge that the type cannot hold is never hit.
        let stop = if nearest.to_f64() == edges.stop() { nearest } else { W::NAN };
        let (from, to) = soft.map_or((W::NAN, W::NAN), |s| (W::at_least(s.from), W::at_least(s.to)));
        Self { start: W::at_least(edges.start()), stop, from, to }
    }

    /// # Safety
    /// `p` must be readable for `count` elements.
    #[inline(always)]
    unsafe fn look(self, p: *const W, count: usize, apart: &mut Apart) {
        let (mut below, mut at_stop, mut soft, mut nonfinite) = (0_u32, 0_u32, 0_u32, 0_u32);
        for i in 0..count {
            // SAFETY: inside.
            let x = unsafe { p.add(i).read_unaligned() };
            below += u32::from(x < self.start);
            at_stop += u32::from(x == self.stop);
            soft += u32::from((x >= self.from) & (x < self.to));
            nonfinite += u32::from(x.magnitude() >= W::INFINITY);
        }
        apart.below += below;
        apart.at_stop += at_stop;
        apart.soft += soft;
        apart.nonfinite += nonfinite;
    }
}

/// The first guess of a bin.
#[derive(Clone, Copy)]
struct GuessBin {
    start: f64,
    scale: f64,
    bins: f64,
}

impl GuessBin {
    #[inline(always)]
    fn new(edges: &Edges, scale: f64) -> Self {
        Self { start: edges.start(), scale, bins: (edges.values().len() - 1) as f64 }
    }

    #[inline(always)]
    fn place<W: Wide>(self, x: W) -> f64 {
        (x.to_f64() - self.start) * self.scale
    }

    /// Between 0 and the number of bins; NaN becomes 0.
    #[inline(always)]
    fn clamp(self, t: f64) -> f64 {
        let t = if t > 0.0 { t } else { 0.0 };
        if t < self.bins { t } else { self.bins }
    }

    /// The rank: the whole part of the place, plus one.
    #[inline(always)]
    fn of<W: Wide>(self, x: W) -> i32 {
        // SAFETY: clamped to [0, 2^24].
        1 + unsafe { self.clamp(self.place(x)).to_int_unchecked::<i32>() }
    }

    /// The rank, and whether the place is close to a whole number in range.
    #[inline(always)]
    fn doubted<W: Wide>(self, x: W, doubt: f64) -> (u32, bool) {
        let t = self.place(x);
        let inside = self.clamp(t);
        // SAFETY: clamped to [0, 2^24], so half more is in range too.
        let (bin, nearest) = unsafe { (inside.to_int_unchecked::<i32>(), (inside + 0.5).to_int_unchecked::<i32>()) };
        ((1 + bin) as u32, (t - f64::from(nearest)).abs() <= doubt)
    }
}

/// The rank next to a guessed one whose bounds hold `x`. The guess is at most one off.
#[inline(always)]
fn corrected<W: Wide>(lower: &[f64], guessed: u32, x: W) -> u32 {
    let x = x.to_f64();
    let bin = guessed as usize - 1;
    // SAFETY: a guessed bin is at most the number of bins, and `lower` has two entries more than there are bins. The first is -inf, so
    // that bin 0 is never lowered; the one after the last edge is NaN, so that the last is never raised.
    let (low, high) = unsafe { (*lower.get_unchecked(bin), *lower.get_unchecked(bin + 1)) };
    guessed - u32::from(x < low) + u32::from(x >= high)
}

/// Computes and counts ranks of some groups of a block. Where `rank` doubts one of a group, all of the group go through `check`.
///
/// # Safety
/// `p` must be readable for `len` elements; all ranks times `COPIES` must be inside `table`.
#[inline(always)]
unsafe fn each_group<W: Wide, const COPIES: usize>(
    p: *const W,
    len: usize,
    (groups, ahead): (&Groups, usize),
    table: &mut [u32],
    watch: Watch<W>,
    rank: impl Fn(W) -> (u32, bool),
    check: impl Fn(u32, W) -> u32,
) -> Apart {
    let mut apart = Apart::default();
    for &start in groups.starts() {
        let start = usize::from(start);
        let count = GROUP.min(len - start);
        let mut ranks = [0_u32; GROUP];
        let mut doubts = 0_u32;
        let group = p.wrapping_add(start);
        // SAFETY: the group lies inside the block.
        let at = |i: usize| unsafe { group.add(i).read_unaligned() };
        let mut find = |(i, slot): (usize, &mut u32)| {
            let (found, doubted) = rank(at(i));
            *slot = found;
            doubts |= u32::from(doubted);
        };
        if count == GROUP {
            prefetch_group(group, ahead);
            // SAFETY: as above.
            unsafe { watch.look(group, GROUP, &mut apart) };
            ranks.iter_mut().enumerate().for_each(&mut find);
        } else {
            // SAFETY: as above.
            unsafe { watch.look(group, count, &mut apart) };
            ranks.iter_mut().enumerate().take(count).for_each(&mut find);
        }
        if doubts != 0 {
            for (i, slot) in ranks.iter_mut().enumerate().take(count) {
                *slot = check(*slot, at(i));
            }
        }
        // SAFETY: the caller vouches for the ranks.
        unsafe { increment::<COPIES>(table, &ranks, count) };
    }
    apart
}

/// # Safety
/// Every rank times `COPIES` must be inside `table`.
#[inline(always)]
unsafe fn increment<const COPIES: usize>(table: &mut [u32], ranks: &[u32; GROUP], count: usize) {
    let mut one = |rank: u32, copy: usize| {
        // SAFETY: the caller vouches for the ranks.
        unsafe { *table.get_unchecked_mut(rank as usize * COPIES + copy % COPIES) += 1 };
    };
    if count == GROUP {
        let (eights, _) = ranks.as_chunks::<8>();
        for eight in eights {
            for (i, &rank) in eight.iter().enumerate() {
                one(rank, i);
            }
        }
    } else {
        for (i, &rank) in ranks.iter().enumerate().take(count) {
            one(rank, i);
        }
    }
}
