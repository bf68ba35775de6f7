//! Owns counts over many tensors in one call: tables of summaries, and norms. Arithmetic is the core's.

use std::cmp::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyIndexError, PyKeyError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use tensorstats_core::kernel::Moments;
use tensorstats_core::parallel::scan::Options;
use tensorstats_core::summary::fields::{FIELDS, Field, Read};
use tensorstats_core::summary::norm::Order;
use tensorstats_core::{Sketch, Summary, TensorView};

use crate::calls::elsewhere::Elsewhere;
use crate::calls::rows::Rows;
use crate::errors::{of_many, to_py};
use crate::memory::buffers::{Buffers, Next};
use crate::memory::dims::Shape;
use crate::run::{self, Threads};
use crate::states::summary::PySummary;

/// The summaries of many tensors, in the order they were given.
#[pyclass(frozen, name = "Summaries", module = "tensorstats._core")]
pub(crate) struct PySummaries(Mutex<Rows>);

impl PySummaries {
    pub(crate) fn of(rows: Rows) -> Self {
        Self(Mutex::new(rows))
    }

    /// Held only for short copies and merges, never while Python code runs.
    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl PySummaries {
    /// Takes in a table of as many rows, row by row; returns the table itself.
    #[pyo3(signature = (other, /))]
    fn merge<'py>(slf: Bound<'py, Self>, other: &Self) -> PyResult<Bound<'py, Self>> {
        let this = slf.get();
        match (&raw const *this).cmp(&(&raw const *other)) {
            Ordering::Equal => {
                let rows = this.lock().clone();
                this.lock().merge(&rows)?;
            }
            // Whichever way two tables are merged, the one at the lower address is locked first, so that nobody waits for anybody.
            Ordering::Less => {
                let mut mine = this.lock();
                mine.merge(&other.lock())?;
            }
            Ordering::Greater => {
                let theirs = other.lock();
                this.lock().merge(&theirs)?;
            }
        }
        Ok(slf)
    }

    /// An independent copy.
    fn copy(&self) -> Self {
        Self::of(self.lock().clone())
    }

    fn __copy__(&self) -> Self {
        self.copy()
    }

    fn __deepcopy__(&self, _memo: &Bound<'_, PyAny>) -> Self {
        self.copy()
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyList>,))> {
        let rows = self.lock().clone();
        let states = (0..rows.len()).filter_map(|row| rows.state(row)).map(PySummary::wrap);
        let rebuild = py.import("tensorstats._core")?.getattr("summaries_from")?;
        Ok((rebuild, (PyList::new(py, states.collect::<Vec<_>>())?,)))
    }

    /// Lets go of what only a repr shows, the shapes and the samples for a sparkline: half of the memory.
    fn keep_numbers(&self) {
        self.lock().keep_numbers();
    }

    fn __len__(&self) -> usize {
        self.lock().len()
    }

    fn __getitem__(&self, index: usize) -> PyResult<PySummary> {
        let rows = self.lock();
        rows.state(index)
            .map(PySummary::wrap)
            .ok_or_else(|| PyIndexError::new_err(format!("row must be below {}, got: {index}", rows.len())))
    }

    /// The dtype of every row.
    fn dtypes(&self) -> Vec<Option<&'static str>> {
        self.lock().summaries().iter().map(|summary| summary.dtype().map(tensorstats_core::Dtype::name)).collect()
    }

    /// The shape of every row, where it is of one tensor.
    fn shapes(&self) -> Vec<Option<Vec<i64>>> {
        let rows = self.lock();
        let shape = |row| match rows.shapes().get(row) {
            Some(Shape::One(shape)) => Some(shape.to_vec()),
            _ => None,
        };
        (0..rows.len()).map(shape).collect()
    }

    /// One field of every row as native-endian bytes: of `uint64` when the flag is true, else of `float64`.
    fn column<'py>(&self, py: Python<'py>, name: &str) -> PyResult<(bool, Bound<'py, PyBytes>)> {
        let Some(field) = Field::named(name) else {
            let accepted: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
            return Err(PyKeyError::new_err(format!("unknown column: {name}; accepted: {}", accepted.join(", "))));
        };
        let rows = self.lock();
        let rows = rows.summaries();
        let (counts, bytes): (bool, Vec<u8>) = match field.read {
            Read::Count(read) => (true, rows.iter().flat_map(|row| read(row).to_ne_bytes()).collect()),
            Read::Value(read) => (false, rows.iter().flat_map(|row| read(row).to_f64().to_ne_bytes()).collect()),
            Read::Real(read) => (false, rows.iter().flat_map(|row| read(row).to_ne_bytes()).collect()),
        };
        Ok((counts, PyBytes::new(py, &bytes)))
    }
}

