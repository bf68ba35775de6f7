//! Owns the chunk kernel of the 8-bit dtypes: byte sums where the level has a way of its own, else counts of the 256 codes.

use crate::kernel::grid::Moments;
use crate::kernel::histogram::bytes::count_codes;
use crate::number::double::scalb;
use crate::simd::byte_sums::{ByteSums, Code, element_of_code, is_finite, units};
use crate::simd::lanes::Lanes;
use crate::state::stats::Stats;

/// # Safety
/// `p` must be readable for `len` one-byte elements; `len` must be at most [`crate::kernel::grid::CHUNK`].
#[inline(always)]
pub(crate) unsafe fn chunk<L: Lanes, E: Code>(lanes: L, p: *const E, len: usize, moments: Moments) -> Stats {
    if moments == Moments::Two {
        // SAFETY: as the caller vouches; `E` is one byte wide.
        if let Some(sums) = unsafe { lanes.byte_sums::<E>(p.cast(), len) } {
            return sums.stats::<E>();
        }
    }
    // SAFETY: as above.
    let codes = unsafe { count_codes(p.cast(), len) };
    summarise::<E>(&codes, moments)
}

/// Statistics of values given as counts of codes.
fn summarise<E: Code>(codes: &[u32; 256], moments: Moments) -> Stats {
    let mut sums = ByteSums::EMPTY;
    for (code, &count) in codes.iter().enumerate() {
        if count > 0 {
            sums.add_code::<E>(code as u8, count);
        }
    }
    let mut stats = sums.stats::<E>();
    if moments == Moments::Four && stats.counts.finite() > 0 {
        let mean = sums.sum as f64 / stats.counts.finite() as f64;
        let (m3, m4) = third_and_fourth::<E>(codes, mean);
        stats.m3 = scalb(m3, 3 * E::EXPONENT);
        stats.m4 = scalb(m4, 4 * E::EXPONENT);
    }
    stats
}

/// Sums of cubes and fourth powers of differences from the mean, all in units.
fn third_and_fourth<E: Code>(codes: &[u32; 256], mean: f64) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for (code, &count) in codes.iter().enumerate() {
        if count > 0 && is_finite(element_of_code::<E>(code as u8)) {
            let d = units::<E>(code as u8) as f64 - mean;
            sums.0 += d * d * d * f64::from(count);
            sums.1 += d * d * d * d * f64::from(count);
        }
    }
    sums
}
