//! Owns the element types and what their bits mean. Knows nothing of memory layout or SIMD registers.

use crate::dtype::Dtype;

/// The class of one value; the first six add up to every value there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Not a number.
    Nan,
    /// Positive infinity.
    PosInf,
    /// Negative infinity.
    NegInf,
    /// +0 or -0.
    Zero,
    /// Finite and below zero.
    Negative,
    /// Finite and above zero.
    Positive,
}

/// One value type as stored in memory.
///
/// # Safety
/// `Self` must be valid for every bit pattern of `size_of::<Self>()` bytes, so that tensors can be read without checks.
pub unsafe trait Element: Copy + Send + Sync + 'static {
    /// The dtype of this element.
    const DTYPE: Dtype;

    /// The value as a float: exact for every dtype except integers beyond 2^53, which round to nearest.
    fn to_f64(self) -> f64;

    /// The value as an integer, when the dtype is one.
    fn to_i128(self) -> i128 {
        0
    }

    /// The class, from the bits.
    fn class(self) -> Class;

    /// Whether the value is a subnormal of its own format.
    fn is_subnormal(self) -> bool {
        false
    }
}

/// The class of a float given as sign bit and magnitude bits.
#[inline(always)]
const fn class_of_bits(negative: bool, magnitude: u64, infinity: u64) -> Class {
    if magnitude > infinity {
        Class::Nan
    } else if magnitude == infinity {
        if negative { Class::NegInf } else { Class::PosInf }
    } else if magnitude == 0 {
        Class::Zero
    } else if negative {
        Class::Negative
    } else {
        Class::Positive
    }
}

/// IEEE half precision, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct F16(pub u16);

impl F16 {
    /// The exact value as `f32`.
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        // Shift exponent and mantissa into f32 position, then multiply by 2^112: exact for normals and subnormals alike.
        let magnitude = u32::from(self.0 & 0x7fff) << 13;
        let rebias = f32::from_bits(0x7780_0000);
        let mut bits = (f32::from_bits(magnitude) * rebias).to_bits();
        if self.0 & 0x7c00 == 0x7c00 {
            bits = 0x7f80_0000 | magnitude;
        }
        f32::from_bits(bits | (u32::from(self.0 & 0x8000) << 16))
    }
}

/// The upper half of an `f32`, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

/// OCP 8-bit float with four exponent bits, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct F8E4M3FN(pub u8);

/// OCP 8-bit float with five exponent bits, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct F8E5M2(pub u8);

/// A boolean byte; anything but zero counts as true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bool(pub u8);

// SAFETY: every bit pattern is a valid u16.
unsafe impl Element for F16 {
    const DTYPE: Dtype = Dtype::F16;

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self.to_f32())
    }

    #[inline(always)]
    fn class(self) -> Class {
        class_of_bits(self.0 >> 15 == 1, u64::from(self.0 & 0x7fff), 0x7c00)
    }

    #[inline(always)]
    fn is_subnormal(self) -> bool {
        (1..0x0400).contains(&(self.0 & 0x7fff))
    }
}

// SAFETY: every bit pattern is a valid u16.
unsafe impl Element for Bf16 {
    const DTYPE: Dtype = Dtype::Bf16;

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(f32::from_bits(u32::from(self.0) << 16))
    }

    #[inline(always)]
    fn class(self) -> Class {
        class_of_bits(self.0 >> 15 == 1, u64::from(self.0 & 0x7fff), 0x7f80)
    }

    #[inline(always)]
    fn is_subnormal(self) -> bool {
        (1..0x0080).contains(&(self.0 & 0x7fff))
    }
}

// SAFETY: every bit pattern is a valid f32.
unsafe impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn class(self) -> Class {
        class_of_bits(self.to_bits() >> 31 == 1, u64::from(self.to_bits() & 0x7fff_ffff), 0x7f80_0000)
    }

    #[inline(always)]
    fn is_subnormal(self) -> bool {
        (1..0x0080_0000).contains(&(self.to_bits() & 0x7fff_ffff))
    }
}

// SAFETY: every bit pattern is a valid f64.
unsafe impl Element for f64 {
    const DTYPE: Dtype = Dtype::F64;

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn class(self) -> Class {
        class_of_bits(self.to_bits() >> 63 == 1, self.to_bits() & (u64::MAX >> 1), 0x7ff0_0000_0000_0000)
    }

    #[inline(always)]
    fn is_subnormal(self) -> bool {
        (1..0x0010_0000_0000_0000).contains(&(self.to_bits() & (u64::MAX >> 1)))
    }
}

