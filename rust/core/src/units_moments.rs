//! Owns the mean and spread of one unit and the rule for merging two of them. Knows nothing of memory.

use crate::double::{Double, exponent, scalb};

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

impl Moments {
    /// From sums of differences from a shift, and whether they lost too many digits.
    pub fn from_sums(count: u64, shift: f64, sum: f64, squares: f64, scale: i32) -> (Self, bool) {
        if count == 0 {
            return (Self::default(), false);
        }
        let n = count as f64;
        let offset = Double { hi: sum, lo: 0.0 }.divided_by(n);
        let m2 = squares - sum * offset.hi;
        let mean = Double { hi: shift, lo: 0.0 }.add(offset);
        // Not `m2 * CANCELLATION < squares`: infinities and NaN are bad too.
        let good = m2 * CANCELLATION >= squares && mean.hi.is_finite();
        (Self { count, mean, m2: m2.max(0.0), scale }, !good)
    }

    /// Takes in the moments of other values (the formula of Chan, Golub and `LeVeque`).
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let scale = match (self.mean.hi == 0.0 && self.m2 == 0.0, other.mean.hi == 0.0 && other.m2 == 0.0) {
            (true, false) => other.scale,
            (false, true) => self.scale,
            _ => self.scale.max(other.scale),
        };
        let (a, b) = (self.rescaled(scale), other.rescaled(scale));
        let count = a.count.wrapping_add(b.count);
        let (na, nb, n) = (a.count as f64, b.count as f64, count as f64);
        let delta = b.mean.add(a.mean.negate());
        let step = delta.value() * (nb / n);
        *self = Self {
            count,
            mean: if delta.hi == 0.0 { a.mean } else { a.mean.add(delta.times(nb).divided_by(n)) },
            m2: a.m2 + b.m2 + delta.value() * step * na,
            scale,
        };
    }

    fn rescaled(&self, scale: i32) -> Self {
        let k = self.scale - scale;
        if k == 0 { *self } else { Self { mean: self.mean.scaled(k), m2: scalb(self.m2, 2 * k), scale, ..*self } }
    }

    /// The mean; NaN of nothing.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.mean.scaled(self.scale).value() }
    }

    /// The population standard deviation; NaN of nothing.
    pub fn std(&self) -> f64 {
        if self.count == 0 { f64::NAN } else { scalb((self.m2 / self.count as f64).max(0.0).sqrt(), self.scale) }
    }
}
