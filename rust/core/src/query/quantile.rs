//! Owns the exact quantiles of a whole tensor. Knows nothing of Python.
//!
//! A `LogLinear` histogram tells which bin holds the value of a wanted rank, and how many values lie below it. The next pass looks only at
//! the values inside the wanted bins: it keeps them when they are few, else it counts them in finer bins. A bin of `f32` has no more
//! values than there are counters, so two passes always do; `f64` and integers take three when values are not all alike. Nothing is
//! sorted but a few kept values, nothing copied, and no more than a few megabytes are used.

use crate::dtype::Dtype;
use crate::error::Result;
use crate::histogram::quantile::check_share;
use crate::histogram::{Bins, Histogram};
use crate::kernel::BLOCK;
use crate::kernel::query::sift::{Found, Interval, Sieve};
use crate::kernel::wide_block::WideBlock;
use crate::memory::chunks::count_chunks;
use crate::memory::view::TensorView;
use crate::parallel::scan::Options;
use crate::simd::as_wide::AsWide;
use crate::simd::keys::FloatKeys;
use crate::simd::level::in_standard_mode;
use crate::simd::wide::Wide;
use crate::state::log_counts::{Key, LogCounts};
use crate::{Axis, with_element};

/// Most values that are kept: half a megabyte of keys.
const MAX_KEPT: u64 = 1 << 16;

/// One value in so many inside a single bin is a crowd; values that are spread out have fewer in each bin of eight bits.
const CROWDED: u64 = 64;

/// Most counters of one interval: as many as a bin of `f32` has values, with eight bits of precision.
const MAX_COUNTERS: u64 = 1 << 15;

/// Most counters of one pass: a megabyte a thread.
const MAX_COUNTERS_A_PASS: usize = 1 << 17;

/// The values below which shares `qs` of all values but NaN lie, linear between neighbours: what `numpy.quantile` gives with its default
/// method for the values as `f64`, bit for bit. Zeros are +0. Beside an infinity the result is that infinity, between two of them NaN;
/// where neighbours are further apart than `f64` reaches, the same is computed without overflow. NaN when there are no values.
pub fn quantiles(view: &TensorView<'_>, qs: &[f64], options: &Options<'_>) -> Result<Vec<f64>> {
    for &q in qs {
        check_share(q)?;
    }
    Ok(in_standard_mode(|| with_element!(view.dtype(), E => quantiles_of::<E>(view, qs, options))))
}

fn quantiles_of<E: AsWide>(view: &TensorView<'_>, qs: &[f64], options: &Options<'_>) -> Vec<f64> {
    let axis = Axis::LogLinear { precision: precision_for::<E>() };
    let histogram = Histogram::of(view, &axis, options);
    let count = histogram.count_numbers();
    if count == 0 {
        return vec![f64::NAN; qs.len()];
    }
    let positions: Vec<(u64, f64)> = qs.iter().map(|&q| position(q, count)).collect();
    let mut ranks: Vec<u64> = positions.iter().flat_map(|&(below, _)| [below, (below + 1).min(count - 1)]).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let values = Search::<E>::new(&histogram, &ranks).run(view, options);
    let value = |rank: u64| ranks.binary_search(&rank).ok().and_then(|i| values.get(i)).copied().unwrap_or(f64::NAN);
    // Adding zero makes -0 a +0.
    positions
        .into_iter()
        .map(|(below, part)| between(value(below), value((below + 1).min(count - 1)), part) + 0.0)
        .collect()
}

/// Mantissa bits of the first look: all that a narrow dtype has, else as many as keep the bins of its whole range in a few megabytes.
fn precision_for<E: AsWide>() -> u8 {
    match size_of::<E::Wide>() {
        _ if E::BITS <= crate::axis::MAX_PRECISION => E::BITS,
        4 => 8,
        _ => 6,
    }
}

/// The rank from 0 on that a share lies at, and the part of the way from there to the next.
fn position(q: f64, count: u64) -> (u64, f64) {
    let last = count - 1;
    let place = last as f64 * q;
    if place >= last as f64 { (last, 0.0) } else { (place.floor() as u64, place - place.floor()) }
}

/// Linear between two values, rounded as numpy does it.
fn between(low: f64, high: f64, part: f64) -> f64 {
    let distance = high - low;
    if part == 0.0 || low == high {
        low
    } else if distance.is_finite() {
        if part >= 0.5 { high - distance * (1.0 - part) } else { low + distance * part }
    } else if low.is_finite() && high.is_finite() {
        low * (1.0 - part) + high * part
    } else {
        // The sum of opposite infinities is NaN, of one and a number that infinity.
        low + high
    }
}

/// A few keys of which some are wanted.
#[derive(Clone, Debug)]
struct Wanted {
    low: u64,
    width: u64,
    /// How many values there are.
    count: u64,
    /// Whether both ends of the interval are values that there are.
    tight: bool,
    /// For each rank wanted, from 0 on among these values: where its value goes.
    ranks: Vec<(u64, usize)>,
}

