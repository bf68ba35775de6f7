//! Owns the calls that count a summary and a histogram of the same tensor together. Arithmetic is the core's.

use pyo3::prelude::*;
use tensorstats_core::histogram::room::check_histogram;
use tensorstats_core::kernel::Moments;
use tensorstats_core::many::summary_and_histogram::{Fused, of_each};
use tensorstats_core::{Axis, Histogram, Sketch, Summary};

use crate::errors::{of_many, to_py};
use crate::memory::buffer::Buffer;
use crate::memory::dims::Shape;
use crate::run::{self, Threads};
use crate::states::axis;
use crate::states::histogram::PyHistogram;
use crate::states::summary::PySummary;
use crate::states::summary::state::State;

type Pair = (PySummary, PyHistogram);

/// Both states of one tensor, and the sketch of its values.
type Counted = ((Summary, Histogram), Sketch);

fn pair(((summary, histogram), sketch): Counted, buffer: &Buffer) -> Pair {
    let shape = Shape::One(buffer.shape().into());
    (PySummary::wrap(State { summary, sketch, shape }), PyHistogram::wrap(histogram))
}

/// Both states of a torch tensor of another device.
#[cold]
fn elsewhere(x: &Bound<'_, PyAny>, axis: &Axis, moments: Moments) -> PyResult<Pair> {
    let summary = PySummary::elsewhere(x, None, moments, None)?;
    Ok((PySummary::wrap(summary), PyHistogram::wrap(PyHistogram::elsewhere(x, None, axis)?)))
}

/// A summary and a histogram of each tensor. Small tensors are counted at once, the rest in one go without the GIL.
fn pairs(
    py: Python<'_>,
    tensors: &[Bound<'_, PyAny>],
    axis: &Axis,
    moments: Moments,
    threads: usize,
) -> PyResult<Vec<Pair>> {
    check_histogram(axis, 0, 1).map_err(to_py)?;
    let mut fused = Fused::new(axis, moments);
    let mut rows: Vec<Option<Pair>> = Vec::with_capacity(tensors.len());
    let mut later: Vec<(usize, Buffer)> = Vec::new();
    for (row, tensor) in tensors.iter().enumerate() {
        let named = |error| of_many(py, error, row, tensors.len());
        let Some(buffer) = Buffer::of(tensor).map_err(named)? else {
            rows.push(Some(elsewhere(tensor, axis, moments).map_err(named)?));
            continue;
        };
        if !buffer.is_small() {
            later.push((row, buffer));
            rows.push(None);
            continue;
        }
        let counted = run::count(py, &buffer, 1, |view, options| (fused.of(view, options.level), Sketch::of(view)))?;
        rows.push(Some(pair(counted, &buffer)));
    }
    if !later.is_empty() {
        check_histogram(axis, u64::MAX, threads + later.len()).map_err(to_py)?;
        let counted = run::detached(py, threads, |options| {
            let views: Vec<_> = later.iter().map(|(_, buffer)| buffer.view()).collect();
            let sketches: Vec<_> = views.iter().map(Sketch::of).collect();
            of_each(&views, axis, moments, options).into_iter().zip(sketches).collect::<Vec<_>>()
        })?;
        for ((row, buffer), counted) in later.iter().zip(counted) {
            rows[*row] = Some(pair(counted, buffer));
        }
    }
    Ok(rows.into_iter().flatten().collect())
}

/// Counts a summary and a histogram of one tensor, whose memory is read once.
#[pyfunction]
#[pyo3(signature = (x, axis = None, /, moments = 2, threads = None))]
pub(crate) fn summary_and_histogram(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    axis: Option<&Bound<'_, PyAny>>,
    moments: u32,
    threads: Option<Threads>,
) -> PyResult<Pair> {
    let moments = Moments::from_number(moments).map_err(to_py)?;
    let axis = axis::of(axis)?;
    let threads = run::threads(threads)?;
    let Some(buffer) = Buffer::of(x)? else {
        return elsewhere(x, &axis, moments);
    };
    check_histogram(&axis, buffer.bytes(), threads).map_err(to_py)?;
    let counted = run::count(py, &buffer, threads, |view, options| {
        let counted = of_each(core::slice::from_ref(view), &axis, moments, options).pop();
        (counted.unwrap_or_else(|| Fused::new(&axis, moments).of(view, options.level)), Sketch::of(view))
    })?;
    Ok(pair(counted, &buffer))
}

/// Counts a summary and a histogram of each of many tensors.
#[pyfunction]
#[pyo3(signature = (tensors, axis, /, moments = 2, threads = None))]
pub(crate) fn summaries_and_histograms(
    py: Python<'_>,
    tensors: Vec<Bound<'_, PyAny>>,
    axis: &Bound<'_, PyAny>,
    moments: u32,
    threads: Option<Threads>,
) -> PyResult<Vec<Pair>> {
    let moments = Moments::from_number(moments).map_err(to_py)?;
    pairs(py, &tensors, &axis::of(Some(axis))?, moments, run::threads(threads)?)
}
