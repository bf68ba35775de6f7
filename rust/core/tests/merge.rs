//! Owns the claim that merging is counting: pieces cut anywhere, merged in any order, of any dtypes, keep every promise.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::data::{Case, Look, Memory, Random, cases};
use common::decode::decode;
use common::oracle::Oracle;
use common::promises::check;
use common::{options, portable, properties};
use proptest::prelude::*;
use tensorstats_core::kernel::Moments;
use tensorstats_core::{Dtype, Error, Level, Summary};

/// Summaries of consecutive pieces, cut at random places; some pieces are empty.
fn pieces(random: &mut Random, bits: &[u64], dtype: Dtype, most: u64) -> Vec<Summary> {
    let mut cuts: Vec<usize> = (0..random.below(most)).map(|_| random.below(bits.len() as u64 + 1) as usize).collect();
    cuts.extend([0, bits.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|ends| {
            Summary::of(
                &Memory::new(&bits[ends[0]..ends[1]], dtype, 0).view(),
                Moments::Four,
                &options(Level::best(), 1),
            )
        })
        .collect()
}

/// How pieces find together.
#[derive(Clone, Copy, Debug)]
enum Order {
    InTurn,
    Tree,
    Shuffled,
}

fn merged(random: &mut Random, mut pieces: Vec<Summary>, order: Order) -> Summary {
    let mut total = Summary::new(Moments::Four);
    match order {
        Order::InTurn => {}
        Order::Tree => {
            while pieces.len() > 1 {
                pieces = pieces
                    .chunks(2)
                    .map(|pair| {
                        let mut both = pair[0].clone();
                        if let Some(right) = pair.get(1) {
                            both.merge(right).unwrap();
                        }
                        both
                    })
                    .collect();
            }
        }
        Order::Shuffled => {
            for i in (1..pieces.len()).rev() {
                pieces.swap(i, random.below(i as u64 + 1) as usize);
            }
        }
    }
    for piece in &pieces {
        total.merge(piece).unwrap();
    }
    total
}

proptest! {
    #![proptest_config(properties(800))]

    #[test]
    fn pieces_cut_anywhere_keep_every_promise(
        case in cases(6000),
        seed in any::<u64>(),
        most in 1_u64..60,
        order in prop_oneof![Just(Order::InTurn), Just(Order::Tree), Just(Order::Shuffled)],
    ) {
        let random = &mut Random(seed);
        let bits = case.bits();
        let parts = pieces(random, &bits, case.dtype, most);
        let total = merged(random, parts, order);
        check(&total, &Oracle::of(&bits, case.dtype)).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn merging_nothing_changes_no_bit(case in cases(300)) {
        let summary = portable(&Memory::new(&case.bits(), case.dtype, 0).view(), Moments::Four);
        let mut right = summary.clone();
        right.merge(&Summary::new(Moments::Four)).unwrap();
        prop_assert_eq!(right.to_bytes(), summary.to_bytes());
        let mut left = Summary::new(Moments::Four);
        left.merge(&summary).unwrap();
        prop_assert_eq!(left.to_bytes(), summary.to_bytes());
    }

    #[test]
    fn different_dtypes_merge_exactly(parts in proptest::collection::vec(cases(400), 2..5)) {
        let mut total = Summary::new(Moments::Four);
        let mut values = Vec::new();
        for case in &parts {
            let bits = case.bits();
            total.merge(&portable(&Memory::new(&bits, case.dtype, 0).view(), Moments::Four)).unwrap();
            values.extend(bits.iter().map(|&b| decode(b, case.dtype)));
        }
        check(&total, &Oracle::of_values(values)).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn pieces_that_travelled_as_bytes_merge_the_same(case in cases(3000), seed in any::<u64>()) {
        let parts = pieces(&mut Random(seed), &case.bits(), case.dtype, 20);
        let travelled = parts.iter().map(|piece| Summary::from_bytes(&piece.to_bytes()).unwrap()).collect();
        let (direct, sent) = (merged(&mut Random(0), parts, Order::InTurn), merged(&mut Random(0), travelled, Order::InTurn));
        prop_assert_eq!(direct.to_bytes(), sent.to_bytes());
    }
}

#[test]
fn twenty_thousand_merges_of_a_narrow_distribution_keep_the_variance() {
    for dtype in [Dtype::F32, Dtype::F64, Dtype::I64] {
        let bits: Vec<u64> = {
            let random = &mut Random(11);
            (0..100_000)
                .map(|_| {
                    let x = 900_000.0 + random.normal();
                    match dtype {
                        Dtype::F32 => u64::from((x as f32).to_bits()),
                        Dtype::F64 => x.to_bits(),
                        _ => x as i64 as u64,
                    }
                })
                .collect()
        };
        let mut total = Summary::new(Moments::Four);
        for piece in bits.chunks(5) {
            total.merge(&portable(&Memory::new(piece, dtype, 0).view(), Moments::Four)).unwrap();
        }
        check(&total, &Oracle::of(&bits, dtype)).unwrap();
    }
}

#[test]
fn a_constant_has_no_variance_after_any_merges() {
    for dtype in Dtype::ALL.iter().copied() {
        for seed in 0..40 {
            let random = &mut Random(seed);
            let case = Case { dtype, look: Look::Constant, len: 1000, seed };
            let parts = pieces(random, &case.bits(), dtype, 50);
            let total = merged(random, parts, Order::Shuffled);
            assert_eq!((total.var(0.0), total.var(1.0), total.std(0.0)), (0.0, 0.0, 0.0), "{case:?}");
        }
    }
}

#[test]
fn summaries_with_different_moments_do_not_merge() {
    let mut two = Summary::new(Moments::Two);
    let error = two.merge(&Summary::new(Moments::Four)).unwrap_err();
    assert!(matches!(&error, Error::Incompatible(text) if text.ends_with("2 and 4")), "{error}");
    assert_eq!(two, Summary::new(Moments::Two));
}
