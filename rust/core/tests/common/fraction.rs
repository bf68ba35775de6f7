//! Owns exact fractions, kept unreduced: plain arithmetic that nobody has to trust. Knows nothing of statistics.

use num_bigint::{BigInt, Sign};

/// `numerator / denominator`, the denominator positive.
#[derive(Clone, Debug)]
pub(crate) struct Fraction {
    numerator: BigInt,
    denominator: BigInt,
}

impl Fraction {
    pub(crate) fn zero() -> Self {
        Self::whole(0)
    }

    pub(crate) fn whole(n: impl Into<BigInt>) -> Self {
        Self { numerator: n.into(), denominator: BigInt::from(1) }
    }

    /// `n * 2^exponent`.
    pub(crate) fn dyadic(n: BigInt, exponent: i64) -> Self {
        let one = BigInt::from(1);
        if exponent < 0 {
            Self { numerator: n, denominator: one << (-exponent) as u64 }
        } else {
            Self { numerator: n << exponent as u64, denominator: one }
        }
    }

    /// A finite float, exactly.
    pub(crate) fn of(x: f64) -> Self {
        assert!(x.is_finite(), "only a finite float is a fraction, got: {x}");
        let bits = x.to_bits();
        let field = (bits >> 52 & 0x7ff) as i64;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, exponent) = if field == 0 { (fraction, -1074) } else { (fraction | 1 << 52, field - 1075) };
        let mantissa = BigInt::from(mantissa);
        Self::dyadic(if bits >> 63 == 1 { -mantissa } else { mantissa }, exponent)
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            numerator: &self.numerator * &other.denominator + &other.numerator * &self.denominator,
            denominator: &self.denominator * &other.denominator,
        }
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        self.plus(&Self { numerator: -&other.numerator, denominator: other.denominator.clone() })
    }

    pub(crate) fn times(&self, other: &Self) -> Self {
        Self { numerator: &self.numerator * &other.numerator, denominator: &self.denominator * &other.denominator }
    }

    pub(crate) fn over(&self, n: u64) -> Self {
        Self { numerator: self.numerator.clone(), denominator: &self.denominator * n }
    }

    pub(crate) fn square(&self) -> Self {
        self.times(self)
    }

    pub(crate) fn abs(&self) -> Self {
        Self { numerator: BigInt::from(self.numerator.magnitude().clone()), denominator: self.denominator.clone() }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.numerator.sign() == Sign::NoSign
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.numerator.sign() == Sign::Minus
    }

    /// Whether `self <= other`.
    pub(crate) fn at_most(&self, other: &Self) -> bool {
        &self.numerator * &other.denominator <= &other.numerator * &self.denominator
    }

    /// `self / other` as a float, to some 60 bits; for scales and messages, and where 1e-15 is exact enough.
    pub(crate) fn ratio(&self, other: &Self) -> f64 {
        let quotient = Self {
            numerator: &self.numerator * &other.denominator,
            denominator: &self.denominator * BigInt::from(other.numerator.magnitude().clone()),
        };
        if other.is_negative() { -quotient.to_f64() } else { quotient.to_f64() }
    }

    /// The nearest float but for the last bit; infinite beyond the range.
    pub(crate) fn to_f64(&self) -> f64 {
        if self.is_zero() {
            return 0.0;
        }
        // 64 bits of quotient, then a power of two.
        let shift = self.denominator.bits() as i64 - self.numerator.bits() as i64 + 64;
        let (n, d) = if shift < 0 {
            (self.numerator.clone(), &self.denominator << (-shift) as u64)
        } else {
            (&self.numerator << shift as u64, self.denominator.clone())
        };
        let quotient: BigInt = n / d;
        let magnitude =
            quotient.magnitude().iter_u64_digits().rev().fold(0.0, |x, digit| x * 2_f64.powi(64) + digit as f64);
        let sign = if self.is_negative() { -1.0 } else { 1.0 };
        // In two steps, so that neither power of two leaves the range while the product is inside.
        let half = -shift / 2;
        sign * magnitude * power_of_two(half) * power_of_two(-shift - half)
    }
}

/// `2^k`, zero or infinite outside the range of floats.
fn power_of_two(k: i64) -> f64 {
    2_f64.powi(k.clamp(-1100, 1100) as i32)
}
