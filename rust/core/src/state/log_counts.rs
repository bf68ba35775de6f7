//! Owns the counts of a [`crate::axis::Axis::LogLinear`] axis: which bin a value has and what the bins add up to. Knows nothing of memory.
//!
//! A finite value other than zero is `±2^(o - 1074) · (1 + m)`, `0 <= m < 1`. Its bin is the sign, the octave `o` and the top `precision`
//! bits of `m`: the same bin whatever dtype it came from, subnormals included.

use crate::number::double::{exponent, scalb};

/// Exponent of octave 0: that of the smallest subnormal of `f64`.
const SMALLEST: i32 = -1074;

/// Octaves that finite values of `f64` have.
pub const OCTAVES: u32 = 2098;

/// Counts of one sign, dense between the smallest and largest octave seen.
#[derive(Clone, Debug, Default)]
struct Side {
    first: u32,
    counts: Vec<u64>,
}

impl Side {
    /// Makes room for octaves `[low, end)`.
    fn cover(&mut self, low: u32, end: u32, precision: u8) {
        if self.counts.is_empty() {
            self.first = low;
        }
        if low < self.first {
            let missing = ((self.first - low) as usize) << precision;
            self.counts.splice(0..0, core::iter::repeat_n(0, missing));
            self.first = low;
        }
        let needed = ((end.max(self.first) - self.first) as usize) << precision;
        if needed > self.counts.len() {
            self.counts.resize(needed, 0);
        }
    }

    fn add(&mut self, key: u32, times: u64, precision: u8) {
        let octave = key >> precision;
        self.cover(octave, octave + 1, precision);
        if let Some(count) = self.counts.get_mut((key - (self.first << precision)) as usize) {
            *count = count.wrapping_add(times);
        }
    }

    /// Adds `len` counts of whole octaves from `first` on.
    fn add_octaves(&mut self, first: u32, len: usize, count: impl Fn(usize) -> u64, precision: u8) {
        let Some(from) = (0..len).find(|&i| count(i) > 0) else { return };
        let to = (from..len).rfind(|&i| count(i) > 0).unwrap_or(from) + 1;
        let (low, end) = (first + (from >> precision) as u32, first + ((to - 1) >> precision) as u32 + 1);
        self.cover(low, end, precision);
        let skipped = ((self.first as usize) << precision).wrapping_sub((first as usize) << precision);
        for (i, mine) in (from..to).map(|i| (i, i.wrapping_sub(skipped))) {
            if let Some(total) = self.counts.get_mut(mine) {
                *total = total.wrapping_add(count(i));
            }
        }
    }

    /// Bins that hold something, smallest magnitude first.
    fn occupied(&self, precision: u8) -> impl DoubleEndedIterator<Item = (u32, u64)> + '_ {
        let first = self.first << precision;
        self.counts.iter().enumerate().filter(|&(_, &n)| n > 0).map(move |(i, &n)| (first + i as u32, n))
    }
}

/// Counts by sign, octave and leading bits; zeros of both signs apart.
#[derive(Clone, Debug)]
pub struct LogCounts {
    precision: u8,
    negative: Side,
    positive: Side,
    /// +0 and -0.
    pub zeros: u64,
}

/// One bin: its sign and the number of its magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Whether the values are below zero.
    pub negative: bool,
    /// `octave << precision | leading bits`.
    pub magnitude: u32,
}

impl LogCounts {
    /// Empty counts.
    pub fn new(precision: u8) -> Self {
        Self { precision, negative: Side::default(), positive: Side::default(), zeros: 0 }
    }

    /// How many bins there are between the smallest and the largest octave of either sign.
    pub fn bins(&self) -> u64 {
        (self.negative.counts.len() + self.positive.counts.len()) as u64
    }

    /// Mantissa bits kept.
    pub fn precision(&self) -> u8 {
        self.precision
    }

    /// Counts `times` times a finite value.
    pub fn add(&mut self, x: f64, times: u64) {
        if x.to_bits() << 1 == 0 {
            self.zeros = self.zeros.wrapping_add(times);
        } else if x.is_finite() {
            self.add_key(Key { negative: x.is_sign_negative(), magnitude: magnitude_key(x, self.precision) }, times);
        }
    }

    /// Counts `times` into one bin; `false` when there is no such bin.
    pub fn add_key(&mut self, key: Key, times: u64) -> bool {
        if key.magnitude >> self.precision >= OCTAVES {
            return false;
        }
        let side = if key.negative { &mut self.negative } else { &mut self.positive };
        side.add(key.magnitude, times, self.precision);
        true
    }

    /// Adds the counts of `octaves` from `first` on: of each magnitude the positive and the negative one.
    pub fn add_octaves(&mut self, first: u32, octaves: u32, counts: impl Iterator<Item = [u64; 2]> + Clone) {
        for (sign, side) in [&mut self.positive, &mut self.negative].into_iter().enumerate() {
            if counts.clone().fold(0, |any, pair| any | pair[sign]) == 0 {
                continue;
            }
            side.cover(first, first + octaves, self.precision);
            let skipped = ((first - side.first) as usize) << self.precision;
            for (total, pair) in side.counts.iter_mut().skip(skipped).zip(counts.clone()) {
                *total = total.wrapping_add(pair[sign]);
            }
        }
    }

