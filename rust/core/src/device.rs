//! Owns the rows that a device leaves of a tensor it has counted, and the states they stand for. Knows nothing of devices, or of how a row comes
//! about.
//!
//! A device counts a tensor in blocks and leaves one row of 64-bit integers of each: counts as they are, floats by their bit patterns, and
//! magnitudes by keys that order as the values do. Devices without `f64` leave sums in fixed point instead: whole numbers of 2^-42 of values
//! that were divided by a power of two. A row becomes the state of its block, and states merge as they always do.

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernel::Moments;
use crate::number::Number;
use crate::number::double::{Double, scalb};
use crate::number::environment::with_standard_floats;
use crate::state::stats::{Counts, Extremes, Stats};
use crate::state::unit_moments;
use crate::summary::formats::{Fits, Misfits, value_of};
use crate::summary::{Seen, Summary};
use crate::units::{Unit, UnitActivity, check_units, check_units_memory, merge_all};

/// Columns of a row of floats, of integers, and of units with sums in `f64` and in fixed point.
const FLOAT_COLUMNS: usize = 18;
const INTEGER_COLUMNS: usize = 15;
const UNIT_COLUMNS: usize = 9;
const FIXED_UNIT_COLUMNS: usize = 11;

/// The same by what the rows are of, for whoever leaves them.
pub const ROW_COLUMNS: [(&str, usize); 4] = [
    ("floats", FLOAT_COLUMNS),
    ("integers", INTEGER_COLUMNS),
    ("units", UNIT_COLUMNS),
    ("units in fixed point", FIXED_UNIT_COLUMNS),
];

/// The exponent of the unit of sums in fixed point.
const FIXED_UNIT: i32 = -42;

/// No block has as many values.
const MOST_IN_A_BLOCK: i64 = 1 << 32;

/// Beyond any exponent of `f64`.
const MOST_EXPONENT: i64 = 1100;

/// The key of the smallest magnitude where there is none.
const NONE: i64 = i64::MAX;

/// Which half of the range the keys of unsigned 64-bit integers are moved by, to order as signed ones.
const UNSIGNED_OFFSET: i128 = 1 << 63;

/// How the rows of one tensor were counted.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// Of the tensor.
    pub dtype: Dtype,
    /// Which moments were counted.
    pub moments: Moments,
    /// Formats that were asked about: three more columns each, of how many magnitudes are beyond its limits.
    pub fits: Option<&'a Fits>,
    /// Whether sums are in fixed point.
    pub fixed: bool,
}

fn damaged(what: &str) -> Error {
    Error::Bytes(format!("rows of a device hold {what}; they were damaged"))
}

fn count(n: i64) -> Result<u64> {
    if (0..MOST_IN_A_BLOCK).contains(&n) { Ok(n as u64) } else { Err(damaged("counts beyond a block")) }
}

fn exponent(n: i64) -> Result<i32> {
    if n.abs_diff(0) <= MOST_EXPONENT as u64 { Ok(n as i32) } else { Err(damaged("an exponent that no float has")) }
}

/// A number by its bit pattern.
fn float(bits: i64) -> f64 {
    f64::from_bits(bits as u64)
}

fn pair(bits: i64) -> Double {
    Double { hi: float(bits), lo: 0.0 }
}

/// A number of units of fixed point.
fn fixed(units: i64) -> Double {
    Double::from_i128(i128::from(units)).scaled(FIXED_UNIT)
}

/// The sum of squared differences from the mean, of the sums of differences from a number near it and of their squares.
fn central(first: f64, second: f64, count: f64) -> f64 {
    (second - first * first / count).max(0.0)
}

/// The states of a tensor's rows, and the row-major position of its first value that is not finite, where the rows know it.
pub fn summary(rows: &[i64], counted: Counted<'_>) -> Result<(Summary, Option<u64>)> {
    let Counted { dtype, moments, fits, .. } = counted;
    let own = if dtype.is_integer() { INTEGER_COLUMNS } else { FLOAT_COLUMNS };
    let columns = own + 3 * fits.map_or(0, |fits| fits.formats().len());
    check_columns(rows.len(), columns)?;
    let (mut stats, mut first, mut kept) = (Stats::default(), None, fits.map(Fits::emptied));
    with_standard_floats(|| {
        for row in rows.chunks_exact(columns) {
            let (row, beyond) = row.split_at(own);
            let (block, place) =
                if dtype.is_integer() { (integer_block(row, counted)?, None) } else { float_block(row, counted)? };
            if let Some(kept) = &mut kept {
                kept.add(&misfits(beyond, &block.counts)?);
            }
            stats.merge(&block);
            first = first.into_iter().chain(place).min();
        }
        Ok(())
    })?;
    let summary = Summary { stats, seen: Seen::One(dtype), moments, fits: kept.map(Box::new) }.checked()?;
    Ok((summary, first))
}

