//! Owns how a count is run from Python: options, letting other threads work, and Ctrl-C. Knows nothing of what is counted.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyInt;
use tensorstats_core::parallel::scan::{Options, thread_count};
use tensorstats_core::{Level, TensorView};

use crate::errors::to_py;
use crate::memory::buffer::Buffer;

/// How long a count may run before Ctrl-C is looked for again.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// More threads than any machine has cores; what a slip of the pen asks for beyond it would take gigabytes of stacks.
pub(crate) const MAX_THREADS: i64 = 1024;

/// The argument `threads=` of a call, where it is not None. What is none is told by [`threads`], in the words of the other errors: what fails
/// while arguments are read gets a note.
pub(crate) struct Threads(PyResult<usize>);

impl<'a, 'py> FromPyObject<'a, 'py> for Threads {
    type Error = Infallible;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> Result<Self, Infallible> {
        let number = given.extract::<i64>();
        Ok(Self(match number {
            Ok(n) if (1..=MAX_THREADS).contains(&n) => Ok(n as usize),
            _ => Err(refused(given, number.is_ok())),
        }))
    }
}

#[cold]
fn refused(given: Borrowed<'_, '_, PyAny>, whole: bool) -> PyErr {
    let got = given.repr().map_or_else(|_| given.get_type().to_string(), |text| text.to_string());
    // A whole number that 64 bits cannot hold is one all the same.
    if whole || given.is_instance_of::<PyInt>() {
        PyValueError::new_err(format!("threads must be in [1, {MAX_THREADS}], got: {got}"))
    } else {
        PyTypeError::new_err(format!("threads must be a whole number in [1, {MAX_THREADS}] or None, got: {got}"))
    }
}

/// The number of threads a call may use.
pub(crate) fn threads(requested: Option<Threads>) -> PyResult<usize> {
    requested.map_or_else(|| Ok(thread_count()), |Threads(threads)| threads)
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
