//! Owns the keys of floats: unsigned integers that order as the values do. Knows nothing of what is looked for.

use crate::simd::wide::Wide;

/// An unsigned integer that keys are compared as.
pub trait KeyBits: Copy + Default + Ord {
    /// From the form that all keys fit.
    fn narrow(key: u64) -> Self;
    /// The form that all keys fit.
    fn wide(self) -> u64;
    /// One when the key is one of the `width` keys from `low` on, else zero.
    fn inside(self, low: Self, width: Self) -> Self;
    /// Bits of both.
    fn or(self, other: Self) -> Self;
    /// The distance from another key on; wraps around below it.
    fn distance_from(self, low: Self) -> Self;
    /// The largest of all.
    const LAST: Self;
}

macro_rules! key_bits {
    ($($type:ty),*) => {$(
        impl KeyBits for $type {
            #[inline(always)]
            fn narrow(key: u64) -> Self {
                key as $type
            }

            #[inline(always)]
            fn wide(self) -> u64 {
                u64::from(self)
            }

            #[inline(always)]
            fn inside(self, low: Self, width: Self) -> Self {
                <$type>::from(self.wrapping_sub(low) < width)
            }

            #[inline(always)]
            fn or(self, other: Self) -> Self {
                self | other
            }

            #[inline(always)]
            fn distance_from(self, low: Self) -> Self {
                self.wrapping_sub(low)
            }

            const LAST: Self = <$type>::MAX;
        }
    )*};
}
key_bits!(u32, u64);

/// A type whose values have keys.
pub trait Keyed: Copy {
    /// What they are compared as.
    type Key: KeyBits;
    /// The key.
    fn key(self) -> Self::Key;
}

macro_rules! keyed {
    ($($type:ty, $bits:ty;)*) => {$(
        impl Keyed for $type {
            type Key = $bits;

            /// Magnitudes order as their bits do: positive ones go above the middle, negative ones below it in reverse. Beyond the
            /// infinities on either side is NaN.
            #[inline(always)]
            fn key(self) -> $bits {
                const SIGN: $bits = !(<$bits>::MAX >> 1);
                let bits = self.to_bits();
                if bits & SIGN == 0 { bits | SIGN } else { !bits }
            }
        }
    )*};
}
keyed! {
    f32, u32;
    f64, u64;
}

impl Keyed for u64 {
    type Key = Self;

    #[inline(always)]
    fn key(self) -> Self {
        self
    }
}

/// The keys of a float type.
pub trait FloatKeys: Keyed + Wide {
    /// The key of +0.
    const MIDDLE: u64;
    /// The value of a key.
    fn value(key: u64) -> f64;
}

macro_rules! float_keys {
    ($($type:ty, $bits:ty;)*) => {$(
        impl FloatKeys for $type {
            const MIDDLE: u64 = (<$bits>::MAX >> 1) as u64 + 1;

            fn value(key: u64) -> f64 {
                let key = key as $bits;
                let middle = Self::MIDDLE as $bits;
                f64::from(<$type>::from_bits(if key >= middle { key & !middle } else { !key }))
            }
        }
    )*};
}
float_keys! {
    f32, u32;
    f64, u64;
}