fn check_columns(numbers: usize, columns: usize) -> Result<()> {
    if columns > 0 && numbers.is_multiple_of(columns) {
        return Ok(());
    }
    Err(Error::Argument(format!("rows of a device must have {columns} columns, got {numbers} numbers")))
}

/// From how many magnitudes are beyond each limit; what is not finite is beyond all of them.
fn misfits(beyond: &[i64], counts: &Counts) -> Result<Vec<Misfits>> {
    let nonfinite = counts.total() - counts.finite();
    let of_one = |limits: &[i64]| {
        let mut finite = [0; 3];
        for (mine, &all) in finite.iter_mut().zip(limits) {
            *mine = count(all)?.checked_sub(nonfinite).ok_or_else(|| damaged("fewer magnitudes than values"))?;
        }
        Ok(Misfits::from_beyond(finite, counts.negative + counts.positive))
    };
    beyond.chunks_exact(3).map(of_one).collect()
}

/// Counts of the finite values, all of them and those that are zero and negative.
fn finite_counts(finite: i64, zero: i64, negative: i64) -> Result<Counts> {
    let (finite, zero, negative) = (count(finite)?, count(zero)?, count(negative)?);
    let positive = finite.checked_sub(zero + negative).ok_or_else(|| damaged("more zeros than values"))?;
    Ok(Counts { zero, negative, positive, ..Counts::default() })
}

/// The float of a key: the pattern of a magnitude, or one less than its negative for values below zero. A zero has no sign.
fn float_value(dtype: Dtype, key: i64) -> Result<Number> {
    let pattern = if key < 0 { !key } else { key } as u64;
    if pattern >> (8 * dtype.size() - 1) != 0 {
        return Err(damaged("an extreme that is no float"));
    }
    let magnitude = value_of(dtype, pattern).to_f64();
    Ok(Number::Float(if key < 0 && magnitude != 0.0 { -magnitude } else { magnitude }))
}

fn float_block(row: &[i64], counted: Counted<'_>) -> Result<(Stats, Option<u64>)> {
    let &[
        nan,
        posinf,
        neginf,
        zero,
        negative,
        subnormal,
        min,
        max,
        absmin,
        finite,
        scale,
        first,
        sum,
        l1,
        squares,
        second,
        third,
        fourth,
    ] = row
    else {
        return Err(damaged("another number of columns"));
    };
    let counts = Counts {
        nan: count(nan)?,
        posinf: count(posinf)?,
        neginf: count(neginf)?,
        subnormal: count(subnormal)?,
        ..finite_counts(finite, zero, negative)?
    };
    let first = u64::try_from(first).ok();
    if finite == 0 {
        return Ok((Stats { counts, ..Stats::default() }, first));
    }
    let value = |key| float_value(counted.dtype, key);
    let absmin = if absmin == NONE { None } else { Some(value(absmin)?) };
    let extremes = Some(Extremes { min: value(min)?, max: value(max)?, absmin });
    let block = Stats { counts, extremes, scale: exponent(scale)?, ..Stats::default() };
    let block = if counted.fixed {
        // Instead of the third power the sum of the differences themselves: they were taken from a rounded mean.
        let m2 = central(fixed(third).value(), fixed(second).value(), finite as f64);
        Stats { sum: fixed(sum), l1: fixed(l1), squares: fixed(squares), m2: Double { hi: m2, lo: 0.0 }, ..block }
    } else {
        Stats {
            sum: pair(sum),
            l1: pair(l1),
            squares: pair(squares),
            m2: pair(second),
            m3: float(third),
            m4: float(fourth),
            ..block
        }
    };
    Ok((block, first))
}

