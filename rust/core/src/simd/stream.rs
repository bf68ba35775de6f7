//! Owns the copy of memory that will not be read again soon: it goes past the caches where the CPU has stores for that.

/// Copies bytes without asking for the old content of the target, which a plain store does, and without keeping the target in cache.
///
/// # Safety
/// `from` must be readable and `to` writable for `len` bytes, and the two must not overlap; neither need be aligned.
pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as the caller vouches.
    unsafe {
        copy_past_caches(from, to, len);
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: as the caller vouches.
    unsafe {
        core::ptr::copy_nonoverlapping(from, to, len);
    }
}

/// # Safety
/// As for [`copy`].
#[cfg(target_arch = "x86_64")]
#[allow(clippy::cast_ptr_alignment, reason = "loads need no alignment, and the lines that are stored to are aligned")]
unsafe fn copy_past_caches(from: *const u8, to: *mut u8, len: usize) {
    use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    use crate::simd::prefetch::LINE;

    let head = to.align_offset(LINE).min(len);
    let lines = (len - head) / LINE;
    let streamed = head + lines * LINE;
    // SAFETY: all offsets are below `len`; the streamed lines begin at a multiple of their size. Every x86-64 CPU has these stores, which
    // are put in order with the others before anybody is told that the copy is done.
    unsafe {
        core::ptr::copy_nonoverlapping(from, to, head);
        for line in 0..lines {
            let (from, to) =
                (from.add(head + line * LINE).cast::<__m128i>(), to.add(head + line * LINE).cast::<__m128i>());
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| _mm_loadu_si128(from.add(i)));
            _mm_stream_si128(to, a);
            _mm_stream_si128(to.add(1), b);
            _mm_stream_si128(to.add(2), c);
            _mm_stream_si128(to.add(3), d);
        }
        _mm_sfence();
        core::ptr::copy_nonoverlapping(from.add(streamed), to.add(streamed), len - streamed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_arrives_and_no_other_changes() {
        let source: Vec<u8> = (0..1000_u32).map(|i| (i % 251) as u8 + 1).collect();
        for len in [0, 1, 15, 63, 64, 65, 127, 128, 200, 900] {
            for (from, to) in [(0, 0), (1, 0), (0, 1), (3, 63), (7, 64), (64, 17)] {
                let mut target = vec![0_u8; 1000];
                // SAFETY: at most 64 + 900 bytes of a thousand.
                unsafe { copy(source.as_ptr().add(from), target.as_mut_ptr().add(to), len) };
                assert_eq!(target[to..to + len], source[from..from + len]);
                assert!(target[..to].iter().chain(&target[to + len..]).all(|&byte| byte == 0));
            }
        }
    }
}
