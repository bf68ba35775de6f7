//! Owns the one-line form of a [`Histogram`].

use core::fmt;

use crate::axis::Axis;
use crate::histogram::{Bins, Histogram};
use crate::number::text::{bars, short};

/// Bars of a sparkline of values.
const PARTS: usize = 16;

/// Half of the values within this share of the longest reach: bars of equal width would be one spike.
const CROWDED: f64 = 1.0 / 25.0;

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (edges, counts) = self.dense();
        match &self.axis {
            // Its range is said below, in fewer characters.
            Axis::Regular { edges, .. } => write!(f, "Histogram Regular({})", edges.values().len() - 1)?,
            axis => write!(f, "Histogram {axis}")?,
        }
        write!(f, " n={}", self.count_all())?;
        let zeros = if let Bins::Log(counts) = &self.bins { counts.zeros } else { 0 };
        if let (Some(&low), Some(&high)) = (edges.first(), edges.last()) {
            let crowding = if let Bins::Log(_) = &self.bins { crowding(&edges, &counts) } else { None };
            let note = if crowding.is_some() { " log" } else { "" };
            write!(f, " x∈[{} {} {}{note}]", short(low), sparkline(&edges, &counts, crowding), short(high))?;
        }
        if zeros > 0 {
            write!(f, " zero={:.1}%", 100.0 * zeros as f64 / self.count_all() as f64)?;
        }
        for (name, n) in [
            ("underflow", self.underflow().saturating_sub(self.specials.neginf)),
            ("overflow", self.overflow().saturating_sub(self.specials.posinf)),
        ] {
            if n > 0 {
                write!(f, " {name}={n}")?;
            }
        }
        for (name, n) in [("NaN", self.specials.nan), ("+inf", self.specials.posinf), ("-inf", self.specials.neginf)] {
            if n > 0 {
                write!(f, " {name}={n}!")?;
            }
        }
        Ok(())
    }
}

/// The middle of each bin that holds values other than zero, and how many.
fn occupied<'a>(edges: &'a [f64], counts: &'a [u64]) -> impl Iterator<Item = (f64, u64)> + 'a {
    edges.windows(2).zip(counts).filter_map(|(pair, &n)| match *pair {
        // Halves, so that the widest range still has a middle.
        [a, b] if n > 0 && !(a <= 0.0 && b > 0.0) => Some((a / 2.0 + b / 2.0, n)),
        _ => None,
    })
}

/// The magnitude from which on a logarithmic sparkline says more than one of equal widths: that of the smallest thousandth of the
/// values. `None` where equal widths are readable.
fn crowding(edges: &[f64], counts: &[u64]) -> Option<f64> {
    let mut magnitudes: Vec<(f64, u64)> = occupied(edges, counts).map(|(x, n)| (x.abs(), n)).collect();
    magnitudes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let reach = magnitudes.last()?.0;
    let total = magnitudes.iter().fold(0.0, |sum, &(_, n)| sum + n as f64);
    let near = magnitudes.iter().filter(|(x, _)| *x <= reach * CROWDED).fold(0.0, |sum, &(_, n)| sum + n as f64);
    if near < total / 2.0 {
        return None;
    }
    let mut below = 0.0;
    magnitudes
        .iter()
        .find(|&&(_, n)| {
            below += n as f64;
            below >= total / 1000.0
        })
        .map(|&(x, _)| x)
}

/// How the counts lie between the first and the last edge, each bin at its middle; beyond the magnitude `log_from` by its logarithm.
fn sparkline(edges: &[f64], counts: &[u64], log_from: Option<f64>) -> String {
    let (Some(&low), Some(&high)) = (edges.first(), edges.last()) else { return String::new() };
    if counts.len() < PARTS {
        return bars(&counts.iter().map(|&n| n as f64).collect::<Vec<_>>());
    }
    // A quarter, so that the widest range still has a width.
    let stretched = |x: f64| log_from.map_or(x / 4.0, |from| (x.abs() / from).ln_1p().copysign(x));
    let (start, width) = (stretched(low), stretched(high) - stretched(low));
    let mut parts = [0.0_f64; PARTS];
    for (pair, &n) in edges.windows(2).zip(counts) {
        if let &[a, b] = pair {
            let place = (stretched(a / 2.0 + b / 2.0) - start) / width * PARTS as f64;
            if let Some(part) = parts.get_mut((place.max(0.0) as usize).min(PARTS - 1)) {
                *part += n as f64;
            }
        }
    }
    bars(&parts)
}
