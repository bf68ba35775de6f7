//! Owns the question what would become of values in a narrower format: the thresholds, in exact arithmetic, and the counts. Knows nothing
//! of tensors or threads.
//!
//! A value is multiplied by a scale exactly and then rounded once, to nearest, ties to even. Whether it overflows, becomes subnormal or
//! becomes zero depends on its magnitude alone and never falls as that grows. So for each dtype there is a last magnitude that does not
//! overflow, and so on; they are found by bisection over the bits, and values are compared with them as integers.

use core::cmp::Ordering;

use crate::dtype::{Dtype, Kind};
use crate::error::{Error, Result};
use crate::number::Number;
use crate::number::double::{exponent, scalb};
use crate::state::stats::Counts;

/// The formats that can be asked about, in the order they are kept in.
pub const FORMATS: [Dtype; 4] = [Dtype::F8E4M3FN, Dtype::F8E5M2, Dtype::F16, Dtype::Bf16];

/// What the magnitudes of a dtype mean: bits without the sign for floats, the number itself for integers.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Explicit bits of the mantissa; `None` for integers.
    mantissa: Option<u32>,
    bias: i32,
    /// The largest finite magnitude.
    largest: u64,
}

/// `mantissa * 2^exponent`.
#[derive(Clone, Copy, Debug)]
struct Exact {
    mantissa: u128,
    exponent: i32,
}

impl Exact {
    fn compare(self, other: Self) -> Ordering {
        let key = |x: Self| {
            let zeros = x.mantissa.leading_zeros();
            // The exponent of the leading bit, then what follows it; nothing is below zero.
            (x.mantissa != 0).then(|| (x.exponent - zeros as i32, x.mantissa << zeros))
        };
        key(self).cmp(&key(other))
    }
}

impl Layout {
    const fn of(dtype: Dtype) -> Self {
        let largest = dtype.largest();
        match dtype.kind() {
            Kind::Float { mantissa, bias, .. } => Self { mantissa: Some(mantissa), bias, largest },
            _ => Self { mantissa: None, bias: 0, largest },
        }
    }

    /// The value of a magnitude.
    fn exact(self, magnitude: u64) -> Exact {
        let Some(bits) = self.mantissa else { return Exact { mantissa: u128::from(magnitude), exponent: 0 } };
        let (field, fraction) = ((magnitude >> bits) as i32, u128::from(magnitude & ((1 << bits) - 1)));
        // The subnormals have the exponent of the first normal numbers and no hidden bit.
        let hidden = if field == 0 { 0 } else { 1 << bits };
        Exact { mantissa: hidden | fraction, exponent: field.max(1) - self.bias - bits as i32 }
    }

    /// Whether a value rounds to this magnitude of this format or a smaller one.
    fn rounds_down_to(self, magnitude: u64, value: Exact) -> bool {
        let Exact { mantissa, exponent } = self.exact(magnitude);
        let halfway = Exact { mantissa: 2 * mantissa + 1, exponent: exponent - 1 };
        match value.compare(halfway) {
            Ordering::Less => true,
            Ordering::Equal => magnitude.is_multiple_of(2),
            Ordering::Greater => false,
        }
    }
}

/// The last magnitudes of a dtype that, scaled and rounded to a format, are zero, are not normal, are finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Beyond it, something other than zero is left.
    pub zero: u64,
    /// Beyond it, at least the smallest normal number is left.
    pub subnormal: u64,
    /// Beyond it, the format overflows.
    pub finite: u64,
}

