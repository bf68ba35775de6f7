//! Owns the choice of SIMD level: detection, override and dispatch.
//! Knows nothing of what kernels compute.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, Result};
use crate::number::environment::with_standard_floats;
use crate::simd::lanes::Lanes;
use crate::simd::portable::Portable;

/// A set of CPU instructions that a kernel may use. Values other than [`Level::PORTABLE`] exist only where the CPU has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(Name);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "named on every machine, run on one"))]
#[cfg_attr(not(target_arch = "aarch64"), allow(dead_code, reason = "named on every machine, run on one"))]
enum Name {
    Portable = 0,
    Avx2 = 1,
    Avx512Bw = 2,
    Avx512 = 3,
    Neon = 4,
}

/// Weakest first.
const NAMES: [(&str, Name); 5] = [
    ("portable", Name::Portable),
    ("avx2", Name::Avx2),
    ("avx512bw", Name::Avx512Bw),
    ("avx512", Name::Avx512),
    ("neon", Name::Neon),
];

/// No override; any other value is a [`Name`].
const DETECTED: u8 = u8::MAX;
static OVERRIDE: AtomicU8 = AtomicU8::new(DETECTED);

/// A computation that can run at any level. `run` and all it calls must be `#[inline(always)]`, or they lose the CPU features.
pub trait Kernel {
    /// What comes out; the same bits at every level.
    type Output;
    /// Runs with the registers of one level.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

impl Level {
    /// Runs anywhere.
    pub const PORTABLE: Self = Self(Name::Portable);

    /// The levels this machine can run, weakest first.
    pub fn available() -> &'static [Self] {
        static AVAILABLE: OnceLock<Vec<Level>> = OnceLock::new();
        AVAILABLE
            .get_or_init(|| NAMES.iter().filter(|(_, name)| supported(*name)).map(|&(_, name)| Self(name)).collect())
    }

    /// The best level this machine can run.
    pub fn best() -> Self {
        Self::available().last().copied().unwrap_or(Self::PORTABLE)
    }

    /// The level in force: the override where one is set, else the best.
    pub fn current() -> Self {
        let forced = OVERRIDE.load(Ordering::Relaxed);
        if forced == DETECTED {
            return Self::best();
        }
        NAMES.iter().find(|&&(_, name)| name as u8 == forced).map_or(Self::PORTABLE, |&(_, name)| Self(name))
    }

    /// Finds a level by name; an error when it is unknown or this machine lacks it.
    pub fn from_name(text: &str) -> Result<Self> {
        let known = NAMES.iter().find(|(name, _)| *name == text).map(|&(_, name)| Self(name));
        let runs: Vec<&str> = Self::available().iter().map(|l| l.name()).collect();
        match known {
            Some(level) if Self::available().contains(&level) => Ok(level),
            Some(_) => Err(Error::Level(format!(
                "this machine cannot run SIMD level: {text}; it can run: {}",
                runs.join(", ")
            ))),
            None => Err(Error::Level(format!("unknown SIMD level: {text}; this machine can run: {}", runs.join(", ")))),
        }
    }

    /// Forces a level for the whole process; `None` goes back to the best one.
    pub fn set_override(level: Option<Self>) {
        OVERRIDE.store(level.map_or(DETECTED, |l| l.0 as u8), Ordering::Relaxed);
    }

    /// The name, such as `avx512`.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|&&(_, name)| name == self.0).map_or("portable", |&(text, _)| text)
    }

    /// Runs a kernel at this level, with denormals counted as numbers whatever the caller's floating-point mode is.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        with_standard_floats(|| match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Level of this name exists only after `supported` found the features.
            Name::Avx2 => unsafe { run_avx2(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above; VBMI is what the two names differ in.
            Name::Avx512Bw | Name::Avx512 => unsafe { run_avx512(kernel, self.0 == Name::Avx512) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: NEON is part of every aarch64 CPU.
            Name::Neon => unsafe { run_neon(kernel) },
            _ => kernel.run(Portable),
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn supported(name: Name) -> bool {
    use std::arch::is_x86_feature_detected as has;
    match name {
        Name::Portable => true,
        Name::Avx2 => {
            has!("avx2")
                && has!("fma")
                && has!("f16c")
                && has!("bmi1")
                && has!("bmi2")
                && has!("popcnt")
                && has!("lzcnt")
        }
        Name::Avx512Bw => {
            supported(Name::Avx2)
                && has!("avx512f")
                && has!("avx512bw")
                && has!("avx512dq")
                && has!("avx512vl")
                && has!("avx512cd")
        }
        Name::Avx512 => supported(Name::Avx512Bw) && has!("avx512vbmi"),
        Name::Neon => false,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn supported(name: Name) -> bool {
    name == Name::Portable || (cfg!(target_arch = "aarch64") && name == Name::Neon)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,popcnt,lzcnt")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(crate::simd::avx2::Avx2::here())
}

/// # Safety
/// The CPU must have the features, and VBMI where `vbmi` says so.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,popcnt,lzcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512cd")]
unsafe fn run_avx512<K: Kernel>(kernel: K, vbmi: bool) -> K::Output {
    // SAFETY: as the caller vouches.
    kernel.run(unsafe { crate::simd::avx512::Avx512::here(vbmi) })
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn run_neon<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(crate::simd::neon::Neon::here())
}

/// Runs `f` with denormals counted as numbers, whatever the caller's floating-point mode is.
pub fn in_standard_mode<R>(f: impl FnOnce() -> R) -> R {
    Level::PORTABLE.run(Call(f))
}

struct Call<F>(F);

impl<R, F: FnOnce() -> R> Kernel for Call<F> {
    type Output = R;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> R {
        (self.0)()
    }
}
