//! Owns the one list of dtypes and the one dispatch macro over it. Knows nothing of memory or kernels.

pub mod element;

use crate::error::{Error, Result};

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $short:literal, $bytes:literal, $kind:expr;)*) => {
        /// Element types that tensorstats reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Dtype { $($(#[$doc])* $variant = $code,)* }

        impl Dtype {
            /// Every dtype, in the order of the list.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name that numpy, torch and `ml_dtypes` use.
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $name),* } }

            /// The short form used in one-line reprs, such as `f32`.
            pub const fn short(self) -> &'static str { match self { $(Self::$variant => $short),* } }

            /// Size of one element in bytes.
            pub const fn size(self) -> usize { match self { $(Self::$variant => $bytes),* } }

            /// Whether elements are floats, integers or booleans, and what their magnitudes are.
            pub const fn kind(self) -> Kind { match self { $(Self::$variant => $kind),* } }
        }
    };
}

/// The family of a dtype; decides which results are exact integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IEEE-like floats, 8-bit ones included: a sign, an exponent and a mantissa, in this order.
    Float {
        /// Explicit bits of the mantissa.
        mantissa: u32,
        /// What is taken off the bits of the exponent.
        bias: i32,
        /// The bits of the largest finite number.
        largest: u64,
    },
    /// Two's complement.
    Signed,
    /// Zero and above.
    Unsigned,
    /// `false` counts as 0 and `true` as 1.
    Bool,
}
use Kind::{Bool, Signed, Unsigned};

const fn float(mantissa: u32, bias: i32, largest: u64) -> Kind {
    Kind::Float { mantissa, bias, largest }
}

dtypes! {
    /// One byte, zero or one.
    Bool = 0, "bool", "bool", 1, Bool;
    /// Unsigned 8-bit.
    U8 = 1, "uint8", "u8", 1, Unsigned;
    /// Unsigned 16-bit.
    U16 = 2, "uint16", "u16", 2, Unsigned;
    /// Unsigned 32-bit.
    U32 = 3, "uint32", "u32", 4, Unsigned;
    /// Unsigned 64-bit.
    U64 = 4, "uint64", "u64", 8, Unsigned;
    /// Signed 8-bit.
    I8 = 5, "int8", "i8", 1, Signed;
    /// Signed 16-bit.
    I16 = 6, "int16", "i16", 2, Signed;
    /// Signed 32-bit.
    I32 = 7, "int32", "i32", 4, Signed;
    /// Signed 64-bit.
    I64 = 8, "int64", "i64", 8, Signed;
    /// IEEE half precision.
    F16 = 9, "float16", "f16", 2, float(10, 15, 0x7bff);
    /// The upper half of an f32.
    Bf16 = 10, "bfloat16", "bf16", 2, float(7, 127, 0x7f7f);
    /// IEEE single precision.
    F32 = 11, "float32", "f32", 4, float(23, 127, 0x7f7f_ffff);
    /// IEEE double precision.
    F64 = 12, "float64", "f64", 8, float(52, 1023, 0x7fef_ffff_ffff_ffff);
    /// OCP 8-bit float, 4 exponent bits, no infinities, one NaN magnitude.
    F8E4M3FN = 13, "float8_e4m3fn", "f8e4m3", 1, float(3, 7, 0x7e);
    /// OCP 8-bit float, 5 exponent bits, IEEE-like.
    F8E5M2 = 14, "float8_e5m2", "f8e5m2", 1, float(2, 15, 0x7b);
}

impl Dtype {
    /// Finds a dtype by its name.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|d| d.name() == name)
            .ok_or_else(|| Error::UnknownDtype { name: name.to_owned(), accepted: Self::names().join(", ") })
    }

    /// Finds a dtype by its code in the serialised form.
    pub fn from_code(code: u8) -> Result<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|&d| d as u8 == code)
            .ok_or_else(|| Error::Bytes(format!("unknown dtype code in serialised state: {code}")))
    }

    /// The names of all dtypes, for error messages.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|d| d.name()).collect()
    }

    /// Whether results such as min and sum are whole numbers.
    pub const fn is_integer(self) -> bool {
        !matches!(self.kind(), Kind::Float { .. })
    }

    /// The largest finite magnitude: bits without the sign for floats, the number itself for integers.
    pub const fn largest(self) -> u64 {
        let bits = 8 * self.size() as u32;
        match self.kind() {
            Kind::Float { largest, .. } => largest,
            Kind::Signed => 1 << (bits - 1),
            Kind::Unsigned => u64::MAX >> (u64::BITS - bits),
            Kind::Bool => 1,
        }
    }

    /// The bits of infinity, where a dtype has one: those after the largest finite number, with an empty mantissa.
    pub const fn infinity(self) -> Option<u64> {
        match self.kind() {
            Kind::Float { mantissa, largest, .. } if (largest + 1).trailing_zeros() >= mantissa => Some(largest + 1),
            _ => None,
        }
    }
}
