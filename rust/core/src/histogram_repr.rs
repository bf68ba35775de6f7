//! Owns the one-line form of a [`Histogram`] and of a [`UnitActivity`].

use core::fmt;

use crate::histogram::Histogram;
use crate::units::UnitActivity;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Bars of a sparkline.
const PARTS: usize = 16;

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (edges, counts) = self.dense();
        write!(f, "Histogram {} n={}", self.axis, self.count_all())?;
        if let (Some(&low), Some(&high)) = (edges.first(), edges.last()) {
            write!(f, " x∈[{} {} {}]", short(low), sparkline(&edges, &counts), short(high))?;
        }
        for (name, n) in [
            ("underflow", self.underflow().saturating_sub(self.specials.neginf)),
            ("overflow", self.overflow().saturating_sub(self.specials.posinf)),
            ("nan", self.specials.nan),
            ("+inf", self.specials.posinf),
            ("-inf", self.specials.neginf),
        ] {
            if n > 0 {
                write!(f, " {name}={n}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for UnitActivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total =
            |get: fn(&crate::units::Unit) -> u64| self.units.iter().fold(0_u64, |sum, u| sum.wrapping_add(get(u)));
        let (all, active, nonfinite) = (total(crate::units::Unit::count), total(|u| u.active), total(|u| u.nonfinite));
        write!(f, "UnitActivity dim={} units={} updates={} n={all}", self.dim, self.units.len(), self.updates)?;
        if all > 0 {
            write!(f, " active={:.3}%", 100.0 * active as f64 / all as f64)?;
            write!(f, " dead={}", self.dead_units(0.0).map_or(0, |dead| dead.len()))?;
        }
        if let (Some((low, high)), Ok(share)) = (self.saturation, self.saturated_fraction()) {
            write!(f, " saturation=({}, {})", short(low), short(high))?;
            if all > 0 {
                write!(f, " saturated={:.3}%", 100.0 * share)?;
            }
        }
        if nonfinite > 0 {
            write!(f, " nonfinite={nonfinite}")?;
        }
        Ok(())
    }
}

/// How the counts lie between the first and the last edge, each bin at its middle.
fn sparkline(edges: &[f64], counts: &[u64]) -> String {
    let (Some(&low), Some(&high)) = (edges.first(), edges.last()) else { return String::new() };
    // Halves, so that the widest range still has a width.
    let width = high / 2.0 - low / 2.0;
    let mut parts = [0.0_f64; PARTS];
    for (pair, &n) in edges.windows(2).zip(counts) {
        if let &[a, b] = pair {
            let middle = a / 2.0 + b / 2.0;
            let place = (middle / 2.0 - low / 2.0) / width * PARTS as f64;
            if let Some(part) = parts.get_mut((place.max(0.0) as usize).min(PARTS - 1)) {
                *part += n as f64;
            }
        }
    }
    let shown = &parts[..PARTS.min(counts.len().max(1))];
    let shown: Vec<f64> =
        if counts.len() < PARTS { counts.iter().map(|&n| n as f64).collect() } else { shown.to_vec() };
    let top = shown.iter().copied().fold(0.0, f64::max);
    let bar = |n: f64| if n == 0.0 { BARS[0] } else { BARS[((n * 7.0 / top).ceil() as usize).clamp(1, 7)] };
    shown.into_iter().map(bar).collect()
}

/// A number in few characters.
fn short(x: f64) -> String {
    if x == 0.0 || (1e-3..1e5).contains(&x.abs()) {
        let text = format!("{x:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{x:.2e}")
    }
}
