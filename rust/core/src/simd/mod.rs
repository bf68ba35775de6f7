//! The same lanes at every instruction level, and the choice of one. Knows nothing of statistics.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "aarch64")]
pub mod neon;

#[cfg(target_arch = "x86_64")]
mod bytes_avx512;
#[cfg(target_arch = "x86_64")]
mod select_avx512;

pub mod array_scan;
pub mod as_wide;
pub mod byte_sums;
pub mod keys;
pub mod lanes;
pub mod level;
pub mod portable;
pub(crate) mod prefetch;
pub mod scaled;
pub mod select;
pub(crate) mod stream;
pub mod wide;
