//! Owns the kernels: how a chunk of dense elements becomes [`Stats`]. Knows nothing of tensors' layout, threads or Python.
//!
//! The grid is fixed, so results do not depend on who counts what:
//! * a *block* of 4,096 elements is summed in plain `f64` lanes (256 additions a lane, so an error of at most 2^-45 of the sum of
//!   magnitudes) and then added to a pair of lanes without error;
//! * a *chunk* of 65,536 elements folds its lanes into one [`Stats`], while its data is still in the second-level cache, should a
//!   second look be needed;
//! * chunks are merged in index order by [`crate::scan`].

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
pub mod beyond;
pub mod bins;
mod bins_block;
mod bins_fast;
pub mod bins_linear;
pub mod bins_log;
pub mod bounds;
pub mod byte_sums;
pub mod bytes;
mod central;
pub mod change;
mod codes;
mod float;
mod integer;
pub mod lanes;
pub mod portable;
pub(crate) mod prefetch;
pub mod select;
pub mod sift;
pub(crate) mod stream;
mod sums;
pub mod unit_columns;
pub mod unit_fast;
pub mod unit_runs;
pub mod unit_tile;
pub mod wide;
pub mod wide_block;

use crate::element::{Bf16, Bool, Element, F8E4M3FN, F8E5M2, F16};
use crate::stats::Stats;
use lanes::Lanes;

/// Elements summed in plain `f64` before compensation. Bounds the error of a sum; also what fits the first-level cache.
pub const BLOCK: usize = 4096;

/// Elements that become one [`Stats`].
pub const CHUNK: usize = 65_536;

/// Which central moments to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moments {
    /// Mean and variance.
    Two,
    /// Also the third and fourth moment.
    Four,
}

/// Elements whose chunks can be counted.
pub trait Count: Element {
    /// Statistics of `len` dense elements, at most [`CHUNK`].
    ///
    /// # Safety
    /// `p` must be readable for `len` elements; it need not be aligned.
    unsafe fn chunk<L: Lanes>(lanes: L, p: *const Self, len: usize, moments: Moments) -> Stats;
}

macro_rules! count {
    ($family:ident: $($type:ty),*) => {$(
        impl Count for $type {
            #[inline(always)]
            unsafe fn chunk<L: Lanes>(lanes: L, p: *const Self, len: usize, moments: Moments) -> Stats {
                // SAFETY: the caller vouches for `len` readable elements.
                unsafe { $family::chunk(lanes, p, len, moments) }
            }
        }
    )*};
}
count!(float: f32, f64, F16, Bf16);
count!(integer: u16, u32, u64, i16, i32, i64);
count!(codes: u8, i8, Bool, F8E4M3FN, F8E5M2);
