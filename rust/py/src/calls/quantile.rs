//! Owns the Python function for exact quantiles. Knows nothing of how they are found.

use pyo3::prelude::*;
use tensorstats_core::query::quantile::quantiles;

use crate::arrays;
use crate::errors::to_py;
use crate::memory::buffer::Buffer;
use crate::package;
use crate::run::{self, Threads};

/// The quantiles of one tensor; `q` is a number or an array of any shape.
#[pyfunction]
#[pyo3(signature = (x, q, /, threads = None))]
pub(crate) fn quantile<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    q: &Bound<'py, PyAny>,
    threads: Option<Threads>,
) -> PyResult<Bound<'py, PyAny>> {
    arrays::map(q, "q", |qs| {
        let threads = run::threads(threads)?;
        let Some(buffer) = Buffer::of(x)? else { return package::door(py, "quantile", (x, qs))?.extract() };
        run::count(py, &buffer, threads, |view, options| quantiles(view, qs, options))?.map_err(to_py)
    })
}
