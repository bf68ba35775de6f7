//! Owns counts over many tensors in one call: tables of summaries, and norms. Arithmetic is the core's.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyIndexError, PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use tensorstats_core::kernel::Moments;
use tensorstats_core::norm::Order;
use tensorstats_core::{Sketch, Summary};

use crate::buffer::Buffer;
use crate::errors::to_py;
use crate::run;
use crate::summary::{PySummary, Shape, State};

/// The summaries of many tensors, in the order they were given.
#[pyclass(frozen, name = "Summaries", module = "tensorstats._core")]
pub(crate) struct PySummaries(Mutex<Rows>);

/// What a table holds: all of each state, or its numbers alone.
#[derive(Clone)]
enum Rows {
    Full(Vec<State>),
    Numbers(Vec<Summary>),
}

impl Rows {
    fn len(&self) -> usize {
        match self {
            Self::Full(states) => states.len(),
            Self::Numbers(summaries) => summaries.len(),
        }
    }

    fn summary(&self, row: usize) -> Option<&Summary> {
        match self {
            Self::Full(states) => states.get(row).map(|state| &state.summary),
            Self::Numbers(summaries) => summaries.get(row),
        }
    }

    fn summaries(&self) -> impl Iterator<Item = &Summary> {
        (0..self.len()).filter_map(|row| self.summary(row))
    }

    fn state(&self, row: usize) -> Option<State> {
        match self {
            Self::Full(states) => states.get(row).cloned(),
            Self::Numbers(summaries) => summaries.get(row).map(|summary| State {
                summary: summary.clone(),
                sketch: Sketch::default(),
                shape: Shape::Nothing,
            }),
        }
    }
}

/// A field of every row as a column: its name, and how to read it.
enum Column {
    Count(fn(&Summary) -> u64),
    Float(fn(&Summary) -> f64),
}

fn column(name: &str) -> PyResult<Column> {
    Ok(match name {
        "count" => Column::Count(|s| s.stats.counts.total()),
        "finite_count" => Column::Count(|s| s.stats.counts.finite()),
        "nonfinite_count" => Column::Count(|s| s.stats.counts.total() - s.stats.counts.finite()),
        "nan_count" => Column::Count(|s| s.stats.counts.nan),
        "posinf_count" => Column::Count(|s| s.stats.counts.posinf),
        "neginf_count" => Column::Count(|s| s.stats.counts.neginf),
        "zero_count" => Column::Count(|s| s.stats.counts.zero),
        "negative_count" => Column::Count(|s| s.stats.counts.negative),
        "positive_count" => Column::Count(|s| s.stats.counts.positive),
        "subnormal_count" => Column::Count(|s| s.stats.counts.subnormal),
        "min" => Column::Float(|s| s.min().to_f64()),
        "max" => Column::Float(|s| s.max().to_f64()),
        "absmax" => Column::Float(|s| s.absmax().to_f64()),
        "absmin" => Column::Float(|s| s.absmin().to_f64()),
        "sum" => Column::Float(|s| s.sum().to_f64()),
        "mean" => Column::Float(Summary::mean),
        "var" => Column::Float(|s| s.var(0.0)),
        "std" => Column::Float(|s| s.std(0.0)),
        "l1" => Column::Float(|s| s.l1().to_f64()),
        "l2" => Column::Float(Summary::l2),
        "rms" => Column::Float(Summary::rms),
        "skewness" => Column::Float(|s| s.skewness().unwrap_or(f64::NAN)),
        "kurtosis" => Column::Float(|s| s.kurtosis().unwrap_or(f64::NAN)),
        _ => {
            return Err(PyKeyError::new_err(format!(
                "unknown column: {name}; accepted: the fields of Summary, var and std"
            )));
        }
    })
}

impl PySummaries {
    pub(crate) fn of(states: Vec<State>) -> Self {
        Self(Mutex::new(Rows::Full(states)))
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
        let rows = other.lock().clone();
        {
            let mut mine = slf.get().lock();
            if mine.len() != rows.len() {
                return Err(PyValueError::new_err(format!(
                    "a table of {} rows cannot take in one of {}",
                    mine.len(),
                    rows.len()
                )));
            }
            for row in 0..rows.len() {
                match (&mut *mine, rows.state(row), rows.summary(row)) {
                    (Rows::Full(mine), Some(theirs), _) => mine[row].merge(&theirs)?,
                    (Rows::Numbers(mine), _, Some(theirs)) => mine[row].merge(theirs).map_err(to_py)?,
                    _ => {}
                }
            }
        }
        Ok(slf)
    }

    /// An independent copy.
    fn copy(&self) -> Self {
        Self(Mutex::new(self.lock().clone()))
    }

    /// Lets go of what only a repr shows, the shapes and the samples for a sparkline: half of the memory.
    fn keep_numbers(&self) {
        let mut rows = self.lock();
        if let Rows::Full(states) = &mut *rows {
            // Into new memory: collected in place, the old memory would be kept, or cut where nothing else fits.
            let mut numbers = Vec::with_capacity(states.len());
            numbers.extend(states.drain(..).map(|state| state.summary));
            *rows = Rows::Numbers(numbers);
        }
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
        self.lock().summaries().map(|summary| summary.dtype().map(tensorstats_core::Dtype::name)).collect()
    }

