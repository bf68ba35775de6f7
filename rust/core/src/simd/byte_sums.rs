//! Owns what is summed over 8-bit values. Everything is a whole number, so any way of counting that is
//! right gives the same bits.

use crate::dtype::element::{Bool, Class, Element, F8E4M3FN, F8E5M2};
use crate::state::stats::Counts;

/// One-byte elements: a finite value is a whole number of units of `2^EXPONENT`.
pub trait Code: Element {
    /// Exponent of the unit: that of the smallest subnormal.
    const EXPONENT: i32;
    /// How a byte is to be read.
    const FORM: Form;
}

/// Families of one-byte elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Unsigned integers.
    Unsigned,
    /// Two's complement.
    Signed,
    /// Zero or not.
    Bool,
    /// Sign and magnitude.
    Float {
        /// Bits of mantissa.
        mantissa: u8,
        /// Finite magnitudes are below this one.
        first_infinite: u8,
        /// NaN magnitudes start here.
        first_nan: u8,
    },
}

impl Form {
    /// A magnitude of a float in units of its smallest subnormal; 0 where it is not finite. Integers are their own magnitude.
    pub const fn units(self, magnitude: u8) -> u64 {
        match self {
            Self::Float { mantissa, first_infinite, .. } => {
                let hidden = 1 << mantissa;
                if magnitude >= first_infinite {
                    0
                } else if magnitude < hidden {
                    magnitude as u64
                } else {
                    ((hidden | (magnitude & (hidden - 1))) as u64) << ((magnitude >> mantissa) - 1)
                }
            }
            _ => magnitude as u64,
        }
    }
}

impl Code for u8 {
    const EXPONENT: i32 = 0;
    const FORM: Form = Form::Unsigned;
}

impl Code for i8 {
    const EXPONENT: i32 = 0;
    const FORM: Form = Form::Signed;
}

impl Code for Bool {
    const EXPONENT: i32 = 0;
    const FORM: Form = Form::Bool;
}

impl Code for F8E4M3FN {
    const EXPONENT: i32 = -9;
    const FORM: Form = Form::Float { mantissa: 3, first_infinite: 0x7f, first_nan: 0x7f };
}

impl Code for F8E5M2 {
    const EXPONENT: i32 = -16;
    const FORM: Form = Form::Float { mantissa: 2, first_infinite: 0x7c, first_nan: 0x7d };
}

/// The element with the given bits.
#[inline]
pub fn element_of_code<E: Code>(code: u8) -> E {
    const { assert!(size_of::<E>() == 1) };
    // SAFETY: `E` is one byte wide (checked above) and valid for every bit pattern (the contract of `Element`).
    unsafe { core::mem::transmute_copy(&code) }
}

/// The value in units; 0 for anything that is not finite.
#[inline]
pub fn units<E: Code>(code: u8) -> i64 {
    match E::FORM {
        Form::Unsigned => i64::from(code),
        Form::Signed => i64::from(code as i8),
        Form::Bool => i64::from(code != 0),
        Form::Float { .. } => {
            let magnitude = E::FORM.units(code & 0x7f) as i64;
            if code >> 7 == 1 { -magnitude } else { magnitude }
        }
    }
}

/// Whether the element is a number.
pub fn is_finite<E: Element>(element: E) -> bool {
    matches!(element.class(), Class::Zero | Class::Negative | Class::Positive)
}

/// Sums over at most [`crate::kernel::grid::CHUNK`] values, in units. Units are below 2^32, so every sum is far inside its type.
#[derive(Clone, Copy, Debug)]
pub struct ByteSums {
    /// Class counts.
    pub counts: Counts,
    /// Sum of values.
    pub sum: i64,
    /// Sum of magnitudes.
    pub l1: i64,
    /// Sum of squares.
    pub squares: i128,
    /// Smallest and largest value and smallest non-zero magnitude; at the far end where there is none.
    pub min: i64,
    /// See `min`.
    pub max: i64,
    /// See `min`.
    pub absmin: i64,
}

impl ByteSums {
    /// The sums of no values.
    pub const EMPTY: Self = Self {
        counts: Counts { nan: 0, posinf: 0, neginf: 0, zero: 0, negative: 0, positive: 0, subnormal: 0 },
        sum: 0,
        l1: 0,
        squares: 0,
        min: i64::MAX,
        max: i64::MIN,
        absmin: i64::MAX,
    };

    /// Takes in `count` values with the same code.
    #[inline]
    pub fn add_code<E: Code>(&mut self, code: u8, count: u32) {
        let element = element_of_code::<E>(code);
        let n = u64::from(count);
        match element.class() {
            Class::Nan => self.counts.nan += n,
            Class::PosInf => self.counts.posinf += n,
            Class::NegInf => self.counts.neginf += n,
            Class::Zero => self.counts.zero += n,
            Class::Negative => self.counts.negative += n,
            Class::Positive => self.counts.positive += n,
        }
        if !is_finite(element) {
            return;
        }
        self.counts.subnormal += if element.is_subnormal() { n } else { 0 };
        let (units, weight) = (units::<E>(code), i64::from(count));
        self.sum += units * weight;
        self.l1 += units.abs() * weight;
        self.squares += i128::from(units) * i128::from(units * weight);
        self.min = self.min.min(units);
        self.max = self.max.max(units);
        self.absmin = if units == 0 { self.absmin } else { self.absmin.min(units.abs()) };
    }
}
