//! Owns a handful of sampled values, enough to draw a sparkline in a repr. Not a statistic: nothing is computed from it.

use crate::dtype::element::Element;
use crate::memory::view::TensorView;
use crate::number::double::scalb;
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

/// Which values are sampled: number `i * count / wanted` for each `i` below `wanted`, counted up in whole steps and parts of `wanted`: a
/// division costs more than the rest.
struct Places {
    wanted: u64,
    left: u64,
    at: u64,
    parts: u64,
    step: u64,
    part: u64,
}

impl Places {
    /// `wanted` of `len` values, at most as many as there are.
    fn of(len: u64, wanted: u64) -> Self {
        let (step, part) = (len.checked_div(wanted).unwrap_or(0), len.checked_rem(wanted).unwrap_or(0));
        Self { wanted, left: wanted, at: 0, parts: 0, step, part }
    }

    /// Those of `count` values that are not before `from`.
    fn new(count: u64, from: u64) -> Self {
        let wanted = count.min(SAMPLES as u64);
        let mut places = Self::of(count, wanted);
        if from > 0 && wanted > 0 {
            let (count, wanted) = (u128::from(count), u128::from(wanted));
            let first = (u128::from(from) * wanted).div_ceil(count).min(wanted);
            places.left -= first as u64;
            places.at = (first * count / wanted) as u64;
            places.parts = (first * count % wanted) as u64;
        }
        places
    }
}

impl Iterator for Places {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let at = self.at;
        self.at += self.step;
        self.parts += self.part;
        if self.parts >= self.wanted {
            self.parts -= self.wanted;
            self.at += 1;
        }
        Some(at)
    }
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
        let mut sketch = Self { count: walk.count(), ..Self::default() };
        let mut stage = Vec::new();
        let dense = walk.as_dense().map(<*const u8>::cast::<E>);
        for at in Places::new(walk.count(), 0) {
            let p = match dense {
                Some(first) => first.wrapping_add(at as usize),
                // SAFETY: the walk belongs to the borrowed view, and places are below its count.
                None => unsafe { walk.dense::<E>(at, 1, &mut stage) },
            };
            // SAFETY: either way `p` is one readable element.
            sketch.push(unsafe { p.read_unaligned() }.to_f64());
        }
        sketch
    }
    /// The samples of a tensor of `count` values that fall into one dense part of its walk, which begins at number `from`.
    ///
    /// # Safety
    /// `p` must be readable for `len` elements; it need not be aligned.
    pub(crate) unsafe fn of_part<E: Element>(count: u64, from: u64, p: *const E, len: usize) -> Self {
        let mut sketch = Self { count: len as u64, ..Self::default() };
        for at in Places::new(count, from).take_while(|at| at - from < len as u64) {
            // SAFETY: `at` is in this part, as the places begin at `from` and were just compared with its end.
            sketch.push(unsafe { p.wrapping_add((at - from) as usize).read_unaligned() }.to_f64());
        }
        sketch
    }

    /// Takes in the samples of the next part of the same tensor.
    pub(crate) fn append(&mut self, part: &Self) {
        for &x in part.values() {
            self.push(f64::from(x));
        }
        self.count += part.count;
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
            // What stands for nearly everything keeps all its samples: the common case of a total that takes in one more step.
            if mine < SAMPLES {
                let mut values = [0.0; SAMPLES];
                let places =
                    Places::of(self.len as u64, mine as u64).chain(Places::of(other.len as u64, theirs as u64));
                let sources =
                    core::iter::repeat_n(&self.values, mine).chain(core::iter::repeat_n(&other.values, theirs));
                for ((slot, at), from) in values.iter_mut().zip(places).zip(sources) {
                    *slot = from[at as usize];
                }
                self.values = values;
                self.len = SAMPLES;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_parts_are_those_of_the_whole() {
        for count in [0_usize, 1, 63, 64, 65, 100, 1000, 4099] {
            let values: Vec<f64> = (0..count).map(|i| i as f64).collect();
            let shape = [count as i64];
            let whole = Sketch::of(&TensorView::from_slice(&values, &shape));
            let obvious: Vec<f32> = (0..count.min(64)).map(|i| (i * count / count.min(64)) as f32).collect();
            assert_eq!(whole.values(), obvious);
            for len in [1, 7, 64, 500, 5000] {
                let mut parts = Sketch::default();
                for (i, part) in values.chunks(len).enumerate() {
                    // SAFETY: a slice is readable.
                    parts
                        .append(&unsafe { Sketch::of_part(count as u64, (i * len) as u64, part.as_ptr(), part.len()) });
                }
                assert_eq!(parts, whole);
            }
        }
    }

    #[test]
    fn a_merge_takes_samples_in_proportion_and_in_even_steps() {
        let some = |len: usize, from: usize, count| Sketch::from_values((from..from + len).map(|i| i as f64), count);
        for (len, count) in [(64, 64), (64, 1000), (40, 1_000_000), (64, 1 << 40), (64, 10)] {
            for (other_len, other_count) in [(64, 64), (30, 30), (64, 5000), (0, 9)] {
                let (mine, theirs) = (some(len, 0, count), some(other_len, 100, other_count));
                let mut merged = mine;
                merged.merge(&theirs);
                let share = (64.0 * count as f64 / (count + other_count) as f64).round() as usize;
                let kept = if len + other_len <= 64 { len } else { share.clamp(64 - other_len, len) };
                let taken = if len + other_len <= 64 { other_len } else { 64 - kept };
                let expected: Vec<f32> = (0..kept)
                    .map(|i| mine.values()[i * len / kept])
                    .chain((0..taken).map(|i| theirs.values()[i * other_len / taken]))
                    .collect();
                assert_eq!(merged.values(), expected);
                assert_eq!(merged.count(), count + other_count);
            }
        }
    }
}
