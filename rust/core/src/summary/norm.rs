//! Owns norms of tensors and of lists of tensors, as functions of their summaries. Knows nothing of memory.

use crate::error::{Error, Result};
use crate::kernel::Moments;
use crate::summary::Summary;

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Sum of magnitudes.
    One,
    /// Euclidean.
    Two,
    /// Largest magnitude.
    Infinity,
}

impl Order {
    /// 1, 2 or infinity.
    pub fn from_number(ord: f64) -> Result<Self> {
        match ord {
            1.0 => Ok(Self::One),
            2.0 => Ok(Self::Two),
            f64::INFINITY => Ok(Self::Infinity),
            _ => Err(Error::Argument(format!("ord must be 1, 2 or inf, got: {ord}"))),
        }
    }

    /// The norm of what was summarised: NaN if there is a NaN, else infinite if there is an infinity; 0 where there are no values.
    pub fn of(self, summary: &Summary) -> f64 {
        let counts = &summary.stats.counts;
        if counts.nan > 0 {
            return f64::NAN;
        }
        if counts.posinf + counts.neginf > 0 {
            return f64::INFINITY;
        }
        if counts.finite() == 0 {
            return 0.0;
        }
        match self {
            Self::One => summary.l1().to_f64(),
            Self::Two => summary.l2(),
            Self::Infinity => summary.absmax().to_f64(),
        }
    }

    /// The norm of many tensors taken as one long vector.
    pub fn of_all<'a>(self, summaries: impl IntoIterator<Item = &'a Summary>) -> Result<f64> {
        let mut total = Summary::new(Moments::Two);
        for summary in summaries {
            total.merge(summary)?;
        }
        Ok(self.of(&total))
    }
}