/// The rows of many tensors: small ones are counted at once, the rest in one go without the GIL.
fn rows(py: Python<'_>, tensors: &Bound<'_, PyList>, moments: Moments, threads: usize) -> PyResult<Rows> {
    let mut counted = Vec::with_capacity(tensors.len());
    let mut buffers = Buffers::with_capacity(tensors.len());
    let mut elsewhere = Elsewhere::default();
    for (row, tensor) in tensors.iter().enumerate() {
        match buffers.next(&tensor, tensors.len())? {
            Next::Now(buffer) => {
                let count = |view: &TensorView<'_>, options: &Options<'_>| {
                    (Summary::of(view, moments, options), Sketch::of(view))
                };
                counted.push(run::count(py, &buffer, 1, count)?);
            }
            Next::Later => {}
            Next::Elsewhere => {
                let begun = elsewhere.begin(py, row, "start_summary", (tensor, moments.number()));
                begun.map_err(|error| of_many(py, error, row, tensors.len()))?;
            }
        }
    }
    let views = buffers.views();
    if !views.is_empty() {
        counted.extend(run::detached(py, threads, |options| Summary::of_each_sketched(&views, moments, options))?);
    }
    drop(views);
    let mut elsewhere = elsewhere.finish(py)?.into_iter().peekable();
    let mut rows = Rows::with_capacity(tensors.len());
    for ((summary, sketch), shape) in counted.into_iter().zip(buffers.into_shapes()) {
        while let Some((_, state)) = elsewhere.next_if(|(row, _)| *row == rows.len()) {
            rows.push_state(state.cast::<PySummary>()?.get().snapshot());
        }
        rows.push(summary, &sketch, shape);
    }
    for (_, state) in elsewhere {
        rows.push_state(state.cast::<PySummary>()?.get().snapshot());
    }
    Ok(rows)
}

/// Summarises many tensors.
#[pyfunction]
#[pyo3(signature = (tensors, /, moments = 2, threads = None))]
pub(crate) fn summaries(
    py: Python<'_>,
    tensors: &Bound<'_, PyList>,
    moments: u32,
    threads: Option<Threads>,
) -> PyResult<PySummaries> {
    let moments = Moments::from_number(moments).map_err(to_py)?;
    rows(py, tensors, moments, run::threads(threads)?).map(PySummaries::of)
}

/// A table of summaries that exist already.
#[pyfunction]
#[pyo3(signature = (rows, /))]
pub(crate) fn summaries_from(rows: Vec<PyRef<'_, PySummary>>) -> PySummaries {
    let mut table = Rows::with_capacity(rows.len());
    for row in rows {
        let state = row.snapshot();
        table.push(state.summary, &state.sketch, state.shape);
    }
    PySummaries::of(table)
}

/// The norm of each tensor.
#[pyfunction]
#[pyo3(signature = (tensors, /, ord = 2.0, threads = None))]
pub(crate) fn norms(
    py: Python<'_>,
    tensors: &Bound<'_, PyList>,
    ord: f64,
    threads: Option<Threads>,
) -> PyResult<Vec<f64>> {
    let order = Order::from_number(ord).map_err(to_py)?;
    let rows = rows(py, tensors, Moments::Two, run::threads(threads)?)?;
    Ok(rows.summaries().iter().map(|summary| order.of(summary)).collect())
}

/// The norm of all tensors taken as one vector.
#[pyfunction]
#[pyo3(signature = (tensors, /, ord = 2.0, threads = None))]
pub(crate) fn norm(py: Python<'_>, tensors: &Bound<'_, PyList>, ord: f64, threads: Option<Threads>) -> PyResult<f64> {
    let order = Order::from_number(ord).map_err(to_py)?;
    let rows = rows(py, tensors, Moments::Two, run::threads(threads)?)?;
    order.of_all(rows.summaries().iter()).map_err(to_py)
}