    /// Adds counts of the same precision.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [(&mut self.negative, &other.negative), (&mut self.positive, &other.positive)] {
            let count = |i: usize| theirs.counts.get(i).copied().unwrap_or(0);
            mine.add_octaves(theirs.first, theirs.counts.len(), count, self.precision);
        }
        self.zeros = self.zeros.wrapping_add(other.zeros);
    }

    /// As [`LogCounts::merge`]; empty counts take the other's place without a copy.
    pub fn take_in(&mut self, other: Self) {
        if self.zeros == 0 && self.negative.counts.is_empty() && self.positive.counts.is_empty() {
            *self = other;
        } else {
            self.merge(&other);
        }
    }

    /// The same values counted with fewer bits: exactly what counting them so would have given.
    pub fn lowered(&self, precision: u8) -> Self {
        let mut lower = Self { zeros: self.zeros, ..Self::new(precision) };
        let drop = self.precision - precision.min(self.precision);
        for (key, times) in self.occupied() {
            lower.add_key(Key { magnitude: key.magnitude >> drop, ..key }, times);
        }
        lower
    }

    /// All finite values.
    pub fn total(&self) -> u64 {
        self.negative.counts.iter().chain(&self.positive.counts).fold(self.zeros, |sum, &n| sum.wrapping_add(n))
    }

    /// Bins of non-zero values that hold something, in the order of their values; zeros belong between the signs.
    pub fn occupied(&self) -> impl Iterator<Item = (Key, u64)> + '_ {
        let key = |negative| move |(magnitude, n)| (Key { negative, magnitude }, n);
        self.negative
            .occupied(self.precision)
            .rev()
            .map(key(true))
            .chain(self.positive.occupied(self.precision).map(key(false)))
    }

    /// As [`LogCounts::occupied`], with zeros, which have no key, in their place.
    pub fn in_order(&self) -> impl Iterator<Item = (Option<Key>, u64)> + '_ {
        let bin = |(key, n)| (Some(key), n);
        let negative = self.occupied().take_while(|(key, _)| key.negative).map(bin);
        let positive = self.occupied().skip_while(|(key, _)| key.negative).map(bin);
        negative.chain((self.zeros > 0).then_some((None, self.zeros))).chain(positive)
    }

    /// Edges and counts from the smallest to the largest bin of `whole` that holds something, as neighbours without a gap: zeros have one
    /// bin between the smallest magnitudes of either sign. Edges are empty when nothing was counted; `whole` holds at least these values.
    pub fn dense_within(&self, whole: &Self) -> (Vec<f64>, Vec<u64>) {
        let range = |side: &Side| {
            let mut keys = side.occupied(self.precision).map(|(key, _)| key);
            keys.next().map(|low| (low, keys.next_back().unwrap_or(low)))
        };
        let (negative, positive) = (range(&whole.negative), range(&whole.positive));
        let (mut edges, mut counts) = (Vec::new(), Vec::new());
        let mut push = |low: f64, high: f64, n: u64| {
            let (low, high) = (low.max(f64::MIN), high.min(f64::MAX));
            if edges.is_empty() {
                edges.push(low);
            }
            // Among the subnormals of f64 a bin may hold no number at all.
            if high > low {
                edges.push(high);
                counts.push(n);
            }
        };
        let count = |side: &Side, key: u32| {
            let place = (key as usize).checked_sub((side.first as usize) << self.precision);
            place.and_then(|place| side.counts.get(place)).copied().unwrap_or(0)
        };
        if let Some((low, high)) = negative {
            for key in (low..=high).rev() {
                push(-self.lower_edge(key + 1), -self.lower_edge(key), count(&self.negative, key));
            }
        }
        let near = |range: Option<(u32, u32)>| range.map_or(0.0, |(low, _)| self.lower_edge(low));
        if whole.zeros > 0 || (negative.is_some() && positive.is_some()) {
            // Nothing but zeros: the width that numpy gives to a constant.
            let (low, high) =
                if negative.is_none() && positive.is_none() { (0.5, 0.5) } else { (near(negative), near(positive)) };
            push(0.0 - low, high, self.zeros);
        }
        if let Some((low, high)) = positive {
            for key in low..=high {
                push(self.lower_edge(key), self.lower_edge(key + 1), count(&self.positive, key));
            }
        }
        (edges, counts)
    }

    /// The smallest magnitude of a bin; infinite after the last bin.
    pub fn lower_edge(&self, key: u32) -> f64 {
        let (octave, rest) = (key >> self.precision, key & ((1 << self.precision) - 1));
        let fraction = (1_u64 << self.precision) + u64::from(rest);
        let power = octave as i32 + SMALLEST - i32::from(self.precision);
        if power >= SMALLEST {
            return scalb(fraction as f64, power);
        }
        // Below the finest step of f64: the next number above.
        let step = (SMALLEST - power) as u32;
        f64::from_bits(fraction.div_ceil(1 << step))
    }

    /// The magnitude that stands for a bin: its middle, at most 2^-(precision + 1) from every value in it; `exact` when all values are
    /// known to lie at the lower edge.
    pub fn representative(&self, key: u32, exact: bool) -> f64 {
        let low = self.lower_edge(key);
        let power = (key >> self.precision) as i32 + SMALLEST - i32::from(self.precision) - 1;
        if exact || power < SMALLEST { low } else { low + scalb(1.0, power) }
    }
}

/// Octave and leading bits of a finite value other than zero.
fn magnitude_key(x: f64, precision: u8) -> u32 {
    let octave = (exponent(x) - SMALLEST) as u32;
    let mantissa = x.to_bits() & ((1 << 52) - 1);
    // A subnormal is moved up until its leading bit is where a normal number has its hidden one.
    let mantissa = if x.is_subnormal() { (mantissa << (52 - octave)) & ((1 << 52) - 1) } else { mantissa };
    (octave << precision) | (mantissa >> (52 - precision)) as u32
}
