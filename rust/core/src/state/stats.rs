//! Owns the numbers of a summary and the rule for merging two of them. Knows nothing of memory, dtypes or threads.
//!
//! Floating sums are pairs of `f64` ([`Double`]), so that merging a million pieces costs nothing in accuracy. Central moments merge by
//! the formulas of Pébay (SAND2008-6212), with the difference of means taken between pairs: a mean rounded to one `f64` would lose
//! half the digits of the variance when |mean| is a million times the spread.

use crate::error::{Error, Result};
use crate::number::Number;
use crate::number::double::{Double, scalb};

/// How many values fall into each class. The first six add up to the number of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Not a number.
    pub nan: u64,
    /// Positive infinity.
    pub posinf: u64,
    /// Negative infinity.
    pub neginf: u64,
    /// +0 and -0.
    pub zero: u64,
    /// Finite, below zero.
    pub negative: u64,
    /// Finite, above zero.
    pub positive: u64,
    /// Finite, non-zero, below the smallest normal number of the dtype. Already counted as negative or positive.
    pub subnormal: u64,
}

impl Counts {
    /// All values.
    pub fn total(&self) -> u64 {
        self.nan + self.posinf + self.neginf + self.finite()
    }

    /// Values that are numbers.
    pub fn finite(&self) -> u64 {
        self.zero + self.negative + self.positive
    }

    /// The names of [`Counts::each_mut`].
    pub const NAMES: [&str; 7] = [
        "nan_count",
        "posinf_count",
        "neginf_count",
        "zero_count",
        "negative_count",
        "positive_count",
        "subnormal_count",
    ];

    /// The six classes that add up to the total, and the subnormals.
    pub fn each_mut(&mut self) -> [&mut u64; 7] {
        [
            &mut self.nan,
            &mut self.posinf,
            &mut self.neginf,
            &mut self.zero,
            &mut self.negative,
            &mut self.positive,
            &mut self.subnormal,
        ]
    }

    /// Class by class sum. Whoever merges states has asked [`check_room`] first.
    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        for (mine, theirs) in self.each_mut().into_iter().zip(other.each_mut()) {
            *mine = mine.wrapping_add(*theirs);
        }
    }
}

/// Most values that a state counts: results are arrays of `int64`.
pub const MOST_VALUES: u64 = i64::MAX as u64;

/// Refuses to count more than [`MOST_VALUES`] values together, before anything is changed. `what` names what is counted of what.
pub(crate) fn check_room(mine: u64, theirs: u64, what: &str) -> Result<()> {
    match mine.checked_add(theirs) {
        Some(total) if total <= MOST_VALUES => Ok(()),
        _ => Err(Error::Overflow(format!("{what} must stay below 2^63, got: {mine} and {theirs} more"))),
    }
}

/// Smallest and largest finite value and non-zero magnitude.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extremes {
    /// Smallest value; a zero is +0.
    pub min: Number,
    /// Largest value; a zero is +0.
    pub max: Number,
    /// Smallest non-zero magnitude, if there is one.
    pub absmin: Option<Number>,
}

impl Extremes {
    /// Of two sets of values together.
    pub fn merged(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            absmin: match (self.absmin, other.absmin) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }

    /// Largest magnitude.
    pub fn absmax(self) -> Number {
        self.min.abs().max(self.max.abs())
    }
}

/// Everything a summary knows about a set of values. All sums are over finite values.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Stats {
    /// Class counts.
    pub counts: Counts,
    /// Extremes; `None` while nothing finite was seen.
    pub extremes: Option<Extremes>,
    /// Exact sum of integer values.
    pub int_sum: i128,
    /// Exact sum of magnitudes of integer values.
    pub int_l1: i128,
    /// Sum of float values, divided by 2^scale.
    pub sum: Double,
    /// Sum of magnitudes of float values, divided by 2^scale.
    pub l1: Double,
    /// Sum of squares, divided by 4^scale.
    pub squares: Double,
    /// Sum of squared differences from the mean, divided by 4^scale.
    pub m2: Double,
    /// Sum of cubed differences from the mean, divided by 8^scale. Zero unless four moments were asked for.
    pub m3: f64,
    /// Sum of fourth powers of differences from the mean, divided by 16^scale. Zero unless four moments were asked for.
    pub m4: f64,
    /// Power of two that keeps squares and fourth powers of extreme `f64` data inside the range; 0 for ordinary data.
    pub scale: i32,
}

