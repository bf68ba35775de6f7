//! Owns a handful of sampled values, enough to draw a sparkline in a repr. Not a statistic: nothing is computed from it.

use crate::double::scalb;
use crate::element::Element;
use crate::view::TensorView;
use crate::with_element;

/// Values kept: few enough to read for every call, enough for a sparkline of ten bars.
pub const SAMPLES: usize = 64;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Up to [`SAMPLES`] values, evenly spread over what was counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sketch {
    values: [f32; SAMPLES],
    len: usize,
    /// How many values the samples stand for.
    count: u64,
}

impl Default for Sketch {
    fn default() -> Self {
        Self { values: [0.0; SAMPLES], len: 0, count: 0 }
    }
}

impl Sketch {
    /// Samples a tensor.
    pub fn of(view: &TensorView<'_>) -> Self {
        with_element!(view.dtype(), E => Self::of_elements::<E>(view))
    }

    fn of_elements<E: Element>(view: &TensorView<'_>) -> Self {
        let walk = view.memory_order();
        let count = walk.count();
        let wanted = count.min(SAMPLES as u64);
        let mut sketch = Self { count, ..Self::default() };
        if wanted == 0 {
            return sketch;
        }
        let mut stage = Vec::new();
        let dense = walk.as_dense().map(<*const u8>::cast::<E>);
        // Sample `i` is number `i * count / wanted`, counted up in whole steps and parts of `wanted`: a division costs more than the rest.
        let (step, part) = (count / wanted, count % wanted);
        let (mut at, mut parts) = (0, 0);
        for _ in 0..wanted {
            let p = match dense {
                Some(first) => first.wrapping_add(at as usize),
                // SAFETY: the walk belongs to the borrowed view, and `at` is below `count`.
                None => unsafe { walk.dense::<E>(at, 1, &mut stage) },
            };
            // SAFETY: `at` is below `count`, so that either way `p` is one readable element.
            sketch.push(unsafe { p.read_unaligned() }.to_f64());
            at += step;
            parts += part;
            if parts >= wanted {
                parts -= wanted;
                at += 1;
            }
        }
        sketch
    }

    /// From values that were sampled elsewhere and stand for `count` values.
    pub fn from_values(values: impl IntoIterator<Item = f64>, count: u64) -> Self {
        let mut sketch = Self { count, ..Self::default() };
        for x in values {
            sketch.push(x);
        }
        sketch
    }

    fn push(&mut self, x: f64) {
        if self.len < SAMPLES && x.is_finite() {
            self.values[self.len] = x.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
            self.len += 1;
        }
    }

    /// The sampled values.
    pub fn values(&self) -> &[f32] {
        &self.values[..self.len]
    }

    /// How many values the samples stand for.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Samples of both sets, each in proportion to what it stands for.
    pub fn merge(&mut self, other: &Self) {
        let count = self.count + other.count;
        if self.len + other.len <= SAMPLES {
            for &x in other.values() {
                self.push(f64::from(x));
            }
        } else {
            let share = (SAMPLES as f64 * self.count as f64 / count as f64).round() as usize;
            let mine = share.clamp(SAMPLES.saturating_sub(other.len), self.len);
            let theirs = SAMPLES - mine;
            let mut values = [0.0; SAMPLES];
            for (i, slot) in values.iter_mut().enumerate() {
                *slot = if i < mine {
                    self.values[i * self.len / mine]
                } else {
                    other.values[(i - mine) * other.len / theirs]
                };
            }
            self.values = values;
            self.len = SAMPLES;
        }
        self.count = count;
    }

    /// Bars of how often values fall into equal parts of `[min, max]`; empty when there is no range to draw.
    pub fn sparkline(&self, min: f64, max: f64) -> String {
        const PARTS: usize = 10;
        // Halves, so that the width of the widest range is still a number.
        let width = scalb(max, -1) - scalb(min, -1);
        if self.len == 0 || !width.is_finite() || width <= 0.0 {
            return String::new();
        }
        let mut bins = [0_usize; PARTS];
        for &x in self.values() {
            let part = (scalb(f64::from(x), -1) - scalb(min, -1)) / width * PARTS as f64;
            bins[(part.max(0.0) as usize).min(PARTS - 1)] += 1;
        }
        let top = bins.iter().copied().max().unwrap_or(1);
        bins.iter().map(|&n| if n == 0 { '▁' } else { BARS[(n * 7).div_ceil(top).min(7)] }).collect()
    }
}
