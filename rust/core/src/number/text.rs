//! Owns numbers and bars in few characters, for one-line forms. Knows nothing of what they say.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One bar each; whatever is not nothing can be seen.
pub(crate) fn bars(parts: &[f64]) -> String {
    let top = parts.iter().copied().fold(0.0, f64::max);
    let bar = |&n: &f64| if n == 0.0 { BARS[0] } else { BARS[((n * 7.0 / top).ceil() as usize).clamp(1, 7)] };
    parts.iter().map(bar).collect()
}

/// A number in few characters.
pub(crate) fn short(x: f64) -> String {
    if x == 0.0 || (1e-3..1e5).contains(&x.abs()) {
        let text = format!("{x:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{x:.2e}")
    }
}
