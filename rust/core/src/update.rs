//! Owns copies of tensors and the count of what has changed since they were taken. Knows nothing of Python, models or optimizers.
//!
//! One pass reads the new and the old values of a part that fits the second-level cache, counts the new ones and the differences, and
//! puts the new ones in the place of the old: nothing of the size of the tensor is made on the way.
//!
//! A difference is taken in the wide type of the dtype (`f32` up to 32 bits of float, else `f64`), rounded once to nearest. By Sterbenz'
//! lemma it is exact wherever old and new are within a factor of two of each other, which is what one step of an optimizer does.

use core::ops::Sub;

use crate::axis::Axis;
use crate::chunks::{CHUNKS_PER_TASK, SINGLE_THREAD_BYTES};
use crate::dtype::Dtype;
use crate::element::Element;
use crate::environment::with_standard_floats;
use crate::histogram::{Bins, Histogram};
use crate::kernel::bins_log::LogCounter;
use crate::kernel::lanes::Lanes;
use crate::kernel::wide::AsWide;
use crate::kernel::wide_block::WideBlock;
use crate::kernel::{BLOCK, CHUNK, Count, Moments};
use crate::level::{Kernel, Level};
use crate::scan::{Options, ordered};
use crate::stats::Stats;
use crate::summary::{Seen, Summary};
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

/// Counts tensors and their differences from their snapshots, which hold the new values afterwards. A tensor without a snapshot is counted
/// alone. With a `precision` there are also histograms of that [`Axis::LogLinear`].
pub fn changes(
    views: &[TensorView<'_>],
    snapshots: &mut [Option<&mut Snapshot>],
    precision: Option<u8>,
    options: &Options<'_>,
) -> Vec<Change> {
    let mut jobs = Vec::with_capacity(views.len());
    let mut totals = Vec::with_capacity(views.len());
    let (mut tasks, mut bytes) = (0, 0_u64);
    let mut slots = snapshots.iter_mut();
    for view in views {
        let old = slots.next().and_then(Option::as_deref_mut).filter(|old| old.fits(view));
        let job = Job {
            walk: view.memory_order(),
            dtype: view.dtype(),
            old: old.map(|snapshot| Old(snapshot.bytes.as_mut_ptr())),
            first_task: tasks,
        };
        tasks += job.chunks().div_ceil(CHUNKS_PER_TASK) as usize;
        bytes = bytes.saturating_add(job.walk.count().saturating_mul(job.dtype.size() as u64));
        totals.push((Part::default(), job.old.is_some().then(Part::default)));
        jobs.push(job);
    }
    let options = Options { threads: if bytes <= SINGLE_THREAD_BYTES { 1 } else { options.threads }, ..*options };
    let level = options.level;
    let work = |room: &mut Room, task: usize| {
        // The last tensor that starts at or before this task; one without elements has no task and is never chosen.
        let tensor = jobs.partition_point(|job| job.first_task <= task) - 1;
        let job = &jobs[tensor];
        // SAFETY: the views are borrowed, the snapshots are borrowed for this call alone, and no two tasks have a chunk in common.
        let parts = with_element!(job.dtype, E => unsafe { job.task::<E>(task, room, precision, level) });
        (tensor, parts)
    };
    with_standard_floats(|| {
        ordered(tasks, &options, Room::default, work, |(tensor, (value, update)): (usize, (Part, Part))| {
            totals[tensor].0.merge(value);
            if let Some(total) = &mut totals[tensor].1 {
                total.merge(update);
            }
        });
    });
    jobs.iter()
        .zip(totals)
        .map(|(job, (value, update))| {
            let wide = with_element!(job.dtype, E => <<E as AsWide>::Wide as Element>::DTYPE);
            Change {
                value: value.counted(job.dtype, precision),
                update: update.map(|part| part.counted(wide, precision)),
            }
        })
        .collect()
}

/// Where the old values of a tensor are.
#[derive(Clone, Copy)]
struct Old(*mut u8);

// SAFETY: the memory belongs to a snapshot that `changes` borrows for as long as this exists; tasks write to disjoint parts of it.
unsafe impl Send for Old {}
// SAFETY: as above.
unsafe impl Sync for Old {}

struct Job {
    walk: Walk,
    dtype: Dtype,
    old: Option<Old>,
    first_task: usize,
}

/// Scratch memory of one thread, enough for the differences of a chunk of either wide type; nothing before it is needed.
#[derive(Default)]
struct Room(Vec<f64>);

impl Job {
    fn chunks(&self) -> u64 {
        self.walk.count().div_ceil(CHUNK as u64)
    }

    /// The values and differences of the chunks of one task.
    ///
    /// # Safety
    /// The view of the walk must be alive and have element type `E`, as must the old values where there are any; nobody else may use the
    /// old values of this task's chunks.
    unsafe fn task<E>(&self, task: usize, room: &mut Room, precision: Option<u8>, level: Level) -> (Part, Part)
    where
        E: AsWide + Count,
        E::Wide: Count + AsWide<Wide = E::Wide> + Sub<Output = E::Wide>,
    {
        let first = (task - self.first_task) as u64 * CHUNKS_PER_TASK;
        let (mut value, mut update) = (Counter::new(precision), Counter::new(precision));
        let (mut stage, mut wide) = (Vec::new(), WideBlock::<E::Wide>::new());
        for chunk in first..self.chunks().min(first + CHUNKS_PER_TASK) {
            let from = chunk * CHUNK as u64;
            let len = (self.walk.count() - from).min(CHUNK as u64) as usize;
            // SAFETY: the range ends at the walk's count.
            let new = unsafe { self.walk.dense::<E>(from, len, &mut stage) };
            // SAFETY: `len` elements are readable from `new` on.
            unsafe { value.chunk(level, new, len, &mut wide) };
            let Some(Old(old)) = self.old else { continue };
            if room.0.len() < len {
                room.0.resize(len, 0.0);
            }
            let old = old.wrapping_add(from as usize * size_of::<E>()).cast::<E>();
            let differences = room.0.as_mut_ptr().cast::<E::Wide>();
            level.run(DifferenceKernel { new, old, differences, len });
            // SAFETY: the kernel has just written `len` of them.
            unsafe { update.chunk(level, differences.cast_const(), len, &mut WideBlock::new()) };
        }
        (value.part(), update.part())
    }
}

/// Differences of a chunk; the new values take the place of the old ones.
struct DifferenceKernel<E: AsWide> {
    new: *const E,
    old: *mut E,
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
            // SAFETY: `Job::task` vouches for `len` elements of each. New values may be written to by others meanwhile: each is read once.
            unsafe {
                let new = self.new.add(i).read_unaligned();
                let old = self.old.add(i).read_unaligned();
                self.differences.add(i).write(new.wide() - old.wide());
                self.old.add(i).write_unaligned(new);
            }
        }
    }
}

