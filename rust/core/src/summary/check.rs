//! Owns what holds between the numbers of a summary whatever was counted: for states that come from outside. Knows nothing of bytes.
//!
//! Counts and extremes are exact, so whatever follows from them is asked for exactly. Sums are asked for as closely as any way of counting
//! has them: on devices without `float64` they are whole numbers of a small unit.

use crate::dtype::{Dtype, Kind};
use crate::error::{Error, Result};
use crate::kernel::Moments;
use crate::number::Number;
use crate::number::double::{Double, exponent, scalb};
use crate::number::environment::with_standard_floats;
use crate::state::stats::{Counts, Extremes, MOST_VALUES, Stats};
use crate::summary::formats::{Fits, holds, smallest_normal, value_of};
use crate::summary::{Seen, Summary};

/// How far sums may be off, beside what they are sums of. The contract asks for a tenth of it.
const TOLERANCE: f64 = 1e-5;

/// The same for `f64` alone: no device without `float64` has such values, and the contract asks the others for a tenth of it.
const TOLERANCE_OF_F64: f64 = 1e-9;

/// The unit of sums in fixed point, beside the scale they have there.
const FIXED_UNIT: i32 = -42;

/// The lowest scale there is in fixed point: that of subnormal values of `f32`.
const LOWEST_FIXED_SCALE: i32 = -125;

/// Exponent of the smallest normal number of `f32`.
const FLUSHED_BELOW: i32 = -126;

/// Beyond it a scale is that of `f64` alone.
const LARGEST_FIXED_SCALE: i32 = 200;

/// What contradicts what.
type Contradiction = &'static str;

/// Fails with the words unless the claim holds.
fn claim(holds: bool, what: Contradiction) -> core::result::Result<(), Contradiction> {
    if holds { Ok(()) } else { Err(what) }
}

impl Summary {
    /// The summary itself if there are values that would give it.
    pub fn checked(self) -> Result<Self> {
        match with_standard_floats(|| self.find_contradiction()) {
            Ok(()) => Ok(self),
            Err(what) => Err(Error::Bytes(format!(
                "serialised Summary holds numbers that contradict each other ({what}); it was damaged"
            ))),
        }
    }

    fn find_contradiction(&self) -> core::result::Result<(), Contradiction> {
        let (counts, stats) = (&self.stats.counts, &self.stats);
        let all = [counts.nan, counts.posinf, counts.neginf, counts.zero, counts.negative, counts.positive];
        let total = all.iter().map(|&n| u128::from(n)).sum::<u128>();
        claim(total <= u128::from(MOST_VALUES), "more values than can be counted")?;
        claim(self.seen != Seen::Nothing || total == 0, "values of no dtype")?;
        if let Seen::One(dtype) = self.seen {
            counts_of_dtype(counts, dtype)?;
        }
        claim(stats.extremes.is_some() == (counts.finite() > 0), "extremes of no finite value")?;
        let Some(extremes) = stats.extremes else {
            claim(*stats == Stats { counts: *counts, ..Stats::default() }, "numbers of no finite value")?;
            return self.check_formats(None);
        };
        check_extremes(counts, &extremes, self.seen)?;
        check_subnormals(counts, &extremes, self.seen)?;
        self.check_whole_sums(&extremes)?;
        self.check_sums(&extremes)?;
        self.check_formats(Some(&extremes))
    }

    /// Sums of integers, which are exact.
    fn check_whole_sums(&self, extremes: &Extremes) -> core::result::Result<(), Contradiction> {
        let (stats, counts) = (&self.stats, &self.stats.counts);
        let (sum, l1) = (stats.int_sum, stats.int_l1);
        let parts = l1.checked_add(sum).zip(l1.checked_sub(sum)).filter(|(a, b)| *a >= 0 && *b >= 0 && a % 2 == 0);
        let Some((positive, negative)) = parts.map(|(a, b)| (a / 2, b / 2)) else {
            return Err("sum and sum of magnitudes");
        };
        let Seen::One(dtype) = self.seen else {
            // Integers among floats are at most that many.
            let most = i128::from(counts.negative + counts.positive).saturating_mul(1 << 64);
            return claim(l1 <= most, "sum of magnitudes and counts");
        };
        if !dtype.is_integer() {
            return claim(l1 == 0, "an integer sum of floats");
        }
        let whole = |n: Number| if let Number::Int(n) = n { n } else { 0 };
        let absmin = extremes.absmin.map_or(0, whole);
        let within = |part: i128, n: u64, largest: i128| {
            let n = i128::from(n);
            let least = if n == 0 { 0 } else { largest + (n - 1) * absmin };
            (least..=n * largest).contains(&part)
        };
        let (min, max) = (whole(extremes.min), whole(extremes.max));
        claim(within(positive, counts.positive, max), "sum of the positive values and their extremes")?;
        claim(within(negative, counts.negative, -min), "sum of the negative values and their extremes")?;
        claim(stats.scale == 0 && stats.sum == Double::ZERO && stats.l1 == Double::ZERO, "a float sum of integers")
    }

