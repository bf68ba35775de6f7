//! Owns the scaling of floats by powers of two, which bins of such a width are found by. Knows nothing of counts.

use crate::simd::wide::Wide;

/// A float type whose values can be scaled by powers of two.
pub trait Scaled: Wide {
    /// Two factors whose product is 2^-exponent, each a normal number; together they reach further than one.
    fn factors(exponent: i32) -> [Self; 2];
    /// A whole number; exact where it is the number of a bin of such a value.
    fn whole(n: i64) -> Self;
    /// The number of the value's bin less `first`, when it is below `slots`; else `other`.
    fn slot(self, factors: [Self; 2], first: Self, slots: Self, other: u32) -> u32;
}

macro_rules! scaled {
    ($($type:ty, $bits:ty, $bias:literal;)*) => {$(
        impl Scaled for $type {
            fn factors(exponent: i32) -> [Self; 2] {
                let half = -exponent / 2;
                [half, -exponent - half].map(|power| {
                    let field = (power + $bias).clamp(1, 2 * $bias);
                    <$type>::from_bits((field as $bits) << Self::MANTISSA)
                })
            }

            fn whole(n: i64) -> Self {
                n as $type
            }

            #[inline(always)]
            fn slot(self, [one, two]: [Self; 2], first: Self, slots: Self, other: u32) -> u32 {
                let place = (self * one * two).floor();
                // A negative number may become too small to be told from zero.
                let place = if (place == 0.0) & (self < 0.0) { -1.0 } else { place };
                let place = place - first;
                // False for NaN.
                let inside = (place >= 0.0) & (place < slots);
                let place = if inside { place } else { 0.0 };
                // SAFETY: at least zero and below the number of slots, which is at most 2^24.
                let slot = unsafe { place.to_int_unchecked::<i32>() } as u32;
                if inside { slot } else { other }
            }
        }
    )*};
}
scaled! {
    f32, u32, 127;
    f64, u64, 1023;
}
