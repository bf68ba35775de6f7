//! Owns the counters of one thread for one axis: how a chunk of any dtype gets into them, and how they end in a [`Histogram`]. Knows
//! nothing of tensors' layout or threads.

use crate::axis::Axis;
use crate::axis::edges::{Edges, Grid};
use crate::dtype::Dtype;
use crate::dtype::element::Element;
use crate::histogram::{Bins, Histogram, add_all};
use crate::kernel::BLOCK;
use crate::kernel::histogram::bytes::{count_bytes, element_of_byte};
use crate::kernel::histogram::linear::LinearCounter;
use crate::kernel::histogram::log::LogCounter;
use crate::kernel::histogram::ranks::{RankCounter, Specials};
use crate::kernel::wide_block::WideBlock;
use crate::memory::chunks::count_chunks;
use crate::memory::view::TensorView;
use crate::number::Number;
use crate::parallel::scan::Options;
use crate::simd::as_wide::AsWide;
use crate::simd::level::Level;
use crate::simd::level::in_standard_mode;
use crate::simd::prefetch::AHEAD;
use crate::with_element;

/// Counters of one thread; memory is kept from tensor to tensor.
pub(crate) struct Counter<'a> {
    table: Table<'a>,
    room: WideBlock,
    /// How often each byte was seen, and of which one-byte dtype.
    codes: [u64; 256],
    coded: Option<Dtype>,
}

enum Table<'a> {
    Edges(&'a Edges, RankCounter<'a>),
    Log(LogCounter),
    Linear(LinearCounter),
}

impl<'a> Counter<'a> {
    /// All zero.
    pub(crate) fn new(axis: &'a Axis) -> Self {
        Self::reading_ahead(axis, AHEAD)
    }

    /// The same; memory `ahead` bytes further on is asked for while values are counted.
    pub(crate) fn reading_ahead(axis: &'a Axis, ahead: usize) -> Self {
        let table = match axis {
            Axis::LogLinear { precision } => Table::Log(LogCounter::new(*precision, ahead)),
            Axis::Linear { bins } => Table::Linear(LinearCounter::new(*bins)),
            Axis::Regular { edges, .. } | Axis::Variable { edges } => {
                Table::Edges(edges, RankCounter::new(edges, ahead))
            }
        };
        Self { table, room: WideBlock::reading_ahead(ahead), codes: [0; 256], coded: None }
    }

    /// Counts a chunk. All chunks between two calls of [`Counter::move_into`] have one dtype.
    ///
    /// # Safety
    /// `p` must be readable for `len` elements; it need not be aligned.
    pub(crate) unsafe fn chunk<E: AsWide>(&mut self, level: Level, p: *const E, len: usize) {
        if size_of::<E>() == 1 {
            self.coded = Some(E::DTYPE);
            // SAFETY: `len` elements of one byte.
            unsafe { count_bytes(level, p.cast(), len, &mut self.codes) };
            return;
        }
        let mut start = 0;
        while start < len {
            let n = BLOCK.min(len - start);
            let block = p.wrapping_add(start);
            // SAFETY: a part of the chunk.
            unsafe {
                match &mut self.table {
                    Table::Log(counter) => counter.block(level, self.room.widen(level, block, n), n),
                    Table::Linear(counter) if E::MAY_BE_CUT => counter.integers(level, block, n),
                    Table::Linear(counter) => counter.block(level, self.room.widen(level, block, n), n),
                    Table::Edges(edges, counter) => count_ranks(level, edges, counter, &mut self.room, block, n),
                }
            }
            start += n;
        }
    }

    /// Adds everything counted to a histogram of the same axis, and begins anew.
    pub(crate) fn move_into(&mut self, histogram: &mut Histogram) {
        if let Some(dtype) = self.coded.take() {
            with_element!(dtype, E => in_standard_mode(|| add_bytes::<E>(histogram, &self.codes)));
            self.codes = [0; 256];
            return;
        }
        match (&mut self.table, &mut histogram.bins) {
            (Table::Log(counter), Bins::Log(counts)) => {
                counter.move_into(counts);
                histogram.specials.add(&core::mem::take(&mut counter.specials));
            }
            (Table::Linear(counter), Bins::Linear(counts)) => {
                counter.move_into(counts);
                histogram.specials.add(&core::mem::take(&mut counter.specials));
            }
            (Table::Edges(_, counter), Bins::Edges(ranks)) => {
                add_all(ranks, counter.flushed());
                counter.clear();
                histogram.specials.add(&core::mem::take(&mut counter.specials));
            }
            _ => {}
        }
    }
}

