//! Owns the count of a summary and a histogram of the same values in one walk, over one tensor or many. Knows nothing of how either is
//! counted.
//!
//! Both kernels take each chunk in turn, while it is in the second-level cache: memory is read once. The chunks and the order in which they
//! merge are those of [`Summary::of`], so that the results have the same bits as those of two calls.

use crate::axis::Axis;
use crate::chunks::SINGLE_THREAD_BYTES;
use crate::environment::with_standard_floats;
use crate::histogram::Histogram;
use crate::histogram_count::Counter;
use crate::kernel::Moments;
use crate::level::Level;
use crate::scan::{Options, ordered};
use crate::stats::Stats;
use crate::summary::{Job, Seen, Summary, bytes, stats_of_chunk};
use crate::view::TensorView;
use crate::with_element;

/// Summaries and histograms, one after another, on one thread: what is allocated for counting serves all of them.
pub struct Fused<'a> {
    axis: &'a Axis,
    moments: Moments,
    counter: Counter<'a>,
}

impl<'a> Fused<'a> {
    /// Nothing counted.
    pub fn new(axis: &'a Axis, moments: Moments) -> Self {
        Self { axis, moments, counter: Counter::new(axis) }
    }

    /// Of one tensor.
    pub fn of(&mut self, view: &TensorView<'_>, level: Level) -> (Summary, Histogram) {
        let job = Job::new(view);
        let stats = with_standard_floats(|| {
            let mut stats = Stats::default();
            for task in 0..job.tasks() {
                stats.merge(&count_task(&job, task, self.moments, level, &mut self.counter));
            }
            stats
        });
        let mut histogram = Histogram::new(self.axis.clone());
        self.counter.move_into(&mut histogram);
        histogram.seen(view);
        (Summary { stats, seen: Seen::One(view.dtype()), moments: self.moments }, histogram)
    }
}

/// Of many tensors, one pair each; work is spread over tensors and over the parts of big ones.
pub fn of_each(
    views: &[TensorView<'_>],
    axis: &Axis,
    moments: Moments,
    options: &Options<'_>,
) -> Vec<(Summary, Histogram)> {
    let total = views.iter().map(bytes).fold(0, u64::saturating_add);
    if options.threads == 1 && views.len() == 1 || total <= SINGLE_THREAD_BYTES {
        let mut fused = Fused::new(axis, moments);
        return views.iter().map(|view| fused.of(view, options.level)).collect();
    }
    let jobs: Vec<Job> = views.iter().map(Job::new).collect();
    // Number of each tensor's first task.
    let mut first_tasks = Vec::with_capacity(jobs.len());
    let mut tasks = 0;
    for job in &jobs {
        first_tasks.push(tasks);
        tasks += job.tasks();
    }
    let mut all = vec![Stats::default(); jobs.len()];
    let level = options.level;
    let local = || Local { axis, counter: Counter::new(axis), tensor: None, done: Vec::new() };
    let task = |local: &mut Local<'_>, index: usize| {
        // The last tensor that starts at or before this task; tensors without elements have no task and are never chosen.
        let tensor = first_tasks.partition_point(|&first| first <= index) - 1;
        local.turn_to(Some(tensor));
        let task = index - first_tasks[tensor];
        (tensor, count_task(&jobs[tensor], task, moments, level, &mut local.counter))
    };
    let locals = with_standard_floats(|| {
        ordered(tasks, options, local, task, |(tensor, stats): (usize, Stats)| all[tensor].merge(&stats))
    });
    let mut histograms: Vec<Option<Histogram>> = vec![None; views.len()];
    for mut local in locals {
        local.turn_to(None);
        for (tensor, part) in local.done {
            match &mut histograms[tensor] {
                None => histograms[tensor] = Some(part),
                // Counts of one axis always merge.
                Some(whole) => _ = whole.merge(&part),
            }
        }
    }
    let pair = |((view, stats), histogram): ((&TensorView<'_>, Stats), Option<Histogram>)| {
        let mut histogram = histogram.unwrap_or_else(|| Histogram::new(axis.clone()));
        histogram.seen(view);
        (Summary { stats, seen: Seen::One(view.dtype()), moments }, histogram)
    };
    views.iter().zip(all).zip(histograms).map(pair).collect()
}

/// What one thread counts: the tensor in hand, and the ones before it.
struct Local<'a> {
    axis: &'a Axis,
    counter: Counter<'a>,
    tensor: Option<usize>,
    done: Vec<(usize, Histogram)>,
}

impl Local<'_> {
    /// Puts the tensor in hand away, unless it is the next one too.
    fn turn_to(&mut self, next: Option<usize>) {
        if self.tensor == next {
            return;
        }
        if let Some(tensor) = self.tensor {
            let mut histogram = Histogram::new(self.axis.clone());
            self.counter.move_into(&mut histogram);
            self.done.push((tensor, histogram));
        }
        self.tensor = next;
    }
}

/// Counts the chunks of one task, each by both kernels.
fn count_task(job: &Job, task: usize, moments: Moments, level: Level, counter: &mut Counter<'_>) -> Stats {
    with_element!(job.dtype(), E => {
        let mut stage = Vec::new();
        let mut stats = Stats::default();
        for index in job.chunks_of_task(task) {
            let (p, len) = job.dense_chunk::<E>(index, &mut stage);
            // SAFETY: what `dense_chunk` gives is readable until the next one.
            unsafe {
                stats.merge(&stats_of_chunk(p, len, moments, level));
                counter.chunk(level, p, len);
            }
        }
        stats
    })
}
