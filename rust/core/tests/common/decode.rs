//! Owns what bit patterns mean, from the field widths of each format alone. Knows nothing of the crate's own element types.

use tensorstats_core::{Dtype, Number};

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Nan,
    PosInf,
    NegInf,
    Finite(Finite),
}

/// `mantissa * 2^exponent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Finite {
    pub(crate) mantissa: i128,
    pub(crate) exponent: i32,
    pub(crate) subnormal: bool,
    /// The same value as a number: exact, a zero is +0.
    pub(crate) number: Number,
}

/// Field widths of a float format: exponent bits, mantissa bits, and whether the top exponent is kept for infinity and NaN (all but
/// e4m3fn, which only gives up the all-ones pattern).
pub(crate) fn float_format(dtype: Dtype) -> Option<(u32, u32, bool)> {
    match dtype {
        Dtype::F16 => Some((5, 10, true)),
        Dtype::Bf16 => Some((8, 7, true)),
        Dtype::F32 => Some((8, 23, true)),
        Dtype::F64 => Some((11, 52, true)),
        Dtype::F8E4M3FN => Some((4, 3, false)),
        Dtype::F8E5M2 => Some((5, 2, true)),
        _ => None,
    }
}

/// The value of the low `8 * size` bits.
pub(crate) fn decode(bits: u64, dtype: Dtype) -> Value {
    match float_format(dtype) {
        Some((exponent_bits, mantissa_bits, ieee)) => decode_float(bits, exponent_bits, mantissa_bits, ieee),
        None => decode_integer(bits, dtype),
    }
}

fn decode_integer(bits: u64, dtype: Dtype) -> Value {
    let whole = match dtype {
        Dtype::Bool => i128::from(bits != 0),
        Dtype::I8 => i128::from(bits as u8 as i8),
        Dtype::I16 => i128::from(bits as u16 as i16),
        Dtype::I32 => i128::from(bits as u32 as i32),
        Dtype::I64 => i128::from(bits as i64),
        _ => i128::from(bits),
    };
    Value::Finite(Finite { mantissa: whole, exponent: 0, subnormal: false, number: Number::Int(whole) })
}

fn decode_float(bits: u64, exponent_bits: u32, mantissa_bits: u32, ieee: bool) -> Value {
    let fraction = bits & ((1 << mantissa_bits) - 1);
    let field = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
    let negative = bits >> (mantissa_bits + exponent_bits) == 1;
    let top = (1 << exponent_bits) - 1;
    if field == top && ieee {
        return match (fraction, negative) {
            (0, false) => Value::PosInf,
            (0, true) => Value::NegInf,
            _ => Value::Nan,
        };
    }
    if field == top && fraction == (1 << mantissa_bits) - 1 {
        return Value::Nan;
    }
    let bias = (1 << (exponent_bits - 1)) - 1;
    let subnormal = field == 0 && fraction != 0;
    let magnitude = if field == 0 { fraction } else { fraction | 1 << mantissa_bits };
    let exponent = (field as i32).max(1) - bias - mantissa_bits as i32;
    let signed = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    // Exact: every format fits f64, and both powers of two are normal numbers.
    let half = exponent / 2;
    let float = signed as f64 * 2_f64.powi(half) * 2_f64.powi(exponent - half);
    Value::Finite(Finite { mantissa: signed, exponent, subnormal, number: Number::Float(float + 0.0) })
}
