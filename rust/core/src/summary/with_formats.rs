//! Owns the summary that also counts what would become of its values in other formats: chunk by chunk, while a chunk is in cache. Knows
//! nothing of how values are summed or limits are found.

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernel::Moments;
use crate::kernel::query::beyond::{Magnitude, count_beyond};
use crate::memory::view::TensorView;
use crate::number::Number;
use crate::number::environment::with_standard_floats;
use crate::parallel::scan::{Options, ordered};
use crate::simd::level::Level;
use crate::state::stats::Stats;
use crate::summary::formats::{Fit, Fits, Limits, Misfits, value_of};
use crate::summary::{Job, Seen, Summary, bytes, stats_of_chunk};
use crate::with_element;

impl Summary {
    /// An empty summary that counts for formats too.
    pub fn with_formats(moments: Moments, fits: Option<&Fits>) -> Self {
        Self { fits: fits.map(|fits| Box::new(fits.emptied())), ..Self::new(moments) }
    }

    /// Of one tensor, keeping formats where they are given.
    pub fn of_formats(view: &TensorView<'_>, moments: Moments, fits: Option<&Fits>, options: &Options<'_>) -> Self {
        let Some(fits) = fits else { return Self::of(view, moments, options) };
        let mut kept = fits.emptied();
        let stats = with_standard_floats(|| {
            let counter = Counter::new(view.dtype(), fits);
            counter.count(view, moments, options, &mut kept)
        });
        Self { stats, seen: Seen::One(view.dtype()), moments, fits: Some(Box::new(kept)) }
    }

    /// What the values would be in a format that was asked for.
    pub fn fits(&self, format: Dtype) -> Result<Fit> {
        // A format that nobody can ask for is another mistake than one that was forgotten.
        Fits::new(&[format], 1.0)?;
        let kept = self.fits.as_ref().and_then(|fits| fits.fit(format, &self.stats.counts));
        kept.ok_or(Error::FormatNotKept(format.name()))
    }

    /// Takes in the counts of the same formats.
    pub(crate) fn merge_fits(&mut self, other: &Self) {
        if let (Some(mine), Some(theirs)) = (&mut self.fits, &other.fits) {
            mine.merge(theirs);
        }
    }

    /// Whether another summary keeps the same formats.
    pub(crate) fn check_fits(&self, other: &Self) -> Result<()> {
        let alike = match (&self.fits, &other.fits) {
            (None, None) => true,
            (Some(mine), Some(theirs)) => mine.is_like(theirs),
            _ => false,
        };
        if alike {
            return Ok(());
        }
        Err(Error::Incompatible(format!(
            "cannot merge summaries that keep different formats: {} and {}",
            Fits::shown(self.fits.as_deref()),
            Fits::shown(other.fits.as_deref())
        )))
    }
}

/// The limits of every format, as magnitudes and as values.
struct Counter {
    limits: Vec<Limits>,
    values: Vec<[Number; 3]>,
}

impl Counter {
    fn new(dtype: Dtype, fits: &Fits) -> Self {
        let limits = fits.limits(dtype);
        let values = limits.iter().map(|limits| limits.each().map(|limit| value_of(dtype, limit))).collect();
        Self { limits, values }
    }

    /// Counts a whole tensor as [`Summary::of`] does, and its formats into `kept`.
    fn count(&self, view: &TensorView<'_>, moments: Moments, options: &Options<'_>, kept: &mut Fits) -> Stats {
        let (job, level) = (Job::new(view), options.level);
        let options = options.for_bytes(bytes(view));
        let task = |(): &mut (), chunk: usize| {
            with_element!(view.dtype(), E => {
                let mut stage = Vec::new();
                let mut misfits = vec![Misfits::default(); self.limits.len()];
                let (p, len) = job.dense_chunk::<E>(chunk, &mut stage);
                // SAFETY: what `dense_chunk` gives is readable.
                let stats = unsafe {
                    let stats = stats_of_chunk(p, len, moments, level);
                    self.chunk::<E>(level, p, len, &stats, &mut misfits);
                    stats
                };
                (stats, misfits)
            })
        };
        let mut total = Stats::default();
        ordered(
            job.chunks(),
            &options,
            || (),
            task,
            |(stats, misfits)| {
                total.merge(&stats);
                kept.add(&misfits);
            },
        );
        total
    }

    /// Counts one chunk whose statistics are known. Most limits lie outside its extremes and cost nothing.
    ///
    /// # Safety
    /// `p` must be readable for `len` elements.
    unsafe fn chunk<E: Magnitude>(
        &self,
        level: Level,
        p: *const E,
        len: usize,
        stats: &Stats,
        misfits: &mut [Misfits],
    ) {
        let nonzero = stats.counts.negative + stats.counts.positive;
        let absmin = stats.extremes.and_then(|extremes| extremes.absmin);
        let (Some(extremes), Some(absmin)) = (stats.extremes, absmin) else { return };
        let absmax = extremes.absmax();
        let mut beyond: Vec<[u64; 3]> = vec![[0; 3]; self.limits.len()];
        let (mut open, mut places) = (Vec::new(), Vec::new());
        for (format, (limits, values)) in self.limits.iter().zip(&self.values).enumerate() {
            for (k, (&limit, &value)) in limits.each().iter().zip(values).enumerate() {
                if absmin.compare(value).is_gt() {
                    beyond[format][k] = nonzero;
                } else if absmax.compare(value).is_gt() {
                    open.push(limit);
                    places.push((format, k));
                }
            }
        }
        let mut counts = vec![0; open.len()];
        let nonfinite = stats.counts.total() - stats.counts.finite();
        if !open.is_empty() {
            // SAFETY: as the caller vouches.
            unsafe { count_beyond::<E>(level, p, len, &open, &mut counts) };
            for (&(format, k), &count) in places.iter().zip(&counts) {
                beyond[format][k] = count.saturating_sub(nonfinite);
            }
        }
        for (total, beyond) in misfits.iter_mut().zip(beyond) {
            total.add(&Misfits::from_beyond(beyond, nonzero));
        }
    }
}
