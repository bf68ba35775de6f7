//! Owns the mergeable activity of the units along one dim: what it answers and how two of them merge. Knows nothing of Python.

mod bytes;
mod check;
pub mod count;
pub mod masked;
pub mod plan;
mod repr;
pub mod tensor;

use crate::allocation::check_memory;
use crate::error::{Error, Result};
use crate::simd::level::in_standard_mode;
use crate::state::stats::check_room;
use crate::state::unit_moments::Moments;

/// What is known about one unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// Finite values other than zero.
    pub active: u64,
    /// +0 and -0.
    pub zero: u64,
    /// NaN and infinities.
    pub nonfinite: u64,
    /// Finite values below the lower bound of saturation.
    pub low: u64,
    /// Finite values above the upper bound of saturation.
    pub high: u64,
    /// Mean and spread of finite values.
    pub moments: Moments,
    /// Smallest finite value; infinite while there is none.
    pub min: f64,
    /// Largest finite value; -infinite while there is none.
    pub max: f64,
    /// The update, from 1 on, in which the unit was last active; 0 for never.
    pub last_active: u64,
}

impl Default for Unit {
    fn default() -> Self {
        Self {
            active: 0,
            zero: 0,
            nonfinite: 0,
            low: 0,
            high: 0,
            moments: Moments::default(),
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            last_active: 0,
        }
    }
}

impl Unit {
    /// All values.
    pub fn count(&self) -> u64 {
        self.active.wrapping_add(self.zero).wrapping_add(self.nonfinite)
    }

    /// Variance of finite values over `n - correction`; 0 for a constant, NaN where that is not positive.
    pub fn var(&self, correction: f64) -> f64 {
        self.spread(correction, self.moments.var(correction))
    }

    /// Square root of the variance, in range wherever the values are.
    pub fn std(&self, correction: f64) -> f64 {
        self.spread(correction, self.moments.std(correction))
    }

    fn spread(&self, correction: f64, counted: f64) -> f64 {
        if self.min == self.max && self.moments.count as f64 - correction > 0.0 { 0.0 } else { counted }
    }

    /// Mean of finite values; NaN where there are none.
    pub fn mean(&self) -> f64 {
        if self.min == self.max { self.min } else { self.moments.mean() }
    }

    /// Share of all values that are finite and not zero; NaN where there are no values.
    pub fn active_fraction(&self) -> f64 {
        self.active as f64 / self.count() as f64
    }

    /// Takes in values counted `updates_before` updates after the start of these.
    #[inline(always)]
    fn merge(&mut self, other: &Self, updates_before: u64) {
        self.active = self.active.wrapping_add(other.active);
        self.zero = self.zero.wrapping_add(other.zero);
        self.nonfinite = self.nonfinite.wrapping_add(other.nonfinite);
        self.low = self.low.wrapping_add(other.low);
        self.high = self.high.wrapping_add(other.high);
        self.moments.merge(&other.moments);
        self.min = if other.min < self.min { other.min } else { self.min };
        self.max = if other.max > self.max { other.max } else { self.max };
        let last_active = if other.last_active > 0 { updates_before.wrapping_add(other.last_active) } else { 0 };
        self.last_active = self.last_active.max(last_active);
    }
}

/// Takes the values of other units into these, one by one.
pub(crate) fn merge_all(mine: &mut [Unit], others: &[Unit], updates_before: u64) {
    in_standard_mode(|| {
        for (mine, other) in mine.iter_mut().zip(others) {
            mine.merge(other, updates_before);
        }
    });
}

/// Most units, as many as an axis may have bins.
pub const MAX_UNITS: i64 = 1 << 24;

/// Refuses more units than can be kept, before memory is taken for them.
pub(crate) fn check_units(units: i64) -> Result<()> {
    if units <= MAX_UNITS {
        return Ok(());
    }
    Err(Error::Argument(format!(
        "there may be at most {MAX_UNITS} units, got: {units}; is dim the dimension of channels or features?"
    )))
}

/// A mergeable record of how active each unit along `dim` is.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitActivity {
    /// The dimension along which units lie; negative ones count from the end.
    pub dim: i64,
    /// Bounds below and above which a value counts as saturated.
    pub saturation: Option<(f64, f64)>,
    /// Updates taken in.
    pub updates: u64,
    /// The units; none before the first update.
    pub units: Vec<Unit>,
}

impl UnitActivity {
    /// An empty accumulator, which gets its units from the first tensor.
    pub fn new(dim: i64, saturation: Option<(f64, f64)>) -> Result<Self> {
        if let Some((low, high)) = saturation
            && (low.is_nan() || high.is_nan() || low > high)
        {
            return Err(Error::Argument(format!(
                "saturation must be two bounds with low <= high, got: ({low}, {high})"
            )));
        }
        Ok(Self { dim, saturation, updates: 0, units: Vec::new() })
    }

