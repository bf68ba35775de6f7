//! Owns the quantiles of a [`Histogram`] and their error bounds.

use crate::axis::Axis;
use crate::error::{Error, Result};
use crate::histogram::{Bins, Histogram};

impl Histogram {
    /// The value below which a share `q` of all values but NaN lies.
    ///
    /// `LogLinear`: the smallest value `x` with at least `q · n` values at most `x` (numpy's `inverted_cdf`), up to a relative error of
    /// 2^-(precision + 1); exact when the precision holds every bit of the dtypes seen. Edge tables: linear inside the bin, so that it is
    /// off by at most the bin's width; -inf or +inf when it lies below the first or beyond the last edge. NaN when there are no values.
    pub fn quantile(&self, q: f64) -> Result<f64> {
        if !(0.0..=1.0).contains(&q) {
            return Err(Error::Argument(format!("q must be in [0, 1], got: {q}")));
        }
        let n = self.count_numbers();
        if n == 0 {
            return Ok(f64::NAN);
        }
        Ok(match &self.bins {
            Bins::Edges(ranks) => self.inside_bin(ranks, q * n as f64),
            Bins::Log(_) => self.at_rank(rank(q, n)),
        })
    }

    /// Linear inside the bin that holds the position.
    fn inside_bin(&self, ranks: &[u64], position: f64) -> f64 {
        let edges = self.axis.edges().map(|e| e.values()).unwrap_or_default();
        let mut before = 0_u64;
        for (rank, &n) in ranks.iter().enumerate() {
            let after = before.wrapping_add(n);
            if n > 0 && after as f64 >= position {
                let bounds = rank.checked_sub(1).and_then(|i| edges.get(i)).zip(edges.get(rank));
                return match bounds {
                    Some((&low, &high)) => {
                        let share = ((position - before as f64) / n as f64).clamp(0.0, 1.0);
                        // Two products: the width of a bin may be beyond f64.
                        (low * (1.0 - share) + high * share).clamp(low, high)
                    }
                    None if rank == 0 => f64::NEG_INFINITY,
                    None => f64::INFINITY,
                };
            }
            before = after;
        }
        f64::NAN
    }

    /// The value that stands for the `rank`-th smallest, from 1 on.
    fn at_rank(&self, rank: u64) -> f64 {
        let (Bins::Log(counts), Axis::LogLinear { precision }) = (&self.bins, &self.axis) else { return f64::NAN };
        let exact = self.value_bits <= *precision;
        let mut before = self.specials.neginf;
        if rank <= before {
            return f64::NEG_INFINITY;
        }
        let mut zeros = Some(counts.zeros);
        for (key, n) in counts.occupied() {
            if !key.negative {
                before = before.wrapping_add(zeros.take().unwrap_or(0));
                if rank <= before {
                    return 0.0;
                }
            }
            before = before.wrapping_add(n);
            if rank <= before {
                let magnitude = counts.representative(key.magnitude, exact);
                return if key.negative { -magnitude } else { magnitude };
            }
        }
        if rank <= before.wrapping_add(zeros.unwrap_or(0)) { 0.0 } else { f64::INFINITY }
    }
}

/// The rank from 1 on that numpy's `inverted_cdf` takes.
fn rank(q: f64, n: u64) -> u64 {
    ((q * n as f64).ceil() as u64).clamp(1, n)
}
