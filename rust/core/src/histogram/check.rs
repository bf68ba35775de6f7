//! Owns what holds between the counts of a [`Histogram`] whatever was counted: for states that come from outside. Knows nothing of bytes.

use crate::axis::{Axis, MAX_PRECISION};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::histogram::{Bins, Histogram};
use crate::simd::as_wide::AsWide;
use crate::simd::level::in_standard_mode;
use crate::state::log_counts::{Key, LogCounts};
use crate::state::stats::MOST_VALUES;
use crate::with_element;

/// How far equal bins may be from equal, in roundings of the largest edge: array libraries round each edge two or three times.
const ROUNDINGS: f64 = 16.0;

impl Histogram {
    /// The histogram itself if there are values that would give it.
    pub fn checked(self) -> Result<Self> {
        match in_standard_mode(|| self.contradiction()) {
            None => Ok(self),
            Some(what) => Err(Error::Bytes(format!(
                "a serialised Histogram of {} holds numbers that contradict each other ({what}); it was damaged",
                self.axis
            ))),
        }
    }

    fn contradiction(&self) -> Option<&'static str> {
        let s = &self.specials;
        // Saturating: the bins alone were checked to add up to fewer.
        let apart = if self.axis.edges().is_some() { [s.nan, 0, 0] } else { [s.nan, s.posinf, s.neginf] };
        let total = self.in_bins().saturating_add(apart.iter().fold(0, |sum, &n| sum.saturating_add(n)));
        if total > MOST_VALUES {
            return Some("more values than can be counted");
        }
        if self.underflow() < s.neginf || self.overflow() < s.posinf {
            return Some("infinities and the values beyond the edges");
        }
        if !is_value_bits(self.value_bits) || (total == 0 && self.value_bits != 0) {
            return Some("the digits of its values");
        }
        match (&self.axis, &self.bins) {
            (Axis::Regular { edges, .. }, _) if !are_equal(edges.values()) => Some("edges of equal bins"),
            (Axis::LogLinear { precision }, Bins::Log(counts)) => self.contradiction_of_log(counts, *precision),
            _ => None,
        }
    }

    /// What the bins hold.
    fn in_bins(&self) -> u64 {
        match &self.bins {
            Bins::Edges(ranks) => ranks.iter().fold(0, |sum, &n| sum.saturating_add(n)),
            Bins::Log(counts) => counts.total(),
            Bins::Linear(counts) => counts.total(),
        }
    }

    fn contradiction_of_log(&self, counts: &LogCounts, precision: u8) -> Option<&'static str> {
        // Values of few digits have zeros in the others.
        let zeros = (1_u32 << precision.saturating_sub(self.value_bits)) - 1;
        let possible = |(Key { magnitude, .. }, _): (Key, u64)| {
            // Among the subnormals of f64 a bin may hold no number at all.
            counts.lower_edge(magnitude) < counts.lower_edge(magnitude + 1) && magnitude & zeros == 0
        };
        (!counts.occupied().all(possible)).then_some("bins that hold no value of its dtypes")
    }
}

/// Whether it is what a dtype needs; more than any axis has where none does.
fn is_value_bits(bits: u8) -> bool {
    let of = |dtype: Dtype| with_element!(dtype, E => <E as AsWide>::BITS);
    Dtype::ALL.iter().any(|&dtype| of(dtype) == bits) || bits == 0
}

/// Whether edges are those of equal bins, as far as rounding goes.
fn are_equal(edges: &[f64]) -> bool {
    let (Some(&first), Some(&last)) = (edges.first(), edges.last()) else { return false };
    let bins = (edges.len() - 1) as f64;
    let off = ROUNDINGS * f64::EPSILON * first.abs().max(last.abs()) + ROUNDINGS * 5e-324;
    edges.iter().enumerate().all(|(i, &edge)| {
        let share = i as f64 / bins;
        // Two products: the whole range may be beyond f64.
        (edge - (first * (1.0 - share) + last * share)).abs() <= off
    })
}

const _: () = assert!(MAX_PRECISION < 32, "a mask of as many bits fits");
