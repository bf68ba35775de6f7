//! Owns the picking of elements by a mask of bytes. Knows nothing of tensors or where a mask came from.

use crate::dtype::element::Element;
use crate::simd::lanes::Lanes;
use crate::simd::level::{Kernel, Level};

pub use crate::simd::select::SLACK;

/// Copies the elements whose byte of the mask is not zero to `out`, in order; returns how many.
///
/// # Safety
/// `p` and `mask` must be readable for `len` elements and bytes, and `out` writable for `len` and [`SLACK`] elements. Elements need not be
/// aligned, `out` must be.
pub unsafe fn select<E: Element>(level: Level, p: *const E, mask: *const u8, len: usize, out: *mut E) -> usize {
    level.run(SelectKernel { p, mask, len, out })
}

struct SelectKernel<E> {
    p: *const E,
    mask: *const u8,
    len: usize,
    out: *mut E,
}

impl<E: Element> Kernel for SelectKernel<E> {
    type Output = usize;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> usize {
        // SAFETY: `select` vouches for the memory.
        unsafe { lanes.select(self.p, self.mask, self.len, self.out) }
    }
}

/// How many bytes of a mask are not zero.
///
/// # Safety
/// `mask` must be readable for `len` bytes.
pub unsafe fn count_selected(level: Level, mask: *const u8, len: usize) -> u64 {
    level.run(CountKernel { mask, len })
}

struct CountKernel {
    mask: *const u8,
    len: usize,
}

impl Kernel for CountKernel {
    type Output = u64;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> u64 {
        const ROW: usize = 64;
        // What a counter of eight bits can take.
        const ROWS: usize = 255;
        let (mut total, mut i) = (0_u64, 0);
        let whole = self.len - self.len % ROW;
        while i < whole {
            let mut counts = [0_u8; ROW];
            let end = whole.min(i + ROWS * ROW);
            while i < end {
                for (lane, count) in counts.iter_mut().enumerate() {
                    // SAFETY: `i + lane` is below `whole`; `count_selected` vouches for `len` bytes.
                    *count += u8::from(unsafe { *self.mask.add(i + lane) } != 0);
                }
                i += ROW;
            }
            total += counts.iter().map(|&n| u64::from(n)).sum::<u64>();
        }
        while i < self.len {
            // SAFETY: as above.
            total += u64::from(unsafe { *self.mask.add(i) } != 0);
            i += 1;
        }
        total
    }
}