fn integer_block(row: &[i64], counted: Counted<'_>) -> Result<Stats> {
    let &[
        zero,
        negative,
        min,
        max,
        absmin,
        all,
        high,
        low,
        negative_high,
        negative_low,
        centre,
        second,
        third,
        fourth,
        fifth,
    ] = row
    else {
        return Err(damaged("another number of columns"));
    };
    let counts = finite_counts(all, zero, negative)?;
    if all == 0 {
        return Ok(Stats::default()); // a mask may leave out a whole block
    }
    let unsigned = counted.dtype == Dtype::U64;
    let offset = if unsigned { UNSIGNED_OFFSET } else { 0 };
    let whole = |key: i64| Number::Int(i128::from(key) + offset);
    // Magnitudes are kept in falling order: the smallest i64 has no positive counterpart.
    let magnitude = if unsigned { i128::from((absmin ^ i64::MAX) as u64) } else { -i128::from(absmin) };
    let absmin = (zero < all).then_some(Number::Int(magnitude));
    let halves = |high: i64, low: i64| (i128::from(high) << 32) + i128::from(low);
    let int_sum = halves(high, low);
    let int_l1 = int_sum - 2 * halves(negative_high, negative_low);
    let extremes = Some(Extremes { min: whole(min), max: whole(max), absmin });
    let block = Stats { counts, extremes, int_sum, int_l1, ..Stats::default() };
    if !counted.fixed {
        // The centre is the mean, which the exact sum gives more closely.
        let (m3, m4) = (float(fourth), float(fifth));
        return Ok(Stats { squares: pair(second), m2: pair(third), m3, m4, ..block });
    }
    // Sums of the differences from a whole number near the mean.
    let scale = exponent(second)?;
    let (n, middle) = (all as f64, (i128::from(centre) + offset) as f64);
    let (drift, spread) = (scalb(fixed(third).value(), scale), scalb(fixed(fourth).value(), 2 * scale));
    let squares = Double::new(n * middle * middle, 2.0 * middle * drift + spread);
    Ok(Stats { squares, m2: Double { hi: central(drift, spread, n), lo: 0.0 }, ..block })
}

/// The state of the rows of one update with a tensor of so many units: for each block all units of the first column, then of the second.
pub fn unit_activity(
    rows: &[i64],
    units: usize,
    dim: i64,
    saturation: Option<(f64, f64)>,
    fixed: bool,
) -> Result<UnitActivity> {
    let mut activity = UnitActivity::new(dim, saturation)?;
    check_units(i64::try_from(units).unwrap_or(i64::MAX))?;
    check_units_memory(units as u64, 2)?;
    activity.updates = 1;
    activity.units = vec![Unit::default(); units];
    if units == 0 {
        return Ok(activity);
    }
    let columns = if fixed { FIXED_UNIT_COLUMNS } else { UNIT_COLUMNS };
    check_columns(rows.len(), units * columns)?;
    let mut part = Vec::with_capacity(units);
    with_standard_floats(|| {
        for block in rows.chunks_exact(units * columns) {
            part.clear();
            for i in 0..units {
                part.push(unit(block.iter().skip(i).step_by(units), fixed)?);
            }
            merge_all(&mut activity.units, &part, 0);
        }
        Ok(())
    })?;
    activity.checked()
}

/// One unit of one block.
fn unit<'a>(mut numbers: impl Iterator<Item = &'a i64>, in_fixed_point: bool) -> Result<Unit> {
    let mut next = || numbers.next().copied().unwrap_or_default();
    let (zero, active, nonfinite) = (count(next())?, count(next())?, count(next())?);
    let (low, high) = (count(next())?, count(next())?);
    let finite = zero + active;
    let n = finite.max(1) as f64;
    let (mean, m2, min, max);
    if in_fixed_point {
        let scale = exponent(next())?;
        mean = scalb(fixed(next()).value() / n, scale);
        let (first, second) = (fixed(next()).value(), fixed(next()).value());
        m2 = scalb(central(first, second, n), 2 * scale);
        [min, max] = [next(), next()].map(|bits| f64::from(f32::from_bits(bits as u32)));
    } else {
        [mean, m2, min, max] = [next(), next(), next(), next()].map(float);
    }
    if finite == 0 {
        return Ok(Unit { nonfinite, ..Unit::default() });
    }
    let moments = unit_moments::Moments { count: finite, mean: Double { hi: mean, lo: 0.0 }, m2, scale: 0 };
    Ok(Unit { active, zero, nonfinite, low, high, moments, min, max, last_active: u64::from(active > 0) })
}
