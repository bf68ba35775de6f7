//! Owns the hint that memory will be read soon. A hint never faults and never changes a result.

/// Bytes that one hint fetches.
pub(crate) const LINE: usize = 64;

/// Bytes ahead of the one in use: enough counting for memory to answer in the meantime.
pub(crate) const AHEAD: usize = 8192;

/// Asks for the line at `p`, which need not be readable.
#[inline(always)]
pub(crate) fn prefetch<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: prefetching is defined for any address, and every x86-64 CPU has the instruction.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}
