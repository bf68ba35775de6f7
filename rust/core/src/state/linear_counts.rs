//! Owns the counts of a [`crate::axis::Axis::Linear`] axis: bins of a power of two's width, anchored at zero, and how narrow bins
//! become wide ones. Knows nothing of memory.
//!
//! Bin `i` at exponent `k` holds `i · 2^k <= x < (i + 1) · 2^k`, and goes into bin `i >> 1` at exponent `k + 1`. Kept is the narrowest
//! width at which at most `bins` bins reach from the smallest value to the largest, and no narrower than the spacing of `f64` at the
//! largest magnitude. How many bins a set of values needs never rises with the width, and a union needs at least what its parts need:
//! so the width follows from the set of values alone, whatever the order, the cuts or the threads it was counted in.

use crate::allocation::check_memory;
use crate::error::{Error, Result};
use crate::number::Number;
use crate::number::double::{exponent, scalb};

/// The finest width there is: the smallest subnormal of `f64`.
const FINEST: i32 = -1074;

/// The widest that is ever needed: every finite `f64` lies in two bins of 2^1024.
const WIDEST: i32 = 1024;

/// Numbers of bins stay within it, so that every edge is a number times a power of two, exactly.
const MAX_INDEX: i64 = 1 << 53;

/// Neighbouring bins of one width: from the first one occupied to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The width is two to this power.
    pub exponent: i32,
    /// First bin.
    pub low: i64,
    /// Last bin.
    pub high: i64,
}

impl Span {
    /// The bin of one finite value at the finest width that its magnitude allows.
    pub fn of(x: Number) -> Self {
        let (exponent, index) = match x {
            Number::Int(0) => (FINEST, 0),
            Number::Int(n) => {
                let k = (128 - n.unsigned_abs().leading_zeros()) as i32 - 53;
                (k, if k >= 0 { n >> k } else { n << -k } as i64)
            }
            Number::Float(x) => {
                let mantissa = (x.to_bits() & ((1 << 52) - 1)) as i64;
                let field = (x.to_bits() >> 52) & 0x7ff;
                let magnitude = if field == 0 { mantissa } else { mantissa | (1 << 52) };
                let index = if x.is_sign_negative() { -magnitude } else { magnitude };
                match exponent(x) {
                    _ if magnitude == 0 => (FINEST, 0),
                    // One step wider in the last octave: the largest number would have no upper edge that is larger.
                    1023 => (1023 - 51, index >> 1),
                    power => ((power - 52).max(FINEST), index),
                }
            }
        };
        Self { exponent, low: index, high: index }
    }

    /// The narrowest bins that hold both.
    pub fn union(self, other: Self, bins: u64) -> Self {
        let mut exponent = self.exponent.max(other.exponent);
        loop {
            let (a, b) = (self.at(exponent), other.at(exponent));
            let (low, high) = (a.low.min(b.low), a.high.max(b.high));
            // From 2^1024 on two bins hold everything, and no axis has fewer.
            if (high - low) as u64 <= bins.saturating_sub(1) || exponent >= WIDEST {
                return Self { exponent, low, high };
            }
            exponent += 1;
        }
    }

    /// The same at a greater width.
    #[must_use]
    pub fn at(self, exponent: i32) -> Self {
        let up = (exponent - self.exponent).clamp(0, 63);
        Self { exponent, low: self.low >> up, high: self.high >> up }
    }

    /// Whether bins of half the width would hold whatever these hold, so that these are not the narrowest.
    fn could_be_narrower(self, bins: u64) -> bool {
        // A value in such a bin has digits to spare below half the width: one power of two for the rounding of the lower edge, and one for
        // the last octave.
        let spare = self.low.unsigned_abs().max(self.high.unsigned_abs()) < 1 << 51;
        // Places `low` to `high` become at most `2 * low` to `2 * high + 1`.
        self.exponent > FINEST && spare && 2 * ((self.high - self.low) as u64) < bins.saturating_sub(1)
    }

    /// How many bins there are.
    pub fn bins(self) -> usize {
        (self.high - self.low + 1) as usize
    }

    /// A bin's lower edge; beyond the range of `f64` its largest or smallest number.
    fn edge(self, index: i64) -> f64 {
        scalb(index as f64, self.exponent).clamp(f64::MIN, f64::MAX)
    }

    /// What is shown of it: as it is, but a single bin, which only a constant has, as wide as its power of two (one for zero).
    fn shown(self) -> Self {
        match self.low {
            low if low != self.high => self,
            0 => self.at(0),
            low => self.at(self.exponent + 63 - low.unsigned_abs().leading_zeros() as i32),
        }
    }
}

/// Counts from the first bin occupied to the last, at the narrowest width that so many bins allow.
#[derive(Clone, Debug)]
pub struct LinearCounts {
    bins: u64,
    exponent: i32,
    first: i64,
    counts: Vec<u64>,
}

impl LinearCounts {
    /// Empty counts.
    pub fn new(bins: u64) -> Self {
        Self { bins, exponent: 0, first: 0, counts: Vec::new() }
    }

    /// The bins in use; `None` when nothing was counted.
    pub fn span(&self) -> Option<Span> {
        let high = self.first + (self.counts.len() as i64).checked_sub(1).filter(|&n| n >= 0)?;
        Some(Span { exponent: self.exponent, low: self.first, high })
    }

