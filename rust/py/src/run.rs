//! Owns how a count is run from Python: options, letting other threads work, and Ctrl-C. Knows nothing of what is counted.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tensorstats_core::parallel::scan::{Options, thread_count};
use tensorstats_core::{Error, Level, TensorView};

use crate::errors::to_py;
use crate::memory::buffer::Buffer;

/// How long a count may run before Ctrl-C is looked for again.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// More threads than any machine has cores; what a slip of the pen asks for beyond it would take gigabytes of stacks.
pub(crate) const MAX_THREADS: i64 = 1024;

/// The number of threads a call may use.
pub(crate) fn threads(requested: Option<i64>) -> PyResult<usize> {
    match requested {
        None => Ok(thread_count()),
        Some(n) if (1..=MAX_THREADS).contains(&n) => Ok(n as usize),
        Some(n) => Err(to_py(Error::Argument(format!("threads must be in [1, {MAX_THREADS}], got: {n}")))),
    }
}

/// Runs `count` on a buffer, detached from Python unless the buffer is small (and so perhaps borrowed). A signal handler's exception wins over
/// the result.
pub(crate) fn count<R: Send>(
    py: Python<'_>,
    buffer: &Buffer,
    threads: usize,
    count: impl FnOnce(&TensorView<'_>, &Options<'_>) -> R + Send,
) -> PyResult<R> {
    if buffer.is_small() {
        let options = Options { threads: 1, level: Level::current(), interrupted: &|| false };
        return Ok(count(&buffer.view(), &options));
    }
    detached(py, threads, |options| count(&buffer.view(), options))
}

/// As [`count`], of the elements for which a mask is true, where there is one.
pub(crate) fn count_chosen<R: Send>(
    py: Python<'_>,
    buffer: &Buffer,
    mask: Option<&Buffer>,
    threads: usize,
    count: impl FnOnce(&TensorView<'_>, &Options<'_>) -> R + Send,
) -> PyResult<R> {
    let Some(mask) = mask else { return self::count(py, buffer, threads, count) };
    let chosen = |view: &TensorView<'_>, options: &Options<'_>| {
        view.select(&mask.view(), options).map(|chosen| count(&chosen, options))
    };
    self::count(py, buffer, threads, chosen)?.map_err(to_py)
}

/// Runs `work` detached from Python, looking for signals now and then.
pub(crate) fn detached<R: Send>(
    py: Python<'_>,
    threads: usize,
    work: impl FnOnce(&Options<'_>) -> R + Send,
) -> PyResult<R> {
    let (result, signal) = py.detach(|| {
        let last = Cell::new(Instant::now());
        let signal = Cell::new(None);
        let heard = Cell::new(false);
        let interrupted = || {
            if heard.get() {
                return true; // a count in several passes asks in each of them, and the handler ran already
            }
            if last.get().elapsed() < SIGNAL_INTERVAL {
                return false;
            }
            last.set(Instant::now());
            #[allow(
                clippy::redundant_closure_for_method_calls,
                reason = "the bare method is not general enough in its lifetime"
            )]
            match Python::attach(|py| py.check_signals()) {
                Ok(()) => false,
                Err(error) => {
                    heard.set(true);
                    signal.set(Some(error));
                    true
                }
            }
        };
        let result = work(&Options { threads, level: Level::current(), interrupted: &interrupted });
        (result, signal.into_inner())
    });
    signal.map_or(Ok(result), Err)
}