impl Limits {
    /// Of magnitudes of `dtype` times `scale`, which is finite and above zero, in `format`, which is a float.
    pub fn of(dtype: Dtype, format: Dtype, scale: f64) -> Self {
        let (from, to) = (Layout::of(dtype), Layout::of(format));
        let factor = Layout::of(Dtype::F64).exact(scale.to_bits());
        let last_that_rounds_to = |target: u64| {
            let holds = |magnitude: u64| {
                let value = from.exact(magnitude);
                // At most 64 and 53 bits.
                let mantissa = value.mantissa * factor.mantissa;
                to.rounds_down_to(target, Exact { mantissa, exponent: value.exponent + factor.exponent })
            };
            // Zero holds whatever the scale is.
            let (mut low, mut high) = (0, from.largest);
            while low < high {
                let middle = high - (high - low) / 2;
                if holds(middle) {
                    low = middle;
                } else {
                    high = middle - 1;
                }
            }
            low
        };
        let first_normal = 1 << to.mantissa.unwrap_or(0);
        Self {
            zero: last_that_rounds_to(0),
            subnormal: last_that_rounds_to(first_normal - 1),
            finite: last_that_rounds_to(to.largest),
        }
    }

    /// In the order of the counts below.
    pub fn each(self) -> [u64; 3] {
        [self.zero, self.subnormal, self.finite]
    }
}

/// The value of a magnitude, for comparison with extremes.
pub(crate) fn value_of(dtype: Dtype, magnitude: u64) -> Number {
    let layout = Layout::of(dtype);
    match (dtype, layout.mantissa) {
        (_, None) => Number::Int(i128::from(magnitude)),
        (Dtype::F64, _) => Number::Float(f64::from_bits(magnitude)),
        _ => {
            let Exact { mantissa, exponent } = layout.exact(magnitude);
            Number::Float(scalb(mantissa as f64, exponent))
        }
    }
}

/// The smallest normal number of a float dtype.
pub(crate) fn smallest_normal(dtype: Dtype) -> f64 {
    scalb(1.0, 1 - Layout::of(dtype).bias)
}

/// Whether a dtype has this very value.
pub(crate) fn holds(dtype: Dtype, x: Number) -> bool {
    let layout = Layout::of(dtype);
    let largest = value_of(dtype, layout.largest);
    match (x, layout.mantissa) {
        (Number::Int(n), None) => {
            let signed = dtype.kind() == Kind::Signed;
            let lowest = if signed { -i128::from(layout.largest) } else { 0 };
            // The largest magnitude of a signed dtype is that of its smallest number.
            (lowest..=i128::from(layout.largest) - i128::from(signed)).contains(&n)
        }
        (Number::Float(x), Some(bits)) if x.is_finite() && Number::Float(x).abs().compare(largest).is_le() => {
            // Every finite number is one of f64.
            let step = exponent(x).max(1 - layout.bias) - bits as i32;
            dtype == Dtype::F64 || scalb(x, -step).fract() == 0.0
        }
        _ => false,
    }
}

/// How many finite values other than zero would change their class in one format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Misfits {
    /// Would be infinite, or NaN where the format has no infinity.
    pub overflow: u64,
    /// Would be subnormal.
    pub subnormal: u64,
    /// Would be zero.
    pub flushed: u64,
}

impl Misfits {
    /// From how many values are beyond each of [`Limits`].
    pub(crate) fn from_beyond([zero, subnormal, finite]: [u64; 3], nonzero: u64) -> Self {
        // Saturating: memory that somebody writes to meanwhile may be seen in two states.
        Self { overflow: finite, subnormal: zero.saturating_sub(subnormal), flushed: nonzero.saturating_sub(zero) }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.overflow = self.overflow.saturating_add(other.overflow);
        self.subnormal = self.subnormal.saturating_add(other.subnormal);
        self.flushed = self.flushed.saturating_add(other.flushed);
    }

    pub(crate) fn total(&self) -> u64 {
        self.overflow.saturating_add(self.subnormal).saturating_add(self.flushed)
    }
}

/// Counts for some formats and one scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Fits {
    scale: f64,
    formats: Vec<(Dtype, Misfits)>,
}

