//! Owns the byte form of a [`Histogram`]: the axis, then the counts that are not zero. The same counts give the same bytes.

use crate::axis::Axis;
use crate::bytes::{Reader, Writer};
use crate::error::{Error, Result};
use crate::histogram::{Bins, Histogram};
use crate::kernel::histogram::ranks::Specials;
use crate::simd::level::in_standard_mode;
use crate::state::linear_counts::LinearCounts;
use crate::state::log_counts::Key;
use crate::state::stats::MOST_VALUES;

const MAGIC: [u8; 4] = *b"TSHI";
const WHAT: &str = "Histogram";
const REGULAR: u8 = 0;
const VARIABLE: u8 = 1;
const LOG_LINEAR: u8 = 2;
const LINEAR: u8 = 3;

impl Histogram {
    /// The versioned byte form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new(MAGIC);
        match &self.axis {
            Axis::LogLinear { precision } => {
                w.u8(LOG_LINEAR);
                w.u8(*precision);
            }
            Axis::Linear { bins } => {
                w.u8(LINEAR);
                w.u64(*bins);
                w.i64(self.width_exponent());
            }
            Axis::Regular { edges, .. } | Axis::Variable { edges } => {
                w.u8(if matches!(self.axis, Axis::Regular { .. }) { REGULAR } else { VARIABLE });
                w.u64(edges.values().len() as u64);
                for &edge in edges.values() {
                    w.f64(edge);
                }
            }
        }
        w.u8(self.value_bits);
        for n in [self.specials.nan, self.specials.posinf, self.specials.neginf] {
            w.u64(n);
        }
        let entries = self.entries();
        w.u64(entries.len() as u64);
        for (place, n) in entries {
            w.i64(place);
            w.u64(n);
        }
        w.finish()
    }

    /// Reads [`Histogram::to_bytes`] back.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes, MAGIC, WHAT)?;
        let mut width_exponent = 0;
        let axis = match r.u8()? {
            LINEAR => {
                let axis = Axis::linear(r.i64()?)?;
                width_exponent = r.i64()?;
                axis
            }
            LOG_LINEAR => Axis::log_linear(i64::from(r.u8()?))?,
            kind @ (REGULAR | VARIABLE) => {
                let len = r.len(8)?;
                let edges = (0..len).map(|_| r.f64()).collect::<Result<Vec<f64>>>()?;
                if kind == VARIABLE {
                    Axis::variable(edges)?
                } else {
                    let (start, stop) = edges.first().copied().zip(edges.last().copied()).unwrap_or((0.0, 0.0));
                    Axis::regular(start, stop, edges)?
                }
            }
            kind => return Err(Error::Bytes(format!("serialised Histogram has an unknown kind of axis: {kind}"))),
        };
        let value_bits = r.u8()?;
        let specials = Specials { nan: r.u64()?, posinf: r.u64()?, neginf: r.u64()? };
        let len = r.len(16)?;
        let entries = (0..len).map(|_| Ok((r.i64()?, r.u64()?))).collect::<Result<Vec<_>>>()?;
        r.finish()?;
        let in_order = entries.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a < b));
        if !in_order || entries.iter().any(|&(_, n)| n == 0) {
            return Err(Error::Bytes(format!(
                "serialised {WHAT} has bins twice, out of order or empty; it was damaged"
            )));
        }
        Self::from_entries(axis, width_exponent, value_bits, specials, &entries)
    }

    /// Of a `Linear` axis: the width of its bins is two to this power. Zero for any other.
    pub fn width_exponent(&self) -> i64 {
        if let Bins::Linear(counts) = &self.bins { i64::from(counts.exponent()) } else { 0 }
    }

    /// The counts that are not zero, each with its place. For an edge table the place is 0 below the first edge, then the number of
    /// the bin from 1 on. For `LogLinear` it is 0 for zeros, else the signed number of the bin's magnitude, from ±1 on.
    /// For `Linear` it is the lower edge in widths of a bin.
    pub fn entries(&self) -> Vec<(i64, u64)> {
        match &self.bins {
            Bins::Edges(ranks) => {
                ranks.iter().enumerate().filter(|&(_, &n)| n > 0).map(|(i, &n)| (i as i64, n)).collect()
            }
            Bins::Linear(counts) => counts.occupied().collect(),
            Bins::Log(counts) => {
                let zeros = (counts.zeros > 0).then_some((0, counts.zeros));
                let mut entries: Vec<(i64, u64)> =
                    counts.occupied().map(|(key, n)| (signed(key), n)).chain(zeros).collect();
                entries.sort_unstable();
                entries
            }
        }
    }

    /// Puts [`Histogram::entries`] back together, in any order, if there are values that would give them.
    pub fn from_entries(
        axis: Axis,
        width_exponent: i64,
        value_bits: u8,
        specials: Specials,
        entries: &[(i64, u64)],
    ) -> Result<Self> {
        let mut histogram = Self { specials, value_bits, ..Self::new(axis) };
        check_places(entries)?;
        if let Axis::Linear { bins } = histogram.axis {
            let counts = in_standard_mode(|| LinearCounts::from_occupied(bins, width_exponent, entries))?;
            histogram.bins = Bins::Linear(counts);
            return histogram.checked();
        }
        for &(place, n) in entries {
            let found = match &mut histogram.bins {
                Bins::Edges(ranks) => {
                    usize::try_from(place).ok().and_then(|i| ranks.get_mut(i)).map(|count| *count = n).is_some()
                }
                Bins::Log(counts) if place == 0 => {
                    counts.zeros = n;
                    true
                }
                Bins::Linear(_) => false,
                Bins::Log(counts) => match u32::try_from(place.unsigned_abs() - 1) {
                    Ok(magnitude) => n == 0 || counts.add_key(Key { negative: place < 0, magnitude }, n),
                    Err(_) => false,
                },
            };
            if !found {
                return Err(Error::Bytes(format!("a Histogram of {} has no bin at place: {place}", histogram.axis)));
            }
        }
        histogram.checked()
    }
}

/// Refuses a bin that is given twice, and more values than can be counted.
fn check_places(entries: &[(i64, u64)]) -> Result<()> {
    let mut places: Vec<i64> = entries.iter().map(|&(place, _)| place).collect();
    places.sort_unstable();
    if let Some(&[place, _]) = places.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::Bytes(format!("a {WHAT} has a bin twice, at place: {place}")));
    }
    let total = entries.iter().map(|&(_, n)| u128::from(n)).sum::<u128>();
    if total > u128::from(MOST_VALUES) {
        return Err(Error::Bytes(format!("a {WHAT} counts fewer than 2^63 values, got: {total}")));
    }
    Ok(())
}

fn signed(key: Key) -> i64 {
    let place = i64::from(key.magnitude) + 1;
    if key.negative { -place } else { place }
}
