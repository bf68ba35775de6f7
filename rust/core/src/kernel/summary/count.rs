//! Owns the choice of the kernel that counts a chunk of a dtype. Knows nothing of how it does.

use crate::dtype::element::{Bf16, Bool, Element, F8E4M3FN, F8E5M2, F16};
use crate::kernel::grid::Moments;
use crate::kernel::summary::{codes, float, integer};
use crate::simd::lanes::Lanes;
use crate::state::stats::Stats;

/// Elements whose chunks can be counted.
pub trait Count: Element {
    /// Statistics of `len` dense elements, at most [`crate::kernel::CHUNK`].
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
