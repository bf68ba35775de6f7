//! Owns what holds between the numbers of a [`UnitActivity`] whatever was counted: for states that come from outside. Knows nothing of
//! bytes.

use crate::error::{Error, Result};
use crate::number::double::{Double, exponent, scalb};
use crate::simd::level::in_standard_mode;
use crate::state::stats::MOST_VALUES;
use crate::state::unit_moments::Moments;
use crate::units::{Unit, UnitActivity, check_units};

/// How far means and spreads may be off, beside the largest magnitude: devices without `float64` count in a small unit.
const TOLERANCE: f64 = 1e-5;

/// How far values may be from a bound and still count as on the other side of it: devices without `float64` compare in `float32`.
const BOUND_TOLERANCE: f64 = 1e-6;

/// Squares of magnitudes beyond it overflow where no scale keeps them: on devices.
const UNSCALED: f64 = 1e120;

/// Beyond any exponent of `f64` by a little.
const SCALE_LIMIT: i32 = 1100;

impl UnitActivity {
    /// The record itself if there are values that would give it.
    pub fn checked(self) -> Result<Self> {
        check_units(self.units.len() as i64)?;
        let damaged = |what: String| {
            Error::Bytes(format!(
                "serialised UnitActivity holds numbers that contradict each other ({what}); it was damaged"
            ))
        };
        if self.updates > MOST_VALUES || (self.updates == 0 && !self.units.is_empty()) {
            return Err(damaged("units and updates".to_owned()));
        }
        if self.updates > 0 && i32::try_from(self.dim).is_err() {
            return Err(damaged(format!("no tensor has a dim {}", self.dim)));
        }
        let found = in_standard_mode(|| {
            self.units.iter().enumerate().find_map(|(i, unit)| Some((i, self.contradiction(unit)?)))
        });
        found.map_or(Ok(self), |(i, what)| Err(damaged(format!("{what} of unit {i}"))))
    }

    fn contradiction(&self, unit: &Unit) -> Option<&'static str> {
        let all = [unit.active, unit.zero, unit.nonfinite].iter().map(|&n| u128::from(n)).sum::<u128>();
        let finite = unit.active.wrapping_add(unit.zero);
        if all > u128::from(MOST_VALUES) || unit.moments.count != finite {
            return Some("counts");
        }
        if unit.last_active > self.updates || (unit.last_active > 0) != (unit.active > 0) {
            return Some("active values and the last active update");
        }
        if finite == 0 {
            let nothing = Unit { nonfinite: unit.nonfinite, ..Unit::default() };
            return (*unit != nothing).then_some("numbers of no finite value");
        }
        let checks = [
            (extremes_fit(unit), "extremes and counts"),
            (saturation_fits(unit, self.saturation), "values beyond the bounds of saturation"),
            (moments_fit(&unit.moments, unit.min, unit.max), "mean, spread and extremes"),
        ];
        checks.into_iter().find(|&(fits, _)| !fits).map(|(_, what)| what)
    }
}

/// Whether there are as many zeros and others as the extremes ask for.
fn extremes_fit(unit: &Unit) -> bool {
    let Unit { min, max, active, zero, .. } = *unit;
    // Devices may take subnormals for zeros.
    let is_zero = |x: f64| x.abs() < f64::from(f32::MIN_POSITIVE);
    let (negative, positive) = (min < 0.0 && !is_zero(min), max > 0.0 && !is_zero(max));
    let beside_zero = (min <= 0.0 || is_zero(min)) && (max >= 0.0 || is_zero(max));
    min.is_finite()
        && max.is_finite()
        && min <= max
        && (zero == 0 || beside_zero)
        && active >= u64::from(negative) + u64::from(positive)
        && (active > 0 || (is_zero(min) && is_zero(max)))
        && (zero > 0 || (min != 0.0 && max != 0.0))
        && (active + zero > 1 || min == max)
}

/// Whether as many values are beyond the bounds as the extremes ask for.
fn saturation_fits(unit: &Unit, saturation: Option<(f64, f64)>) -> bool {
    let Unit { min, max, low, high, .. } = *unit;
    let Some((lower, upper)) = saturation else { return low == 0 && high == 0 };
    let finite = unit.moments.count;
    // Certainly and possibly below a bound; an infinite bound has nothing beside it.
    let off = |bound: f64| if bound.is_finite() { bound.abs() * BOUND_TOLERANCE } else { 0.0 };
    let side = |n: u64, nearest: f64, farthest: f64, bound: f64| {
        let (some, all) = (farthest < bound - off(bound), nearest < bound - off(bound));
        let possible = |x: f64| x < bound + off(bound) || x < bound;
        (possible(farthest) || n == 0) && (possible(nearest) || n < finite) && (!some || n > 0) && (!all || n == finite)
    };
    let both = low.checked_add(high).is_some_and(|n| n <= finite);
    both && side(low, max, min, lower) && side(high, -min, -max, -upper)
}

/// Whether mean and spread can be those of values between the extremes.
fn moments_fit(moments: &Moments, min: f64, max: f64) -> bool {
    let Moments { count, mean, m2, scale } = *moments;
    let largest = min.abs().max(max.abs());
    if scale == 0 && largest > UNSCALED {
        return true;
    }
    let fitting = scale == 0 || (scale.abs() <= SCALE_LIMIT && largest > 0.0 && scale <= exponent(largest));
    let Double { hi, lo } = mean;
    if !fitting || !hi.is_finite() || !m2.is_finite() || lo.abs() > hi.abs() * 4.0 * f64::EPSILON + f64::MIN_POSITIVE {
        return false;
    }
    let (n, min, max, largest) = (count as f64, scalb(min, -scale), scalb(max, -scale), scalb(largest, -scale));
    let (mean, spread) = (mean.value(), max - min);
    // Devices may take subnormals for zeros when they add them up.
    let flushed = if scale == 0 { f64::from(f32::MIN_POSITIVE) } else { 0.0 };
    let (off, off_squares) = (TOLERANCE * largest + flushed, n * (TOLERANCE * largest * largest + flushed * flushed));
    let room = (n * (max - mean) * (mean - min)).max(0.0) + n * off * spread;
    (min - off..=max + off).contains(&mean)
        && m2 >= (spread * spread / 2.0 - off_squares).max(0.0)
        && m2 <= room + off_squares + f64::MIN_POSITIVE
}
