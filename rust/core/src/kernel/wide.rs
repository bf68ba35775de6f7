//! Owns the two float types that histograms, units and checks look at elements as. Knows nothing of what is counted.
//!
//! Every dtype of at most 16 bits is exact in `f32`; the others are looked at as `f64`. Only 64-bit integers beyond 2^53 do not fit
//! there: they are cut towards zero, which keeps their top 53 bits.

use super::bins_linear::Scaled;
use super::lanes::{Lanes, WideFloat, Widen};
use super::sift::FloatKeys;
use crate::element::{Bf16, Bool, Element, F8E4M3FN, F8E5M2, F16};
use crate::level::{Kernel, Level};

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

/// An element and the float type it is looked at as.
pub trait AsWide: Element {
    /// `f32` where that is exact, else `f64`.
    type Wide: Scaled + FloatKeys + WideFloat;
    /// The value; 64-bit integers beyond 2^53 are cut towards zero.
    fn wide(self) -> Self::Wide;
    /// The value; 64-bit integers beyond 2^53 are rounded to the nearest.
    fn nearest(self) -> Self::Wide {
        self.wide()
    }
    /// Whether there are values that do not fit the wide type.
    const MAY_BE_CUT: bool = false;
    /// Whether this is one of them.
    fn is_cut(self) -> bool {
        false
    }
    /// The distance from the type's smallest value, for types that have such values.
    fn above_smallest(self) -> u64 {
        0
    }
    /// Mantissa bits that a bin needs to hold a single value of this dtype; more than any axis has where none does.
    const BITS: u8;
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

macro_rules! as_wide {
    ($($type:ty => $wide:ty, $bits:expr, $x:ident => $body:expr;)*) => {$(
        impl AsWide for $type {
            type Wide = $wide;
            const BITS: u8 = $bits;

            #[inline(always)]
            fn wide(self) -> $wide {
                let $x = self;
                $body
            }
        }
    )*};
}

/// No axis has as many mantissa bits.
const NEVER: u8 = u8::MAX;

macro_rules! as_wide_64 {
    ($($type:ty, $x:ident => $magnitude:expr, $body:expr;)*) => {$(
        impl AsWide for $type {
            type Wide = f64;
            const MAY_BE_CUT: bool = true;
            const BITS: u8 = NEVER;

            #[inline(always)]
            fn is_cut(self) -> bool {
                let $x = self;
                cut($magnitude) != $magnitude
            }

            #[inline(always)]
            fn nearest(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn above_smallest(self) -> u64 {
                self.wrapping_sub(<$type>::MIN) as u64
            }

            #[inline(always)]
            fn wide(self) -> f64 {
                let $x = self;
                $body
            }
        }
    )*};
}

as_wide_64! {
    u64, x => x, cut(x) as f64;
    i64, x => x.unsigned_abs(), {
        let magnitude = cut(x.unsigned_abs()) as f64;
        if x < 0 { -magnitude } else { magnitude }
    };
}

as_wide! {
    f32 => f32, NEVER, x => x;
    f64 => f64, NEVER, x => x;
    F16 => f32, 10, x => x.to_f32();
    Bf16 => f32, 7, x => f32::from_bits(u32::from(x.0) << 16);
    F8E4M3FN => f32, 3, x => e4m3_to_f32(x.0);
    F8E5M2 => f32, 2, x => F16(u16::from(x.0) << 8).to_f32();
    Bool => f32, 0, x => f32::from(u8::from(x.0 != 0));
    u8 => f32, 7, x => f32::from(x);
    i8 => f32, 6, x => f32::from(x);
    u16 => f32, NEVER, x => f32::from(x);
    i16 => f32, NEVER, x => f32::from(x);
    u32 => f64, NEVER, x => f64::from(x);
    i32 => f64, NEVER, x => f64::from(x);
}

/// The top 53 bits of a number, which `f64` holds exactly.
#[inline(always)]
fn cut(x: u64) -> u64 {
    let surplus = 11_u32.saturating_sub(x.leading_zeros());
    (x >> surplus) << surplus
}

/// Without a branch: exponent and mantissa moved to where `f32` has them, times 2^120 for the difference of biases.
#[inline(always)]
fn e4m3_to_f32(bits: u8) -> f32 {
    let magnitude = f32::from_bits(u32::from(bits & 0x7f) << 20) * f32::from_bits((120 + 127) << 23);
    let value = if bits & 0x7f == 0x7f { f32::NAN } else { magnitude };
    f32::from_bits(value.to_bits() | (u32::from(bits & 0x80) << 24))
}

/// Runs `f` with denormals counted as numbers, whatever the caller's floating-point mode is.
pub fn in_standard_mode<R>(f: impl FnOnce() -> R) -> R {
    Level::PORTABLE.run(Call(f))
}

struct Call<F>(F);

impl<R, F: FnOnce() -> R> Kernel for Call<F> {
    type Output = R;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> R {
        (self.0)()
    }
}