// SAFETY: every bit pattern is a valid u8.
unsafe impl Element for F8E4M3FN {
    const DTYPE: Dtype = Dtype::F8E4M3FN;

    #[inline(always)]
    fn to_f64(self) -> f64 {
        let magnitude = u64::from(self.0 & 0x7f);
        let value = if magnitude == 0x7f {
            f64::NAN
        } else if magnitude < 8 {
            // Subnormal: mantissa times 2^-9.
            magnitude as f64 / 512.0
        } else {
            // Exponent bias 7 becomes 1023.
            f64::from_bits((magnitude << 49) + (1016 << 52))
        };
        if self.0 >> 7 == 1 { -value } else { value }
    }

    #[inline(always)]
    fn class(self) -> Class {
        // No infinities: the one magnitude above the largest number is NaN.
        match self.0 & 0x7f {
            0x7f => Class::Nan,
            0 => Class::Zero,
            _ if self.0 >> 7 == 1 => Class::Negative,
            _ => Class::Positive,
        }
    }

    #[inline(always)]
    fn is_subnormal(self) -> bool {
        (1..0x08).contains(&(self.0 & 0x7f))
    }
}

// SAFETY: every bit pattern is a valid u8.
unsafe impl Element for F8E5M2 {
    const DTYPE: Dtype = Dtype::F8E5M2;

    #[inline(always)]
    fn to_f64(self) -> f64 {
        // The format is the high byte of an IEEE half.
        F16(u16::from(self.0) << 8).to_f64()
    }

    #[inline(always)]
    fn class(self) -> Class {
        class_of_bits(self.0 >> 7 == 1, u64::from(self.0 & 0x7f), 0x7c)
    }

    #[inline(always)]
    fn is_subnormal(self) -> bool {
        (1..0x04).contains(&(self.0 & 0x7f))
    }
}

// SAFETY: every bit pattern is a valid u8; zero is false, the rest true.
unsafe impl Element for Bool {
    const DTYPE: Dtype = Dtype::Bool;

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self.0 != 0))
    }

    #[inline(always)]
    fn to_i128(self) -> i128 {
        i128::from(self.0 != 0)
    }

    #[inline(always)]
    fn class(self) -> Class {
        if self.0 == 0 { Class::Zero } else { Class::Positive }
    }
}

macro_rules! integer_element {
    ($($type:ty => $dtype:ident),*) => {$(
        // SAFETY: every bit pattern is a valid integer.
        unsafe impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;

            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn to_i128(self) -> i128 {
                i128::from(self)
            }

            #[inline(always)]
            #[allow(unused_comparisons, reason = "one body for signed and unsigned types")]
            fn class(self) -> Class {
                if self == 0 {
                    Class::Zero
                } else if self < 0 {
                    Class::Negative
                } else {
                    Class::Positive
                }
            }
        }
    )*};
}
integer_element!(u8 => U8, u16 => U16, u32 => U32, u64 => U64, i8 => I8, i16 => I16, i32 => I32, i64 => I64);

/// Runs an expression with `$E` bound to the [`Element`] of a runtime dtype. The only place where a dtype becomes a type.
#[macro_export]
macro_rules! with_element {
    ($dtype:expr, $E:ident => $body:expr) => {
        match $dtype {
            $crate::Dtype::Bool => {
                type $E = $crate::dtype::element::Bool;
                $body
            }
            $crate::Dtype::U8 => {
                type $E = u8;
                $body
            }
            $crate::Dtype::U16 => {
                type $E = u16;
                $body
            }
            $crate::Dtype::U32 => {
                type $E = u32;
                $body
            }
            $crate::Dtype::U64 => {
                type $E = u64;
                $body
            }
            $crate::Dtype::I8 => {
                type $E = i8;
                $body
            }
            $crate::Dtype::I16 => {
                type $E = i16;
                $body
            }
            $crate::Dtype::I32 => {
                type $E = i32;
                $body
            }
            $crate::Dtype::I64 => {
                type $E = i64;
                $body
            }
            $crate::Dtype::F16 => {
                type $E = $crate::dtype::element::F16;
                $body
            }
            $crate::Dtype::Bf16 => {
                type $E = $crate::dtype::element::Bf16;
                $body
            }
            $crate::Dtype::F32 => {
                type $E = f32;
                $body
            }
            $crate::Dtype::F64 => {
                type $E = f64;
                $body
            }
            $crate::Dtype::F8E4M3FN => {
                type $E = $crate::dtype::element::F8E4M3FN;
                $body
            }
            $crate::Dtype::F8E5M2 => {
                type $E = $crate::dtype::element::F8E5M2;
                $body
            }
        }
    };
}
