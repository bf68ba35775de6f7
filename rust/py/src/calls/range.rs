//! Owns the Python functions that look for values out of range. Knows nothing of how they are counted.

use core::slice;

use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};
use tensorstats_core::Number;
use tensorstats_core::query::range;
use tensorstats_core::query::range::{Bounds, Outside, Place};
use tensorstats_core::query::verdict::Question;

use crate::arrays::Shown;
use crate::calls::elsewhere::Elsewhere;
use crate::errors::{of_many, to_py};
use crate::memory::buffer::Buffer;
use crate::package;
use crate::run::{self, Threads};

/// Position in C order, index, value.
type Found<'py> = (u64, Bound<'py, PyTuple>, Bound<'py, PyAny>);

fn shown(py: Python<'_>, place: Place) -> PyResult<Found<'_>> {
    Ok((place.flat, PyTuple::new(py, place.index)?, Shown(place.value).into_pyobject(py)?))
}

/// The first value in C order that is NaN or infinite: its position, its index and the value. None when all are finite.
#[pyfunction]
#[pyo3(signature = (x, /, *, threads = None))]
pub(crate) fn first_nonfinite<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    threads: Option<Threads>,
) -> PyResult<Option<Found<'py>>> {
    let threads = run::threads(threads)?;
    let Some(buffer) = Buffer::of(x)? else { return package::door(py, "first_nonfinite", (x,))?.extract() };
    let place = run::count(py, &buffer, threads, range::first_nonfinite)?;
    place.map(|place| shown(py, place)).transpose()
}

/// Which of two bounds, and its name in errors.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Low,
    High,
}

/// A bound as Python gives it: whole numbers stay exact. Those beyond 128 bits are beyond all integers, and become the float next to them
/// on the side from which floats are compared with it.
fn bound(object: Option<&Bound<'_, PyAny>>, side: Side) -> PyResult<Option<Number>> {
    let Some(object) = object else { return Ok(None) };
    if let Ok(whole) = object.extract::<i128>() {
        return Ok(Some(Number::Int(whole)));
    }
    let name = if side == Side::Low { "min" } else { "max" };
    Ok(Some(Number::Float(package::call(object.py(), "float_beside", (object, name))?.extract()?)))
}

/// What a look for values out of range found: dtype and shape; how many are NaN, +inf, -inf, below, above; the first that is not finite,
/// below, above.
type Report<'py> = (Bound<'py, PyString>, Bound<'py, PyTuple>, [u64; 5], [Option<Found<'py>>; 3]);

/// Counts what is not finite, below `low` and above `high` in each of many tensors, and finds the first of each. Infinities are compared
/// with the bounds only when they are `allowed`; NaN never is.
#[pyfunction]
#[pyo3(signature = (tensors, /, low = None, high = None, allowed = false, threads = None))]
pub(crate) fn outside<'py>(
    py: Python<'py>,
    tensors: Vec<Bound<'py, PyAny>>,
    low: Option<&Bound<'py, PyAny>>,
    high: Option<&Bound<'py, PyAny>>,
    allowed: bool,
    threads: Option<Threads>,
) -> PyResult<Vec<Report<'py>>> {
    let (low, high) = (bound(low, Side::Low)?, bound(high, Side::High)?);
    let bounds = Bounds::new(low, high, allowed).map_err(to_py)?;
    let threads = run::threads(threads)?;
    let mut reports = Vec::with_capacity(tensors.len());
    let mut later: Vec<(usize, Buffer)> = Vec::new();
    let mut elsewhere = Elsewhere::default();
    for (row, tensor) in tensors.iter().enumerate() {
        let named = |error| of_many(py, error, row, tensors.len());
        let Some(buffer) = Buffer::of(tensor).map_err(named)? else {
            let arguments = (tensor, low.map(Shown), high.map(Shown), allowed);
            elsewhere.begin(py, row, "start_outside", arguments).map_err(named)?;
            reports.push(None);
            continue;
        };
        if buffer.is_small() {
            let found =
                run::count(py, &buffer, 1, |view, options| range::outside(slice::from_ref(view), &bounds, options))?;
            reports.push(found.into_iter().next().map(|found| report(py, &buffer, found)).transpose()?);
        } else {
            reports.push(None);
            later.push((row, buffer));
        }
    }
    if !later.is_empty() {
        let found = run::detached(py, threads, |options| {
            let views: Vec<_> = later.iter().map(|(_, buffer)| buffer.view()).collect();
            range::outside(&views, &bounds, options)
        })?;
        for ((row, buffer), found) in later.iter().zip(found) {
            reports[*row] = Some(report(py, buffer, found)?);
        }
    }
    for (row, report) in elsewhere.finish(py)? {
        reports[row] = Some(report.extract()?);
    }
    Ok(reports.into_iter().flatten().collect())
}

fn report<'py>(py: Python<'py>, buffer: &Buffer, found: Outside) -> PyResult<Report<'py>> {
    let Outside { tally, nonfinite, below, above } = found;
    let [nonfinite, below, above] = [nonfinite, below, above].map(|place| place.map(|p| shown(py, p)).transpose());
    let s = tally.specials;
    let (dtype, shape) = (PyString::new(py, buffer.view().dtype().name()), PyTuple::new(py, buffer.shape())?);
    Ok((dtype, shape, [s.nan, s.posinf, s.neginf, tally.below, tally.above], [nonfinite?, below?, above?]))
}

/// Whether every value of every tensor is a number, or lies within both bounds where they are given; stops at the first that is not.
#[pyfunction]
#[pyo3(signature = (tensors, /, bounds = None, threads = None))]
pub(crate) fn all_hold(
    py: Python<'_>,
    tensors: &Bound<'_, PyList>,
    bounds: Option<(Bound<'_, PyAny>, Bound<'_, PyAny>)>,
    threads: Option<Threads>,
) -> PyResult<bool> {
    let question = match &bounds {
        None => Question::Finite,
        Some((low, high)) => {
            let infinite = Number::Float(f64::INFINITY);
            Question::between(
                bound(Some(low), Side::Low)?.unwrap_or(infinite),
                bound(Some(high), Side::High)?.unwrap_or(infinite),
            )
            .map_err(to_py)?
        }
    };
    let threads = run::threads(threads)?;
    let mut elsewhere = Elsewhere::default();
    for (i, tensor) in tensors.iter().enumerate() {
        let named = |error| of_many(py, error, i, tensors.len());
        let buffer = match Buffer::of(&tensor) {
            Ok(Some(buffer)) => buffer,
            Ok(None) => {
                let bounds = match question {
                    Question::Finite => None,
                    Question::Between(low, high) => Some((Shown(low), Shown(high))),
                };
                elsewhere.begin(py, i, "start_verdict", (tensor, bounds)).map_err(named)?;
                continue;
            }
            Err(error) => return Err(named(error)),
        };
        if !run::count(py, &buffer, threads, |view, options| question.of(view, options))? {
            return Ok(false);
        }
    }
    for (_, holds) in elsewhere.finish(py)? {
        if !holds.extract::<bool>()? {
            return Ok(false);
        }
    }
    Ok(true)
}
