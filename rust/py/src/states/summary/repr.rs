//! Owns the one-line repr of a summary. Knows nothing of Python.

use tensorstats_core::Number;
use tensorstats_core::summary::Seen;

use crate::memory::dims::Shape;
use crate::states::summary::state::State;

/// One line in the manner of lovely-tensors.
pub(crate) fn line(state: &State) -> String {
    let s = &state.summary;
    let counts = &s.stats.counts;
    let name = match s.seen {
        Seen::Nothing => "empty",
        Seen::Several => "mixed",
        Seen::One(dtype) => dtype.short(),
    };
    let mut text = match &state.shape {
        Shape::One(shape) => format!("{name}{:?} n={}", &**shape, counts.total()),
        _ => format!("{name} n={}", counts.total()),
    };
    if counts.finite() > 0 {
        let (min, max) = (s.min(), s.max());
        // What was counted on a device, or read back, left no samples: a picture of the rest would mislead.
        let whole = state.sketch.count() >= counts.total();
        let bars = if whole { state.sketch.sparkline(min.to_f64(), max.to_f64()) } else { String::new() };
        let range = if bars.is_empty() {
            format!("{}, {}", short(min), short(max))
        } else {
            format!("{} {bars} {}", short(min), short(max))
        };
        text.extend([" x∈[", &range, "] μ=", &short_float(s.mean()), " σ=", &short_float(s.std(0.0))]);
    }
    if counts.zero > 0 {
        text.extend([" zero=", &short_float(100.0 * counts.zero as f64 / counts.total() as f64), "%"]);
    }
    // Loud on purpose.
    for (label, n) in [("NaN", counts.nan), ("+inf", counts.posinf), ("-inf", counts.neginf)] {
        if n > 0 {
            text.extend([" ", label, "=", &n.to_string(), "!"]);
        }
    }
    if counts.subnormal > 0 {
        text.extend([" subnormal=", &counts.subnormal.to_string()]);
    }
    text
}

fn short(number: Number) -> String {
    match number {
        Number::Int(n) => n.to_string(),
        Number::Float(x) => short_float(x),
    }
}

/// Three significant digits, scientific only where the plain form would be long.
fn short_float(x: f64) -> String {
    if x == 0.0 {
        return "0".to_owned();
    }
    if !x.is_finite() {
        return x.to_string();
    }
    let magnitude = x.abs();
    if (0.001..100_000.0).contains(&magnitude) {
        let decimals = (2 - magnitude.log10().floor() as i32).clamp(0, 5) as usize;
        let text = format!("{x:.decimals$}");
        let trimmed = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        trimmed.to_owned()
    } else {
        format!("{x:.2e}")
    }
}
