//! Owns the question whether all values are finite and between two bounds, and which is the first that is not. Knows nothing of Python.

use crate::dtype::element::{Class, Element};
use crate::error::{Error, Result};
use crate::kernel::BLOCK;
use crate::kernel::query::bounds::{BoundsKernel, IntBoundsKernel, Tally};
use crate::kernel::wide_block::WideBlock;
use crate::memory::view::TensorView;
use crate::number::Number;
use crate::parallel::scan::{Options, Shares, ordered};
use crate::simd::as_wide::AsWide;
use crate::simd::level::Level;
use crate::simd::level::in_standard_mode;
use crate::simd::wide::Wide;
use crate::summary::{Job, bytes_of_all};
use crate::with_element;

/// Smallest and largest value allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    low: Option<Number>,
    high: Option<Number>,
    infinities: bool,
}

/// What a value can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// NaN or infinite.
    NonFinite,
    /// Below the lower bound.
    Below,
    /// Above the upper bound.
    Above,
}

/// One value and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Position in C order.
    pub flat: u64,
    /// Index along each dimension.
    pub index: Vec<u64>,
    /// The value; a float may be NaN or infinite.
    pub value: Number,
}

impl Bounds {
    /// Neither may be NaN, and the lower must not exceed the upper. `infinities` says whether infinite values are compared with them too;
    /// NaN never is.
    pub fn new(low: Option<Number>, high: Option<Number>, infinities: bool) -> Result<Self> {
        for (name, bound) in [("min", low), ("max", high)] {
            if matches!(bound, Some(Number::Float(x)) if x.is_nan()) {
                return Err(Error::Argument(format!("{name} must be a number, got: nan")));
            }
        }
        if let (Some(a), Some(b)) = (low, high)
            && a.compare(b).is_gt()
        {
            return Err(Error::Argument(format!(
                "min must not exceed max, got: min {} and max {}",
                shown(a),
                shown(b)
            )));
        }
        Ok(Self { low, high, infinities })
    }

    fn broken_by(&self, x: Number) -> Option<Rule> {
        if self.low.is_some_and(|low| x.compare(low).is_lt()) {
            return Some(Rule::Below);
        }
        self.high.is_some_and(|high| x.compare(high).is_gt()).then_some(Rule::Above)
    }

    /// The bounds as values of a float type: what is beyond these is beyond the bounds.
    fn floats<W: Wide>(&self) -> (W, W) {
        let low = self.low.map_or(W::NAN, |n| W::at_least(float_at_least(n)));
        let high = self.high.map_or(W::NAN, |n| W::at_most(-float_at_least(negative(n))));
        (low, high)
    }

    /// The bounds counted from the smallest value of a 64-bit integer type; `None` where every value is beyond that bound.
    fn integers<E: AsWide>(&self) -> (Option<u64>, Option<u64>) {
        let smallest = if E::DTYPE == crate::Dtype::I64 { i128::from(i64::MIN) } else { 0 };
        let low = self.low.map_or(0, |n| int_at_least(n).saturating_sub(smallest).max(0));
        let high = self
            .high
            .map_or(i128::from(u64::MAX), |n| int_at_least(negative(n)).saturating_neg().saturating_sub(smallest));
        (u64::try_from(low).ok(), u64::try_from(high.min(i128::from(u64::MAX))).ok())
    }
}

fn shown(n: Number) -> String {
    match n {
        Number::Int(n) => n.to_string(),
        Number::Float(x) => x.to_string(),
    }
}

fn negative(n: Number) -> Number {
    match n {
        Number::Int(n) => Number::Int(n.saturating_neg()),
        Number::Float(x) => Number::Float(-x),
    }
}

/// The smallest float that is at least `n`.
fn float_at_least(n: Number) -> f64 {
    let nearest = n.to_f64();
    if Number::Float(nearest).compare(n).is_lt() { nearest.next_up() } else { nearest }
}

/// The smallest integer that is at least `n`; beyond 128 bits the last one there is.
fn int_at_least(n: Number) -> i128 {
    match n {
        Number::Int(n) => n,
        Number::Float(x) => x.ceil() as i128,
    }
}

/// What a look for values out of range found in one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Outside {
    /// How many.
    pub tally: Tally,
    /// The first that is NaN or infinite.
    pub nonfinite: Option<Place>,
    /// The first below the lower bound.
    pub below: Option<Place>,
    /// The first above the upper bound.
    pub above: Option<Place>,
}

