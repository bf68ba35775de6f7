//! Owns the quantiles of a [`Histogram`], their inverse, and the error bounds of both.

use crate::axis::Axis;
use crate::error::{Error, Result};
use crate::histogram::{Bins, Histogram};
use crate::simd::level::in_standard_mode;
use crate::state::log_counts::{Key, LogCounts};

/// Part of an axis and what was counted there. The values of a part whose ends are equal are all the same number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    low: f64,
    high: f64,
    count: u64,
}

impl Part {
    fn at(value: f64, count: u64) -> Self {
        Self { low: value, high: value, count }
    }
}

impl Histogram {
    /// The value below which a share `q` of all values but NaN lies.
    ///
    /// `LogLinear`: the smallest value `x` with at least `q · n` values at most `x` (numpy's `inverted_cdf`), up to a relative error of
    /// 2^-(precision + 1); exact when the precision holds every bit of the dtypes seen. Any other axis: linear inside the bin, so that it
    /// is off by at most the bin's width; -inf or +inf when it lies below the first or beyond the last edge. NaN when there are no values.
    pub fn quantile(&self, q: f64) -> Result<f64> {
        check_share(q)?;
        let n = self.count_numbers();
        if n == 0 {
            return Ok(f64::NAN);
        }
        Ok(in_standard_mode(|| match (&self.bins, &self.axis) {
            (Bins::Log(counts), Axis::LogLinear { precision }) => self.at_rank(counts, *precision, rank(q, n)),
            _ => inside_part(self.parts(), q * n as f64),
        }))
    }

    /// The share of all values but NaN that is at most `x`, the inverse of [`Histogram::quantile`]: linear inside a bin, so that it is off
    /// by at most the share of the bin that holds `x`; exact where that bin is known to hold a single value. What is in a flow bin is taken
    /// to lie at -inf or +inf. NaN when there are no values or `x` is NaN.
    pub fn cdf(&self, x: f64) -> f64 {
        let n = self.count_numbers();
        if n == 0 || x.is_nan() {
            return f64::NAN;
        }
        in_standard_mode(|| {
            let (mut below, mut inside) = (0_u64, 0.0);
            for part in self.parts() {
                if part.high <= x {
                    below = below.wrapping_add(part.count);
                } else if part.low < x {
                    // Halves: the width of a bin may be beyond f64.
                    let share = (x / 2.0 - part.low / 2.0) / (part.high / 2.0 - part.low / 2.0);
                    inside += share.clamp(0.0, 1.0) * part.count as f64;
                }
            }
            ((below as f64 + inside) / n as f64).min(1.0)
        })
    }

    /// Everything counted, smallest values first.
    fn parts(&self) -> Vec<Part> {
        let (first, last) = (Part::at(f64::NEG_INFINITY, self.underflow()), Part::at(f64::INFINITY, self.overflow()));
        let mut parts = vec![first];
        match (&self.bins, &self.axis) {
            (Bins::Log(counts), Axis::LogLinear { precision }) => {
                let exact = self.value_bits <= *precision;
                parts.extend(counts.in_order().map(|(key, count)| match key {
                    None => Part::at(0.0, count),
                    Some(Key { negative, magnitude }) => {
                        let low = counts.lower_edge(magnitude);
                        let high = if exact { low } else { counts.lower_edge(magnitude + 1).min(f64::MAX) };
                        let (low, high) = if negative { (-high, -low) } else { (low, high) };
                        Part { low, high, count }
                    }
                }));
            }
            (Bins::Linear(counts), _) => {
                parts.extend(counts.edged().map(|(low, high, count)| Part { low, high, count }));
            }
            (Bins::Edges(ranks), _) => {
                let edges = self.axis.edges().map(|e| e.values()).unwrap_or_default();
                let bins = edges.windows(2).zip(ranks.iter().skip(1));
                parts.extend(bins.filter_map(|(ends, &count)| match ends {
                    &[low, high] => Some(Part { low, high, count }),
                    _ => None,
                }));
            }
            _ => {}
        }
        parts.push(last);
        parts
    }

    /// The value that stands for the `rank`-th smallest, from 1 on.
    fn at_rank(&self, counts: &LogCounts, precision: u8, rank: u64) -> f64 {
        let exact = self.value_bits <= precision;
        let mut before = self.specials.neginf;
        if rank <= before {
            return f64::NEG_INFINITY;
        }
        for (key, count) in counts.in_order() {
            before = before.wrapping_add(count);
            if rank <= before {
                let Some(key) = key else { return 0.0 };
                let magnitude = counts.representative(key.magnitude, exact);
                return if key.negative { -magnitude } else { magnitude };
            }
        }
        f64::INFINITY
    }
}

/// Refuses what is no share.
pub(crate) fn check_share(q: f64) -> Result<()> {
    if (0.0..=1.0).contains(&q) { Ok(()) } else { Err(Error::Argument(format!("q must be in [0, 1], got: {q}"))) }
}

/// Linear inside the part that holds a position among the values.
fn inside_part(parts: Vec<Part>, position: f64) -> f64 {
    let mut before = 0_u64;
    for Part { low, high, count } in parts {
        let after = before.wrapping_add(count);
        if count > 0 && after as f64 >= position {
            if low == high {
                return low;
            }
            let share = ((position - before as f64) / count as f64).clamp(0.0, 1.0);
            // Two products: the width of a bin may be beyond f64.
            return (low * (1.0 - share) + high * share).clamp(low, high);
        }
        before = after;
    }
    f64::NAN
}

/// The rank from 1 on that numpy's `inverted_cdf` takes.
fn rank(q: f64, n: u64) -> u64 {
    ((q * n as f64).ceil() as u64).clamp(1, n)
}