/// Counts each of the 256 values of a one-byte dtype as often as it was seen.
fn add_bytes<E: AsWide>(histogram: &mut Histogram, codes: &[u64; 256]) {
    for code in 0..=u8::MAX {
        let times = codes[usize::from(code)];
        let Some(element) = element_of_byte::<E>(code).filter(|_| times > 0) else { continue };
        let x = element.to_f64();
        histogram.specials.add(&Specials {
            nan: if x.is_nan() { times } else { 0 },
            posinf: if x == f64::INFINITY { times } else { 0 },
            neginf: if x == f64::NEG_INFINITY { times } else { 0 },
        });
        match (&mut histogram.bins, histogram.axis.edges()) {
            (Bins::Log(counts), _) => counts.add(x, times),
            (Bins::Linear(counts), _) if x.is_finite() => counts.add(Number::Float(x), times),
            (Bins::Edges(ranks), Some(edges)) if !x.is_nan() => {
                let rank = rank_of(edges, Number::Float(x), x);
                if let Some(count) = ranks.get_mut(rank) {
                    *count += times;
                }
            }
            _ => {}
        }
    }
}

/// Counts a block into an edge table.
///
/// # Safety
/// `p` must be readable for `len` elements, at most [`BLOCK`].
unsafe fn count_ranks<E: AsWide>(
    level: Level,
    edges: &Edges,
    counter: &mut RankCounter<'_>,
    room: &mut WideBlock,
    p: *const E,
    len: usize,
) {
    let grid = match (E::DTYPE.is_integer(), <E::Wide as Element>::DTYPE == crate::Dtype::F32) {
        (_, true) => Grid::F32,
        (true, false) => Grid::Int,
        (false, false) => Grid::F64,
    };
    if E::MAY_BE_CUT {
        // SAFETY: the caller vouches for `len` elements.
        let at = |i: usize| unsafe { p.add(i).read_unaligned() };
        if (0..len).any(|i| at(i).is_cut()) {
            in_standard_mode(|| {
                for i in 0..len {
                    counter.add(rank_of(edges, Number::Int(at(i).to_i128()), at(i).wide().to_f64()), 1);
                }
            });
            return;
        }
    }
    // SAFETY: as the caller vouches.
    unsafe { counter.block(level, room.widen(level, p, len), len, grid) };
}

/// How many edges are at most `x`, the last edge counting as part of the last bin. `near` is `x` or the next number towards zero that a
/// float holds.
fn rank_of(edges: &Edges, x: Number, near: f64) -> usize {
    let values = edges.values();
    let mut rank = edges.guide().rank(near);
    while values.get(rank).is_some_and(|&e| Number::Float(e).compare(x).is_le()) {
        rank += 1;
    }
    while rank > 0 && values.get(rank - 1).is_some_and(|&e| Number::Float(e).compare(x).is_gt()) {
        rank -= 1;
    }
    if rank == values.len() && Number::Float(edges.stop()).compare(x).is_eq() { rank - 1 } else { rank }
}

impl Histogram {
    /// Of one tensor.
    pub fn of(view: &TensorView<'_>, axis: &Axis, options: &Options<'_>) -> Self {
        let mut histogram = Self::new(axis.clone());
        with_element!(view.dtype(), E => histogram.count::<E>(view, options));
        histogram
    }

    fn count<E: AsWide>(&mut self, view: &TensorView<'_>, options: &Options<'_>) {
        let (axis, level) = (self.axis.clone(), options.level);
        let add = |counter: &mut Counter<'_>, p: *const E, len: usize| {
            // SAFETY: `count_chunks` hands out `len` elements.
            unsafe { counter.chunk::<E>(level, p, len) };
        };
        // SAFETY: the view is borrowed, and `with_element` chose `E` by its dtype.
        let parts = unsafe { count_chunks::<E, _>(&view.memory_order(), options, || Counter::new(&axis), add) };
        for mut counter in parts {
            counter.move_into(self);
        }
        self.seen(view);
    }
}