    /// Sums and moments of whatever dtype, as floats.
    fn check_sums(&self, extremes: &Extremes) -> core::result::Result<(), Contradiction> {
        let (stats, counts) = (&self.stats, &self.stats.counts);
        claim(scale_fits(stats.scale, extremes.absmax().to_f64(), self.seen), "scale and extremes")?;
        let pairs = [stats.sum, stats.l1, stats.squares, stats.m2];
        claim(pairs.iter().all(|pair| is_pair(*pair)), "a sum that is no number")?;
        claim(stats.m3.is_finite() && stats.m4.is_finite(), "a moment that is no number")?;

        let scaled = |x: Number| scalb(x.to_f64(), -stats.scale);
        let (min, max) = (scaled(extremes.min), scaled(extremes.max));
        let (least, most) = (extremes.absmin.map_or(0.0, scaled), scaled(extremes.absmax()));
        let (n, negative, positive) = (counts.finite() as f64, counts.negative as f64, counts.positive as f64);
        let (sum, l1) = (stats.scaled_sum().value(), stats.scaled_l1().value());
        let (squares, m2) = (stats.squares.value(), stats.m2.value());
        // Devices may take subnormals for zeros when they add them up, and fixed point rounds to its unit.
        let flushed = match stats.scale {
            0 if self.seen == Seen::One(Dtype::F64) => f64::MIN_POSITIVE,
            0 => scalb(1.0, FLUSHED_BELOW),
            LOWEST_FIXED_SCALE => f64::INFINITY,
            _ => 0.0,
        };
        let kept = |x: f64| if x < flushed { 0.0 } else { x };
        let rounded = |power: i32| match stats.scale {
            0 if least >= flushed => 0.0,
            0 => scalb(1.0, FIXED_UNIT + power * LOWEST_FIXED_SCALE),
            scale if scale.abs() <= LARGEST_FIXED_SCALE => scalb(1.0, FIXED_UNIT),
            _ => 0.0,
        };
        let off = TOLERANCE * l1.abs() + n * rounded(1);
        let off_squares = TOLERANCE * squares.abs() + n * rounded(2);

        let within = |part: f64, n: f64, largest: f64| {
            let low = if n == 0.0 { 0.0 } else { kept(largest) + (n - 1.0) * kept(least) };
            part >= low - off && part <= n * largest.abs() + off
        };
        claim(within(f64::midpoint(l1, sum), positive, max), "sum of the positive values and their extremes")?;
        claim(within(f64::midpoint(l1, -sum), negative, -min), "sum of the negative values and their extremes")?;

        if counts.negative + counts.positive == 0 {
            let nothing = [sum, l1, squares, m2, stats.m3, stats.m4].iter().all(|&x| x == 0.0);
            return claim(nothing, "sums of zeros");
        }
        let nonzero = negative + positive;
        let ends =
            if negative > 0.0 && positive > 0.0 { kept(-min).powi(2) + kept(max).powi(2) } else { kept(most).powi(2) };
        let rest = (nonzero - 2.0).max(0.0) * kept(least).powi(2);
        let high = (l1 * most).min(nonzero * most * most);
        let low = (ends + rest).max(l1 * l1 / nonzero);
        let products = squares >= low - off_squares && squares <= high + off_squares;
        claim(products, "sum of squares and extremes")?;

        let spread = max - min;
        claim((m2 - (squares - sum * sum / n)).abs() <= off_squares, "variance and sum of squares")?;
        claim(m2 >= kept(spread).powi(2) / 2.0 - off_squares, "variance and extremes")?;
        // Values between two ends have at most the variance (max - mean) * (mean - min), which is that of values at the ends alone (Bhatia and
        // Davis), and so never more than a quarter of the squared spread (Popoviciu). To allow a part of the squares here would say nothing where
        // values are far from zero and near each other: a hundred-thousandth of the squares is more than all of the variance. But differences
        // are taken from the mean before they are squared, or squares are of the size of the variance. So m2 is off by a part of itself and, in
        // fixed point, by a unit for each square; and the sum by the same part of the magnitudes and a unit for each value. A mean that is off
        // by `e` moves the product by at most `spread * e + e * e`.
        let loose = if self.seen == Seen::One(Dtype::F64) { TOLERANCE_OF_F64 } else { TOLERANCE };
        let e = loose * l1 / n + rounded(1);
        let room = ((max - sum / n) * (sum / n - min)).max(0.0) + spread * e + e * e + rounded(2);
        claim(m2 * (1.0 - loose) <= n * room, "variance, mean and extremes")?;
        if self.moments == Moments::Two {
            return Ok(());
        }
        let (off_cubes, off_fourths) = (TOLERANCE * n * most.powi(3), TOLERANCE * n * most.powi(4));
        let m2 = m2.max(0.0);
        let fourth = stats.m4 >= m2 * m2 / n - off_fourths && stats.m4 <= m2 * spread * spread + off_fourths;
        claim(fourth, "fourth moment and variance")?;
        claim(stats.m3.abs() <= m2.sqrt() * stats.m4.max(0.0).sqrt() + off_cubes, "third moment and variance")
    }

