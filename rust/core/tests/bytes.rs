//! Owns the claim that a summary survives its byte form bit for bit, and that no bytes make anything panic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::data::{Memory, Random, cases};
use common::{portable, properties};
use proptest::prelude::*;
use tensorstats_core::kernel::Moments;
use tensorstats_core::{Dtype, Error, Summary};

fn summary_of(values: &[f32]) -> Summary {
    let bits: Vec<u64> = values.iter().map(|x| u64::from(x.to_bits())).collect();
    portable(&Memory::new(&bits, Dtype::F32, 0).view(), Moments::Four)
}

/// Reads everything a summary has to say, and merges it: none of this may panic, whatever the numbers are.
fn use_all(summary: &Summary) {
    for number in [summary.min(), summary.max(), summary.absmax(), summary.absmin(), summary.sum(), summary.l1()] {
        std::hint::black_box(number.to_f64());
    }
    for float in [summary.mean(), summary.var(0.0), summary.var(1.0), summary.std(1.0), summary.l2(), summary.rms()] {
        std::hint::black_box(float);
    }
    std::hint::black_box((summary.skewness().is_ok(), summary.kurtosis().is_ok(), summary.stats.counts.total()));
    let mut total = summary.clone();
    let mut ordinary = summary_of(&[1.0, -2.0, 3.5]);
    let mut merged = vec![total.merge(summary), total.merge(&Summary::new(summary.moments))];
    if summary.moments == Moments::Four {
        merged.push(ordinary.merge(summary));
    }
    // Damage may have made counts that are possible, and twice too many.
    assert!(merged.iter().all(|done| matches!(done, Ok(()) | Err(Error::Overflow(_)))), "{merged:?}");
    std::hint::black_box((total.to_bytes(), ordinary.mean()));
}

proptest! {
    #![proptest_config(properties(600))]

    #[test]
    fn a_round_trip_keeps_every_bit(case in cases(500), four in any::<bool>()) {
        let moments = if four { Moments::Four } else { Moments::Two };
        let summary = portable(&Memory::new(&case.bits(), case.dtype, 0).view(), moments);
        let bytes = summary.to_bytes();
        let back = Summary::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&back, &summary);
        prop_assert_eq!(back.to_bytes(), bytes);
    }

    #[test]
    fn damaged_bytes_never_panic(case in cases(100), seed in any::<u64>(), damages in 1_usize..6) {
        let random = &mut Random(seed);
        let mut bytes = portable(&Memory::new(&case.bits(), case.dtype, 0).view(), Moments::Four).to_bytes();
        for _ in 0..damages {
            let at = random.below(bytes.len() as u64) as usize;
            let extremes = [0, 1, 0x7f, 0x80, 0xff, random.bits() as u8];
            bytes[at] = extremes[random.below(6) as usize];
        }
        if let Ok(summary) = Summary::from_bytes(&bytes) {
            use_all(&summary);
        }
    }

    #[test]
    fn garbage_behind_a_true_header_never_panics(garbage in proptest::collection::vec(any::<u8>(), 0..400), spread in any::<bool>()) {
        let mut bytes = summary_of(&[1.0]).to_bytes();
        let len = bytes.len();
        // Behind magic word, version, moments and dtype; or only the tail, which keeps the counts true.
        let from = if spread { 7 } else { len / 2 };
        for (slot, byte) in bytes[from..].iter_mut().zip(&garbage) {
            *slot = *byte;
        }
        if let Ok(summary) = Summary::from_bytes(&bytes) {
            use_all(&summary);
        }
    }

    #[test]
    fn plain_garbage_is_an_error(garbage in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(matches!(Summary::from_bytes(&garbage), Err(Error::Bytes(_))));
    }
}

#[test]
fn every_cut_and_every_extension_is_an_error() {
    for summary in [Summary::new(Moments::Two), summary_of(&[1.0, f32::NAN, -0.0, 1e-40])] {
        let bytes = summary.to_bytes();
        for len in 0..bytes.len() {
            assert!(
                matches!(Summary::from_bytes(&bytes[..len]), Err(Error::Bytes(_))),
                "{len} of {} bytes",
                bytes.len()
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(Summary::from_bytes(&longer), Err(Error::Bytes(_))));
    }
}

#[test]
fn errors_name_what_is_wrong() {
    let good = summary_of(&[1.0]).to_bytes();
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        Summary::from_bytes(&bytes).unwrap_err().to_string()
    };
    assert!(changed(0, b'X').starts_with("not a serialised Summary"), "{}", changed(0, b'X'));
    assert!(changed(4, 99).contains("version 99"), "{}", changed(4, 99));
    assert!(changed(5, 3).contains('3'), "{}", changed(5, 3));
    assert!(changed(6, 77).ends_with("77"), "{}", changed(6, 77));
    assert!(Summary::from_bytes(b"TS").unwrap_err().to_string().ends_with("only 2 bytes"));
}
