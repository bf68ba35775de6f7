//! Owns the mean and spread of one unit and the rule for merging two of them. Knows nothing of memory.

use crate::number::double::{Double, exponent, scalb, two_sum};

/// Number, mean and sum of squared differences of finite values, all divided by a power of two that is 1 for ordinary data.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// Finite values.
    pub count: u64,
    /// Mean divided by 2^scale.
    pub mean: Double,
    /// Sum of squared differences from the mean divided by 4^scale.
    pub m2: f64,
    /// Power of two that keeps squares of extreme `f64` data in range.
    pub scale: i32,
}

/// A mean of squares around the shift more than this many times the variance means that the shift was a bad one.
const CANCELLATION: f64 = 1024.0;

/// Magnitudes in `[2^-200, 2^200]` can be squared and added 2^60 times without leaving the range of `f64`.
const SAFE_EXPONENT: i32 = 200;

/// The scale that values of this largest magnitude need.
pub fn scale_for(absmax: f64) -> i32 {
    if absmax > 0.0 && absmax.is_finite() && exponent(absmax).abs() > SAFE_EXPONENT { exponent(absmax) } else { 0 }
}

/// A count as a float. No machine counts to 2^63, and signed integers convert in one instruction.
#[inline(always)]
fn number(count: u64) -> f64 {
    count as i64 as f64
}

impl Moments {
    /// From sums of differences from a shift, and whether they lost too many digits.
    #[inline(always)]
    pub fn from_sums(count: u64, shift: f64, sum: f64, squares: f64, scale: i32) -> (Self, bool) {
        if count == 0 {
            return (Self::default(), false);
        }
        let offset = sum / number(count);
        let m2 = squares - sum * offset;
        // The offset is rounded once, by far less than the sum is in error; where the shift is far greater, the pair keeps its digits.
        let mean = Double::new(shift, offset);
        // Not `m2 * CANCELLATION < squares`: infinities and NaN are bad too.
        let good = m2 * CANCELLATION >= squares && mean.hi.is_finite();
        (Self { count, mean, m2: if m2 > 0.0 { m2 } else { 0.0 }, scale }, !good)
    }

    /// Takes in the moments of other values (the formula of Chan, Golub and `LeVeque`).
    #[inline(always)]
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        if self.scale == other.scale {
            *self = self.merged(other);
        } else {
            self.merge_scaled(other);
        }
    }

    /// Both with values and of one scale.
    ///
    /// The mean is that of the larger part moved by a step: rounding the step to `f64` costs 2^-53 of it, and the step is at most the
    /// standard deviation of all values, so that no number of merges costs the mean more than it costs the deviation.
    #[inline(always)]
    fn merged(&self, other: &Self) -> Self {
        let count = self.count.wrapping_add(other.count);
        let other_is_larger = other.count > self.count;
        let (large, small) = if other_is_larger { (other, self) } else { (self, other) };
        let (delta, rest) = two_sum(small.mean.hi, -large.mean.hi);
        let delta = delta + (rest + (small.mean.lo - large.mean.lo));
        let step = delta * (number(small.count) / number(count));
        let (hi, rest) = two_sum(large.mean.hi, step);
        Self {
            count,
            mean: Double::new(hi, rest + large.mean.lo),
            m2: self.m2 + other.m2 + delta * step * number(large.count),
            scale: self.scale,
        }
    }

    #[cold]
    fn merge_scaled(&mut self, other: &Self) {
        let scale = match (self.mean.hi == 0.0 && self.m2 == 0.0, other.mean.hi == 0.0 && other.m2 == 0.0) {
            (true, false) => other.scale,
            (false, true) => self.scale,
            _ => self.scale.max(other.scale),
        };
        *self = self.rescaled(scale).merged(&other.rescaled(scale));
    }

    fn rescaled(&self, scale: i32) -> Self {
        let k = self.scale - scale;
        if k == 0 { *self } else { Self { mean: self.mean.scaled(k), m2: scalb(self.m2, 2 * k), scale, ..*self } }
    }

    /// The mean; NaN where there are no values.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.mean.scaled(self.scale).value() }
    }

    /// The variance over `count - correction`; NaN where that is not positive.
    pub fn var(&self, correction: f64) -> f64 {
        scalb(self.scaled_var(correction), 2 * self.scale)
    }

    /// The square root of the variance, in range wherever the values are.
    pub fn std(&self, correction: f64) -> f64 {
        scalb(self.scaled_var(correction).sqrt(), self.scale)
    }

    fn scaled_var(&self, correction: f64) -> f64 {
        let divisor = self.count as f64 - correction;
        if self.count > 0 && divisor > 0.0 { (self.m2 / divisor).max(0.0) } else { f64::NAN }
    }
}
