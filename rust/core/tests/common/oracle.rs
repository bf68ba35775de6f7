//! Owns the obviously right answers: every sum of powers exactly, as whole numbers grouped by exponent. Knows nothing of kernels.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use num_bigint::BigInt;
use tensorstats_core::state::stats::Counts;
use tensorstats_core::{Dtype, Number};

use super::decode::{Finite, Value, decode};
use super::fraction::Fraction;

/// What is known of a set of values.
pub(crate) struct Oracle {
    pub(crate) counts: Counts,
    pub(crate) min: Option<Number>,
    pub(crate) max: Option<Number>,
    pub(crate) absmax: Option<Number>,
    pub(crate) absmin: Option<Number>,
    pub(crate) sum: Fraction,
    pub(crate) l1: Fraction,
    /// Sums of second, third and fourth powers.
    pub(crate) powers: [Fraction; 3],
    values: Vec<f64>,
}

/// Sums of mantissas and their powers, of values with one exponent.
#[derive(Default)]
struct Mantissas {
    sum: i128,
    magnitudes: i128,
    squares: BigInt,
    cubes: BigInt,
    fourths: BigInt,
}

impl Oracle {
    pub(crate) fn of(bits: &[u64], dtype: Dtype) -> Self {
        Self::of_values(bits.iter().map(|&b| decode(b, dtype)))
    }

    pub(crate) fn of_values(values: impl IntoIterator<Item = Value>) -> Self {
        let mut counts = Counts::default();
        let mut finite: Vec<Finite> = Vec::new();
        for value in values {
            match value {
                Value::Nan => counts.nan += 1,
                Value::PosInf => counts.posinf += 1,
                Value::NegInf => counts.neginf += 1,
                Value::Finite(x) => {
                    match x.mantissa.cmp(&0) {
                        Ordering::Less => counts.negative += 1,
                        Ordering::Equal => counts.zero += 1,
                        Ordering::Greater => counts.positive += 1,
                    }
                    counts.subnormal += u64::from(x.subnormal);
                    finite.push(x);
                }
            }
        }
        let mut by_exponent: BTreeMap<i32, Mantissas> = BTreeMap::new();
        for x in &finite {
            let sums = by_exponent.entry(x.exponent).or_default();
            let square = BigInt::from(x.mantissa) * x.mantissa;
            sums.sum += x.mantissa;
            sums.magnitudes += x.mantissa.abs();
            sums.cubes += &square * x.mantissa;
            sums.fourths += &square * &square;
            sums.squares += square;
        }
        let total = |power: i64, part: &dyn Fn(&Mantissas) -> BigInt| {
            let lowest = by_exponent.keys().next().map_or(0, |&e| i64::from(e));
            let sum = by_exponent.iter().map(|(&e, m)| part(m) << (power * (i64::from(e) - lowest)) as u64).sum();
            Fraction::dyadic(sum, power * lowest)
        };
        let numbers = || finite.iter().map(|x| x.number);
        Self {
            counts,
            min: numbers().reduce(|a, b| if less(b, a) { b } else { a }),
            max: numbers().reduce(|a, b| if less(a, b) { b } else { a }),
            absmax: numbers().map(magnitude).reduce(|a, b| if less(a, b) { b } else { a }),
            absmin: numbers()
                .map(magnitude)
                .filter(|x| x.to_f64() != 0.0)
                .reduce(|a, b| if less(b, a) { b } else { a }),
            sum: total(1, &|m| m.sum.into()),
            l1: total(1, &|m| m.magnitudes.into()),
            powers: [
                total(2, &|m| m.squares.clone()),
                total(3, &|m| m.cubes.clone()),
                total(4, &|m| m.fourths.clone()),
            ],
            values: numbers().map(Number::to_f64).collect(),
        }
    }

    /// How many values are finite.
    pub(crate) fn n(&self) -> u64 {
        self.counts.finite()
    }

    pub(crate) fn is_constant(&self) -> bool {
        self.n() > 0 && self.min == self.max
    }

    /// Sums of second, third and fourth powers of differences from the mean, from the raw sums: exact, so nothing cancels.
    pub(crate) fn central(&self) -> [Fraction; 3] {
        let n = self.n();
        let mean = self.sum.over(n);
        let [s2, s3, s4] = &self.powers;
        let times = |k: i64, x: Fraction| Fraction::whole(k).times(&x);
        let mean2 = mean.square();
        let m2 = s2.minus(&self.sum.square().over(n));
        let m3 = s3.minus(&times(3, mean.times(s2))).plus(&times(2, self.sum.times(&mean2)));
        let m4 = s4
            .minus(&times(4, mean.times(s3)))
            .plus(&times(6, mean2.times(s2)))
            .minus(&times(3, self.sum.times(&mean2).times(&mean)));
        [m2, m3, m4]
    }

    /// `E|x - mean|^3 / std^3`, the scale of an error of the skewness. A float is exact enough for a tolerance.
    pub(crate) fn absolute_third_moment(&self) -> f64 {
        let n = self.n() as f64;
        // Halved twice, so that the widest range has a width.
        let unit = self.absmax.map_or(1.0, Number::to_f64);
        let mean = self.sum.over(self.n()).ratio(&Fraction::of(unit));
        let (mut second, mut third) = (0.0, 0.0);
        for x in &self.values {
            let d = (x / unit - mean).abs();
            second += d * d / n;
            third += d * d * d / n;
        }
        third / (second * second.sqrt())
    }
}

fn magnitude(x: Number) -> Number {
    match x {
        Number::Int(n) => Number::Int(n.abs()),
        Number::Float(x) => Number::Float(x.abs()),
    }
}

/// Exact comparison, across integers and floats too.
fn less(a: Number, b: Number) -> bool {
    let exact = |x: Number| match x {
        Number::Int(n) => Fraction::whole(n),
        Number::Float(x) => Fraction::of(x),
    };
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => a < b,
        (Number::Float(a), Number::Float(b)) => a < b,
        _ => !exact(b).at_most(&exact(a)),
    }
}
