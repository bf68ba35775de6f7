//! Owns the run of random inputs against the oracle for as long as one likes: dtype, values, layout, cuts, level and threads at random.
//!
//! `TENSORSTATS_FUZZ_SECONDS=300 cargo test --release -p tensorstats-core --test fuzz -- --nocapture` runs five minutes. A failure
//! prints its seed; `TENSORSTATS_FUZZ_SEED` starts there again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a long run says what it did")]

mod common;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::data::{Case, LOOKS, Memory, Random};
use common::oracle::Oracle;
use common::promises::check;
use common::{at_all_levels, options};
use tensorstats_core::kernel::Moments;
use tensorstats_core::{Dtype, Level, Summary, TensorView};

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number, got: {text}")))
}

/// One random input, counted whole, cut, and through a random stride.
fn attempt(seed: u64) -> Result<(), String> {
    let random = &mut Random(seed);
    let dtype = Dtype::ALL[random.below(Dtype::ALL.len() as u64) as usize];
    let look = LOOKS[random.below(LOOKS.len() as u64) as usize];
    let longest = [40, 5000, 140_000][random.below(20).saturating_sub(17) as usize];
    let case = Case { dtype, look, len: random.below(longest) as usize, seed: random.bits() };
    let moments = if random.below(2) == 0 { Moments::Two } else { Moments::Four };
    let named = |error: String| format!("{case:?} {moments:?}\n{error}");

    let bits = case.bits();
    let memory = Memory::new(&bits, dtype, random.below(16) as usize);
    let whole = at_all_levels(&memory.view(), moments).map_err(named)?;
    let oracle = Oracle::of(&bits, dtype);
    check(&whole, &oracle).map_err(named)?;

    let mut merged = Summary::new(moments);
    let mut rest = &bits[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + random.below(rest.len() as u64) as usize);
        merged.merge(&Summary::of(&Memory::new(piece, dtype, 0).view(), moments, &options(Level::best(), 2))).unwrap();
        rest = after;
    }
    check(&merged, &oracle).map_err(|error| named(format!("merged: {error}")))?;

    let step = 1 + random.below(5) as i64;
    let picked: Vec<u64> = bits.iter().rev().step_by(step as usize).copied().collect();
    let last = memory.address().wrapping_add(bits.len().saturating_sub(1) * dtype.size());
    let shape = [picked.len() as i64];
    let strides = [-step];
    // SAFETY: steps back from the last element, as many as fit.
    let view = unsafe { TensorView::new(last, dtype, &shape, Some(&strides)) };
    let strided = at_all_levels(&view, moments).map_err(named)?;
    check(&strided, &Oracle::of(&picked, dtype)).map_err(|error| named(format!("stride -{step}: {error}")))
}

#[test]
fn random_inputs_agree_with_the_oracle() {
    let limit = Duration::from_secs(from_environment("TENSORSTATS_FUZZ_SECONDS").unwrap_or(2));
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let first = from_environment("TENSORSTATS_FUZZ_SEED").unwrap_or_else(clock);
    let start = Instant::now();
    let mut attempts = 0;
    while attempts == 0 || start.elapsed() < limit {
        let seed = first.wrapping_add(attempts);
        if let Err(message) = attempt(seed) {
            panic!("TENSORSTATS_FUZZ_SEED={seed}\n{message}");
        }
        attempts += 1;
    }
    println!("{attempts} random inputs agree with the oracle, seeds from {first}");
}
