//! Owns the exhaustive tests: every bit pattern of the 8- and 16-bit dtypes, and every exponent of the wider floats, at every level.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::data::{Memory, Random};
use common::decode::{Value, decode};
use common::oracle::Oracle;
use common::promises::check;
use common::{at_all_levels, options, portable};
use tensorstats_core::dtype::element::{Bf16, Element, F16};
use tensorstats_core::kernel::Moments;
use tensorstats_core::state::stats::Counts;
use tensorstats_core::{Dtype, Level, Number, Summary};

const EIGHT_BITS: [Dtype; 5] = [Dtype::F8E4M3FN, Dtype::F8E5M2, Dtype::I8, Dtype::U8, Dtype::Bool];
const SIXTEEN_BITS: [Dtype; 4] = [Dtype::F16, Dtype::Bf16, Dtype::I16, Dtype::U16];

#[test]
fn halves_decode_as_the_half_crate_says() {
    for bits in 0..=u16::MAX {
        let (f16, bf16) = (half::f16::from_bits(bits), half::bf16::from_bits(bits));
        for (ours, theirs) in [(F16(bits).to_f64(), f16.to_f64()), (Bf16(bits).to_f64(), bf16.to_f64())] {
            assert!(
                ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
                "{bits:#06x}: {ours} {theirs}"
            );
        }
        let nan = |dtype| decode(u64::from(bits), dtype) == Value::Nan;
        assert_eq!((nan(Dtype::F16), nan(Dtype::Bf16)), (f16.is_nan(), bf16.is_nan()), "{bits:#06x}");
        for (element, subnormal) in [
            (F16(bits).is_subnormal(), is_subnormal(f16.classify())),
            (Bf16(bits).is_subnormal(), is_subnormal(bf16.classify())),
        ] {
            assert_eq!(element, subnormal, "{bits:#06x}");
        }
    }
}

fn is_subnormal(category: core::num::FpCategory) -> bool {
    category == core::num::FpCategory::Subnormal
}

/// What a summary of `copies` equal values must say.
fn check_single(summary: &Summary, value: Value, copies: u64, context: &dyn Fn() -> String) {
    let mut counts = Counts::default();
    let mut expected = Number::Float(f64::NAN);
    match value {
        Value::Nan => counts.nan = copies,
        Value::PosInf => counts.posinf = copies,
        Value::NegInf => counts.neginf = copies,
        Value::Finite(x) => {
            expected = x.number;
            *match x.mantissa.signum() {
                -1 => &mut counts.negative,
                0 => &mut counts.zero,
                _ => &mut counts.positive,
            } = copies;
            counts.subnormal = if x.subnormal { copies } else { 0 };
        }
    }
    assert_eq!(summary.stats.counts, counts, "{}", context());
    let x = expected.to_f64();
    for number in [summary.min(), summary.max(), Number::Float(summary.mean())] {
        // Every one of these formats has room for the mean of equal values; a zero is +0.
        assert!(
            number.to_f64().to_bits() == x.to_bits() || x.is_nan() && number.to_f64().is_nan(),
            "{} {number:?}",
            context()
        );
    }
    assert!(summary.var(0.0) == 0.0 || x.is_nan(), "{}", context());
    let smallest = summary.absmin().to_f64();
    assert!(smallest == x.abs() || smallest.is_nan() && (x == 0.0 || x.is_nan()), "{} {smallest}", context());
}

#[test]
fn every_narrow_pattern_is_classified_alone_and_among_copies() {
    for dtype in EIGHT_BITS.into_iter().chain(SIXTEEN_BITS) {
        for bits in 0..1_u64 << (8 * dtype.size()) {
            let value = decode(bits, dtype);
            // One value takes the tail, 35 also the full steps of the widest kernel.
            for copies in [1, 35] {
                let memory = Memory::new(&vec![bits; copies], dtype, 0);
                for &level in Level::available() {
                    let summary = Summary::of(&memory.view(), Moments::Two, &options(level, 1));
                    check_single(&summary, value, copies as u64, &|| {
                        format!("{dtype:?} {bits:#06x} {copies} {level:?}")
                    });
                }
            }
        }
    }
}

#[test]
fn all_narrow_patterns_together_keep_every_promise() {
    for dtype in EIGHT_BITS.into_iter().chain(SIXTEEN_BITS) {
        let mut bits: Vec<u64> = (0..1_u64 << (8 * dtype.size())).collect();
        for seed in 0..4 {
            let summary = at_all_levels(&Memory::new(&bits, dtype, 0).view(), Moments::Four).unwrap();
            check(&summary, &Oracle::of(&bits, dtype)).unwrap();
            let random = &mut Random(seed);
            for i in (1..bits.len()).rev() {
                bits.swap(i, random.below(i as u64 + 1) as usize);
            }
        }
    }
}

#[test]
fn every_pair_of_fp8_values_is_summed_exactly() {
    for dtype in [Dtype::F8E4M3FN, Dtype::F8E5M2] {
        for pair in 0..1_u64 << 16 {
            let bits = [pair & 0xff, pair >> 8];
            let summary = portable(&Memory::new(&bits, dtype, 0).view(), Moments::Two);
            let values: Vec<f64> = bits
                .iter()
                .filter_map(|&b| match decode(b, dtype) {
                    Value::Finite(x) => Some(x.number.to_f64()),
                    _ => None,
                })
                .collect();
            // Two fp8 values and their squares add up without rounding in f64.
            let sum = if values.is_empty() { f64::NAN } else { values.iter().sum() };
            let squares: f64 = values.iter().map(|x| x * x).sum();
            let got = summary.sum().to_f64();
            assert!(got == sum || got.is_nan() && sum.is_nan(), "{dtype:?} {bits:x?} {got} {sum}");
            assert!(values.is_empty() || summary.l2() == squares.sqrt(), "{dtype:?} {bits:x?}");
        }
    }
}

/// Every exponent of a float with its smallest, second and largest mantissa, in both signs.
fn corners(exponent_bits: u32, mantissa_bits: u32) -> Vec<u64> {
    let mut corners = Vec::new();
    for exponent in 0..1_u64 << exponent_bits {
        for mantissa in [0, 1, (1 << mantissa_bits) - 1] {
            for sign in [0, 1] {
                corners.push(sign << (exponent_bits + mantissa_bits) | exponent << mantissa_bits | mantissa);
            }
        }
    }
    corners
}

#[test]
fn every_exponent_of_wide_floats_is_classified() {
    for (dtype, patterns) in [(Dtype::F32, corners(8, 23)), (Dtype::F64, corners(11, 52))] {
        for &bits in &patterns {
            for copies in [1, 35] {
                let memory = Memory::new(&vec![bits; copies], dtype, 0);
                for &level in Level::available() {
                    let summary = Summary::of(&memory.view(), Moments::Two, &options(level, 1));
                    check_single(&summary, decode(bits, dtype), copies as u64, &|| {
                        format!("{dtype:?} {bits:#x} {copies} {level:?}")
                    });
                }
            }
        }
        let summary = at_all_levels(&Memory::new(&patterns, dtype, 0).view(), Moments::Four).unwrap();
        check(&summary, &Oracle::of(&patterns, dtype)).unwrap();
    }
}
