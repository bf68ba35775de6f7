//! Owns the mergeable histogram of any number of tensors: how a tensor is counted into it and how two of them merge. Knows nothing of
//! Python.

use crate::axis::Axis;
use crate::chunks::count_chunks;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::histogram_edges::{Edges, Grid};
use crate::histogram_log::LogCounts;
use crate::kernel::BLOCK;
use crate::kernel::bins::{RankCounter, Specials};
use crate::kernel::bins_log::LogCounter;
use crate::kernel::bytes::{count_bytes, element_of_byte};
use crate::kernel::wide::{AsWide, in_standard_mode};
use crate::kernel::wide_block::WideBlock;
use crate::level::Level;
use crate::number::Number;
use crate::scan::Options;
use crate::view::TensorView;
use crate::with_element;

/// Counts of an axis.
#[derive(Clone, Debug)]
pub enum Bins {
    /// Below the first edge (-inf included), each bin, beyond the last edge (+inf included).
    Edges(Vec<u64>),
    /// By sign, octave and leading bits.
    Log(LogCounts),
}

/// A mergeable histogram with exact counts. NaN is in no bin; infinities are in the flow bins, and counted apart too.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// How values are put into bins.
    pub axis: Axis,
    /// The counts.
    pub bins: Bins,
    /// NaN and infinities.
    pub specials: Specials,
    /// Mantissa bits at which every bin holds a single value of the dtypes seen.
    pub value_bits: u8,
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        self.axis == other.axis && self.to_bytes() == other.to_bytes()
    }
}

impl Histogram {
    /// Of nothing.
    pub fn new(axis: Axis) -> Self {
        let bins = match &axis {
            Axis::LogLinear { precision } => Bins::Log(LogCounts::new(*precision)),
            Axis::Regular { edges, .. } | Axis::Variable { edges } => Bins::Edges(vec![0; edges.values().len() + 1]),
        };
        Self { axis, bins, specials: Specials::default(), value_bits: 0 }
    }

    /// Of one tensor.
    pub fn of(view: &TensorView<'_>, axis: &Axis, options: &Options<'_>) -> Self {
        let mut histogram = Self::new(axis.clone());
        with_element!(view.dtype(), E => histogram.count::<E>(view, options));
        histogram
    }

