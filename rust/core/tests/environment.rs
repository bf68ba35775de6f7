//! Owns the claim that a caller's floating-point mode neither changes a result nor is changed by a call.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::data::{Case, LOOKS, Memory};
use common::options;
use tensorstats_core::kernel::Moments;
use tensorstats_core::{Dtype, Level, Summary};

/// The default control word, and the bits on top of it that make subnormal results (FTZ) and operands (DAZ) zero.
const STANDARD: u32 = 0x1f80;
const FLUSH_RESULTS: u32 = 0x8000;
const FLUSH_OPERANDS: u32 = 0x0040;
/// The rounding field set to "toward zero".
const TRUNCATE: u32 = 0x6000;
/// The sticky exception flags, which any arithmetic may raise.
const FLAGS: u32 = 0x3f;

fn load(word: u32) {
    // SAFETY: a control word with all exceptions masked; every test puts the standard one back.
    unsafe { core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, readonly)) };
}

fn stored() -> u32 {
    let mut word = 0_u32;
    // SAFETY: stmxcsr stores four bytes to the given address.
    unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack)) };
    word & !FLAGS
}

/// Runs `work` in a mode, and asserts that it leaves the mode alone.
fn in_mode<R>(mode: u32, work: impl FnOnce() -> R) -> R {
    load(mode);
    let result = work();
    let after = stored();
    load(STANDARD);
    assert_eq!(after, mode & !FLAGS, "the caller's control word was changed");
    result
}

const FLUSHING: [u32; 3] =
    [STANDARD | FLUSH_RESULTS, STANDARD | FLUSH_OPERANDS, STANDARD | FLUSH_RESULTS | FLUSH_OPERANDS];

/// Everything a summary says, as bits.
fn answers(summary: &Summary) -> Vec<u64> {
    let numbers = [summary.min(), summary.max(), summary.absmax(), summary.absmin(), summary.sum(), summary.l1()];
    let floats = [summary.mean(), summary.var(0.0), summary.std(1.0), summary.l2(), summary.rms()];
    let moments = [summary.skewness().unwrap(), summary.kurtosis().unwrap()];
    let bits = |x: f64| if x.is_nan() { u64::MAX } else { x.to_bits() };
    numbers.iter().map(|n| bits(n.to_f64())).chain(floats.into_iter().chain(moments).map(bits)).collect()
}

const FLOATS: [Dtype; 6] = [Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64, Dtype::F8E4M3FN, Dtype::F8E5M2];

fn all_cases() -> impl Iterator<Item = Case> {
    let lengths = [1, 33, 5000, 140_000];
    FLOATS.into_iter().flat_map(move |dtype| {
        LOOKS.into_iter().flat_map(move |look| lengths.map(|len| Case { dtype, look, len, seed: 9 }))
    })
}

#[test]
fn flushing_changes_no_byte_of_a_summary() {
    for case in all_cases() {
        let memory = Memory::new(&case.bits(), case.dtype, 0);
        for &level in Level::available() {
            let of = || Summary::of(&memory.view(), Moments::Four, &options(level, 1)).to_bytes();
            let expected = of();
            for mode in FLUSHING {
                assert_eq!(in_mode(mode, of), expected, "{case:?} {level:?} mode {mode:#x}");
            }
        }
    }
}

#[test]
fn flushing_changes_no_answer() {
    for case in all_cases() {
        let memory = Memory::new(&case.bits(), case.dtype, 0);
        let summary = Summary::of(&memory.view(), Moments::Four, &options(Level::best(), 1));
        let expected = answers(&summary);
        for mode in FLUSHING {
            assert_eq!(in_mode(mode, || answers(&summary)), expected, "{case:?} mode {mode:#x}");
        }
    }
}

#[test]
fn flushing_changes_no_merge() {
    for case in all_cases().filter(|case| case.len == 33) {
        let of = |seed| {
            Summary::of(
                &Memory::new(&Case { seed, ..case }.bits(), case.dtype, 0).view(),
                Moments::Four,
                &options(Level::best(), 1),
            )
        };
        let (a, b) = (of(1), of(2));
        let merged = || {
            let mut total = a.clone();
            total.merge(&b).unwrap();
            total.to_bytes()
        };
        let expected = merged();
        for mode in FLUSHING {
            assert_eq!(in_mode(mode, merged), expected, "{case:?} mode {mode:#x}");
        }
    }
}

#[test]
fn threads_of_a_flushing_caller_do_not_flush() {
    // Bytes enough for several threads: they inherit the mode of the thread that starts them.
    let subnormals: Vec<f32> = (0..1 << 21).map(|i| f32::from_bits(i % 0x7f_ffff + 1)).collect();
    let shape = [1 << 21];
    let view = tensorstats_core::TensorView::from_slice(&subnormals, &shape);
    let of = || Summary::of(&view, Moments::Four, &options(Level::best(), 3)).to_bytes();
    let expected = of();
    assert_eq!(in_mode(FLUSHING[2], of), expected);
}

#[test]
fn any_mode_is_given_back() {
    let memory = Memory::new(&[1, 2, 3], Dtype::F32, 0);
    for mode in FLUSHING.into_iter().chain([STANDARD, STANDARD | TRUNCATE]) {
        for &level in Level::available() {
            let bytes = in_mode(mode, || Summary::of(&memory.view(), Moments::Four, &options(level, 1)).to_bytes());
            assert!(!bytes.is_empty());
        }
    }
}
