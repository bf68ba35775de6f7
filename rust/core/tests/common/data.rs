//! Owns test data: bit patterns of every dtype and every kind of trouble, each reproducible from the case that is printed on failure.
//! Knows nothing of statistics.

use proptest::prelude::*;
use tensorstats_core::{Dtype, TensorView};

use super::decode::{Value, decode, float_format};

/// What the values look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Every bit pattern is as likely as any other.
    Random,
    /// Mostly NaN, infinities, zeros of both signs, subnormals and extremes.
    Special,
    /// Finite, every exponent as likely as any other.
    Wide,
    /// About normal.
    Normal,
    /// About normal around a centre up to a million spreads away.
    Offset,
    /// One finite value.
    Constant,
    /// One finite value and a few NaN and infinities.
    ConstantWithHoles,
    /// Two finite values.
    Two,
    /// Nine of ten are zeros of either sign.
    Zeros,
    /// Normal, but for one NaN at the end.
    NanLast,
    /// Largest finite values of both signs.
    Huge,
    /// Subnormals of both signs.
    Tiny,
}

pub(crate) const LOOKS: [Look; 12] = [
    Look::Random,
    Look::Special,
    Look::Wide,
    Look::Normal,
    Look::Offset,
    Look::Constant,
    Look::ConstantWithHoles,
    Look::Two,
    Look::Zeros,
    Look::NanLast,
    Look::Huge,
    Look::Tiny,
];

/// Everything that decides the values of a tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) dtype: Dtype,
    pub(crate) look: Look,
    pub(crate) len: usize,
    pub(crate) seed: u64,
}

/// Cases of up to `max_len` values, lengths around those where kernels change their step more often than others.
pub(crate) fn cases(max_len: usize) -> impl Strategy<Value = Case> {
    let dtype = proptest::sample::select(Dtype::ALL);
    let look = proptest::sample::select(&LOOKS[..]);
    (dtype, look, lengths(max_len), any::<u64>()).prop_map(|(dtype, look, len, seed)| Case { dtype, look, len, seed })
}

fn lengths(max_len: usize) -> impl Strategy<Value = usize> {
    const EDGES: [usize; 16] = [0, 1, 2, 15, 16, 17, 31, 32, 33, 2047, 2048, 4095, 4096, 4097, 8191, 8193];
    let edges: Vec<usize> = EDGES.into_iter().filter(|&n| n <= max_len).collect();
    prop_oneof![3 => proptest::sample::select(edges), 2 => 0..=max_len.min(100), 1 => 0..=max_len]
}

/// A small generator (splitmix64): the same numbers on every machine and in every version.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / 2_f64.powi(53)
    }

    /// About standard normal: the sum of twelve uniform numbers.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

impl Case {
    /// One bit pattern per element.
    pub(crate) fn bits(&self) -> Vec<u64> {
        let random = &mut Random(self.seed);
        let dtype = self.dtype;
        let value = finite(random, dtype);
        let other = finite(random, dtype);
        let centre = random.normal() * 10_f64.powf(random.unit() * 6.0);
        (0..self.len)
            .map(|i| match self.look {
                Look::Random => random_pattern(random, dtype),
                Look::Special => special(random, dtype),
                Look::Wide => finite(random, dtype),
                Look::Offset => encode(random.normal() + centre, dtype),
                Look::ConstantWithHoles if random.below(20) == 0 => non_finite(random, dtype).unwrap_or(value),
                Look::Two if random.below(2) == 0 => other,
                Look::Constant | Look::ConstantWithHoles | Look::Two => value,
                Look::Zeros if random.below(10) == 0 => encode(random.normal(), dtype),
                Look::Zeros => sign(random, dtype),
                Look::NanLast if i + 1 == self.len => non_finite(random, dtype).unwrap_or(value),
                Look::Normal | Look::NanLast => encode(random.normal(), dtype),
                Look::Huge => sign(random, dtype) | (largest(dtype) - random.below(2)),
                Look::Tiny => sign(random, dtype) | random.below(subnormals(dtype)),
            })
            .collect()
    }
}

fn width(dtype: Dtype) -> u32 {
    8 * dtype.size() as u32
}

/// A random sign bit; nothing for dtypes without one.
fn sign(random: &mut Random, dtype: Dtype) -> u64 {
    let signed = float_format(dtype).is_some();
    if signed { random.below(2) << (width(dtype) - 1) } else { 0 }
}

/// The pattern of the largest finite value.
fn largest(dtype: Dtype) -> u64 {
    match (float_format(dtype), dtype) {
        (Some((_, mantissa_bits, true)), _) => {
            (((1_u64 << (width(dtype) - 1)) - 1) >> mantissa_bits << mantissa_bits) - 1
        }
        (Some(_), _) => 0x7e,
        (None, Dtype::Bool) => 1,
        (None, Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64) => (1 << (width(dtype) - 1)) - 1,
        (None, _) => u64::MAX >> (64 - width(dtype)),
    }
}

