//! Owns how the sums over 8-bit values become [`Stats`].

use crate::number::Number;
use crate::number::double::{Double, scalb};
use crate::simd::byte_sums::{ByteSums, Code};
use crate::state::stats::{Extremes, Stats};

impl ByteSums {
    /// The statistics, without third and fourth moments. The variance comes from integers: `n Σx² - (Σx)²` is below 2^96.
    pub fn stats<E: Code>(&self) -> Stats {
        let mut stats = Stats { counts: self.counts, ..Stats::default() };
        let n = i128::from(self.counts.finite());
        if n == 0 {
            return stats;
        }
        let integer = E::DTYPE.is_integer();
        let number = |units: i64| {
            if integer { Number::Int(i128::from(units)) } else { Number::Float(scalb(units as f64, E::EXPONENT)) }
        };
        let absmin = (self.absmin < i64::MAX).then(|| number(self.absmin));
        stats.extremes = Some(Extremes { min: number(self.min), max: number(self.max), absmin });
        let (sum, l1) = (i128::from(self.sum), i128::from(self.l1));
        if integer {
            stats.int_sum = sum;
            stats.int_l1 = l1;
        } else {
            stats.sum = Double::from_i128(sum).scaled(E::EXPONENT);
            stats.l1 = Double::from_i128(l1).scaled(E::EXPONENT);
        }
        stats.squares = Double::from_i128(self.squares).scaled(2 * E::EXPONENT);
        let spread = Double::from_i128(n * self.squares - sum * sum).divided_by(n as f64);
        stats.m2 = spread.scaled(2 * E::EXPONENT);
        stats
    }
}
