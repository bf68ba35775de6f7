//! Owns sums carried as an unevaluated pair of `f64`, about 106 bits. Knows nothing of tensors.
//!
//! Error-free transformations after Knuth (`TwoSum`) and Dekker; addition of pairs as in Hida, Li and Bailey's accurate form.

/// `hi + lo`, with `|lo|` at most half a unit in the last place of `hi`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Double {
    /// The rounded value.
    pub hi: f64,
    /// What rounding left over.
    pub lo: f64,
}

/// `a + b` as rounded sum and exact remainder.
#[inline(always)]
pub fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    let a_part = sum - b_part;
    (sum, (a - a_part) + (b - b_part))
}

/// As [`two_sum`], for `|a| >= |b|`.
#[inline(always)]
fn quick_two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    (sum, b - (sum - a))
}

impl Double {
    /// Zero.
    pub const ZERO: Self = Self { hi: 0.0, lo: 0.0 };

    /// A pair from any two numbers.
    #[inline]
    pub fn new(a: f64, b: f64) -> Self {
        let (hi, lo) = two_sum(a, b);
        Self { hi, lo: if hi.is_finite() { lo } else { 0.0 } }
    }

    /// An integer, exact up to 106 bits.
    pub fn from_i128(n: i128) -> Self {
        let hi = n as f64;
        // `hi` may round up to 2^127, which saturates here; the remainder is then off by one, far below the pair's precision.
        Self::new(hi, (n - hi as i128) as f64)
    }

    /// Sum of two pairs.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "a named step reads better beside `times` and `divided_by`")]
    pub fn add(self, other: Self) -> Self {
        let (s, e) = two_sum(self.hi, other.hi);
        if !s.is_finite() {
            return Self { hi: s, lo: 0.0 };
        }
        let (t, f) = two_sum(self.lo, other.lo);
        let (s, e) = quick_two_sum(s, e + t);
        let (hi, lo) = quick_two_sum(s, e + f);
        Self { hi, lo }
    }

    /// The pair with opposite sign.
    #[inline]
    pub fn negate(self) -> Self {
        Self { hi: -self.hi, lo: -self.lo }
    }

    /// Product with an integer below 2^53, to about 104 bits.
    pub fn times(self, n: f64) -> Self {
        let (p, e) = two_product(self.hi, n);
        if !p.is_finite() {
            return Self { hi: p, lo: 0.0 };
        }
        let (hi, lo) = quick_two_sum(p, e + self.lo * n);
        Self { hi, lo }
    }

    /// Quotient by a non-zero number, to about 104 bits.
    pub fn divided_by(self, n: f64) -> Self {
        let q = self.hi / n;
        if !q.is_finite() {
            return Self { hi: q, lo: 0.0 };
        }
        let (p, e) = two_product(q, n);
        let rest = ((self.hi - p) - e) + self.lo;
        let (hi, lo) = quick_two_sum(q, rest / n);
        Self { hi, lo }
    }

    /// The pair times 2^k.
    pub fn scaled(self, k: i32) -> Self {
        if k == 0 { self } else { Self { hi: scalb(self.hi, k), lo: scalb(self.lo, k) } }
    }

    /// Rounded to one `f64`.
    #[inline]
    pub fn value(self) -> f64 {
        self.hi + self.lo
    }
}

/// `a * b` as rounded product and exact remainder (Dekker's splitting, so that no fused instruction is needed).
#[inline]
fn two_product(a: f64, b: f64) -> (f64, f64) {
    let p = a * b;
    let (ah, al) = split(a);
    let (bh, bl) = split(b);
    let e = ((ah * bh - p) + ah * bl + al * bh) + al * bl;
    (p, if e.is_finite() { e } else { 0.0 })
}

/// Upper and lower half of the mantissa.
#[inline]
fn split(a: f64) -> (f64, f64) {
    // 2^27 + 1 cuts 53 bits into 26 and 27.
    let c = 134_217_729.0 * a;
    let high = c - (c - a);
    (high, a - high)
}

/// `x * 2^k` without overflow on the way, for any `k`.
pub fn scalb(x: f64, k: i32) -> f64 {
    let mut x = x;
    let mut k = k;
    // Powers of two between 2^-1022 and 2^1023 are normal numbers; more than that goes in steps.
    while k > 1023 {
        x *= f64::from_bits(2046 << 52);
        k -= 1023;
    }
    while k < -969 {
        // Steps of 2^-969 keep a halfway result from being rounded twice: it stays 53 bits above the subnormal range.
        x *= f64::from_bits((1023 - 969) << 52);
        k += 969;
    }
    x * f64::from_bits(((1023 + k) as u64) << 52)
}

/// The exponent `e` with `2^e <= |x| < 2^(e+1)`, for finite non-zero `x`.
pub fn exponent(x: f64) -> i32 {
    let field = ((x.to_bits() >> 52) & 0x7ff) as i32;
    if field == 0 {
        // Subnormal: the position of the top bit counts from 2^-1074.
        let mantissa = x.to_bits() & ((1 << 52) - 1);
        63 - mantissa.leading_zeros() as i32 - 1074
    } else {
        field - 1023
    }
}
