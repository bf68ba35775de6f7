//! Owns the float type that every dtype is looked at as by histograms, units and checks. Knows nothing of what is counted.
//!
//! Every dtype of at most 16 bits is exact in `f32`; the others are looked at as `f64`. Only 64-bit integers beyond 2^53 do not fit
//! there: they are cut towards zero, which keeps their top 53 bits.

use crate::dtype::element::{Bf16, Bool, Element, F8E4M3FN, F8E5M2, F16};
use crate::simd::keys::FloatKeys;
use crate::simd::lanes::WideFloat;
use crate::simd::scaled::Scaled;

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
