//! The range-free linear axis against the rule written out: the width from the set of values, then every value by exact division.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::data::{Memory, Random, cases};
use common::decode::{Value, decode};
use num_bigint::BigInt;
use proptest::prelude::*;
use tensorstats_core::parallel::scan::Options;
use tensorstats_core::{Axis, Dtype, Histogram, Level};

/// Every finite value of every dtype is a whole number of 2^-1074.
fn whole(bits: u64, dtype: Dtype) -> Option<BigInt> {
    let Value::Finite(value) = decode(bits, dtype) else { return None };
    Some(BigInt::from(value.mantissa) << (value.exponent + 1074))
}

/// The smallest exponent that the rule allows, and the bins at it, by trying one exponent after the other.
fn expected(values: &[BigInt], bins: u64) -> (i64, Vec<(i64, u64)>) {
    let (Some(low), Some(high)) = (values.iter().min(), values.iter().max()) else { return (0, Vec::new()) };
    let largest = low.magnitude().max(high.magnitude());
    // The spacing of f64 at the largest magnitude, a step more in the last octave.
    let spacing = (largest.bits() as i64 - 53).max(0) + i64::from(largest.bits() == 1024 + 1074);
    let mut up = spacing as usize;
    while (high >> up) - (low >> up) >= BigInt::from(bins) {
        up += 1;
    }
    let mut counts = std::collections::BTreeMap::<i64, u64>::new();
    for value in values {
        *counts.entry(i64::try_from(value >> up).unwrap()).or_default() += 1;
    }
    (up as i64 - 1074, counts.into_iter().collect())
}

fn check(bits: &[u64], dtype: Dtype, bins: u64) -> Result<(), TestCaseError> {
    let axis = Axis::linear(bins as i64).unwrap();
    let values: Vec<BigInt> = bits.iter().filter_map(|&b| whole(b, dtype)).collect();
    let (exponent, entries) = expected(&values, bins);
    let memory = Memory::new(bits, dtype, 1);
    for &level in Level::available() {
        for threads in [1, 3] {
            let options = Options { threads, level, interrupted: &|| false };
            let found = Histogram::of(&memory.view(), &axis, &options);
            prop_assert_eq!(found.width_exponent(), exponent, "{}", level.name());
            prop_assert_eq!(found.entries(), entries.clone(), "{}", level.name());
            prop_assert_eq!(found.count_all(), bits.len() as u64);
        }
    }
    let whole = Histogram::of(&memory.view(), &axis, &Options::standard());
    let (edges, counts) = whole.dense();
    prop_assert!(edges.windows(2).all(|pair| pair[0] < pair[1]));
    prop_assert!(counts.len() as u64 <= bins);
    prop_assert_eq!(counts.iter().sum::<u64>(), values.len() as u64);
    prop_assert_eq!(Histogram::from_bytes(&whole.to_bytes()).unwrap().to_bytes(), whole.to_bytes());

    // Cut anywhere, merged in any order.
    let mut random = Random(bits.len() as u64 ^ bins);
    let mut parts: Vec<&[u64]> = Vec::new();
    let mut rest = bits;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + random.below(rest.len() as u64) as usize);
        parts.insert(random.below(parts.len() as u64 + 1) as usize, piece);
        rest = after;
    }
    let mut merged = Histogram::new(axis.clone());
    for part in parts {
        merged.merge(&Histogram::of(&Memory::new(part, dtype, 0).view(), &axis, &Options::standard())).unwrap();
    }
    prop_assert_eq!(merged.to_bytes(), whole.to_bytes());
    Ok(())
}

proptest! {
    #![proptest_config(common::properties(150))]

    #[test]
    fn width_and_counts_follow_the_rule(case in cases(3000), bins in 2_u64..300) {
        check(&case.bits(), case.dtype, bins)?;
    }

    #[test]
    fn long_tensors_too(case in cases(9000), bins in prop_oneof![Just(2_u64), Just(64), Just(1 << 11), Just(1 << 16)]) {
        check(&case.bits(), case.dtype, bins)?;
    }

    #[test]
    fn any_few_doubles(bits in proptest::collection::vec(any::<u64>(), 0..6), bins in 2_u64..9) {
        check(&bits, Dtype::F64, bins)?;
    }
}

#[test]
fn a_range_that_grows_on_both_sides() {
    let mut values = vec![0.25_f64; 5000];
    for i in 0..300 {
        values.extend([f64::from(i - 150).exp2(), -f64::from(i - 160).exp2(), 0.0, -5e-324]);
        values.resize(values.len() + 4096, 1.0 + f64::from(i));
    }
    let bits: Vec<u64> = values.iter().map(|x| x.to_bits()).collect();
    for bins in [2, 256, 5000] {
        check(&bits, Dtype::F64, bins).unwrap();
    }
}

#[test]
fn the_ends_of_every_range() {
    let pairs: [(f64, f64); 9] = [
        (f64::MAX, f64::MIN),
        (f64::MAX, f64::MAX.next_down()),
        (f64::MIN, f64::MIN.next_up()),
        (5e-324, -5e-324),
        (5e-324, f64::MAX),
        (1.0, 1.0_f64.next_up()),
        (-2.0, -2.0_f64.next_up()),
        (0.0, -0.0),
        (-f64::MIN_POSITIVE, f64::MAX),
    ];
    for (a, b) in pairs {
        for bins in [2, 3, 64, 1 << 20] {
            check(&[a.to_bits(), b.to_bits(), b.to_bits()], Dtype::F64, bins).unwrap();
        }
    }
    for bins in [2, 64, 1 << 20] {
        check(&[i64::MIN as u64, i64::MAX as u64, 0], Dtype::I64, bins).unwrap();
        check(&[u64::MAX, u64::MAX - 1, 1 << 60, (1 << 60) + 1], Dtype::U64, bins).unwrap();
        check(&[(1 << 60) + 1, (1 << 60) + 255, (1 << 60) + 256], Dtype::I64, bins).unwrap();
    }
}

#[test]
fn damage_is_refused() {
    let axis = || Axis::linear(4).unwrap();
    let read = |exponent, entries: &[(i64, u64)]| {
        Histogram::from_entries(
            axis(),
            exponent,
            0,
            tensorstats_core::kernel::histogram::ranks::Specials::default(),
            entries,
        )
    };
    assert!(read(0, &[(0, 1), (3, 1)]).is_ok());
    let message = |exponent, entries: &[(i64, u64)]| read(exponent, entries).unwrap_err().to_string();
    assert_eq!(message(0, &[(0, 1), (4, 1)]), "a Histogram of Linear(4) has too few bins for places 0 to 4");
    assert_eq!(message(1025, &[(0, 1)]), "a Histogram of Linear(4) has no bins of width 2^1025");
    assert!(message(0, &[(1 << 53, 1)]).contains("no bins at places 9007199254740992"));
    assert!(message(1024, &[(1, 1)]).contains("no bins at places 1"));
    assert!(message(0, &[(i64::MIN, 1), (i64::MAX, 1)]).contains("no bins"));
    assert_eq!(Axis::linear(1).unwrap_err().to_string(), "bins must be in [2, 16777216], got: 1");
}