/// What a set of values would be in one format. The last six counts add up to the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The format.
    pub format: Dtype,
    /// What values are multiplied by.
    pub scale: f64,
    /// All values.
    pub count: u64,
    /// NaN and infinities, before any conversion.
    pub nonfinite: u64,
    /// Finite values that would overflow.
    pub overflow: u64,
    /// Would be normal numbers.
    pub normal: u64,
    /// Would be subnormal.
    pub subnormal: u64,
    /// Are not zero but would be.
    pub flushed: u64,
    /// Are zero.
    pub zero: u64,
}

impl Fits {
    /// Empty counts for these formats; one that is given twice is kept once.
    pub fn new(formats: &[Dtype], scale: f64) -> Result<Self> {
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::Argument(format!("scale must be finite and above 0, got: {scale}")));
        }
        if let Some(other) = formats.iter().find(|format| !FORMATS.contains(format)) {
            return Err(not_a_format(other.name()));
        }
        let kept = FORMATS.into_iter().filter(|format| formats.contains(format));
        Ok(Self { scale, formats: kept.map(|format| (format, Misfits::default())).collect() })
    }

    /// With counts that came from outside, one for each of its formats.
    pub fn with_counts(mut self, misfits: &[(Dtype, Misfits)]) -> Result<Self> {
        let alike = misfits.len() == self.formats.len();
        for (format, mine) in &mut self.formats {
            match misfits.iter().find(|(other, _)| other == format) {
                Some((_, theirs)) if alike => *mine = *theirs,
                _ => return Err(Error::Bytes("a Summary names a format twice; it was damaged".to_owned())),
            }
        }
        Ok(self)
    }

    /// The same formats and scale, nothing counted.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let formats = self.formats.iter().map(|&(format, _)| (format, Misfits::default())).collect();
        Self { scale: self.scale, formats }
    }

    /// What values are multiplied by.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Each format and its counts.
    pub fn formats(&self) -> &[(Dtype, Misfits)] {
        &self.formats
    }

    /// The limits of each format for values of a dtype.
    pub fn limits(&self, dtype: Dtype) -> Vec<Limits> {
        self.formats.iter().map(|&(format, _)| Limits::of(dtype, format, self.scale)).collect()
    }

    /// Adds counts of each format, in order.
    pub(crate) fn add(&mut self, misfits: &[Misfits]) {
        for ((_, mine), theirs) in self.formats.iter_mut().zip(misfits) {
            mine.add(theirs);
        }
    }

    /// Whether scale and formats are the same.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.scale == other.scale
            && self.formats.iter().map(|(format, _)| format).eq(other.formats.iter().map(|(format, _)| format))
    }

    /// Takes in the counts of other values, for the same formats.
    pub(crate) fn merge(&mut self, other: &Self) {
        for ((_, mine), (_, theirs)) in self.formats.iter_mut().zip(&other.formats) {
            mine.add(theirs);
        }
    }

    /// For error messages.
    pub(crate) fn shown(fits: Option<&Self>) -> String {
        match fits {
            Some(fits) => format!("{} (scale {})", fits.names().join(", "), fits.scale),
            None => "none".to_owned(),
        }
    }

    /// The names of the formats.
    pub fn names(&self) -> Vec<&'static str> {
        self.formats.iter().map(|(format, _)| format.name()).collect()
    }

    /// What the values of a summary with these counts would be in `format`.
    pub(crate) fn fit(&self, format: Dtype, counts: &Counts) -> Option<Fit> {
        let (_, misfits) = self.formats.iter().find(|&&(kept, _)| kept == format)?;
        let nonzero = counts.negative + counts.positive;
        Some(Fit {
            format,
            scale: self.scale,
            count: counts.total(),
            nonfinite: counts.total() - counts.finite(),
            overflow: misfits.overflow,
            normal: nonzero.saturating_sub(misfits.total()),
            subnormal: misfits.subnormal,
            flushed: misfits.flushed,
            zero: counts.zero,
        })
    }
}

/// The error for a format that cannot be asked about.
pub fn not_a_format(name: &str) -> Error {
    let accepted = FORMATS.map(Dtype::name).join(", ");
    Error::Argument(format!("format must be one of {accepted}; got: {name}"))
}
