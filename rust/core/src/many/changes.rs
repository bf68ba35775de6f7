//! Owns the count of tensors and of what has changed in them since they were copied. Knows nothing of Python, models or optimizers.
//!
//! One pass reads the new and the old values, a part at a time, and counts the new ones and the differences, and samples the new ones:
//! nothing of the size of the tensor is made on the way, and memory is read once.
//!
//! A difference is taken in the wide type of the dtype (`f32` up to 32 bits of float, else `f64`), rounded once to nearest. By Sterbenz'
//! lemma it is exact wherever old and new are within a factor of two of each other, which is what one step of an optimizer does.

use crate::axis::Axis;
use crate::dtype::Dtype;
use crate::dtype::element::Element;
use crate::histogram::Histogram;
use crate::histogram::parts::Parts;
use crate::kernel::summary::change::Change as CountChange;
use crate::kernel::{CHUNK, Moments};
use crate::many::snapshot::Snapshot;
use crate::memory::view::TensorView;
use crate::number::environment::with_standard_floats;
use crate::parallel::scan::{Options, Shares, ordered};
use crate::parallel::team::single_thread_bytes;
use crate::simd::as_wide::AsWide;
use crate::simd::lanes::Lanes;
use crate::simd::level::{Kernel, Level};
use crate::state::stats::Stats;
use crate::summary::samples::Sketch;
use crate::summary::{Job, Seen, Summary, bytes_of_all, stats_of_chunk};
use crate::with_element;

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
    /// Samples of the values now.
    pub sketch: Sketch,
}

/// What was counted of a part of a tensor.
#[derive(Default)]
struct Part {
    value: Stats,
    update: Stats,
    sketch: Sketch,
}

impl Part {
    /// Takes in the next part.
    fn append(&mut self, part: &Self) {
        self.value.merge(&part.value);
        self.update.merge(&part.update);
        self.sketch.append(&part.sketch);
    }
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
        let mut whole = Part::default();
        with_standard_floats(|| {
            for chunk in 0..difference.job.chunks() {
                whole.append(&difference.chunk(seen, chunk, room, level));
            }
        });
        let histograms = room.histograms.as_mut().map(|parts| parts.each_mut().map(Parts::take));
        difference.finish(&whole, histograms.unwrap_or_default(), self.axis)
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
    let mut wholes: Vec<_> = views.iter().map(|_| Part::default()).collect();
    let rooms = with_standard_floats(|| {
        let take = |(tensor, part): (usize, Part)| wholes[tensor].append(&part);
        ordered(shares.total(), &options, || Room::new(axis), work, take)
    });
    let mut histograms = [vec![None; views.len()], vec![None; views.len()]];
    for parts in rooms.into_iter().filter_map(|room| room.histograms) {
        for (part, all) in parts.into_iter().zip(&mut histograms) {
            part.add_to(all);
        }
    }
    let mut finish = |(tensor, whole): (usize, &Part)| {
        jobs[tensor].finish(whole, histograms.each_mut().map(|all| all[tensor].take()), axis)
    };
    wholes.iter().enumerate().map(&mut finish).collect()
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
        let old = snapshot.filter(|old| old.fits(view)).map(Snapshot::bytes);
        Self { job: Job::new(view), old }
    }

    /// The values and differences of one chunk.
    fn chunk(&self, tensor: usize, chunk: usize, room: &mut Room<'_>, level: Level) -> Part {
        with_element!(self.job.dtype(), E => {
            // SAFETY: the view is borrowed, and a snapshot that fits has as many elements of the same type.
            unsafe { self.chunk_of::<E>(tensor, chunk, room, level) }
        })
    }

    /// # Safety
    /// The view of the job must be alive and have element type `E`, as must the old values where there are any.
    unsafe fn chunk_of<E: CountChange>(&self, tensor: usize, chunk: usize, room: &mut Room<'_>, level: Level) -> Part {
        let mut stage = Vec::new();
        let (new, len) = self.job.dense_chunk::<E>(chunk, &mut stage);
        let mut part = Part::default();
        if let Some(old) = self.old {
            if room.differences.len() < len {
                room.differences.resize(len, 0.0);
            }
            let old = old.as_ptr().wrapping_add(chunk * CHUNK * size_of::<E>()).cast::<E>();
            let differences = room.differences.as_mut_ptr().cast::<E::Wide>();
            [part.value, part.update] = level.run(ChangeKernel { new, old, differences, len });
        } else {
            // SAFETY: what `dense_chunk` gives is readable.
            part.value = unsafe { stats_of_chunk(new, len, Moments::Two, level) };
        }
        if let Some([values, updates]) = &mut room.histograms {
            // SAFETY: as above, and the kernel has written `len` differences.
            unsafe {
                values.counter_of(tensor).chunk(level, new, len);
                if self.old.is_some() {
                    let differences = room.differences.as_ptr().cast::<E::Wide>();
                    updates.counter_of(tensor).chunk(level, differences, len);
                }
            }
        }
        // SAFETY: as above. The values are in cache now.
        part.sketch = unsafe { self.job.samples(chunk, new, len) };
        part
    }

    /// What was counted of values and of updates, put together.
    fn finish(&self, whole: &Part, histograms: [Option<Histogram>; 2], axis: Option<&Axis>) -> Change {
        let [values, updates] = histograms;
        let wide = with_element!(self.job.dtype(), E => <<E as AsWide>::Wide as Element>::DTYPE);
        Change {
            value: counted(&whole.value, self.job.dtype(), axis, values),
            update: self.old.map(|_| counted(&whole.update, wide, axis, updates)),
            sketch: whole.sketch,
        }
    }
}

/// A chunk and its differences, as a kernel that any level can run.
struct ChangeKernel<E: AsWide> {
    new: *const E,
    old: *const E,
    differences: *mut E::Wide,
    len: usize,
}

impl<E: CountChange> Kernel for ChangeKernel<E> {
    type Output = [Stats; 2];

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> [Stats; 2] {
        // SAFETY: `Difference::chunk_of` vouches for `len` elements of each.
        unsafe { E::change(lanes, self.new, self.old, self.differences, self.len) }
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