    /// Counts of formats.
    fn check_formats(&self, extremes: Option<&Extremes>) -> core::result::Result<(), Contradiction> {
        const WHAT: Contradiction = "formats and the counts or extremes of the values";
        let Some(fits) = &self.fits else { return Ok(()) };
        let counts = &self.stats.counts;
        let nonzero = counts.negative.saturating_add(counts.positive);
        let each = fits.formats();
        claim(each.iter().all(|(_, misfits)| misfits.total() <= nonzero), WHAT)?;
        let (Some(extremes), Seen::One(dtype)) = (extremes, self.seen) else { return Ok(()) };
        let Some(absmin) = extremes.absmin else { return Ok(()) };
        claim(fits_extremes(fits, dtype, absmin, extremes.absmax(), nonzero), WHAT)
    }
}

/// Whether each class of each format is empty or full where the magnitudes leave no choice.
fn fits_extremes(fits: &Fits, dtype: Dtype, absmin: Number, absmax: Number, nonzero: u64) -> bool {
    fits.limits(dtype).into_iter().zip(fits.formats()).all(|(limits, (_, misfits))| {
        // Of values in the order of their magnitudes, flushed ones come first, then subnormal, normal and overflowing ones.
        let normal = nonzero - misfits.total();
        let classes = [misfits.flushed, misfits.subnormal, normal, misfits.overflow];
        let class =
            |x: Number| limits.each().iter().filter(|&&limit| x.compare(value_of(dtype, limit)).is_gt()).count();
        let (first, last) = (class(absmin), class(absmax));
        classes.iter().enumerate().all(|(i, &n)| {
            let possible = (first..=last).contains(&i);
            let certain = i == first || i == last;
            (possible || n == 0) && (!certain || n > 0)
        })
    })
}

/// Classes that a dtype has values of.
fn counts_of_dtype(counts: &Counts, dtype: Dtype) -> core::result::Result<(), Contradiction> {
    let infinite = counts.posinf > 0 || counts.neginf > 0;
    if dtype.is_integer() {
        let signed = dtype.kind() == Kind::Signed;
        claim(counts.nan == 0 && !infinite && counts.subnormal == 0, "integers that are not finite")?;
        return claim(signed || counts.negative == 0, "negative values of an unsigned dtype");
    }
    claim(dtype.infinity().is_some() || !infinite, "infinities of a dtype that has none")
}