    /// The width is two to this power; zero when nothing was counted.
    pub fn exponent(&self) -> i32 {
        self.exponent
    }

    /// Counts `times` times a finite value.
    pub fn add(&mut self, x: Number, times: u64) {
        let place = Span::of(x);
        self.add_all(place.exponent, place.low, &[times]);
    }

    /// Adds counts of neighbouring bins at one width, from bin `first` on; the values in them allow that width.
    pub fn add_all(&mut self, exponent: i32, first: i64, counts: &[u64]) {
        let Some(from) = counts.iter().position(|&n| n > 0) else { return };
        let to = counts.iter().rposition(|&n| n > 0).unwrap_or(from);
        let theirs = Span { exponent, low: first + from as i64, high: first + to as i64 };
        let whole = self.span().map_or(theirs, |mine| mine.union(theirs, self.bins));
        self.cover(whole);
        let up = (whole.exponent - exponent).clamp(0, 63);
        for (i, &n) in counts.iter().enumerate().take(to + 1).skip(from) {
            let place = ((first + i as i64) >> up) - whole.low;
            if let Some(count) = usize::try_from(place).ok().and_then(|place| self.counts.get_mut(place)) {
                *count = count.wrapping_add(n);
            }
        }
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        self.add_all(other.exponent, other.first, &other.counts);
    }

    /// What the bins of both together take.
    pub(crate) fn bytes_of_union(&self, other: &Self) -> u64 {
        let whole = self.span().zip(other.span()).map(|(mine, theirs)| mine.union(theirs, self.bins));
        8 * whole.map_or(0, |span| span.bins() as u64)
    }

    /// Makes the bins those of `whole`, which holds all that are in use.
    fn cover(&mut self, whole: Span) {
        if self.span() == Some(whole) {
            return;
        }
        let mut counts = vec![0_u64; whole.bins()];
        let up = (whole.exponent - self.exponent).clamp(0, 63);
        for (i, &n) in self.counts.iter().enumerate() {
            let place = ((self.first + i as i64) >> up) - whole.low;
            if let Some(count) = usize::try_from(place).ok().and_then(|place| counts.get_mut(place)) {
                *count = count.wrapping_add(n);
            }
        }
        (self.exponent, self.first, self.counts) = (whole.exponent, whole.low, counts);
    }

    /// All finite values.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, &n| sum.wrapping_add(n))
    }

    /// Bins that hold something, by their number.
    pub fn occupied(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        self.counts.iter().enumerate().filter(|&(_, &n)| n > 0).map(|(i, &n)| (self.first + i as i64, n))
    }

    /// Puts [`LinearCounts::occupied`] back together.
    pub fn from_occupied(bins: u64, exponent: i64, occupied: &[(i64, u64)]) -> Result<Self> {
        let wrong = |text: String| Err(Error::Bytes(format!("a Histogram of Linear({bins}) has {text}")));
        let mut counts = Self::new(bins);
        let places = || occupied.iter().filter(|&&(_, n)| n > 0).map(|&(place, _)| place);
        let (Some(low), Some(high)) = (places().min(), places().max()) else {
            return if exponent == 0 {
                Ok(counts)
            } else {
                wrong(format!("no values, but bins of width 2^{exponent}"))
            };
        };
        let Some(exponent) = i32::try_from(exponent).ok().filter(|k| (FINEST..=WIDEST).contains(k)) else {
            return wrong(format!("no bins of width 2^{exponent}"));
        };
        let span = Span { exponent, low, high };
        let is_bin = |i: i64| (-MAX_INDEX..MAX_INDEX).contains(&i) && span.edge(i) < span.edge(i + 1);
        if !is_bin(low) || !is_bin(high) {
            return wrong(format!("no bins at places {low} to {high} of width 2^{exponent}"));
        }
        if (high - low) as u64 >= bins {
            return wrong(format!("too few bins for places {low} to {high}"));
        }
        if span.could_be_narrower(bins) {
            return wrong(format!("wider bins than places {low} to {high} of width 2^{exponent} need"));
        }
        check_memory(8 * span.bins() as u64, "the bins of a histogram")?;
        counts.cover(span);
        for &(place, n) in occupied.iter().filter(|&&(_, n)| n > 0) {
            if let Some(count) = counts.counts.get_mut((place - low) as usize) {
                *count = n;
            }
        }
        Ok(counts)
    }

    /// Edges and counts from the first to the last bin of `whole` that holds something; `whole` holds at least these values. Edges are
    /// empty when nothing was counted there.
    pub fn dense_within(&self, whole: &Self) -> (Vec<f64>, Vec<u64>) {
        let Some(span) = whole.span().map(Span::shown) else { return (Vec::new(), Vec::new()) };
        let edges = (span.low..=span.high + 1).map(|i| span.edge(i)).collect();
        let mut counts = self.clone();
        match self.span() {
            Some(_) => counts.cover(span),
            None => counts.counts = vec![0; span.bins()],
        }
        (edges, counts.counts)
    }

    /// The lower and the upper edge and the count of every bin that holds something. A constant is its own lower and upper edge.
    pub fn edged(&self) -> impl Iterator<Item = (f64, f64, u64)> + '_ {
        let span = self.span().unwrap_or(Span { exponent: 0, low: 0, high: 0 });
        let width = i64::from(span.low != span.high);
        self.occupied().map(move |(i, n)| (span.edge(i), span.edge(i + width), n))
    }
}