impl Stats {
    /// Sum of all finite values, integers and floats, divided by 2^scale.
    pub fn scaled_sum(&self) -> Double {
        if self.int_sum == 0 { self.sum } else { self.sum.add(Double::from_i128(self.int_sum).scaled(-self.scale)) }
    }

    /// Sum of magnitudes of all finite values, integers and floats, divided by 2^scale.
    pub fn scaled_l1(&self) -> Double {
        if self.int_l1 == 0 { self.l1 } else { self.l1.add(Double::from_i128(self.int_l1).scaled(-self.scale)) }
    }

    /// Mean of finite values divided by 2^scale, as a pair. Needs at least one finite value.
    pub fn scaled_mean(&self) -> Double {
        self.scaled_sum().divided_by(self.counts.finite() as f64)
    }

    /// Expresses the same numbers with another scale.
    fn rescale(&mut self, scale: i32) {
        let k = self.scale - scale;
        self.sum = self.sum.scaled(k);
        self.l1 = self.l1.scaled(k);
        self.squares = self.squares.scaled(2 * k);
        self.m2 = self.m2.scaled(2 * k);
        self.m3 = scalb(self.m3, 3 * k);
        self.m4 = scalb(self.m4, 4 * k);
        self.scale = scale;
    }

    /// Whether any non-zero finite value was seen, so that the scale means something.
    fn has_magnitude(&self) -> bool {
        self.counts.negative + self.counts.positive > 0
    }

    /// Takes in another set of values, as if they had been counted after these.
    pub fn merge(&mut self, other: &Self) {
        if other.counts.total() == 0 {
            return;
        }
        if self.counts.total() == 0 {
            *self = *other;
            return;
        }
        let scale = match (self.has_magnitude(), other.has_magnitude()) {
            (true, false) => self.scale,
            (false, true) => other.scale,
            _ => self.scale.max(other.scale),
        };
        if self.scale != scale {
            self.rescale(scale);
        }
        if other.scale == scale {
            self.merge_same_scale(other);
        } else {
            let mut other = *other;
            other.rescale(scale);
            self.merge_same_scale(&other);
        }
    }

    /// In place: this runs for every chunk and for every tensor of a list, where copies of whole states would show.
    #[inline]
    fn merge_same_scale(&mut self, other: &Self) {
        // Means need sums and counts as they were.
        (self.m2, self.m3, self.m4) = merged_central(self, other);
        self.counts.add(&other.counts);
        self.extremes = match (self.extremes, other.extremes) {
            (Some(x), Some(y)) => Some(x.merged(y)),
            (x, y) => x.or(y),
        };
        self.int_sum = self.int_sum.saturating_add(other.int_sum);
        self.int_l1 = self.int_l1.saturating_add(other.int_l1);
        self.sum = self.sum.add(other.sum);
        self.l1 = self.l1.add(other.l1);
        self.squares = self.squares.add(other.squares);
    }
}

/// Central moments of two sets together, both with the same scale.
fn merged_central(a: &Stats, b: &Stats) -> (Double, f64, f64) {
    let (na, nb) = (a.counts.finite() as f64, b.counts.finite() as f64);
    if nb == 0.0 {
        return (a.m2, a.m3, a.m4);
    }
    if na == 0.0 {
        return (b.m2, b.m3, b.m4);
    }
    let n = na + nb;
    let delta = b.scaled_mean().add(a.scaled_mean().negate()).value();
    let (wa, wb) = (na / n, nb / n);
    let (m2a, m2b) = (a.m2.value(), b.m2.value());
    let d2 = delta * delta;
    let m2 = a.m2.add(b.m2).add(Double { hi: d2 * na * wb, lo: 0.0 });
    let m3 = a.m3 + b.m3 + delta * d2 * na * wb * (wa - wb) + 3.0 * delta * (wa * m2b - wb * m2a);
    let m4 = a.m4
        + b.m4
        + d2 * d2 * na * wb * (wa * wa - wa * wb + wb * wb)
        + 6.0 * d2 * (wa * wa * m2b + wb * wb * m2a)
        + 4.0 * delta * (wa * b.m3 - wb * a.m3);
    (m2, m3, m4)
}
