//! Owns what is known of the bits of the two float types that histograms, units and checks look at. Knows no other dtype.

use crate::simd::lanes::Widen;

/// `f32` or `f64`.
pub trait Wide: Widen + PartialOrd {
    /// Explicit bits of the mantissa.
    const MANTISSA: u32;
    /// What turns the exponent field into an octave: the number of the power of two, counted from 2^-1074.
    const OCTAVE_BIAS: i32;
    /// Magnitude bits of the smallest normal number.
    const MIN_NORMAL: u64;
    /// Magnitude bits of infinity.
    const INFINITY: u64;
    /// Positive infinity.
    const INF: Self;
    /// Negative infinity.
    const NEG_INF: Self;
    /// Zero.
    const ZERO: Self;
    /// Not a number, which is equal to nothing and below nothing.
    const NAN: Self;
    /// The bits without the sign.
    fn magnitude(self) -> u64;
    /// The value without the sign.
    fn abs(self) -> Self;
    /// Leading bits of the magnitude, counted from `base`, wrapping.
    fn leading(self, shift: u32, base: u32) -> u32;
    /// Whether the sign bit is set.
    fn is_negative(self) -> bool;
    /// Whether it is not a number.
    #[expect(clippy::eq_op, reason = "only NaN differs from itself")]
    #[inline(always)]
    fn is_nan(self) -> bool {
        self != self
    }
    /// The smallest value of this type that is at least `x`.
    fn at_least(x: f64) -> Self;
    /// The largest value of this type that is at most `x`.
    fn at_most(x: f64) -> Self;
    /// The non-negative value of magnitude bits.
    fn of_magnitude(bits: u64) -> Self;
    /// The next value of this type.
    fn next_up(self) -> Self;
    /// The value with the other sign.
    fn negate(self) -> Self;
}

impl Wide for f32 {
    const MANTISSA: u32 = 23;
    const OCTAVE_BIAS: i32 = 1074 - 127;
    const MIN_NORMAL: u64 = 0x0080_0000;
    const INFINITY: u64 = 0x7f80_0000;

    #[inline(always)]
    fn magnitude(self) -> u64 {
        u64::from(self.to_bits() & 0x7fff_ffff)
    }

    #[inline(always)]
    fn is_negative(self) -> bool {
        self.is_sign_negative()
    }

    const INF: Self = f32::INFINITY;
    const NEG_INF: Self = f32::NEG_INFINITY;
    const ZERO: Self = 0.0;
    const NAN: Self = f32::NAN;

    #[inline(always)]
    fn abs(self) -> Self {
        f32::abs(self)
    }

    #[inline(always)]
    fn leading(self, shift: u32, base: u32) -> u32 {
        ((self.to_bits() & 0x7fff_ffff) >> shift).wrapping_sub(base)
    }

    fn at_least(x: f64) -> Self {
        let nearest = x as f32;
        if f64::from(nearest) < x { nearest.next_up() } else { nearest }
    }

    fn at_most(x: f64) -> Self {
        -Self::at_least(-x)
    }

    fn of_magnitude(bits: u64) -> Self {
        f32::from_bits(bits as u32)
    }

    fn next_up(self) -> Self {
        f32::next_up(self)
    }

    fn negate(self) -> Self {
        -self
    }
}

impl Wide for f64 {
    const MANTISSA: u32 = 52;
    const OCTAVE_BIAS: i32 = 1074 - 1023;
    const MIN_NORMAL: u64 = 1 << 52;
    const INFINITY: u64 = 0x7ff << 52;

    #[inline(always)]
    fn magnitude(self) -> u64 {
        self.to_bits() & (u64::MAX >> 1)
    }

    #[inline(always)]
    fn is_negative(self) -> bool {
        self.is_sign_negative()
    }

    const INF: Self = f64::INFINITY;
    const NEG_INF: Self = f64::NEG_INFINITY;
    const ZERO: Self = 0.0;
    const NAN: Self = f64::NAN;

    #[inline(always)]
    fn abs(self) -> Self {
        f64::abs(self)
    }

    #[inline(always)]
    fn leading(self, shift: u32, base: u32) -> u32 {
        (((self.to_bits() & (u64::MAX >> 1)) >> shift) as u32).wrapping_sub(base)
    }

    fn at_least(x: f64) -> Self {
        x
    }

    fn at_most(x: f64) -> Self {
        x
    }

    fn of_magnitude(bits: u64) -> Self {
        f64::from_bits(bits)
    }

    fn next_up(self) -> Self {
        f64::next_up(self)
    }

    fn negate(self) -> Self {
        -self
    }
}
