//! Owns the floating-point mode that all arithmetic of this crate runs in. Knows nothing of what is computed.

use core::hint::black_box;

/// Runs `f` with rounding to nearest and denormals counted as numbers, whatever mode the caller is in.
///
/// The two black boxes keep the compiler from moving arithmetic across the change of mode, which it does not know about. The second one
/// takes the address: by value it would copy the result twice.
#[inline]
pub fn with_standard_floats<R>(f: impl FnOnce() -> R) -> R {
    let _environment = FloatEnvironment::standard();
    let mut result = black_box(f)();
    black_box(&mut result);
    result
}

/// Restores the caller's floating-point control register when dropped.
///
/// Other libraries set flush-to-zero for the whole process (anything linked with `-ffast-math` does), threads inherit it, and then bf16
/// and f32 subnormals would vanish from sums. Kernels therefore run with rounding to nearest and denormals on.
struct FloatEnvironment {
    saved: u64,
}

#[cfg(target_arch = "x86_64")]
impl FloatEnvironment {
    /// Default control word: all exceptions masked, round to nearest, no flushing.
    const STANDARD: u32 = 0x1f80;
    /// The sticky exception flags, which are not a mode.
    const FLAGS: u32 = 0x3f;

    #[inline]
    fn standard() -> Self {
        let mut saved = 0_u32;
        // SAFETY: stmxcsr stores four bytes to the given address and touches nothing else.
        unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut saved, options(nostack, preserves_flags)) };
        if saved & !Self::FLAGS != Self::STANDARD {
            Self::load(Self::STANDARD);
        }
        Self { saved: u64::from(saved) }
    }

    #[inline]
    fn load(word: u32) {
        // SAFETY: ldmxcsr loads a valid control word; the value is the default one or one that was in force before.
        unsafe {
            core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, preserves_flags, readonly))
        };
    }
}

#[cfg(target_arch = "x86_64")]
impl Drop for FloatEnvironment {
    #[inline]
    fn drop(&mut self) {
        if self.saved as u32 & !Self::FLAGS != Self::STANDARD {
            Self::load(self.saved as u32);
        }
    }
}

#[cfg(target_arch = "aarch64")]
impl FloatEnvironment {
    #[inline]
    fn standard() -> Self {
        let saved: u64;
        // SAFETY: reading and zeroing FPCR selects round-to-nearest without flushing, the state Rust assumes.
        unsafe {
            core::arch::asm!("mrs {}, fpcr", out(reg) saved, options(nomem, nostack, preserves_flags));
            if saved != 0 {
                core::arch::asm!("msr fpcr, {}", in(reg) 0_u64, options(nomem, nostack, preserves_flags));
            }
        }
        Self { saved }
    }
}

#[cfg(target_arch = "aarch64")]
impl Drop for FloatEnvironment {
    #[inline]
    fn drop(&mut self) {
        if self.saved != 0 {
            // SAFETY: puts back the word that was in force before.
            unsafe { core::arch::asm!("msr fpcr, {}", in(reg) self.saved, options(nomem, nostack, preserves_flags)) };
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl FloatEnvironment {
    fn standard() -> Self {
        Self { saved: 0 }
    }
}