    /// Takes in another histogram of the same axis.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.axis != other.axis {
            return Err(Error::Incompatible(format!(
                "cannot merge histograms of different axes: {} and {}",
                self.axis, other.axis
            )));
        }
        match (&mut self.bins, &other.bins) {
            (Bins::Edges(mine), Bins::Edges(theirs)) => add_all(mine, theirs),
            (Bins::Log(mine), Bins::Log(theirs)) => mine.merge(theirs),
            _ => return Err(Error::Incompatible("cannot merge histograms with different bins".to_owned())),
        }
        self.specials.add(&other.specials);
        self.value_bits = self.value_bits.max(other.value_bits);
        Ok(())
    }

    /// The same values counted with fewer mantissa bits.
    pub fn lower_precision(&self, precision: i64) -> Result<Self> {
        let (Axis::LogLinear { precision: now }, Bins::Log(counts)) = (&self.axis, &self.bins) else {
            return Err(Error::Argument(format!("only a LogLinear axis has a precision to lower, got: {}", self.axis)));
        };
        match u8::try_from(precision) {
            Ok(lower) if lower <= *now => Ok(Self {
                axis: Axis::LogLinear { precision: lower },
                bins: Bins::Log(counts.lowered(lower)),
                ..self.clone()
            }),
            _ => Err(Error::Argument(format!(
                "precision can only be lowered to a value in [0, {now}], got: {precision}"
            ))),
        }
    }

    /// All values, NaN included.
    pub fn count_all(&self) -> u64 {
        self.count_numbers().wrapping_add(self.specials.nan)
    }

    /// All values but NaN.
    pub fn count_numbers(&self) -> u64 {
        match &self.bins {
            Bins::Edges(ranks) => ranks.iter().fold(0, |sum, &n| sum.wrapping_add(n)),
            Bins::Log(counts) => counts.total().wrapping_add(self.specials.posinf).wrapping_add(self.specials.neginf),
        }
    }

    /// Values below the first edge; of a range without end, -inf.
    pub fn underflow(&self) -> u64 {
        match &self.bins {
            Bins::Edges(ranks) => ranks.first().copied().unwrap_or(0),
            Bins::Log(_) => self.specials.neginf,
        }
    }

    /// Values beyond the last edge; of a range without end, +inf.
    pub fn overflow(&self) -> u64 {
        match &self.bins {
            Bins::Edges(ranks) => ranks.last().copied().unwrap_or(0),
            Bins::Log(_) => self.specials.posinf,
        }
    }

    /// Edges and the counts between them, flow bins left out.
    pub fn dense(&self) -> (Vec<f64>, Vec<u64>) {
        match (&self.bins, self.axis.edges()) {
            (Bins::Edges(ranks), Some(edges)) => {
                (edges.values().to_vec(), ranks.get(1..ranks.len() - 1).unwrap_or_default().to_vec())
            }
            (Bins::Log(counts), _) => counts.dense(),
            _ => (Vec::new(), Vec::new()),
        }
    }

    fn count<E: AsWide>(&mut self, view: &TensorView<'_>, options: &Options<'_>) {
        self.value_bits = if view.count() == 0 { 0 } else { E::BITS };
        let (axis, level) = (self.axis.clone(), options.level);
        if size_of::<E>() == 1 {
            let add = |counts: &mut [u64; 256], p: *const E, len: usize| {
                // SAFETY: `count_chunks` hands out `len` elements of one byte.
                unsafe { count_bytes(level, p.cast(), len, counts) };
            };
            // SAFETY: the view is borrowed, and `with_element` chose `E` by its dtype.
            let parts = unsafe { count_chunks::<E, _>(&view.memory_order(), options, || [0_u64; 256], add) };
            in_standard_mode(|| self.add_bytes::<E>(&parts));
            return;
        }
        match axis {
            Axis::LogLinear { precision } => {
                let local = || (LogCounter::new(precision), WideBlock::<E::Wide>::new());
                let add = |(counter, room): &mut (LogCounter, WideBlock<E::Wide>), p: *const E, len: usize| {
                    each_block(p, len, |p, n| {
                        // SAFETY: a part of the chunk.
                        unsafe { counter.block(level, room.widen(level, p, n), n) };
                    });
                };
                // SAFETY: as above.
                for (counter, _) in unsafe { count_chunks::<E, _>(&view.memory_order(), options, local, add) } {
                    self.specials.add(&counter.specials);
                    if let Bins::Log(counts) = &mut self.bins {
                        counts.merge(&counter.finish());
                    }
                }
            }
            Axis::Regular { edges, .. } | Axis::Variable { edges } => {
                let local = || (RankCounter::new(&edges), WideBlock::<E::Wide>::new());
                let add = |(counter, room): &mut (RankCounter<'_>, WideBlock<E::Wide>), p: *const E, len: usize| {
                    each_block(p, len, |p, n| {
                        // SAFETY: a part of the chunk.
                        unsafe { count_ranks::<E>(level, &edges, counter, room, p, n) };
                    });
                };
                // SAFETY: as above.
                for (counter, _) in unsafe { count_chunks::<E, _>(&view.memory_order(), options, local, add) } {
                    self.specials.add(&counter.specials);
                    if let Bins::Edges(ranks) = &mut self.bins {
                        add_all(ranks, &counter.finish());
                    }
                }
            }
        }
    }

    /// Counts each of the 256 values of a one-byte dtype as often as it was seen.
    fn add_bytes<E: AsWide>(&mut self, parts: &[[u64; 256]]) {
        for code in 0..=u8::MAX {
            let times: u64 = parts.iter().map(|counts| counts[usize::from(code)]).sum();
            let Some(element) = element_of_byte::<E>(code).filter(|_| times > 0) else { continue };
            let x = element.to_f64();
            self.specials.add(&Specials {
                nan: if x.is_nan() { times } else { 0 },
                posinf: if x == f64::INFINITY { times } else { 0 },
                neginf: if x == f64::NEG_INFINITY { times } else { 0 },
            });
            match (&mut self.bins, self.axis.edges()) {
                (Bins::Log(counts), _) => counts.add(x, times),
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
}

fn add_all(mine: &mut [u64], theirs: &[u64]) {
    for (a, b) in mine.iter_mut().zip(theirs) {
        *a = a.wrapping_add(*b);
    }
}

/// Calls `block` with the parts of a chunk.
fn each_block<E>(p: *const E, len: usize, mut block: impl FnMut(*const E, usize)) {
    let mut start = 0;
    while start < len {
        let n = BLOCK.min(len - start);
        block(p.wrapping_add(start), n);
        start += n;
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
    room: &mut WideBlock<E::Wide>,
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
