//! Owns the accuracy promises of dense tensors, at every level, against the exact oracle.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::data::{Case, LOOKS, Look, Memory, cases};
use common::oracle::Oracle;
use common::promises::check;
use common::{at_all_levels, properties};
use proptest::prelude::*;
use tensorstats_core::kernel::Moments;
use tensorstats_core::state::stats::Stats;
use tensorstats_core::{Dtype, Level};

fn verify(case: Case, moments: Moments) -> Result<(), String> {
    let bits = case.bits();
    let memory = Memory::new(&bits, case.dtype, 0);
    let summary = at_all_levels(&memory.view(), moments)?;
    check(&summary, &Oracle::of(&bits, case.dtype))
}

fn verify_all(lengths: &[usize], dtypes: &[Dtype], looks: &[Look], moments: &[Moments]) {
    let mut broken = Vec::new();
    for &len in lengths {
        for &dtype in dtypes {
            for &look in looks {
                for &moments in moments {
                    let case = Case { dtype, look, len, seed: len as u64 };
                    if let Err(message) = verify(case, moments) {
                        broken.push(format!("{case:?} {moments:?}\n{message}"));
                    }
                }
            }
        }
    }
    assert!(broken.is_empty(), "{} broken, the first:\n{}", broken.len(), broken[..broken.len().min(8)].join("\n\n"));
}

/// Damages one number.
type Change = fn(&mut Stats);

const BOTH: [Moments; 2] = [Moments::Two, Moments::Four];

#[test]
fn every_level_of_this_machine_is_tested() {
    let names: Vec<&str> = Level::available().iter().map(|level| level.name()).collect();
    eprintln!("levels: {}", names.join(", "));
    assert_eq!(names[0], "portable");
    #[cfg(target_arch = "x86_64")]
    assert_eq!(std::arch::is_x86_feature_detected!("avx2"), names.contains(&"avx2"));
}

#[test]
fn small_tensors_keep_every_promise() {
    verify_all(&[0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 65], Dtype::ALL, &LOOKS, &BOTH);
}

#[test]
fn tensors_around_a_block_keep_every_promise() {
    verify_all(&[2047, 2048, 4095, 4096, 4097], Dtype::ALL, &LOOKS, &[Moments::Four]);
}

#[test]
fn tensors_around_a_chunk_keep_every_promise() {
    let looks = [Look::Random, Look::Special, Look::Offset, Look::NanLast];
    verify_all(&[65_535, 65_536, 65_537], Dtype::ALL, &looks, &[Moments::Four]);
}

#[test]
fn tensors_around_a_task_keep_every_promise() {
    let dtypes = [Dtype::F32, Dtype::F64, Dtype::Bf16, Dtype::I64, Dtype::F8E4M3FN];
    verify_all(&[(1 << 20) - 1, (1 << 20) + 1], &dtypes, &[Look::Offset], &[Moments::Four]);
}

#[test]
fn f64_of_any_magnitude_keeps_every_promise() {
    let looks = [Look::Wide, Look::Huge, Look::Tiny, Look::Two, Look::Special];
    verify_all(&[5, 200, 4100, 65_600, 140_000], &[Dtype::F64], &looks, &[Moments::Four]);
}

#[test]
fn known_wrong_answers_of_others_are_right() {
    let of = |values: &[f32]| {
        let bits: Vec<u64> = values.iter().map(|x| u64::from(x.to_bits())).collect();
        at_all_levels(&Memory::new(&bits, Dtype::F32, 0).view(), Moments::Four).unwrap()
    };
    // Sixteen large values hide 1.6 million ones from a norm kept in f32.
    let mut values = vec![4096.0; 16];
    values.resize(1_600_016, 1.0);
    let expected = (16.0 * 4096.0_f64.powi(2) + 1.6e6).sqrt();
    assert!((of(&values).l2() / expected - 1.0).abs() < 1e-13);
    // Squares beyond the range of f32.
    assert!((of(&[1e20, 1.0, 1.0]).l2() / f64::from(1e20_f32) - 1.0).abs() < 1e-13);
    // A sum that f32 cannot hold.
    assert_eq!(of(&vec![1.0; (1 << 24) + 3]).sum().to_f64(), 16_777_219.0);
    // Close values with a small spread.
    assert!((of(&[2281.5, 2281.25]).var(1.0) - 0.03125).abs() < 1e-15);
}

#[test]
fn a_number_that_is_a_little_wrong_is_noticed() {
    let case = Case { dtype: Dtype::F32, look: Look::Normal, len: 1000, seed: 1 };
    let bits = case.bits();
    let (summary, oracle) = (
        at_all_levels(&Memory::new(&bits, case.dtype, 0).view(), Moments::Four).unwrap(),
        Oracle::of(&bits, case.dtype),
    );
    check(&summary, &oracle).unwrap();
    let worse: [(&str, Change); 8] = [
        ("counts", |s| s.counts.zero += 1),
        ("counts", |s| s.counts.subnormal += 1),
        ("sum", |s| s.sum.hi += s.l1.hi * 1e-13),
        ("l1", |s| s.l1.hi *= 1.0 + 1e-13),
        ("l2", |s| s.squares.hi *= 1.0 + 5e-13),
        ("var", |s| s.m2.hi *= 1.0 + 3e-9),
        ("skewness", |s| s.m3 += s.m4 * 1e-5),
        ("kurtosis", |s| s.m4 *= 1.0 + 3e-6),
    ];
    for (name, change) in worse {
        let mut wrong = summary.clone();
        change(&mut wrong.stats);
        let message = check(&wrong, &oracle).unwrap_err();
        assert!(message.contains(name), "{name}: {message}");
    }
}

proptest! {
    #![proptest_config(properties(1500))]

    #[test]
    fn random_tensors_keep_every_promise(case in cases(12_000), four in any::<bool>()) {
        let moments = if four { Moments::Four } else { Moments::Two };
        verify(case, moments).map_err(TestCaseError::fail)?;
    }
}
