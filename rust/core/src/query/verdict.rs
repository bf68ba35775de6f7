//! Owns yes-or-no questions about tensors, answered as soon as one chunk says no. Knows nothing of Python.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::kernel::{CHUNK, Moments};
use crate::memory::view::TensorView;
use crate::number::Number;
use crate::number::environment::with_standard_floats;
use crate::parallel::scan::{Options, ordered};
use crate::state::stats::Stats;
use crate::summary::{Job, bytes};

/// What every value must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Question {
    /// Neither NaN nor infinite.
    Finite,
    /// Not NaN and within the bounds, compared exactly; an infinite bound allows the infinity.
    Between(Number, Number),
}

impl Question {
    /// Within two bounds, which must be in order and not NaN.
    pub fn between(low: Number, high: Number) -> Result<Self> {
        let number = |n: Number| !matches!(n, Number::Float(x) if x.is_nan());
        if number(low) && number(high) && low.compare(high) != core::cmp::Ordering::Greater {
            Ok(Self::Between(low, high))
        } else {
            let shown = |n: Number| match n {
                Number::Int(n) => n.to_string(),
                Number::Float(x) => x.to_string(),
            };
            Err(Error::Argument(format!("bounds must be numbers in order, got: {} and {}", shown(low), shown(high))))
        }
    }

    /// Whether it holds for all values counted.
    fn holds(self, stats: &Stats) -> bool {
        let counts = &stats.counts;
        match self {
            Self::Finite => counts.nan + counts.posinf + counts.neginf == 0,
            Self::Between(low, high) => {
                counts.nan == 0
                    && (counts.neginf == 0 || low == Number::Float(f64::NEG_INFINITY))
                    && (counts.posinf == 0 || high == Number::Float(f64::INFINITY))
                    && stats.extremes.is_none_or(|e| {
                        low.compare(e.min) != core::cmp::Ordering::Greater
                            && high.compare(e.max) != core::cmp::Ordering::Less
                    })
            }
        }
    }

    /// Whether it holds for every value of a tensor. Stops at the first chunk for which it does not.
    pub fn of(self, view: &TensorView<'_>, options: &Options<'_>) -> bool {
        let job = Job::new(view);
        if view.count() <= CHUNK as u64 {
            // One chunk needs no thread, and most tensors of a list are that small.
            return view.count() == 0 || self.holds(&job.chunk(0, Moments::Two, options.level));
        }
        let broken = AtomicBool::new(false);
        let (level, moments) = (options.level, Moments::Two);
        let interrupted = || broken.load(Ordering::Relaxed) || (options.interrupted)();
        let options = Options { interrupted: &interrupted, ..options.for_bytes(bytes(view)) };
        let task = |(): &mut (), chunk: usize| {
            if !broken.load(Ordering::Relaxed) && !self.holds(&job.chunk(chunk, moments, level)) {
                broken.store(true, Ordering::Relaxed);
            }
        };
        with_standard_floats(|| ordered(job.chunks(), &options, || (), task, |()| ()));
        !broken.into_inner()
    }
}