/// Order and signs of extremes, beside how many values have which sign.
fn check_extremes(counts: &Counts, extremes: &Extremes, seen: Seen) -> core::result::Result<(), Contradiction> {
    let Extremes { min, max, absmin } = *extremes;
    let zero = Number::Int(0);
    let possible = |x: Number| match (seen, x) {
        (Seen::One(dtype), x) => dtype.is_integer() == matches!(x, Number::Int(_)) && holds(dtype, x),
        (_, Number::Int(_)) => holds(Dtype::I64, x) || holds(Dtype::U64, x),
        (_, Number::Float(x)) => x.is_finite(),
    };
    let unsigned = |x: Number| !matches!(x, Number::Float(x) if x == 0.0 && x.is_sign_negative());
    // The magnitude of the smallest integer is one more than the largest integer.
    let negated = |x: Number| match x {
        Number::Int(n) => Number::Int(n.saturating_neg()),
        Number::Float(x) => Number::Float(-x),
    };
    let magnitude = absmin.is_none_or(|x| (possible(x) || possible(negated(x))) && unsigned(x));
    let extreme = |x: Number| possible(x) && unsigned(x);
    claim(extreme(min) && extreme(max) && magnitude, "an extreme that the dtype cannot hold")?;
    claim(min.compare(max).is_le(), "min and max")?;
    // The sign of the smallest value is that of whatever there is of the lowest sign.
    let sign = |x: Number| x.compare(zero) as i32;
    let lowest = if counts.negative > 0 { -1 } else { i32::from(counts.zero == 0) };
    let highest = if counts.positive > 0 { 1 } else { -i32::from(counts.zero == 0) };
    claim(sign(min) == lowest && sign(max) == highest, "extremes and the signs of values")?;

    let nonzero = counts.negative + counts.positive;
    let Some(absmin) = absmin else { return claim(nonzero == 0, "no smallest magnitude") };
    let magnitudes = [(counts.negative, min.abs()), (counts.positive, max.abs())];
    let ends = || magnitudes.into_iter().filter(|&(n, _)| n > 0).map(|(_, x)| x);
    let positive = nonzero > 0 && sign(absmin) > 0;
    claim(positive && ends().all(|end| absmin.compare(end).is_le()), "magnitudes and extremes")?;
    claim(counts.finite() > 1 || min.compare(max).is_eq(), "extremes of a single value")?;
    // Where no value is left to be smaller, the extremes have the smallest magnitude.
    let only_ends = counts.negative <= 1 && counts.positive <= 1;
    let near = ends().reduce(Number::min).unwrap_or(absmin);
    let inner = match (counts.zero, counts.negative, counts.positive) {
        (0, 0, _) => Some(min),
        (0, _, 0) => Some(max.abs()),
        _ if only_ends => Some(near),
        _ => None,
    };
    claim(inner.is_none_or(|x| absmin.compare(x).is_eq()), "magnitudes and extremes")
}

/// How many values are subnormal, beside which extremes are.
fn check_subnormals(counts: &Counts, extremes: &Extremes, seen: Seen) -> core::result::Result<(), Contradiction> {
    const WHAT: Contradiction = "subnormal values and extremes";
    let (nonzero, subnormal) = (counts.negative + counts.positive, counts.subnormal);
    claim(subnormal <= nonzero, "subnormal values and signs")?;
    let Seen::One(dtype) = seen else {
        // The largest of all smallest normal numbers.
        let limit = smallest_normal(Dtype::F8E4M3FN);
        let some = extremes.absmin.is_some_and(|x| x.to_f64() < limit);
        return claim(subnormal == 0 || some, WHAT);
    };
    if dtype.is_integer() {
        return Ok(());
    }
    let small = |x: Number| x.to_f64() < smallest_normal(dtype);
    let (mut at_least, mut at_most) = (u64::from(extremes.absmin.is_some_and(small)), nonzero);
    for (n, end) in [(counts.negative, extremes.min.abs()), (counts.positive, extremes.max.abs())] {
        match n {
            0 => {}
            n if small(end) => at_least = at_least.max(n),
            _ => at_most -= 1,
        }
    }
    let both = counts.negative > 0 && counts.positive > 0 && small(extremes.absmax());
    at_least = if both { nonzero } else { at_least };
    at_most = if extremes.absmin.is_some_and(small) { at_most } else { 0 };
    claim((at_least..=at_most).contains(&subnormal), WHAT)
}

/// Whether a scale is one that a part of the values may have asked for: on the host the exponent of the largest magnitude, or none; on devices
/// up to two more.
fn scale_fits(scale: i32, absmax: f64, seen: Seen) -> bool {
    let wide = matches!(seen, Seen::One(Dtype::F64) | Seen::Several) || scale.abs() <= LARGEST_FIXED_SCALE;
    let power = if absmax == 0.0 { LOWEST_FIXED_SCALE } else { exponent(absmax) };
    scale == 0 || (wide && scale <= (power + 2).max(LOWEST_FIXED_SCALE) && (scale > 0 || scale >= power))
}

/// Whether a pair is one that additions leave: finite, the second number at most the rounding of the first.
fn is_pair(pair: Double) -> bool {
    let Double { hi, lo } = pair;
    hi.is_finite() && lo.abs() <= hi.abs() * 4.0 * f64::EPSILON + f64::MIN_POSITIVE
}