/// The search for the values of some ranks.
struct Search<E> {
    values: Vec<f64>,
    /// How many values there are.
    total: u64,
    wanted: Vec<Wanted>,
    element: core::marker::PhantomData<E>,
}

impl<E: AsWide> Search<E> {
    /// What a histogram tells about increasing ranks, from 0 on.
    fn new(histogram: &Histogram, ranks: &[u64]) -> Self {
        let mut search = Self {
            values: vec![f64::INFINITY; ranks.len()],
            total: histogram.count_numbers(),
            wanted: Vec::new(),
            element: core::marker::PhantomData,
        };
        let Bins::Log(counts) = &histogram.bins else { return search };
        let exact = histogram.value_bits <= counts.precision();
        let mut rest = ranks.iter().copied().enumerate().peekable();
        let mut before = histogram.specials.neginf;
        while let Some((place, _)) = rest.next_if(|&(_, rank)| rank < before) {
            search.values[place] = f64::NEG_INFINITY;
        }
        for (key, count) in counts.in_order() {
            let mut ranks = Vec::new();
            while let Some((place, rank)) = rest.next_if(|&(_, rank)| rank < before + count) {
                ranks.push((rank - before, place));
            }
            before += count;
            if ranks.is_empty() {
                continue;
            }
            match key {
                Some(key) if !exact => {
                    let (low, width) = keys_of::<E>(counts, key);
                    search.want(Wanted { low, width, count, tight: false, ranks });
                }
                _ => {
                    let value = key.map_or(0.0, |key| counts.lower_edge(key.magnitude));
                    let negative = key.is_some_and(|key| key.negative);
                    for (_, place) in ranks {
                        search.values[place] = if negative { -value } else { value };
                    }
                }
            }
        }
        search
    }

    /// Notes keys to look among; a single key is a result.
    fn want(&mut self, wanted: Wanted) {
        if wanted.width > 1 {
            self.wanted.push(wanted);
            return;
        }
        for &(_, place) in &wanted.ranks {
            self.values[place] = value_of::<E>(wanted.low);
        }
    }

    fn run(mut self, view: &TensorView<'_>, options: &Options<'_>) -> Vec<f64> {
        // After an interruption nobody wants the values, and what a pass gives is no ground for another.
        while !self.wanted.is_empty() && !(options.interrupted)() {
            if self.wanted.iter().any(|w| !w.tight && w.count > self.total / CROWDED) {
                self.tighten(view, options);
            } else if self.wanted.iter().map(|w| w.count).sum::<u64>() <= MAX_KEPT {
                self.keep(view, options);
            } else {
                self.refine(view, options);
            }
        }
        self.values
    }

    /// One pass that finds the ends of what is inside the intervals. A crowd of values in one bin most often is one value, as often as there
    /// are: zeros, whole numbers, constants. To count it would take longer than to look.
    fn tighten(&mut self, view: &TensorView<'_>, options: &Options<'_>) {
        let wanted = core::mem::take(&mut self.wanted);
        let intervals = wanted.iter().map(|w| Interval { low: w.low, width: w.width, shift: 0, counter: 0 }).collect();
        let mut ends = vec![(u64::MAX, 0); wanted.len()];
        for sieve in sifted::<E>(view, options, intervals, || Found::Bounds(vec![(u64::MAX, 0); wanted.len()])) {
            if let Found::Bounds(found) = sieve.found {
                ends.iter_mut().zip(found).for_each(|(end, (low, high))| *end = (end.0.min(low), end.1.max(high)));
            }
        }
        for (w, (low, high)) in wanted.into_iter().zip(ends) {
            // None at all only where memory changed between two passes.
            let (low, high) = if low <= high { (low, high) } else { (w.low, w.low) };
            self.want(Wanted { low, width: high - low + 1, tight: true, ..w });
        }
    }

    /// One pass that keeps what is inside all intervals.
    fn keep(&mut self, view: &TensorView<'_>, options: &Options<'_>) {
        let wanted = core::mem::take(&mut self.wanted);
        let intervals = wanted.iter().map(|w| Interval { low: w.low, width: w.width, shift: 0, counter: 0 }).collect();
        let room = wanted.iter().map(|w| w.count as usize).sum();
        let mut keys: Vec<u64> = Vec::with_capacity(room);
        for sieve in sifted::<E>(view, options, intervals, || Found::Kept(Vec::with_capacity(room))) {
            if let Found::Kept(found) = sieve.found {
                keys.extend(found);
            }
        }
        keys.sort_unstable();
        for Wanted { low, ranks, .. } in wanted {
            let first = keys.partition_point(|&key| key < low) as u64;
            for (rank, place) in ranks {
                // Memory that others write to meanwhile may hold fewer of them than before.
                let key = keys.get((first + rank) as usize).copied().unwrap_or(low);
                self.values[place] = value_of::<E>(key);
            }
        }
    }

