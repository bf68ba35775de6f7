//! Owns the axes of histograms: which edges there are and which axes are the same. Knows nothing of counts or memory.

pub mod cells;
pub mod edges;
pub mod guide;
pub mod narrow;

use std::sync::Arc;

use crate::axis::edges::Edges;
use crate::error::{Error, Result};
use crate::simd::level::in_standard_mode;

/// Most bins an axis may have, so that a table of counters stays in memory.
pub const MAX_BINS: u64 = 1 << 24;

/// Most mantissa bits a [`Axis::LogLinear`] axis may keep.
pub const MAX_PRECISION: u8 = 10;

/// How values are put into bins.
#[derive(Clone, Debug)]
pub enum Axis {
    /// Equal bins of `[start, stop]`, the last one closed.
    Regular {
        /// First edge as it was asked for.
        start: f64,
        /// Last edge as it was asked for.
        stop: f64,
        /// All edges.
        edges: Arc<Edges>,
    },
    /// Bins between any increasing edges, the last one closed.
    Variable {
        /// All edges.
        edges: Arc<Edges>,
    },
    /// One bin for each sign, power of two and value of the top mantissa bits.
    LogLinear {
        /// Mantissa bits kept.
        precision: u8,
    },
    /// As many equal bins at most, their width the power of two that the values counted so far need.
    Linear {
        /// Most bins.
        bins: u64,
    },
}

impl PartialEq for Axis {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Regular { edges: a, .. }, Self::Regular { edges: b, .. })
            | (Self::Variable { edges: a }, Self::Variable { edges: b }) => a.values() == b.values(),
            (Self::LogLinear { precision: a }, Self::LogLinear { precision: b }) => a == b,
            (Self::Linear { bins: a }, Self::Linear { bins: b }) => a == b,
            _ => false,
        }
    }
}

impl Axis {
    /// Equal bins. `edges` is the table of `bins + 1` values from `start` to `stop`, as the caller's array library rounds them.
    pub fn regular(start: f64, stop: f64, edges: Vec<f64>) -> Result<Self> {
        let bins = (edges.len() as u64).saturating_sub(1);
        check_bins(bins)?;
        if !start.is_finite() || !stop.is_finite() || start >= stop {
            return Err(Error::Axis(format!("range must be finite and increasing, got: ({start}, {stop})")));
        }
        if edges.first() != Some(&start) || edges.last() != Some(&stop) {
            return Err(Error::Axis(format!("edges must begin at {start} and end at {stop}")));
        }
        if first_not_increasing(&edges).is_some() {
            return Err(Error::Axis(format!(
                "too many bins for the range: {bins} bins of ({start}, {stop}) are narrower than float64"
            )));
        }
        Ok(Self::Regular { start, stop, edges: Arc::new(Edges::new(edges, true)) })
    }

    /// Bins between increasing edges.
    pub fn variable(edges: Vec<f64>) -> Result<Self> {
        if edges.len() < 2 {
            return Err(Error::Axis(format!("an axis needs at least two edges, got: {}", edges.len())));
        }
        check_bins(edges.len() as u64 - 1)?;
        if let Some(x) = edges.iter().find(|x| !x.is_finite()) {
            return Err(Error::Axis(format!("edges must be finite, got: {x}")));
        }
        if let Some(i) = first_not_increasing(&edges) {
            return Err(Error::Axis(format!("edges must increase, got: {} followed by {}", edges[i], edges[i + 1])));
        }
        Ok(Self::Variable { edges: Arc::new(Edges::new(edges, false)) })
    }

    /// Bins by the top bits of the float.
    pub fn log_linear(precision: i64) -> Result<Self> {
        match u8::try_from(precision) {
            Ok(precision) if precision <= MAX_PRECISION => Ok(Self::LogLinear { precision }),
            _ => Err(Error::Axis(format!("precision must be in [0, {MAX_PRECISION}], got: {precision}"))),
        }
    }

    /// Equal bins of which there are at most so many, whatever the range.
    pub fn linear(bins: i64) -> Result<Self> {
        match u64::try_from(bins) {
            // One bin cannot hold values of both signs, since zero is an edge at every width.
            Ok(bins) if (2..=MAX_BINS).contains(&bins) => Ok(Self::Linear { bins }),
            _ => Err(Error::Axis(format!("bins must be in [2, {MAX_BINS}], got: {bins}"))),
        }
    }

    /// The edge table, where the axis has one.
    pub fn edges(&self) -> Option<&Arc<Edges>> {
        match self {
            Self::Regular { edges, .. } | Self::Variable { edges } => Some(edges),
            Self::LogLinear { .. } | Self::Linear { .. } => None,
        }
    }
}

impl core::fmt::Display for Axis {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Regular { start, stop, edges } => write!(f, "Regular({}, {start}, {stop})", edges.values().len() - 1),
            Self::Variable { edges } => write!(f, "Variable({} bins)", edges.values().len() - 1),
            Self::LogLinear { precision } => write!(f, "LogLinear({precision})"),
            Self::Linear { bins } => write!(f, "Linear({bins})"),
        }
    }
}

fn check_bins(bins: u64) -> Result<()> {
    if (1..=MAX_BINS).contains(&bins) {
        return Ok(());
    }
    Err(Error::Axis(format!("bins must be in [1, {MAX_BINS}], got: {bins}")))
}

fn first_not_increasing(edges: &[f64]) -> Option<usize> {
    // Not `a >= b`: a NaN must be found too.
    in_standard_mode(|| edges.windows(2).position(|pair| !matches!(pair, [a, b] if a < b)))
}
