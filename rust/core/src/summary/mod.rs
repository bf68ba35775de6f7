//! Owns the mergeable summary of any number of tensors: what it answers and its serialised form. Knows nothing of Python.

mod bytes;
mod check;
pub mod fields;
pub mod formats;
pub mod norm;
pub mod samples;
mod with_formats;

use crate::dtype::Dtype;
use crate::dtype::element::Element;
use crate::error::{Error, Result};
use crate::kernel::{CHUNK, Count, Moments};
use crate::memory::view::{TensorView, Walk};
use crate::number::Number;
use crate::number::double::scalb;
use crate::number::environment::with_standard_floats;
use crate::parallel::scan::{Options, Shares, ordered};
use crate::simd::lanes::Lanes;
use crate::simd::level::{Kernel, Level};
use crate::state::stats::{Stats, check_room};
use crate::summary::formats::Fits;
use crate::summary::samples::Sketch;
use crate::with_element;

/// Which dtypes a summary has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Seen {
    /// Nothing yet.
    #[default]
    Nothing,
    /// One dtype.
    One(Dtype),
    /// Several; results are floats.
    Several,
}

impl Seen {
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, b) => b,
            (a, Self::Nothing) => a,
            (a, b) if a == b => a,
            _ => Self::Several,
        }
    }
}

/// A mergeable summary of tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The numbers.
    pub stats: Stats,
    /// Where they came from.
    pub seen: Seen,
    /// Which moments are kept.
    pub moments: Moments,
    /// What would become of the values in other formats, where that was asked for.
    pub fits: Option<Box<Fits>>,
}

impl Moments {
    /// 2 or 4.
    pub fn from_number(n: u32) -> Result<Self> {
        match n {
            2 => Ok(Self::Two),
            4 => Ok(Self::Four),
            _ => Err(Error::Moments(n)),
        }
    }

