//! Owns the one table of the numbers that a summary answers: their names, and how each is read. Knows nothing of what columns are made of them.

use crate::kernel::Moments;
use crate::number::Number;
use crate::summary::Summary;

/// What a field is, and how it is read.
#[derive(Clone, Copy, Debug)]
pub enum Read {
    /// How many values are of some class.
    Count(fn(&Summary) -> u64),
    /// A number that is exact for integer dtypes.
    Value(fn(&Summary) -> Number),
    /// A float whatever the dtype is.
    Real(fn(&Summary) -> f64),
}

/// One number of a summary.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// What Python calls it.
    pub name: &'static str,
    /// Of a summary; those that take a correction are of the population.
    pub read: Read,
    /// Whether it takes a correction.
    pub corrected: bool,
    /// How many moments it needs.
    pub moments: Moments,
    /// Whether it is a column of every table, or only where one asks for it.
    pub usual: bool,
}

impl Field {
    const fn new(name: &'static str, read: Read) -> Self {
        Self { name, read, corrected: false, moments: Moments::Two, usual: true }
    }

    const fn on_demand(self) -> Self {
        Self { usual: false, ..self }
    }

    const fn corrected(self) -> Self {
        Self { corrected: true, ..self }
    }

    const fn of_four_moments(self) -> Self {
        Self { moments: Moments::Four, ..self }
    }

    /// The field of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.name == name)
    }
}

/// Every field, in the order of columns.
pub static FIELDS: [Field; 23] = [
    Field::new("count", Read::Count(|s| s.stats.counts.total())),
    Field::new("finite_count", Read::Count(|s| s.stats.counts.finite())).on_demand(),
    Field::new("nonfinite_count", Read::Count(|s| s.stats.counts.total() - s.stats.counts.finite())).on_demand(),
    Field::new("nan_count", Read::Count(|s| s.stats.counts.nan)),
    Field::new("posinf_count", Read::Count(|s| s.stats.counts.posinf)),
    Field::new("neginf_count", Read::Count(|s| s.stats.counts.neginf)),
    Field::new("zero_count", Read::Count(|s| s.stats.counts.zero)),
    Field::new("negative_count", Read::Count(|s| s.stats.counts.negative)),
    Field::new("positive_count", Read::Count(|s| s.stats.counts.positive)),
    Field::new("subnormal_count", Read::Count(|s| s.stats.counts.subnormal)),
    Field::new("min", Read::Value(Summary::min)),
    Field::new("max", Read::Value(Summary::max)),
    Field::new("absmax", Read::Value(Summary::absmax)),
    Field::new("absmin", Read::Value(Summary::absmin)),
    Field::new("sum", Read::Value(Summary::sum)),
    Field::new("mean", Read::Real(Summary::mean)),
    Field::new("var", Read::Real(|s| s.var(0.0))).corrected().on_demand(),
    Field::new("std", Read::Real(|s| s.std(0.0))).corrected(),
    Field::new("l1", Read::Value(Summary::l1)),
    Field::new("l2", Read::Real(Summary::l2)),
    Field::new("rms", Read::Real(Summary::rms)),
    Field::new("skewness", Read::Real(|s| s.skewness().unwrap_or(f64::NAN))).of_four_moments().on_demand(),
    Field::new("kurtosis", Read::Real(|s| s.kurtosis().unwrap_or(f64::NAN))).of_four_moments().on_demand(),
];