/// Counts the values of each tensor that are not finite or beyond the bounds, and finds the first of each kind.
pub fn outside(views: &[TensorView<'_>], bounds: &Bounds, options: &Options<'_>) -> Vec<Outside> {
    let found = views.iter().zip(tallies(views, bounds, options)).map(|(view, tally)| {
        let s = &tally.specials;
        let first = |rule: Rule, count: u64| if count > 0 { first(view, bounds, rule, options) } else { None };
        Outside {
            nonfinite: first(Rule::NonFinite, s.nan + s.posinf + s.neginf),
            below: first(Rule::Below, tally.below),
            above: first(Rule::Above, tally.above),
            tally,
        }
    });
    found.collect()
}

/// Counts the values beyond the bounds, and those that are not finite.
pub fn tally(view: &TensorView<'_>, bounds: &Bounds, options: &Options<'_>) -> Tally {
    tallies(core::slice::from_ref(view), bounds, options).pop().unwrap_or_default()
}

/// The same of each tensor, work spread over tensors and their parts.
fn tallies(views: &[TensorView<'_>], bounds: &Bounds, options: &Options<'_>) -> Vec<Tally> {
    let jobs: Vec<Job> = views.iter().map(Job::new).collect();
    let shares = Shares::new(jobs.iter().map(Job::chunks));
    let mut totals = vec![Tally::default(); views.len()];
    let level = options.level;
    let options = options.for_bytes(bytes_of_all(views));
    let task = |room: &mut WideBlock, index: usize| {
        let (tensor, chunk) = shares.owner(index);
        let tally = with_element!(views[tensor].dtype(), E => {
            let mut stage = Vec::<E>::new();
            let (p, len) = jobs[tensor].dense_chunk(chunk, &mut stage);
            // SAFETY: what `dense_chunk` gives is readable.
            unsafe { tally_chunk::<E>(level, bounds, room, p, len) }
        });
        (tensor, tally)
    };
    ordered(shares.total(), &options, WideBlock::new, task, |(tensor, tally)| totals[tensor].add(&tally));
    totals
}

/// # Safety
/// `p` must be readable for `len` elements.
unsafe fn tally_chunk<E: AsWide>(
    level: Level,
    bounds: &Bounds,
    room: &mut WideBlock,
    p: *const E,
    len: usize,
) -> Tally {
    let mut tally = Tally::default();
    if E::MAY_BE_CUT {
        let (low, high) = bounds.integers::<E>();
        tally = level.run(IntBoundsKernel { p, len, low: low.unwrap_or(u64::MAX), high: high.unwrap_or(0) });
        tally.below = if low.is_none() { len as u64 } else { tally.below };
        tally.above = if high.is_none() { len as u64 } else { tally.above };
        return tally;
    }
    let (low, high) = in_standard_mode(|| bounds.floats::<E::Wide>());
    let mut start = 0;
    while start < len {
        let n = BLOCK.min(len - start);
        // SAFETY: a part of the chunk.
        let wide = unsafe { room.widen(level, p.add(start), n) };
        tally.add(&level.run(BoundsKernel { p: wide, len: n, low, high }));
        start += n;
    }
    if bounds.infinities {
        let breaks = |x: f64| bounds.broken_by(Number::Float(x)).is_some();
        tally.below += if breaks(f64::NEG_INFINITY) { tally.specials.neginf } else { 0 };
        tally.above += if breaks(f64::INFINITY) { tally.specials.posinf } else { 0 };
    }
    tally
}

/// The first value in C order that breaks a rule.
pub fn first(view: &TensorView<'_>, bounds: &Bounds, rule: Rule, options: &Options<'_>) -> Option<Place> {
    with_element!(view.dtype(), E => first_of::<E>(view, bounds, rule, options))
}

fn first_of<E: AsWide>(view: &TensorView<'_>, bounds: &Bounds, rule: Rule, options: &Options<'_>) -> Option<Place> {
    let walk = view.index_order();
    let (mut stage, mut room) = (Vec::<E>::new(), WideBlock::new());
    let mut from = 0;
    while from < walk.count() {
        // By blocks: the first is often near the start, and a block is looked at value by value once it holds one.
        let len = (walk.count() - from).min(BLOCK as u64) as usize;
        // SAFETY: the view is borrowed and has elements of type `E`; the range ends at its count.
        let p = unsafe { walk.dense::<E>(from, len, &mut stage) };
        // SAFETY: `dense` made `len` elements readable.
        let tally = unsafe { tally_chunk::<E>(options.level, bounds, &mut room, p, len) };
        let found = match rule {
            Rule::NonFinite => tally.specials.nan + tally.specials.posinf + tally.specials.neginf,
            Rule::Below => tally.below,
            Rule::Above => tally.above,
        };
        if found > 0 {
            // SAFETY: as above.
            let at = |i: usize| judge(unsafe { p.add(i).read_unaligned() }, bounds, rule);
            let first = in_standard_mode(|| (0..len).map(|i| (i, at(i))).find(|(_, (_, broken))| *broken));
            if let Some((i, (value, _))) = first {
                let flat = from + i as u64;
                return Some(Place { flat, index: unravel(flat, view.shape()), value });
            }
        }
        if (options.interrupted)() {
            return None;
        }
        from += len as u64;
    }
    None
}

/// The value of an element and whether it breaks a rule.
fn judge<E: Element>(element: E, bounds: &Bounds, rule: Rule) -> (Number, bool) {
    let value = if E::DTYPE.is_integer() { Number::Int(element.to_i128()) } else { Number::Float(element.to_f64()) };
    let compared = match element.class() {
        Class::Nan => false,
        Class::PosInf | Class::NegInf => bounds.infinities,
        Class::Zero | Class::Negative | Class::Positive => true,
    };
    let broken = match rule {
        Rule::NonFinite => matches!(element.class(), Class::Nan | Class::PosInf | Class::NegInf),
        Rule::Below | Rule::Above => compared && bounds.broken_by(value) == Some(rule),
    };
    (value, broken)
}

/// The index of a position in C order.
fn unravel(mut flat: u64, shape: &[i64]) -> Vec<u64> {
    let mut index = vec![0; shape.len()];
    for (place, &len) in index.iter_mut().zip(shape).rev() {
        *place = flat % (len.max(1) as u64);
        flat /= len.max(1) as u64;
    }
    index
}

/// The first value in C order that is NaN or infinite.
pub fn first_nonfinite(view: &TensorView<'_>, options: &Options<'_>) -> Option<Place> {
    if view.dtype().is_integer() {
        return None;
    }
    let bounds = Bounds::default();
    // Most tensors have none, which all threads find out together.
    let specials = tally(view, &bounds, options).specials;
    if specials.nan + specials.posinf + specials.neginf == 0 {
        return None;
    }
    first(view, &bounds, Rule::NonFinite, options)
}
