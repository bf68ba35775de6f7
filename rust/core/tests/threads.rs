//! Owns the claim that the number of threads never shows in a result, and that a scan can be stopped.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::data::{Case, Look, Memory};
use common::options;
use common::oracle::Oracle;
use common::promises::check;
use tensorstats_core::kernel::Moments;
use tensorstats_core::parallel::scan::{Options, ordered};
use tensorstats_core::{Dtype, Level, Summary, TensorView};

#[test]
fn one_to_seven_threads_give_the_same_bytes_at_every_level() {
    // Enough tasks of 2^20 elements for every thread to take several, and a short last one.
    let len = 9 * (1 << 20) + 12_345;
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::I8] {
        for look in [Look::Random, Look::Offset] {
            let case = Case { dtype, look, len: 300_007, seed: 5 };
            let bits: Vec<u64> = case.bits().into_iter().cycle().take(len).collect();
            let memory = Memory::new(&bits, dtype, 0);
            let of = |level, threads| Summary::of(&memory.view(), Moments::Four, &options(level, threads)).to_bytes();
            let expected = of(Level::PORTABLE, 1);
            for &level in Level::available() {
                for threads in 1..=7 {
                    assert_eq!(of(level, threads), expected, "{case:?} {level:?} {threads} threads");
                }
            }
        }
    }
}

#[test]
fn strided_tensors_give_the_same_bytes_for_any_threads() {
    let bits = Case { dtype: Dtype::F64, look: Look::Wide, len: 1 << 20, seed: 1 }.bits();
    let memory = Memory::new(&bits, Dtype::F64, 0);
    // Every second element backwards, repeated five times.
    let last = memory.address().wrapping_add(((1 << 20) - 1) * 8);
    // SAFETY: 2^19 steps of two elements back from the last one stay inside.
    let view = unsafe { TensorView::new(last, Dtype::F64, &[5, 1 << 19], Some(&[0, -2])) };
    let expected = Summary::of(&view, Moments::Four, &options(Level::PORTABLE, 1)).to_bytes();
    for threads in 2..=7 {
        assert_eq!(
            Summary::of(&view, Moments::Four, &options(Level::best(), threads)).to_bytes(),
            expected,
            "{threads} threads"
        );
    }
}

#[test]
fn threaded_results_keep_every_promise() {
    for dtype in [Dtype::F64, Dtype::F16] {
        let bits = Case { dtype, look: Look::Special, len: (1 << 21) + 1, seed: 2 }.bits();
        let memory = Memory::new(&bits, dtype, 0);
        let summary = Summary::of(&memory.view(), Moments::Four, &options(Level::best(), 3));
        check(&summary, &Oracle::of(&bits, dtype)).unwrap();
    }
}

#[test]
fn several_callers_at_once_get_their_own_results() {
    let cases: Vec<Case> =
        (0..4).map(|seed| Case { dtype: Dtype::F32, look: Look::Normal, len: 1 << 20, seed }).collect();
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || {
                let memory = Memory::new(&case.bits(), case.dtype, 0);
                let alone = Summary::of(&memory.view(), Moments::Two, &options(Level::best(), 1)).to_bytes();
                for _ in 0..5 {
                    assert_eq!(Summary::of(&memory.view(), Moments::Two, &options(Level::best(), 2)).to_bytes(), alone);
                }
            });
        }
    });
}

#[test]
fn results_are_taken_in_index_order() {
    for threads in 1..=7 {
        let mut taken = Vec::new();
        let made = AtomicUsize::new(0);
        ordered(
            100,
            &options(Level::PORTABLE, threads),
            || (),
            |(), task| {
                made.fetch_add(1, Ordering::Relaxed);
                // Uneven work, so that later tasks overtake earlier ones.
                std::hint::black_box((0..(task * 7919 % 13) * 2000).sum::<usize>());
                task
            },
            |task| taken.push(task),
        );
        assert_eq!(taken, (0..100).collect::<Vec<_>>());
        assert_eq!(made.into_inner(), 100);
    }
}

#[test]
fn an_interrupted_scan_stops_early() {
    for threads in [1, 3] {
        let asked = AtomicUsize::new(0);
        let interrupted = || asked.fetch_add(1, Ordering::Relaxed) >= 3;
        let options = Options { threads, level: Level::PORTABLE, interrupted: &interrupted };
        let made = AtomicUsize::new(0);
        let work = |(): &mut (), _task: usize| {
            made.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        ordered(10_000, &options, || (), work, |()| ());
        let made = made.into_inner();
        assert!(
            (4..1000).contains(&made),
            "{made} tasks of 10,000 were worked on after the interrupt, {threads} threads"
        );
    }
}
