//! Owns the one-line form of a [`UnitActivity`].

use core::fmt;

use crate::number::text::{bars, short};
use crate::units::{Unit, UnitActivity};

/// Bars of a sparkline of shares: one for every tenth.
const TENTHS: usize = 10;

impl fmt::Display for UnitActivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = |get: fn(&Unit) -> u64| self.units.iter().map(|u| u128::from(get(u))).sum::<u128>();
        let (all, active, nonfinite) = (total(Unit::count), total(|u| u.active), total(|u| u.nonfinite));
        write!(f, "UnitActivity dim={} units={} updates={} n={all}", self.dim, self.units.len(), self.updates)?;
        if all > 0 {
            let mut shares = [0.0_f64; TENTHS];
            for unit in self.units.iter().filter(|unit| unit.count() > 0) {
                let place = unit.active as f64 / unit.count() as f64 * TENTHS as f64;
                shares[(place as usize).min(TENTHS - 1)] += 1.0;
            }
            write!(f, " active={:.3}% [0% {} 100%]", 100.0 * active as f64 / all as f64, bars(&shares))?;
            write!(f, " dead={}", self.dead_units(0.0).map_or(0, |dead| dead.len()))?;
        }
        if let (Some((low, high)), Ok(share)) = (self.saturation, self.saturated_fraction()) {
            write!(f, " saturation=({}, {})", short(low), short(high))?;
            if all > 0 {
                write!(f, " saturated={:.3}%", 100.0 * share)?;
            }
        }
        if nonfinite > 0 {
            write!(f, " nonfinite={nonfinite}!")?;
        }
        Ok(())
    }
}
