//! Owns the process-wide choices, SIMD level and thread count, with the reason for each. Knows nothing of tensors.

use std::sync::Mutex;

use pyo3::prelude::*;
use tensorstats_core::parallel::{scan, team};
use tensorstats_core::{Error, Level};

use crate::errors::to_py;
use crate::run::MAX_THREADS;

const LEVEL_VARIABLE: &str = "TENSORSTATS_SIMD";
const THREADS_VARIABLE: &str = "TENSORSTATS_NUM_THREADS";

/// Why a setting has its value, where it is not what the machine suggests.
struct Reasons {
    level: Option<String>,
    threads: Option<String>,
}

static REASONS: Mutex<Reasons> = Mutex::new(Reasons { level: None, threads: None });

fn reasons() -> std::sync::MutexGuard<'static, Reasons> {
    REASONS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Reads both environment variables; a value that cannot be used fails the import with a message that names it.
pub(crate) fn from_environment() -> PyResult<()> {
    if let Some(name) = variable(LEVEL_VARIABLE) {
        let level = Level::from_name(&name).map_err(|e| to_py(Error::Level(format!("{LEVEL_VARIABLE}: {e}"))))?;
        Level::set_override(Some(level));
        reasons().level = Some(format!("{LEVEL_VARIABLE}={name}"));
    }
    if let Some(text) = variable(THREADS_VARIABLE) {
        let count =
            text.parse::<usize>().ok().filter(|&n| (1..=MAX_THREADS as usize).contains(&n)).ok_or_else(|| {
                to_py(Error::Argument(format!(
                    "{THREADS_VARIABLE} must be a whole number in [1, {MAX_THREADS}], got: {text}"
                )))
            })?;
        scan::set_thread_count(Some(count));
        reasons().threads = Some(format!("{THREADS_VARIABLE}={count}"));
    }
    Ok(())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
}

/// The level in force and why.
#[pyfunction]
pub(crate) fn simd_level() -> (&'static str, String) {
    (Level::current().name(), reasons().level.clone().unwrap_or_else(|| "best this CPU has".to_owned()))
}

/// The levels this machine can run, weakest first.
#[pyfunction]
pub(crate) fn simd_levels() -> Vec<&'static str> {
    Level::available().iter().map(|l| l.name()).collect()
}

/// Forces a level; `None` goes back to the best one.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub(crate) fn set_simd_level(name: Option<&str>) -> PyResult<()> {
    let level = name.map(Level::from_name).transpose().map_err(to_py)?;
    Level::set_override(level);
    reasons().level = level.map(|_| "set by set_simd_level".to_owned());
    Ok(())
}

/// The number of threads in force and why.
#[pyfunction]
pub(crate) fn thread_count() -> (usize, String) {
    (scan::thread_count(), reasons().threads.clone().unwrap_or_else(|| "CPUs this process may use".to_owned()))
}

/// Fixes the number of threads; `None` goes back to what the machine allows.
#[pyfunction]
#[pyo3(signature = (count, /))]
pub(crate) fn set_thread_count(count: Option<i64>) -> PyResult<()> {
    let count = match count {
        None => None,
        Some(n) if (1..=MAX_THREADS).contains(&n) => Some(n as usize),
        Some(n) => {
            return Err(to_py(Error::Argument(format!("thread count must be in [1, {MAX_THREADS}], got: {n}"))));
        }
    };
    scan::set_thread_count(count);
    reasons().threads = count.map(|_| "set by set_thread_count".to_owned());
    Ok(())
}

/// Lets the core work on the threads of an OpenMP runtime, given the address of its function `GOMP_parallel`; `None` goes back to threads
/// made for each call.
#[pyfunction]
#[pyo3(signature = (address, /))]
pub(crate) fn use_openmp(address: Option<usize>) -> PyResult<()> {
    let parallel = match address {
        None => None,
        Some(0) => return Err(to_py(Error::Argument("the address of GOMP_parallel must not be 0".to_owned()))),
        // SAFETY: an address that is not 0 is a function pointer; the caller vouches that it is the one named.
        Some(address) => Some(unsafe { core::mem::transmute::<usize, team::Parallel>(address) }),
    };
    // SAFETY: as above; the Python side keeps the runtime loaded, as everything that is imported stays.
    unsafe { team::use_openmp(parallel) };
    Ok(())
}

/// Whether the next count works on the threads of an OpenMP runtime.
#[pyfunction]
pub(crate) fn uses_openmp() -> bool {
    team::uses_openmp()
}
