//! Owns the picking of elements by a mask on any CPU. Knows nothing of tensors or where a mask came from.

use crate::dtype::element::Element;

/// Elements that may be written beyond the ones picked.
pub const SLACK: usize = 16;

/// Mask bytes that are looked at together.
const GROUP: usize = 32;

/// On any CPU: groups without a choice to make are skipped or copied, in the others every element is written and some are written over.
///
/// # Safety
/// `p` and `mask` must be readable for `len` elements and bytes, and `out` writable for `len` and [`SLACK`] elements. Elements need not be
/// aligned, `out` must be.
#[inline(always)]
pub(crate) unsafe fn select_any<E: Element>(p: *const E, mask: *const u8, len: usize, out: *mut E) -> usize {
    const ALL: u64 = 0x0101_0101_0101_0101;
    let mut n = 0;
    let mut i = 0;
    while i + GROUP <= len {
        // SAFETY: the group is inside; at most as many elements are written as were looked at.
        unsafe {
            let words = mask.add(i).cast::<[u64; GROUP / 8]>().read_unaligned();
            if words == [0; GROUP / 8] {
                // Nothing to do.
            } else if words == [ALL; GROUP / 8] {
                core::ptr::copy_nonoverlapping(p.add(i).cast::<u8>(), out.add(n).cast::<u8>(), GROUP * size_of::<E>());
                n += GROUP;
            } else {
                for j in i..i + GROUP {
                    out.add(n).write(p.add(j).read_unaligned());
                    n += usize::from(*mask.add(j) != 0);
                }
            }
        }
        i += GROUP;
    }
    while i < len {
        // SAFETY: as above.
        unsafe {
            out.add(n).write(p.add(i).read_unaligned());
            n += usize::from(*mask.add(i) != 0);
        }
        i += 1;
    }
    n
}
