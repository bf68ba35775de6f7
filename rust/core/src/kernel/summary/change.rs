//! Owns the pass over a chunk and its values at an earlier time: statistics of the new values and of the differences. Knows nothing of
//! tensors or threads.
//!
//! The statistics are those of [`Count::chunk`] of each, bit for bit: only the order of the work differs.

use core::ops::Sub;

use crate::dtype::element::{Bf16, Bool, F8E4M3FN, F8E5M2, F16};
use crate::kernel::grid::Moments;
use crate::kernel::summary::count::Count;
use crate::kernel::summary::float;
use crate::kernel::summary::float::subtract;
use crate::simd::as_wide::AsWide;
use crate::simd::lanes::Lanes;
use crate::state::stats::Stats;

/// Elements whose changes can be counted.
pub trait Change: AsWide<Wide: Count + AsWide<Wide = Self::Wide> + Sub<Output = Self::Wide>> + Count {
    /// Statistics of `len` dense elements, at most [`crate::kernel::grid::CHUNK`], and of their differences from `old`, which are written down.
    ///
    /// # Safety
    /// `new` and `old` must be readable and `differences` writable for `len` elements; the first two need not be aligned.
    #[inline(always)]
    unsafe fn change<L: Lanes>(
        lanes: L,
        new: *const Self,
        old: *const Self,
        differences: *mut Self::Wide,
        len: usize,
    ) -> [Stats; 2] {
        // SAFETY: as the caller vouches.
        unsafe {
            let values = Self::chunk(lanes, new, len, Moments::Two);
            subtract(new, old, differences, len);
            [values, Self::Wide::chunk(lanes, differences, len, Moments::Two)]
        }
    }
}

macro_rules! block_by_block {
    ($($type:ty),*) => {$(
        impl Change for $type {
            #[inline(always)]
            unsafe fn change<L: Lanes>(
                lanes: L,
                new: *const Self,
                old: *const Self,
                differences: *mut Self::Wide,
                len: usize,
            ) -> [Stats; 2] {
                // SAFETY: the caller vouches for `len` elements of each.
                unsafe { float::change(lanes, new, old, differences, len) }
            }
        }
    )*};
}
block_by_block!(f32, f64, F16, Bf16);

macro_rules! one_after_another {
    ($($type:ty),*) => {$(impl Change for $type {})*};
}
one_after_another!(u8, u16, u32, u64, i8, i16, i32, i64, Bool, F8E4M3FN, F8E5M2);
