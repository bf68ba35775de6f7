//! Owns a number that is an exact integer or a float, as the dtype demands. Knows nothing of tensors.

pub mod double;
pub mod environment;
pub(crate) mod text;

use core::cmp::Ordering;

/// A value of an integer dtype, kept whole, or of a float dtype.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// From an integer or boolean dtype.
    Int(i128),
    /// From a float dtype; never NaN inside a state.
    Float(f64),
}

impl Number {
    /// The nearest float.
    pub fn to_f64(self) -> f64 {
        match self {
            Self::Int(n) => n as f64,
            Self::Float(x) => x,
        }
    }

    /// The magnitude.
    pub fn abs(self) -> Self {
        match self {
            Self::Int(n) => Self::Int(n.saturating_abs()),
            Self::Float(x) => Self::Float(x.abs()),
        }
    }

    /// Exact comparison, integers against floats included.
    #[inline]
    pub fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            (Self::Float(a), Self::Float(b)) => order(a).cmp(&order(b)),
            (Self::Int(a), Self::Float(b)) => compare_int(a, b),
            (Self::Float(a), Self::Int(b)) => compare_int(b, a).reverse(),
        }
    }

    /// The smaller of two.
    #[inline]
    pub fn min(self, other: Self) -> Self {
        if other.compare(self) == Ordering::Less { other } else { self }
    }

    /// The larger of two.
    #[inline]
    pub fn max(self, other: Self) -> Self {
        if other.compare(self) == Ordering::Greater { other } else { self }
    }
}

/// A number that orders like `x`, from its bits: whether subnormals are read as zeros does not matter, and -0 equals +0.
#[inline]
fn order(x: f64) -> i64 {
    let bits = x.to_bits() as i64;
    if bits < 0 { -(bits & i64::MAX) } else { bits }
}

/// An integer against a float that is not NaN.
fn compare_int(a: i128, b: f64) -> Ordering {
    // 2^127: beyond it no i128 can be larger in magnitude.
    const LIMIT: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    if b >= LIMIT {
        return Ordering::Less;
    }
    if b < -LIMIT {
        return Ordering::Greater;
    }
    // The largest integer that is not above `b`, and whether `b` is more than it. Fractions between -1 and 1 may be subnormal.
    let (whole, more) = if order(b) > order(-1.0) && order(b) < order(1.0) {
        (if order(b) < 0 { -1 } else { 0 }, order(b) != 0)
    } else {
        (b.floor() as i128, b > b.floor())
    };
    match a.cmp(&whole) {
        Ordering::Equal if more => Ordering::Less,
        order => order,
    }
}
