//! Owns the picking of elements by a mask with AVX-512's compress, sixteen elements a step. Knows nothing of tensors.

#[allow(clippy::wildcard_imports, reason = "every line below is an intrinsic; a list would repeat the file")]
use core::arch::x86_64::*;

use crate::dtype::element::Element;
use crate::simd::select::select_any;

/// Elements per step.
const STEP: usize = 16;

/// Mask bytes that are looked at together.
const GROUP: usize = 64;

/// # Safety
/// The CPU must have AVX-512 (F, BW, VL); memory as for [`crate::kernel::query::select::select`].
#[inline(always)]
pub(crate) unsafe fn select<E: Element>(p: *const E, mask: *const u8, len: usize, out: *mut E) -> usize {
    let whole = len - len % GROUP;
    let mut n = 0;
    let mut i = 0;
    while i < whole {
        // SAFETY: the group is inside; a step writes at most `STEP` elements from `n` on, and `n` is at most `i`.
        unsafe {
            let bytes = _mm512_loadu_si512(mask.add(i).cast());
            let mut picked = _mm512_test_epi8_mask(bytes, bytes);
            let mut j = i;
            while picked != 0 {
                let k = picked as __mmask16;
                step::<E>(p.add(j), k, out.add(n));
                n += k.count_ones() as usize;
                picked >>= STEP;
                j += STEP;
            }
        }
        i += GROUP;
    }
    // SAFETY: the rest, and as much room.
    n + unsafe { select_any(p.add(whole), mask.add(whole), len - whole, out.add(n)) }
}

/// Picks from sixteen elements: narrow ones as 32-bit numbers, wide ones in two halves. Compressed in a register and then stored whole,
/// since compressing into memory is microcoded on some CPUs.
///
/// # Safety
/// Sixteen elements must be readable at `p` and writable at `out`.
#[inline(always)]
unsafe fn step<E: Element>(p: *const E, k: __mmask16, out: *mut E) {
    // SAFETY: as the caller vouches; each arm reads and writes sixteen elements of its width.
    unsafe {
        match size_of::<E>() {
            1 => {
                let wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
                _mm_storeu_si128(out.cast(), _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(k, wide)));
            }
            2 => {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
                _mm256_storeu_si256(out.cast(), _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(k, wide)));
            }
            4 => {
                let x = _mm512_loadu_si512(p.cast());
                _mm512_storeu_si512(out.cast(), _mm512_maskz_compress_epi32(k, x));
            }
            _ => {
                let (low, high) = (_mm512_loadu_si512(p.cast()), _mm512_loadu_si512(p.add(STEP / 2).cast()));
                _mm512_storeu_si512(out.cast(), _mm512_maskz_compress_epi64(k as __mmask8, low));
                let first = usize::from(k as u8).count_ones() as usize;
                let rest = _mm512_maskz_compress_epi64((k >> 8) as __mmask8, high);
                _mm512_storeu_si512(out.add(first).cast(), rest);
            }
        }
    }
}
