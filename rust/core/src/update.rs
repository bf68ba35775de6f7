//! Owns copies of tensors and the count of what has changed since they were taken. Knows nothing of Python, models or optimizers.
//!
//! One pass reads the new and the old values of a part that fits the second-level cache, and counts the new ones and the differences:
//! nothing of the size of the tensor is made on the way.
//!
//! A difference is taken in the wide type of the dtype (`f32` up to 32 bits of float, else `f64`), rounded once to nearest. By Sterbenz'
//! lemma it is exact wherever old and new are within a factor of two of each other, which is what one step of an optimizer does.

use core::ops::Sub;

use crate::axis::Axis;
use crate::dtype::Dtype;
use crate::element::Element;
use crate::environment::with_standard_floats;
use crate::histogram::Histogram;
use crate::histogram_count::Counter;
use crate::histogram_parts::Parts;
use crate::kernel::lanes::Lanes;
use crate::kernel::wide::AsWide;
use crate::kernel::{CHUNK, Count, Moments};
use crate::level::{Kernel, Level};
use crate::scan::{Options, Shares, ordered};
use crate::stats::Stats;
use crate::summary::{Job, Seen, Summary, bytes_of_all, stats_of_chunk};
use crate::team::single_thread_bytes;
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

/// Counts tensors one after another on one thread; what is allocated for counting serves all of them.
pub struct Changes<'a> {
    axis: Option<&'a Axis>,
    room: Room<'a>,
    seen: usize,
}

impl<'a> Changes<'a> {
    /// Nothing counted. With an axis there are histograms of it as well.
    pub fn new(axis: Option<&'a Axis>) -> Self {
        Self { axis, room: Room::new(axis), seen: 0 }
    }

    /// A tensor and its difference from its snapshot. A tensor without a snapshot that fits is counted alone.
    pub fn of(&mut self, view: &TensorView<'_>, snapshot: Option<&Snapshot>, level: Level) -> Change {
        let difference = Difference::new(view, snapshot);
        let (room, seen) = (&mut self.room, self.seen);
        self.seen += 1;
        let mut stats = [Stats::default(); 2];
        with_standard_floats(|| {
            for chunk in 0..difference.job.chunks() {
                add(&mut stats, &difference.chunk(seen, chunk, room, level));
            }
        });
        let histograms = room.histograms.as_mut().map(|parts| parts.each_mut().map(Parts::take));
        difference.finish(&stats, histograms.unwrap_or_default(), self.axis)
    }
}

fn add(totals: &mut [Stats; 2], parts: &[Stats; 2]) {
    for (total, part) in totals.iter_mut().zip(parts) {
        total.merge(part);
    }
}

/// Counts tensors and their differences from their snapshots. A tensor without a snapshot that fits is counted alone. With an axis there are histograms of it as well.
pub fn changes(
    views: &[TensorView<'_>],
    snapshots: &[Option<&Snapshot>],
    axis: Option<&Axis>,
    options: &Options<'_>,
) -> Vec<Change> {
    let snapshots = snapshots.iter().copied().chain(core::iter::repeat(None));
    let bytes = bytes_of_all(views);
    if bytes <= single_thread_bytes() {
        let mut changes = Changes::new(axis);
        return views.iter().zip(snapshots).map(|(view, old)| changes.of(view, old, options.level)).collect();
    }
    let jobs: Vec<_> = views.iter().zip(snapshots).map(|(view, old)| Difference::new(view, old)).collect();
    let shares = Shares::new(jobs.iter().map(|difference| difference.job.chunks()));
    let (options, level) = (options.for_bytes(bytes), options.level);
    let work = |room: &mut Room<'_>, index: usize| {
        let (tensor, chunk) = shares.owner(index);
        (tensor, jobs[tensor].chunk(tensor, chunk, room, level))
    };
    let mut stats = vec![[Stats::default(); 2]; views.len()];
    let rooms = with_standard_floats(|| {
        let take = |(tensor, parts): (usize, [Stats; 2])| add(&mut stats[tensor], &parts);
        ordered(shares.total(), &options, || Room::new(axis), work, take)
    });
    let mut histograms = [vec![None; views.len()], vec![None; views.len()]];
    for parts in rooms.into_iter().filter_map(|room| room.histograms) {
        for (part, all) in parts.into_iter().zip(&mut histograms) {
            part.add_to(all);
        }
    }
    let mut finish = |(tensor, stats): (usize, &[Stats; 2])| {
        jobs[tensor].finish(stats, histograms.each_mut().map(|all| all[tensor].take()), axis)
    };
    stats.iter().enumerate().map(&mut finish).collect()
}

