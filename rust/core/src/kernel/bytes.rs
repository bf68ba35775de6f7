//! Owns the counting of one-byte elements by their bits: at most 256 different values, whatever is asked of them afterwards.

use super::lanes::Lanes;
use crate::level::{Kernel, Level};

/// Tables filled in turn, so that equal neighbours do not wait for each other's increment to be stored.
const TABLES: usize = 8;

/// Adds to each of 256 counters how often its byte occurs.
///
/// # Safety
/// `p` must be readable for `len` bytes; `len` must be below 2^32.
pub unsafe fn count_bytes(level: Level, p: *const u8, len: usize, counts: &mut [u64; 256]) {
    level.run(BytesKernel { p, len, counts });
}

struct BytesKernel<'a> {
    p: *const u8,
    len: usize,
    counts: &'a mut [u64; 256],
}

impl Kernel for BytesKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        let mut tables = [[0_u32; 256]; TABLES];
        let whole = self.len - self.len % TABLES;
        let mut i = 0;
        while i < whole {
            // SAFETY: eight bytes before `whole` are inside.
            let word = unsafe { self.p.add(i).cast::<u64>().read_unaligned() };
            for (table, byte) in tables.iter_mut().zip(word.to_ne_bytes()) {
                table[usize::from(byte)] += 1;
            }
            i += TABLES;
        }
        for j in whole..self.len {
            // SAFETY: inside.
            tables[0][usize::from(unsafe { *self.p.add(j) })] += 1;
        }
        for (code, count) in self.counts.iter_mut().enumerate() {
            *count += tables.iter().map(|t| u64::from(t[code])).sum::<u64>();
        }
    }
}

/// The element with the given bits.
#[inline]
pub fn element_of_byte<E: crate::element::Element>(code: u8) -> Option<E> {
    if size_of::<E>() != 1 {
        return None;
    }
    // SAFETY: `E` is one byte wide (checked above) and valid for every bit pattern (the contract of `Element`).
    Some(unsafe { core::mem::transmute_copy(&code) })
}
