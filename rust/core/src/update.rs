//! Owns copies of tensors and the count of what has changed since they were taken. Knows nothing of Python, models or optimizers.
//!
//! One pass reads the new and the old values of a part that fits the second-level cache, and counts the new ones and the differences:
//! nothing of the size of the tensor is made on the way.
//!
//! A difference is taken in the wide type of the dtype (`f32` up to 32 bits of float, else `f64`), rounded once to nearest. By Sterbenz'
//! lemma it is exact wherever old and new are within a factor of two of each other, which is what one step of an optimizer does.

use core::ops::Sub;

use crate::axis::Axis;
use crate::chunks::{CHUNKS_PER_TASK, SINGLE_THREAD_BYTES};
use crate::dtype::Dtype;
use crate::element::Element;
use crate::environment::with_standard_floats;
use crate::histogram::Histogram;
use crate::histogram_count::Counter;
use crate::kernel::lanes::Lanes;
use crate::kernel::wide::AsWide;
use crate::kernel::{CHUNK, Count, Moments};
use crate::level::{Kernel, Level};
use crate::scan::{Options, ordered};
use crate::stats::Stats;
use crate::summary::{Seen, Summary, stats_of_chunk};
use crate::view::{TensorView, Walk};
use crate::with_element;

/// A copy of a tensor's values, in the order in which its memory is walked.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    dtype: Option<Dtype>,
    shape: Vec<i64>,
    strides: Vec<i64>,
    bytes: Vec<u8>,
}

impl Snapshot {
    /// Whether it is a copy of a tensor of this dtype and layout, so that values have the same places.
    pub fn fits(&self, view: &TensorView<'_>) -> bool {
        self.dtype == Some(view.dtype()) && self.shape == view.shape() && self.strides == view.strides()
    }

    /// Copies the values of a tensor.
    pub fn take(&mut self, view: &TensorView<'_>) {
        if !self.fits(view) {
            self.dtype = Some(view.dtype());
            self.shape = view.shape().to_vec();
            self.strides = view.strides();
            self.bytes.clear();
            self.bytes.resize(view.count() as usize * view.dtype().size(), 0);
        }
        with_element!(view.dtype(), E => copy::<E>(&view.memory_order(), &mut self.bytes));
    }

    /// Lets go of the copy.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

fn copy<E: AsWide>(walk: &Walk, bytes: &mut [u8]) {
    let mut stage = Vec::new();
    for (i, part) in bytes.chunks_mut(CHUNK * size_of::<E>()).enumerate() {
        let len = part.len() / size_of::<E>();
        // SAFETY: the walk is that of a borrowed view of elements `E`, and the copy has as many of them.
        unsafe {
            let p = walk.dense::<E>((i * CHUNK) as u64, len, &mut stage);
            core::ptr::copy_nonoverlapping(p.cast::<u8>(), part.as_mut_ptr(), part.len());
        }
    }
}

/// What is known about some values.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Their summary.
    pub summary: Summary,
    /// Their histogram, where one was asked for.
    pub histogram: Option<Histogram>,
}

/// A tensor's values and what has changed in them.
#[derive(Clone, Debug)]
pub struct Change {
    /// The values now.
    pub value: Counted,
    /// The values now minus those of the snapshot; `None` without a snapshot that fits.
    pub update: Option<Counted>,
}

/// Counts tensors and their differences from their snapshots. A tensor without a snapshot that fits is counted alone. With an axis there are histograms of it as well.
pub fn changes(
    views: &[TensorView<'_>],
    snapshots: &[Option<&Snapshot>],
    axis: Option<&Axis>,
    options: &Options<'_>,
) -> Vec<Change> {
    let mut jobs = Vec::with_capacity(views.len());
    let mut totals = Vec::with_capacity(views.len());
    let (mut tasks, mut bytes) = (0, 0_u64);
    let mut slots = snapshots.iter().copied();
    for view in views {
        let old = slots.next().flatten().filter(|old| old.fits(view));
        let job = Job {
            walk: view.memory_order(),
            dtype: view.dtype(),
            old: old.map(|snapshot| snapshot.bytes.as_slice()),
            first_task: tasks,
        };
        tasks += job.chunks().div_ceil(CHUNKS_PER_TASK) as usize;
        bytes = bytes.saturating_add(job.walk.count().saturating_mul(job.dtype.size() as u64));
        totals.push((Part::default(), job.old.is_some().then(Part::default)));
        jobs.push(job);
    }
    let options = Options { threads: if bytes <= SINGLE_THREAD_BYTES { 1 } else { options.threads }, ..*options };
    let level = options.level;
    let work = |room: &mut Room<'_>, task: usize| {
        // The last tensor that starts at or before this task; one without elements has no task and is never chosen.
        let tensor = jobs.partition_point(|job| job.first_task <= task) - 1;
        let job = &jobs[tensor];
        // SAFETY: the views are borrowed, and a snapshot that fits has as many elements of the same type.
        let parts = with_element!(job.dtype, E => unsafe { job.task::<E>(task, room, level) });
        (tensor, parts)
    };
    with_standard_floats(|| {
        ordered(
            tasks,
            &options,
            || Room::new(axis),
            work,
            |(tensor, (value, update)): (usize, (Part, Part))| {
                totals[tensor].0.merge(value);
                if let Some(total) = &mut totals[tensor].1 {
                    total.merge(update);
                }
            },
        );
    });
    jobs.iter()
        .zip(totals)
        .map(|(job, (value, update))| {
            let wide = with_element!(job.dtype, E => <<E as AsWide>::Wide as Element>::DTYPE);
            Change { value: value.counted(job.dtype, axis), update: update.map(|part| part.counted(wide, axis)) }
        })
        .collect()
}