    /// One pass that counts some of the intervals in finer ones, of which those that are wanted take their place.
    fn refine(&mut self, view: &TensorView<'_>, options: &Options<'_>) {
        let mut intervals: Vec<Interval> = Vec::new();
        let mut counters = 0;
        for w in &self.wanted {
            let bits = u64::BITS - (w.width - 1).leading_zeros();
            let shift = bits.saturating_sub(MAX_COUNTERS.trailing_zeros());
            let interval = Interval { low: w.low, width: w.width, shift, counter: counters };
            if !intervals.is_empty() && counters + interval.counters() > MAX_COUNTERS_A_PASS {
                break;
            }
            counters += interval.counters();
            intervals.push(interval);
        }
        let now: Vec<Wanted> = self.wanted.drain(..intervals.len()).collect();
        let mut counts = vec![0_u64; counters];
        for sieve in sifted::<E>(view, options, intervals.clone(), || Found::Counted(vec![0; counters])) {
            if let Found::Counted(part) = sieve.found {
                counts.iter_mut().zip(part).for_each(|(sum, n)| *sum += n);
            }
        }
        for (interval, wanted) in intervals.into_iter().zip(now) {
            let counts = counts.iter().skip(interval.counter).take(interval.counters());
            self.narrow(interval, wanted, counts.copied());
        }
    }

    /// What the counts inside an interval tell about the ranks wanted there.
    fn narrow(&mut self, interval: Interval, wanted: Wanted, counts: impl Iterator<Item = u64>) {
        let mut rest = wanted.ranks.into_iter().peekable();
        let mut before = 0;
        for (i, count) in counts.enumerate() {
            let mut ranks = Vec::new();
            while let Some((rank, place)) = rest.next_if(|&(rank, _)| rank < before + count) {
                ranks.push((rank - before, place));
            }
            before += count;
            if !ranks.is_empty() {
                let offset = (i as u64) << interval.shift;
                let width = (1 << interval.shift).min(interval.width - offset);
                self.want(Wanted { low: interval.low + offset, width, count, tight: true, ranks });
            }
        }
        // Only where memory changed between two passes.
        for (_, place) in rest {
            self.values[place] = value_of::<E>(interval.low);
        }
    }
}

/// The keys of a bin: the first, and how many there are.
fn keys_of<E: AsWide>(counts: &LogCounts, key: Key) -> (u64, u64) {
    let (low, high) = (counts.lower_edge(key.magnitude), counts.lower_edge(key.magnitude + 1));
    if E::MAY_BE_CUT {
        // Distances from the smallest value, as `AsWide::above_smallest` has them.
        let (middle, end) = match (E::DTYPE, key.negative) {
            (Dtype::I64, true) => (1_i128 << 63, (1 << 63) + 1),
            (Dtype::I64, false) => (1 << 63, 1 << 63),
            _ => (0, 1 << 64),
        };
        let (low, high) = ((low.ceil() as i128).min(end), (high.ceil() as i128).min(end));
        let first = if key.negative { middle - (high - 1) } else { middle + low };
        return (first as u64, (high - low) as u64);
    }
    let (low, high) = (E::Wide::at_least(low).magnitude(), E::Wide::at_least(high).magnitude());
    let middle = E::Wide::MIDDLE;
    (if key.negative { middle - high } else { middle + low }, high - low)
}

/// The value of a key; an integer beyond 2^53 is rounded to the nearest.
fn value_of<E: AsWide>(key: u64) -> f64 {
    match E::DTYPE {
        Dtype::U64 => key as f64,
        Dtype::I64 => (key ^ (1 << 63)) as i64 as f64,
        _ => E::Wide::value(key),
    }
}

/// Looks through all values for those inside some intervals.
fn sifted<E: AsWide>(
    view: &TensorView<'_>,
    options: &Options<'_>,
    intervals: Vec<Interval>,
    found: impl Fn() -> Found + Sync,
) -> Vec<Sieve> {
    let level = options.level;
    let local = || (Sieve::new(intervals.clone(), found()), WideBlock::new(), Vec::<u64>::new());
    let add = |(sieve, room, keys): &mut (Sieve, WideBlock, Vec<u64>), p: *const E, len: usize| {
        let mut start = 0;
        while start < len {
            let n = BLOCK.min(len - start);
            let p = p.wrapping_add(start);
            // SAFETY: a part of the chunk.
            unsafe {
                if E::MAY_BE_CUT {
                    keys.clear();
                    keys.extend((0..n).map(|i| p.add(i).read_unaligned().above_smallest()));
                    sieve.block(level, keys.as_ptr(), n);
                } else {
                    sieve.block(level, room.widen(level, p, n), n);
                }
            }
            start += n;
        }
    };
    // SAFETY: the view is borrowed and has elements of type `E`.
    unsafe { count_chunks::<E, _>(&view.memory_order(), options, local, add) }
        .into_iter()
        .map(|local| local.0)
        .collect()
}