    /// 2 or 4.
    pub fn number(self) -> u32 {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

impl Summary {
    /// An empty summary.
    pub fn new(moments: Moments) -> Self {
        Self { stats: Stats::default(), seen: Seen::Nothing, moments, fits: None }
    }

    /// Of one tensor.
    pub fn of(view: &TensorView<'_>, moments: Moments, options: &Options<'_>) -> Self {
        let stats = with_standard_floats(|| stats_of_one(view, moments, options));
        Self { stats, seen: Seen::One(view.dtype()), moments, fits: None }
    }

    /// Of many tensors, one each, in one go.
    pub fn of_each(views: &[TensorView<'_>], moments: Moments, options: &Options<'_>) -> Vec<Self> {
        Self::of_each_sketched(views, moments, options).into_iter().map(|(summary, _)| summary).collect()
    }

    /// The same with samples of each, taken while the values are in cache.
    pub fn of_each_sketched(views: &[TensorView<'_>], moments: Moments, options: &Options<'_>) -> Vec<(Self, Sketch)> {
        let parts = with_standard_floats(|| parts_of(views, moments, options));
        let seen = views.iter().map(|view| Seen::One(view.dtype()));
        let whole = |((stats, sketch), seen)| (Self { stats, seen, moments, fits: None }, sketch);
        parts.into_iter().zip(seen).map(whole).collect()
    }

    /// Takes in another summary, as if its values had been counted after these.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.check_merge(other)?;
        self.merge_fits(other);
        with_standard_floats(|| self.stats.merge(&other.stats));
        self.seen = self.seen.with(other.seen);
        Ok(())
    }

    /// Whether another summary can be merged into this one; where it cannot, a merge changes nothing.
    pub fn check_merge(&self, other: &Self) -> Result<()> {
        if self.moments != other.moments {
            return Err(Error::Incompatible(format!(
                "cannot merge summaries that keep different moments: {} and {}",
                self.moments.number(),
                other.moments.number()
            )));
        }
        check_room(self.stats.counts.total(), other.stats.counts.total(), "the values of a Summary")?;
        self.check_fits(other)
    }

    /// The dtype, when there is just one.
    pub fn dtype(&self) -> Option<Dtype> {
        match self.seen {
            Seen::One(dtype) => Some(dtype),
            _ => None,
        }
    }

    /// A value as this summary's dtype shows it: whole for integer dtypes, else a float.
    fn shown(&self, number: Option<Number>) -> Number {
        match number {
            None => Number::Float(f64::NAN),
            Some(n) if self.dtype().is_some_and(Dtype::is_integer) => n,
            Some(n) => Number::Float(n.to_f64()),
        }
    }

    fn finite(&self) -> Option<f64> {
        let n = self.stats.counts.finite();
        (n > 0).then_some(n as f64)
    }

    /// Smallest finite value.
    pub fn min(&self) -> Number {
        self.shown(self.stats.extremes.map(|e| e.min))
    }

    /// Largest finite value.
    pub fn max(&self) -> Number {
        self.shown(self.stats.extremes.map(|e| e.max))
    }

    /// Largest finite magnitude.
    pub fn absmax(&self) -> Number {
        self.shown(self.stats.extremes.map(crate::state::stats::Extremes::absmax))
    }

    /// Smallest finite magnitude above zero.
    pub fn absmin(&self) -> Number {
        self.shown(self.stats.extremes.and_then(|e| e.absmin))
    }

    /// Sum of finite values.
    pub fn sum(&self) -> Number {
        let whole = || Number::Int(self.stats.int_sum);
        let float = || Number::Float(self.stats.scaled_sum().scaled(self.stats.scale).value());
        self.total(whole, float)
    }

    /// Sum of magnitudes of finite values.
    pub fn l1(&self) -> Number {
        let whole = || Number::Int(self.stats.int_l1);
        let float = || Number::Float(self.stats.scaled_l1().scaled(self.stats.scale).value());
        self.total(whole, float)
    }

    /// A sum, exact for integer dtypes.
    fn total(&self, whole: impl Fn() -> Number, float: impl Fn() -> Number) -> Number {
        let integer = self.dtype().is_some_and(Dtype::is_integer);
        self.shown(self.finite().map(|_| if integer { whole() } else { with_standard_floats(float) }))
    }

    /// Mean of finite values.
    pub fn mean(&self) -> f64 {
        self.of_finite(|_| self.stats.scaled_mean().scaled(self.stats.scale).value())
    }

    /// Variance of finite values over `n - correction`; NaN where that is not positive.
    pub fn var(&self, correction: f64) -> f64 {
        self.of_finite(|n| scalb(self.scaled_var(n, correction), 2 * self.stats.scale))
    }

    /// Square root of the variance, in range wherever the data is.
    pub fn std(&self, correction: f64) -> f64 {
        self.of_finite(|n| scalb(self.scaled_var(n, correction).sqrt(), self.stats.scale))
    }

    /// Euclidean norm of finite values.
    pub fn l2(&self) -> f64 {
        self.of_finite(|_| scalb(self.stats.squares.value().sqrt(), self.stats.scale))
    }

    /// Root of the mean of squares of finite values.
    pub fn rms(&self) -> f64 {
        self.of_finite(|n| scalb((self.stats.squares.value() / n).sqrt(), self.stats.scale))
    }

    /// Skewness of finite values, biased (scipy's default); NaN for a constant.
    pub fn skewness(&self) -> Result<f64> {
        self.fourth("skewness")?;
        Ok(self.of_finite(|n| {
            let var = self.scaled_var(n, 0.0);
            if var > 0.0 { self.stats.m3 / n / (var * var.sqrt()) } else { f64::NAN }
        }))
    }

    /// Excess kurtosis of finite values, biased, 0 for a normal distribution (scipy's default); NaN for a constant.
    pub fn kurtosis(&self) -> Result<f64> {
        self.fourth("kurtosis")?;
        Ok(self.of_finite(|n| {
            let var = self.scaled_var(n, 0.0);
            if var > 0.0 { self.stats.m4 / n / (var * var) - 3.0 } else { f64::NAN }
        }))
    }

    /// A result over `n` finite values; NaN when there are none.
    fn of_finite(&self, result: impl Fn(f64) -> f64) -> f64 {
        self.finite().map_or(f64::NAN, |n| with_standard_floats(|| result(n)))
    }

    /// Variance divided by 4^scale.
    fn scaled_var(&self, n: f64, correction: f64) -> f64 {
        if n.partial_cmp(&correction) != Some(core::cmp::Ordering::Greater) {
            return f64::NAN;
        }
        let constant = self.stats.extremes.is_some_and(|e| e.min == e.max);
        if constant { 0.0 } else { self.stats.m2.value().max(0.0) / (n - correction) }
    }

    fn fourth(&self, field: &'static str) -> Result<()> {
        if self.moments == Moments::Four { Ok(()) } else { Err(Error::MomentsNotKept(field)) }
    }
}

/// One tensor to count: its walk, and how it is cut.
pub(crate) struct Job {
    walk: Walk,
    dtype: Dtype,
    chunks: u64,
}

impl Job {
    pub(crate) fn new(view: &TensorView<'_>) -> Self {
        let walk = view.memory_order();
        Self { chunks: walk.count().div_ceil(CHUNK as u64), walk, dtype: view.dtype() }
    }

    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Each chunk is a task: small enough that two threads share a megabyte, big enough that taking one costs nothing beside it.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks as usize
    }

    /// Statistics of one chunk.
    pub(crate) fn chunk(&self, index: usize, moments: Moments, level: Level) -> Stats {
        with_element!(self.dtype, E => {
            let mut stage = Vec::new();
            let (p, len) = self.dense_chunk::<E>(index, &mut stage);
            // SAFETY: what `dense_chunk` gives is readable.
            unsafe { stats_of_chunk(p, len, moments, level) }
        })
    }

    /// Statistics and samples of one chunk.
    fn sketched_chunk(&self, index: usize, moments: Moments, level: Level) -> (Stats, Sketch) {
        with_element!(self.dtype, E => {
            let mut stage = Vec::new();
            let (p, len) = self.dense_chunk::<E>(index, &mut stage);
            // SAFETY: what `dense_chunk` gives is readable.
            unsafe { (stats_of_chunk(p, len, moments, level), self.samples(index, p, len)) }
        })
    }

    /// Samples of one chunk.
    ///
    /// # Safety
    /// `p` and `len` must be what [`Job::dense_chunk`] gave for it, while that is readable.
    pub(crate) unsafe fn samples<E: Element>(&self, index: usize, p: *const E, len: usize) -> Sketch {
        // SAFETY: as the caller vouches.
        unsafe { Sketch::of_part(self.walk.count(), index as u64 * CHUNK as u64, p, len) }
    }

    /// One chunk as dense memory, readable until `stage` changes. `E` must be the type of the job's dtype.
    pub(crate) fn dense_chunk<E: Count>(&self, index: usize, stage: &mut Vec<E>) -> (*const E, usize) {
        let from = index as u64 * CHUNK as u64;
        let len = (self.walk.count() - from).min(CHUNK as u64) as usize;
        // SAFETY: the walk belongs to a borrowed view that is alive and has this element type; the range ends at `count`.
        (unsafe { self.walk.dense::<E>(from, len, stage) }, len)
    }
}

/// Statistics of one chunk.
///
/// # Safety
/// `p` must be readable for `len` elements, at most [`CHUNK`]; it need not be aligned.
pub(crate) unsafe fn stats_of_chunk<E: Count>(p: *const E, len: usize, moments: Moments, level: Level) -> Stats {
    level.run(ChunkKernel { p, len, moments })
}

pub(crate) fn bytes(view: &TensorView<'_>) -> u64 {
    view.count().saturating_mul(view.dtype().size() as u64)
}

pub(crate) fn bytes_of_all(views: &[TensorView<'_>]) -> u64 {
    views.iter().map(bytes).fold(0, u64::saturating_add)
}

/// One chunk, as a kernel that any level can run.
struct ChunkKernel<E> {
    p: *const E,
    len: usize,
    moments: Moments,
}

impl<E: Count> Kernel for ChunkKernel<E> {
    type Output = Stats;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Stats {
        // SAFETY: `stats_of_chunk` asks for readable elements.
        unsafe { E::chunk(lanes, self.p, self.len, self.moments) }
    }
}

/// Counts one tensor; a small one without any of the machinery.
fn stats_of_one(view: &TensorView<'_>, moments: Moments, options: &Options<'_>) -> Stats {
    match view.count() {
        0 => Stats::default(),
        n if n <= CHUNK as u64 => Job::new(view).chunk(0, moments, options.level),
        _ => parts_of(core::slice::from_ref(view), moments, options).pop().unwrap_or_default().0,
    }
}

/// Counts and samples whole tensors, work spread over tensors and their tasks.
fn parts_of(views: &[TensorView<'_>], moments: Moments, options: &Options<'_>) -> Vec<(Stats, Sketch)> {
    let jobs: Vec<Job> = views.iter().map(Job::new).collect();
    let shares = Shares::new(jobs.iter().map(Job::chunks));
    let mut totals = vec![(Stats::default(), Sketch::default()); jobs.len()];
    let level = options.level;
    let options = options.for_bytes(bytes_of_all(views));
    let task = |(): &mut (), index: usize| {
        let (tensor, chunk) = shares.owner(index);
        (tensor, jobs[tensor].sketched_chunk(chunk, moments, level))
    };
    let take = |(tensor, (stats, sketch)): (usize, (Stats, Sketch))| {
        let total: &mut (Stats, Sketch) = &mut totals[tensor];
        total.0.merge(&stats);
        total.1.append(&sketch);
    };
    ordered(shares.total(), &options, || (), task, take);
    totals
}