    /// The shape of every row, where it is of one tensor.
    fn shapes(&self) -> Vec<Option<Vec<i64>>> {
        let shape = |state: &State| match &state.shape {
            Shape::One(shape) => Some(shape.to_vec()),
            _ => None,
        };
        match &*self.lock() {
            Rows::Full(states) => states.iter().map(shape).collect(),
            Rows::Numbers(summaries) => vec![None; summaries.len()],
        }
    }

    /// One field of every row as native-endian bytes: of `uint64` when the flag is true, else of `float64`.
    fn column<'py>(&self, py: Python<'py>, name: &str) -> PyResult<(bool, Bound<'py, PyBytes>)> {
        let (counts, bytes): (bool, Vec<u8>) = match column(name)? {
            Column::Count(get) => {
                (true, self.lock().summaries().flat_map(|summary| get(summary).to_ne_bytes()).collect())
            }
            Column::Float(get) => {
                (false, self.lock().summaries().flat_map(|summary| get(summary).to_ne_bytes()).collect())
            }
        };
        Ok((counts, PyBytes::new(py, &bytes)))
    }
}

/// The states of many tensors: small ones are counted at once, the rest in one go without the GIL.
fn states(py: Python<'_>, tensors: &Bound<'_, PyList>, moments: Moments, threads: usize) -> PyResult<Vec<State>> {
    let mut states = Vec::with_capacity(tensors.len());
    let mut later: Vec<(usize, Buffer)> = Vec::new();
    for (row, tensor) in tensors.iter().enumerate() {
        let buffer = Buffer::of(&tensor)?;
        let shape = Shape::One(buffer.shape().into());
        let (summary, sketch) = if buffer.is_small() {
            run::count(py, &buffer, 1, |view, options| (Summary::of(view, moments, options), Sketch::of(view)))?
        } else {
            later.push((row, buffer));
            (Summary::new(moments), Sketch::default())
        };
        states.push(State { summary, sketch, shape });
    }
    if !later.is_empty() {
        let counted = run::detached(py, threads, |options| {
            let views: Vec<_> = later.iter().map(|(_, buffer)| buffer.view()).collect();
            let sketches: Vec<_> = views.iter().map(Sketch::of).collect();
            Summary::of_each(&views, moments, options).into_iter().zip(sketches).collect::<Vec<_>>()
        })?;
        for ((row, _), (summary, sketch)) in later.iter().zip(counted) {
            states[*row].summary = summary;
            states[*row].sketch = sketch;
        }
    }
    Ok(states)
}

/// Summarises many tensors.
#[pyfunction]
#[pyo3(signature = (tensors, /, moments = 2, threads = None))]
pub(crate) fn summaries(
    py: Python<'_>,
    tensors: &Bound<'_, PyList>,
    moments: u32,
    threads: Option<usize>,
) -> PyResult<PySummaries> {
    let moments = Moments::from_number(moments).map_err(to_py)?;
    states(py, tensors, moments, run::threads(threads)?).map(PySummaries::of)
}

/// A table of summaries that exist already.
#[pyfunction]
#[pyo3(signature = (rows, /))]
pub(crate) fn summaries_from(rows: Vec<PyRef<'_, PySummary>>) -> PySummaries {
    PySummaries::of(rows.iter().map(|row| row.snapshot()).collect())
}

/// The norm of each tensor.
#[pyfunction]
#[pyo3(signature = (tensors, /, ord = 2.0, threads = None))]
pub(crate) fn norms(
    py: Python<'_>,
    tensors: &Bound<'_, PyList>,
    ord: f64,
    threads: Option<usize>,
) -> PyResult<Vec<f64>> {
    let order = Order::from_number(ord).map_err(to_py)?;
    let states = states(py, tensors, Moments::Two, run::threads(threads)?)?;
    Ok(states.iter().map(|state| order.of(&state.summary)).collect())
}

/// The norm of all tensors taken as one vector.
#[pyfunction]
#[pyo3(signature = (tensors, /, ord = 2.0, threads = None))]
pub(crate) fn norm(py: Python<'_>, tensors: &Bound<'_, PyList>, ord: f64, threads: Option<usize>) -> PyResult<f64> {
    let order = Order::from_number(ord).map_err(to_py)?;
    let states = states(py, tensors, Moments::Two, run::threads(threads)?)?;
    order.of_all(states.iter().map(|state| &state.summary)).map_err(to_py)
}

/// The norm of everything in a table, taken as one vector.
#[pyfunction]
#[pyo3(signature = (rows, /, ord = 2.0))]
pub(crate) fn norm_from(rows: &PySummaries, ord: f64) -> PyResult<f64> {
    let order = Order::from_number(ord).map_err(to_py)?;
    order.of_all(rows.lock().summaries()).map_err(to_py)
}