    /// An independent copy, where there is memory for it.
    pub fn try_clone(&self) -> Result<Self> {
        check_units_memory(self.units.len() as u64, 1)?;
        Ok(self.clone())
    }

    /// Takes in another record, as if its updates had followed these.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.check_merge(other)?;
        if other.updates == 0 {
            return Ok(());
        }
        if self.updates == 0 {
            *self = Self { dim: self.dim, ..other.clone() };
            return Ok(());
        }
        merge_all(&mut self.units, &other.units, self.updates);
        self.updates += other.updates;
        Ok(())
    }

    /// Whether another record can be merged into this one; where it cannot, a merge changes nothing.
    pub fn check_merge(&self, other: &Self) -> Result<()> {
        if self.saturation != other.saturation {
            return Err(Error::Incompatible(format!(
                "cannot merge unit activities with different saturation: {} and {}",
                shown(self.saturation),
                shown(other.saturation)
            )));
        }
        if self.updates == 0 || other.updates == 0 {
            return Ok(());
        }
        if self.units.len() != other.units.len() {
            return Err(Error::Incompatible(format!(
                "cannot merge unit activities of different numbers of units: {} and {}",
                self.units.len(),
                other.units.len()
            )));
        }
        check_room(self.updates, other.updates, "the updates of a UnitActivity")?;
        self.units
            .iter()
            .zip(&other.units)
            .try_for_each(|(mine, theirs)| check_room(mine.count(), theirs.count(), "the values of a unit"))
    }

    /// Units whose share of active values is at most `threshold`. A unit without values is not among them.
    pub fn dead_units(&self, threshold: f64) -> Result<Vec<usize>> {
        if !(0.0..=1.0).contains(&threshold) {
            return Err(Error::Argument(format!("threshold must be in [0, 1], got: {threshold}")));
        }
        Ok(self.units.iter().enumerate().filter(|(_, u)| u.active_fraction() <= threshold).map(|(i, _)| i).collect())
    }

    /// How many updates there were since the unit was last active; all of them where it never was.
    pub fn inactive_for(&self, unit: &Unit) -> u64 {
        self.updates.saturating_sub(unit.last_active)
    }

    /// Units that were not active in any of the last `updates` updates, of which there must have been as many. A unit without values
    /// is not among them.
    pub fn inactive_units(&self, updates: u64) -> Result<Vec<usize>> {
        if updates == 0 {
            return Err(Error::Argument("updates must be at least 1, got: 0".to_owned()));
        }
        let inactive = |u: &Unit| u.count() > 0 && self.inactive_for(u) >= updates;
        Ok(self.units.iter().enumerate().filter(|(_, u)| inactive(u)).map(|(i, _)| i).collect())
    }

    /// Share of units that are dead; NaN without units.
    pub fn dead_fraction(&self, threshold: f64) -> Result<f64> {
        Ok(self.dead_units(threshold)?.len() as f64 / self.units.len() as f64)
    }

    /// Share of all values that lie beyond the bounds of saturation; NaN without values.
    pub fn saturated_fraction(&self) -> Result<f64> {
        self.check_saturation()?;
        // Counts of one unit stay below 2^63, those of all may not.
        let (beyond, all) = self.units.iter().fold((0_u128, 0_u128), |(beyond, all), u| {
            (beyond + u128::from(u.low + u.high), all + u128::from(u.count()))
        });
        Ok(beyond as f64 / all as f64)
    }

    /// The same for each unit.
    pub fn saturated_fractions(&self) -> Result<Vec<f64>> {
        self.check_saturation()?;
        Ok(self.units.iter().map(|u| u.low.wrapping_add(u.high) as f64 / u.count() as f64).collect())
    }

    fn check_saturation(&self) -> Result<()> {
        if self.saturation.is_some() {
            return Ok(());
        }
        Err(Error::Argument(
            "no value counts as saturated without bounds; ask for them with saturation=(low, high)".to_owned(),
        ))
    }
}

fn shown(saturation: Option<(f64, f64)>) -> String {
    saturation.map_or("None".to_owned(), |(low, high)| format!("({low}, {high})"))
}

/// Memory for so many states of units side by side.
pub fn check_units_memory(units: u64, states: u64) -> Result<()> {
    let bytes = units.saturating_mul(size_of::<Unit>() as u64).saturating_mul(states);
    check_memory(bytes, &format!("the activity of {units} units"))
}
