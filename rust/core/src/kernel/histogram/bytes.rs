//! Owns the counting of one-byte elements by their bits: at most 256 different values, whatever is asked of them afterwards.

use crate::simd::lanes::Lanes;
use crate::simd::level::{Kernel, Level};

/// Counter tables filled in turn, so that equal neighbours do not wait for each other's increment to be stored.
const TABLES: usize = 8;

/// Below this many elements one table is enough: clearing and adding up eight costs more.
const SMALL: usize = 2048;

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
        // SAFETY: `count_bytes` vouches for `len` bytes.
        let codes = unsafe { count_codes(self.p, self.len) };
        for (count, code) in self.counts.iter_mut().zip(codes) {
            *count += u64::from(code);
        }
    }
}

/// How often each byte value occurs.
///
/// # Safety
/// `p` must be readable for `len` bytes; `len` must be below 2^32.
#[inline(always)]
pub(crate) unsafe fn count_codes(p: *const u8, len: usize) -> [u32; 256] {
    let mut codes = [0_u32; 256];
    let mut i = 0;
    if len >= SMALL {
        let mut tables = [[0_u32; 256]; TABLES];
        let whole = len - len % 8;
        while i < whole {
            // SAFETY: eight bytes before `whole` are inside.
            let word = unsafe { p.add(i).cast::<u64>().read_unaligned() };
            tables[0][(word & 0xff) as usize] += 1;
            tables[1][((word >> 8) & 0xff) as usize] += 1;
            tables[2][((word >> 16) & 0xff) as usize] += 1;
            tables[3][((word >> 24) & 0xff) as usize] += 1;
            tables[4][((word >> 32) & 0xff) as usize] += 1;
            tables[5][((word >> 40) & 0xff) as usize] += 1;
            tables[6][((word >> 48) & 0xff) as usize] += 1;
            tables[7][(word >> 56) as usize] += 1;
            i += 8;
        }
        for table in &tables {
            for (code, count) in codes.iter_mut().zip(table) {
                *code += count;
            }
        }
    }
    while i < len {
        // SAFETY: inside.
        codes[unsafe { *p.add(i) } as usize] += 1;
        i += 1;
    }
    codes
}

/// The element with the given bits.
#[inline]
pub fn element_of_byte<E: crate::dtype::element::Element>(code: u8) -> Option<E> {
    if size_of::<E>() != 1 {
        return None;
    }
    // SAFETY: `E` is one byte wide (checked above) and valid for every bit pattern (the contract of `Element`).
    Some(unsafe { core::mem::transmute_copy(&code) })
}