/// Counts chunk after chunk of one tensor.
struct Counter {
    stats: Stats,
    log: Option<LogCounter>,
    bits: u8,
}

impl Counter {
    fn new(precision: Option<u8>) -> Self {
        Self { stats: Stats::default(), log: precision.map(LogCounter::new), bits: 0 }
    }

    /// # Safety
    /// `p` must be readable for `len` elements, at most [`CHUNK`].
    unsafe fn chunk<E: AsWide + Count>(
        &mut self,
        level: Level,
        p: *const E,
        len: usize,
        wide: &mut WideBlock<E::Wide>,
    ) {
        self.stats.merge(&level.run(ChunkKernel { p, len }));
        let Some(log) = &mut self.log else { return };
        self.bits = E::BITS;
        let mut start = 0;
        while start < len {
            let n = BLOCK.min(len - start);
            // SAFETY: a part of the chunk.
            unsafe { log.block(level, wide.widen(level, p.add(start), n), n) };
            start += n;
        }
    }

    fn part(self) -> Part {
        let log = self.log.map(|log| {
            let specials = log.specials;
            let counts = log.finish();
            let axis = Axis::LogLinear { precision: counts.precision() };
            Histogram { axis, bins: Bins::Log(counts), specials, value_bits: self.bits }
        });
        Part { stats: self.stats, histogram: log }
    }
}

struct ChunkKernel<E> {
    p: *const E,
    len: usize,
}

impl<E: Count> Kernel for ChunkKernel<E> {
    type Output = Stats;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Stats {
        // SAFETY: `Counter::chunk` vouches for `len` elements.
        unsafe { E::chunk(lanes, self.p, self.len, Moments::Two) }
    }
}

/// What one task, or all tasks of a tensor so far, have counted.
#[derive(Default)]
struct Part {
    stats: Stats,
    histogram: Option<Histogram>,
}

impl Part {
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

    fn counted(self, dtype: Dtype, precision: Option<u8>) -> Counted {
        let summary = Summary { stats: self.stats, seen: Seen::One(dtype), moments: Moments::Two };
        let empty = || precision.map(|precision| Histogram::new(Axis::LogLinear { precision }));
        Counted { summary, histogram: self.histogram.or_else(empty) }
    }
}