struct Job<'a> {
    walk: Walk,
    dtype: Dtype,
    old: Option<&'a [u8]>,
    first_task: usize,
}

/// Scratch memory of one thread.
struct Room<'a> {
    axis: Option<&'a Axis>,
    values: Option<Counter<'a>>,
    updates: Option<Counter<'a>>,
    /// Room for the differences of a chunk, of either wide type.
    differences: Vec<f64>,
}

impl<'a> Room<'a> {
    fn new(axis: Option<&'a Axis>) -> Self {
        Self { axis, values: axis.map(Counter::new), updates: axis.map(Counter::new), differences: Vec::new() }
    }
}

impl Job<'_> {
    fn chunks(&self) -> u64 {
        self.walk.count().div_ceil(CHUNK as u64)
    }

    /// The values and differences of the chunks of one task.
    ///
    /// # Safety
    /// The view of the walk must be alive and have element type `E`, as must the old values where there are any.
    unsafe fn task<E>(&self, task: usize, room: &mut Room<'_>, level: Level) -> (Part, Part)
    where
        E: AsWide + Count,
        E::Wide: Count + AsWide<Wide = E::Wide> + Sub<Output = E::Wide>,
    {
        let first = (task - self.first_task) as u64 * CHUNKS_PER_TASK;
        let (mut value, mut update) = (Stats::default(), Stats::default());
        let mut stage = Vec::new();
        for chunk in first..self.chunks().min(first + CHUNKS_PER_TASK) {
            let from = chunk * CHUNK as u64;
            let len = (self.walk.count() - from).min(CHUNK as u64) as usize;
            // SAFETY: the range ends at the walk's count.
            let new = unsafe { self.walk.dense::<E>(from, len, &mut stage) };
            // SAFETY: `len` elements are readable from `new` on.
            unsafe { count(&mut value, room.values.as_mut(), level, new, len) };
            let Some(old) = self.old else { continue };
            if room.differences.len() < len {
                room.differences.resize(len, 0.0);
            }
            let old = old.as_ptr().wrapping_add(from as usize * size_of::<E>()).cast::<E>();
            let differences = room.differences.as_mut_ptr().cast::<E::Wide>();
            level.run(DifferenceKernel { new, old, differences, len });
            // SAFETY: the kernel has just written `len` of them.
            unsafe { count(&mut update, room.updates.as_mut(), level, differences.cast_const(), len) };
        }
        (Part::new(value, room.axis, room.values.as_mut()), Part::new(update, room.axis, room.updates.as_mut()))
    }
}

/// Differences of a chunk.
struct DifferenceKernel<E: AsWide> {
    new: *const E,
    old: *const E,
    differences: *mut E::Wide,
    len: usize,
}

impl<E: AsWide> Kernel for DifferenceKernel<E>
where
    E::Wide: Sub<Output = E::Wide>,
{
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        for i in 0..self.len {
            // SAFETY: `Job::task` vouches for `len` elements of each.
            unsafe {
                let new = self.new.add(i).read_unaligned();
                let old = self.old.add(i).read_unaligned();
                self.differences.add(i).write(new.wide() - old.wide());
            }
        }
    }
}

/// Counts a chunk.
///
/// # Safety
/// `p` must be readable for `len` elements, at most [`CHUNK`].
unsafe fn count<E: AsWide + Count>(
    stats: &mut Stats,
    counter: Option<&mut Counter<'_>>,
    level: Level,
    p: *const E,
    len: usize,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        stats.merge(&stats_of_chunk(p, len, Moments::Two, level));
        if let Some(counter) = counter {
            counter.chunk(level, p, len);
        }
    }
}

/// What one task, or all tasks of a tensor so far, have counted.
#[derive(Default)]
struct Part {
    stats: Stats,
    histogram: Option<Histogram>,
}

impl Part {
    fn new(stats: Stats, axis: Option<&Axis>, counter: Option<&mut Counter<'_>>) -> Self {
        let histogram = axis.zip(counter).map(|(axis, counter)| {
            let mut histogram = Histogram::new(axis.clone());
            counter.move_into(&mut histogram);
            histogram
        });
        Self { stats, histogram }
    }

    fn merge(&mut self, other: Self) {
        self.stats.merge(&other.stats);
        match (&mut self.histogram, other.histogram) {
            (Some(mine), Some(theirs)) => {
                // Both are of the axis that this call was asked for.
                let _ = mine.merge(&theirs);
            }
            (mine, theirs) => *mine = mine.take().or(theirs),
        }
    }

    fn counted(self, dtype: Dtype, axis: Option<&Axis>) -> Counted {
        let any = self.stats.counts.total() > 0;
        let summary = Summary { stats: self.stats, seen: Seen::One(dtype), moments: Moments::Two };
        let mut histogram = self.histogram.or_else(|| axis.map(|axis| Histogram::new(axis.clone())));
        if let Some(histogram) = histogram.as_mut().filter(|_| any) {
            histogram.value_bits = with_element!(dtype, E => <E as AsWide>::BITS);
        }
        Counted { summary, histogram }
    }
}
