//! Owns the mergeable histogram of any number of tensors: how a tensor is counted into it and how two of them merge. Knows nothing of
//! Python.

mod bytes;
mod check;
pub mod count;
pub mod parts;
pub mod quantile;
mod repr;
pub mod room;

use crate::allocation::check_memory;
use crate::axis::Axis;
use crate::error::{Error, Result};
use crate::kernel::histogram::ranks::Specials;
use crate::memory::view::TensorView;
use crate::simd::as_wide::AsWide;
use crate::simd::level::in_standard_mode;
use crate::state::linear_counts::LinearCounts;
use crate::state::log_counts::LogCounts;
use crate::state::stats::check_room;
use crate::with_element;

/// Counts of an axis.
#[derive(Clone, Debug)]
pub enum Bins {
    /// Below the first edge (-inf included), each bin, beyond the last edge (+inf included).
    Edges(Vec<u64>),
    /// By sign, octave and leading bits.
    Log(LogCounts),
    /// By whole multiples of a power of two.
    Linear(LinearCounts),
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
    /// An empty histogram.
    pub fn new(axis: Axis) -> Self {
        let bins = match &axis {
            Axis::LogLinear { precision } => Bins::Log(LogCounts::new(*precision)),
            Axis::Linear { bins } => Bins::Linear(LinearCounts::new(*bins)),
            Axis::Regular { edges, .. } | Axis::Variable { edges } => Bins::Edges(vec![0; edges.values().len() + 1]),
        };
        Self { axis, bins, specials: Specials::default(), value_bits: 0 }
    }

    /// What its counts take.
    pub fn bytes(&self) -> u64 {
        8 * match &self.bins {
            Bins::Edges(ranks) => ranks.len() as u64,
            Bins::Log(counts) => counts.bins(),
            Bins::Linear(counts) => counts.span().map_or(0, |span| span.bins() as u64),
        }
    }

    /// An independent copy, where there is memory for it.
    pub fn try_clone(&self) -> Result<Self> {
        check_memory(self.bytes(), "a copy of a histogram")?;
        Ok(self.clone())
    }

    /// Takes in another histogram of the same axis.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.check_merge(other)?;
        self.take_in(other);
        Ok(())
    }

    /// Whether another histogram can be merged into this one; where it cannot, a merge changes nothing.
    pub fn check_merge(&self, other: &Self) -> Result<()> {
        self.check_axis(other)?;
        if let (Bins::Linear(mine), Bins::Linear(theirs)) = (&self.bins, &other.bins) {
            check_memory(mine.bytes_of_union(theirs), "the bins of two histograms")?;
        }
        check_room(self.count_all(), other.count_all(), "the values of a Histogram")
    }

    fn check_axis(&self, other: &Self) -> Result<()> {
        if self.axis == other.axis {
            return Ok(());
        }
        Err(Error::Incompatible(format!("cannot merge histograms of different axes: {} and {}", self.axis, other.axis)))
    }

    /// As [`Histogram::merge`], of the same axis, and whatever the counts are.
    fn take_in(&mut self, other: &Self) {
        match (&mut self.bins, &other.bins) {
            (Bins::Edges(mine), Bins::Edges(theirs)) => add_all(mine, theirs),
            (Bins::Log(mine), Bins::Log(theirs)) => mine.merge(theirs),
            (Bins::Linear(mine), Bins::Linear(theirs)) => mine.merge(theirs),
            // An axis has one kind of bins.
            _ => {}
        }
        self.specials.add(&other.specials);
        self.value_bits = self.value_bits.max(other.value_bits);
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
            Bins::Log(counts) => self.with_infinities(counts.total()),
            Bins::Linear(counts) => self.with_infinities(counts.total()),
        }
    }

    fn with_infinities(&self, finite: u64) -> u64 {
        finite.wrapping_add(self.specials.posinf).wrapping_add(self.specials.neginf)
    }

    /// Values below the first edge; of a range without end, -inf.
    pub fn underflow(&self) -> u64 {
        match &self.bins {
            Bins::Edges(ranks) => ranks.first().copied().unwrap_or(0),
            Bins::Log(_) | Bins::Linear(_) => self.specials.neginf,
        }
    }

    /// Values beyond the last edge; of a range without end, +inf.
    pub fn overflow(&self) -> u64 {
        match &self.bins {
            Bins::Edges(ranks) => ranks.last().copied().unwrap_or(0),
            Bins::Log(_) | Bins::Linear(_) => self.specials.posinf,
        }
    }

    /// Edges and the counts between them, flow bins left out.
    pub fn dense(&self) -> (Vec<f64>, Vec<u64>) {
        self.dense_within(self)
    }

    /// The same over the bins of another histogram of the same axis, which holds at least these values.
    fn dense_within(&self, whole: &Self) -> (Vec<f64>, Vec<u64>) {
        in_standard_mode(|| match (&self.bins, &whole.bins, self.axis.edges()) {
            (Bins::Edges(ranks), _, Some(edges)) => {
                (edges.values().to_vec(), ranks.get(1..ranks.len() - 1).unwrap_or_default().to_vec())
            }
            (Bins::Log(counts), Bins::Log(whole), _) => counts.dense_within(whole),
            (Bins::Linear(counts), Bins::Linear(whole), _) => counts.dense_within(whole),
            _ => (Vec::new(), Vec::new()),
        })
    }

    /// The edges of the bins that two histograms of the same axis have in common, and the counts of each between them, flow bins left
    /// out.
    pub fn aligned(&self, other: &Self) -> Result<(Vec<f64>, [Vec<u64>; 2])> {
        self.check_axis(other)?;
        let mut whole = self.clone();
        // Only which bins are occupied matters: two counts below 2^63 stay below 2^64.
        whole.take_in(other);
        let (edges, mine) = self.dense_within(&whole);
        Ok((edges, [mine, other.dense_within(&whole).1]))
    }

    /// Notes which tensor was counted.
    pub(crate) fn seen(&mut self, view: &TensorView<'_>) {
        let bits = with_element!(view.dtype(), E => <E as AsWide>::BITS);
        self.value_bits = self.value_bits.max(if view.count() == 0 { 0 } else { bits });
    }
}

/// Adds count by count.
pub(crate) fn add_all(mine: &mut [u64], theirs: &[u64]) {
    for (a, b) in mine.iter_mut().zip(theirs) {
        *a = a.wrapping_add(*b);
    }
}