/// The pattern of the smallest value of an integer dtype.
fn smallest(dtype: Dtype) -> u64 {
    match dtype {
        Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => 1 << (width(dtype) - 1),
        _ => 0,
    }
}

/// How many patterns hold zero or a positive subnormal; for integers two.
fn subnormals(dtype: Dtype) -> u64 {
    float_format(dtype).map_or(2, |(_, mantissa_bits, _)| 1 << mantissa_bits)
}

fn random_pattern(random: &mut Random, dtype: Dtype) -> u64 {
    if dtype == Dtype::Bool { random.below(2) } else { random.bits() >> (64 - width(dtype)) }
}

/// A finite value of any magnitude.
fn finite(random: &mut Random, dtype: Dtype) -> u64 {
    loop {
        // Integers of every length too, not only the long ones a uniform choice gives.
        let narrow = if float_format(dtype).is_none() && dtype != Dtype::Bool {
            random.below(u64::from(width(dtype)))
        } else {
            0
        };
        let pattern = random_pattern(random, dtype) >> narrow;
        if matches!(decode(pattern, dtype), Value::Finite(_)) {
            return pattern;
        }
    }
}

fn non_finite(random: &mut Random, dtype: Dtype) -> Option<u64> {
    let (_, _, ieee) = float_format(dtype)?;
    let top = largest(dtype) + 1;
    Some(sign(random, dtype) | if ieee && random.below(2) == 0 { top } else { top | 1 })
}

fn special(random: &mut Random, dtype: Dtype) -> u64 {
    match random.below(8) {
        0 => sign(random, dtype),
        1 => sign(random, dtype) | 1,
        2 => sign(random, dtype) | largest(dtype),
        3 => sign(random, dtype) | random.below(subnormals(dtype)),
        4 => sign(random, dtype) | subnormals(dtype).min(largest(dtype)),
        5 => non_finite(random, dtype).unwrap_or_else(|| smallest(dtype)),
        6 => random_pattern(random, dtype),
        _ => encode(random.normal(), dtype),
    }
}

/// The pattern of a value near `x`; integers scale it so that several values occur.
pub(crate) fn encode(x: f64, dtype: Dtype) -> u64 {
    match dtype {
        Dtype::F64 => x.to_bits(),
        Dtype::F32 => u64::from((x as f32).to_bits()),
        Dtype::F16 => u64::from(half::f16::from_f64(x).to_bits()),
        Dtype::Bf16 => u64::from(half::bf16::from_f64(x).to_bits()),
        // The upper byte of a half is an e5m2; an e4m3fn has the same shape with one exponent bit less, bias 7 instead of 15.
        Dtype::F8E5M2 => u64::from(half::f16::from_f64(x).to_bits() >> 8),
        Dtype::F8E4M3FN => {
            let half = half::f16::from_f64((x / 256.0).clamp(-1.0, 1.0)).to_bits();
            u64::from(half >> 8 & 0x80 | half >> 7 & 0x7f) & if half >> 7 & 0x7f == 0x7f { 0xfe } else { 0xff }
        }
        Dtype::Bool => u64::from(x > 0.0),
        Dtype::U8 => u64::from((x * 10.0 + 100.0) as u8),
        Dtype::U16 => u64::from((x * 10.0 + 100.0) as u16),
        Dtype::U32 => u64::from((x * 1e3 + 1e4) as u32),
        Dtype::U64 => (x * 1e3 + 1e4) as u64,
        Dtype::I8 => u64::from((x * 10.0) as i8 as u8),
        Dtype::I16 => u64::from((x * 10.0) as i16 as u16),
        Dtype::I32 => u64::from((x * 1e3) as i32 as u32),
        Dtype::I64 => (x * 1e3) as i64 as u64,
    }
}

/// A dense tensor's memory, at an address that is `offset` bytes past an aligned one.
pub(crate) struct Memory {
    bytes: Vec<u8>,
    start: usize,
    shape: [i64; 1],
    dtype: Dtype,
}

impl Memory {
    pub(crate) fn new(bits: &[u64], dtype: Dtype, offset: usize) -> Self {
        let mut bytes = vec![0; bits.len() * dtype.size() + offset + 64];
        let start = bytes.as_ptr().align_offset(64) + offset;
        for (i, pattern) in bits.iter().enumerate() {
            let at = start + i * dtype.size();
            bytes[at..at + dtype.size()].copy_from_slice(&pattern.to_ne_bytes()[..dtype.size()]);
        }
        Self { bytes, start, shape: [bits.len() as i64], dtype }
    }

    pub(crate) fn view(&self) -> TensorView<'_> {
        // SAFETY: the constructor made room for `shape` elements from `start` on, and the view borrows `self`.
        unsafe { TensorView::new(self.address(), self.dtype, &self.shape, None) }
    }

    pub(crate) fn address(&self) -> *const u8 {
        self.bytes[self.start..].as_ptr()
    }
}