/// A tensor to count, and its values at an earlier time where they are known.
struct Difference<'a> {
    job: Job,
    old: Option<&'a [u8]>,
}

/// Scratch memory of one thread.
struct Room<'a> {
    /// Of values and of updates.
    histograms: Option<[Parts<'a>; 2]>,
    /// Room for the differences of a chunk, of either wide type.
    differences: Vec<f64>,
}

impl<'a> Room<'a> {
    fn new(axis: Option<&'a Axis>) -> Self {
        Self { histograms: axis.map(|axis| [Parts::new(axis), Parts::new(axis)]), differences: Vec::new() }
    }
}

impl<'a> Difference<'a> {
    fn new(view: &'a TensorView<'_>, snapshot: Option<&'a Snapshot>) -> Self {
        let old = snapshot.filter(|old| old.fits(view)).map(|snapshot| snapshot.bytes.as_slice());
        Self { job: Job::new(view), old }
    }

    /// The values and differences of one chunk.
    fn chunk(&self, tensor: usize, chunk: usize, room: &mut Room<'_>, level: Level) -> [Stats; 2] {
        with_element!(self.job.dtype(), E => {
            // SAFETY: the view is borrowed, and a snapshot that fits has as many elements of the same type.
            unsafe { self.chunk_of::<E>(tensor, chunk, room, level) }
        })
    }

    /// # Safety
    /// The view of the job must be alive and have element type `E`, as must the old values where there are any.
    unsafe fn chunk_of<E>(&self, tensor: usize, chunk: usize, room: &mut Room<'_>, level: Level) -> [Stats; 2]
    where
        E: AsWide + Count,
        E::Wide: Count + AsWide<Wide = E::Wide> + Sub<Output = E::Wide>,
    {
        let mut stage = Vec::new();
        let (new, len) = self.job.dense_chunk::<E>(chunk, &mut stage);
        let (mut values, mut updates) = (None, None);
        if let Some([of_values, of_updates]) = &mut room.histograms {
            (values, updates) = (Some(of_values.counter_of(tensor)), Some(of_updates));
        }
        // SAFETY: what `dense_chunk` gives is readable.
        let value = unsafe { count(values, level, new, len) };
        let Some(old) = self.old else { return [value, Stats::default()] };
        if room.differences.len() < len {
            room.differences.resize(len, 0.0);
        }
        let old = old.as_ptr().wrapping_add(chunk * CHUNK * size_of::<E>()).cast::<E>();
        let differences = room.differences.as_mut_ptr().cast::<E::Wide>();
        level.run(DifferenceKernel { new, old, differences, len });
        let updates = updates.map(|parts| parts.counter_of(tensor));
        // SAFETY: the kernel has just written `len` of them.
        [value, unsafe { count(updates, level, differences.cast_const(), len) }]
    }

    /// What was counted of values and of updates, put together.
    fn finish(&self, stats: &[Stats; 2], histograms: [Option<Histogram>; 2], axis: Option<&Axis>) -> Change {
        let [value, update] = stats;
        let [values, updates] = histograms;
        let wide = with_element!(self.job.dtype(), E => <<E as AsWide>::Wide as Element>::DTYPE);
        Change {
            value: counted(value, self.job.dtype(), axis, values),
            update: self.old.map(|_| counted(update, wide, axis, updates)),
        }
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
unsafe fn count<E: AsWide + Count>(counter: Option<&mut Counter<'_>>, level: Level, p: *const E, len: usize) -> Stats {
    // SAFETY: as the caller vouches.
    unsafe {
        let stats = stats_of_chunk(p, len, Moments::Two, level);
        if let Some(counter) = counter {
            counter.chunk(level, p, len);
        }
        stats
    }
}

/// Puts together what is known about some values of one dtype.
fn counted(stats: &Stats, dtype: Dtype, axis: Option<&Axis>, histogram: Option<Histogram>) -> Counted {
    let any = stats.counts.total() > 0;
    let mut histogram = histogram.or_else(|| axis.map(|axis| Histogram::new(axis.clone())));
    if let Some(histogram) = histogram.as_mut().filter(|_| any) {
        histogram.value_bits = with_element!(dtype, E => <E as AsWide>::BITS);
    }
    Counted { summary: Summary { stats: *stats, seen: Seen::One(dtype), moments: Moments::Two, fits: None }, histogram }
}
