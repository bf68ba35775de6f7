//! Owns the count of a summary and a histogram of the same values in one walk, over one tensor or many. Knows nothing of how either is
//! counted.
//!
//! Both kernels take each chunk in turn, while it is in the second-level cache: memory is read once. The chunks and the order in which they
//! merge are those of [`Summary::of`], so that the results have the same bits as those of two calls.

use crate::axis::Axis;
use crate::histogram::Histogram;
use crate::histogram::count::Counter;
use crate::histogram::parts::Parts;
use crate::kernel::{CHUNK, Moments};
use crate::memory::view::TensorView;
use crate::number::environment::with_standard_floats;
use crate::parallel::scan::{Options, Shares, ordered};
use crate::parallel::team::single_thread_bytes;
use crate::simd::level::Level;
use crate::state::stats::Stats;
use crate::summary::{Job, Seen, Summary, bytes_of_all, stats_of_chunk};
use crate::with_element;

/// What follows the chunk of `f32` in hand, or the next half of one of `f64`. A histogram takes longer to count than memory takes to
/// answer, a summary does not: while the former is counted, the next values come near.
const NEXT_CHUNK: usize = CHUNK * size_of::<f32>();

/// Summaries and histograms, one after another, on one thread: what is allocated for counting serves all of them.
pub struct Fused<'a> {
    axis: &'a Axis,
    moments: Moments,
    counter: Counter<'a>,
}

impl<'a> Fused<'a> {
    /// Nothing counted.
    pub fn new(axis: &'a Axis, moments: Moments) -> Self {
        Self { axis, moments, counter: Counter::reading_ahead(axis, NEXT_CHUNK) }
    }

    /// Of one tensor.
    pub fn of(&mut self, view: &TensorView<'_>, level: Level) -> (Summary, Histogram) {
        let job = Job::new(view);
        let stats = with_standard_floats(|| {
            let mut stats = Stats::default();
            for chunk in 0..job.chunks() {
                stats.merge(&count_chunk(&job, chunk, self.moments, level, &mut self.counter));
            }
            stats
        });
        let mut histogram = Histogram::new(self.axis.clone());
        self.counter.move_into(&mut histogram);
        histogram.seen(view);
        (Summary { stats, seen: Seen::One(view.dtype()), moments: self.moments, fits: None }, histogram)
    }
}

/// Of many tensors, one pair each; work is spread over tensors and over the parts of big ones.
pub fn of_each(
    views: &[TensorView<'_>],
    axis: &Axis,
    moments: Moments,
    options: &Options<'_>,
) -> Vec<(Summary, Histogram)> {
    if bytes_of_all(views) <= single_thread_bytes() {
        let mut fused = Fused::new(axis, moments);
        return views.iter().map(|view| fused.of(view, options.level)).collect();
    }
    let jobs: Vec<Job> = views.iter().map(Job::new).collect();
    let shares = Shares::new(jobs.iter().map(Job::chunks));
    let mut all = vec![Stats::default(); jobs.len()];
    let level = options.level;
    let local = || Parts::reading_ahead(axis, NEXT_CHUNK);
    let task = |parts: &mut Parts<'_>, index: usize| {
        let (tensor, chunk) = shares.owner(index);
        (tensor, count_chunk(&jobs[tensor], chunk, moments, level, parts.counter_of(tensor)))
    };
    let all_parts = with_standard_floats(|| {
        ordered(shares.total(), options, local, task, |(tensor, stats): (usize, Stats)| all[tensor].merge(&stats))
    });
    let mut histograms: Vec<Option<Histogram>> = vec![None; views.len()];
    for parts in all_parts {
        parts.add_to(&mut histograms);
    }
    let pair = |((view, stats), histogram): ((&TensorView<'_>, Stats), Option<Histogram>)| {
        let mut histogram = histogram.unwrap_or_else(|| Histogram::new(axis.clone()));
        histogram.seen(view);
        (Summary { stats, seen: Seen::One(view.dtype()), moments, fits: None }, histogram)
    };
    views.iter().zip(all).zip(histograms).map(pair).collect()
}

/// Counts a chunk by both kernels.
fn count_chunk(job: &Job, chunk: usize, moments: Moments, level: Level, counter: &mut Counter<'_>) -> Stats {
    with_element!(job.dtype(), E => {
        let mut stage = Vec::new();
        let (p, len) = job.dense_chunk::<E>(chunk, &mut stage);
        // SAFETY: what `dense_chunk` gives is readable until the next one.
        unsafe {
            let stats = stats_of_chunk(p, len, moments, level);
            counter.chunk(level, p, len);
            stats
        }
    })
}
