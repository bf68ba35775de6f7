//! Owns the Python functions that look for values out of range. Knows nothing of how they are counted.

use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use tensorstats_core::Number;
use tensorstats_core::range::{self, Bounds, Place, Rule};
use tensorstats_core::verdict::Question;

use crate::buffer::Buffer;
use crate::errors::to_py;
use crate::run;

/// Position in C order, index, value.
type Found<'py> = (u64, Bound<'py, PyTuple>, Bound<'py, PyAny>);

fn shown(py: Python<'_>, place: Place) -> PyResult<Found<'_>> {
    let value = match place.value {
        Number::Int(n) => n.into_pyobject(py)?.into_any(),
        Number::Float(x) => x.into_pyobject(py)?.into_any(),
    };
    Ok((place.flat, PyTuple::new(py, place.index)?, value))
}

/// The first value in C order that is NaN or infinite: its position, its index and the value. None when all are finite.
#[pyfunction]
#[pyo3(signature = (x, /, *, threads = None))]
pub(crate) fn first_nonfinite<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    threads: Option<usize>,
) -> PyResult<Option<Found<'py>>> {
    let buffer = Buffer::of(x)?;
    let place = run::count(py, &buffer, run::threads(threads)?, range::first_nonfinite)?;
    place.map(|place| shown(py, place)).transpose()
}

/// A bound as Python gives it: whole numbers stay exact.
fn bound(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Number>> {
    object
        .map(|object| object.extract::<i128>().map(Number::Int).or_else(|_| object.extract::<f64>().map(Number::Float)))
        .transpose()
}

/// What a look for values out of range found: dtype and shape; how many are NaN, +inf, -inf, below, above; the first that is not finite,
/// below, above.
type Report<'py> = (&'static str, Bound<'py, PyTuple>, [u64; 5], [Option<Found<'py>>; 3]);

/// Counts what is not finite, below `low` and above `high`, and finds the first of each. Infinities are compared with the bounds only
/// when they are `allowed`; NaN never is.
#[pyfunction]
#[pyo3(signature = (x, /, low = None, high = None, allowed = false, threads = None))]
pub(crate) fn check_range<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    low: Option<&Bound<'py, PyAny>>,
    high: Option<&Bound<'py, PyAny>>,
    allowed: bool,
    threads: Option<usize>,
) -> PyResult<Report<'py>> {
    let bounds = Bounds::new(bound(low)?, bound(high)?, allowed).map_err(to_py)?;
    let buffer = Buffer::of(x)?;
    let (tally, places) = run::count(py, &buffer, run::threads(threads)?, |view, options| {
        let tally = range::tally(view, &bounds, options);
        let s = &tally.specials;
        let first = |rule: Rule, count: u64| if count > 0 { range::first(view, &bounds, rule, options) } else { None };
        let places = [
            first(Rule::NonFinite, s.nan + s.posinf + s.neginf),
            first(Rule::Below, tally.below),
            first(Rule::Above, tally.above),
        ];
        (tally, places)
    })?;
    let [nonfinite, below, above] = places.map(|place| place.map(|place| shown(py, place)).transpose());
    let s = tally.specials;
    let dtype = buffer.view().dtype().name();
    let shape = PyTuple::new(py, buffer.shape())?;
    Ok((dtype, shape, [s.nan, s.posinf, s.neginf, tally.below, tally.above], [nonfinite?, below?, above?]))
}

/// Whether every value of every tensor is a number, or lies within both bounds where they are given; stops at the first that is not.
#[pyfunction]
#[pyo3(signature = (tensors, /, bounds = None, threads = None))]
pub(crate) fn all_hold(
    py: Python<'_>,
    tensors: &Bound<'_, PyList>,
    bounds: Option<(Bound<'_, PyAny>, Bound<'_, PyAny>)>,
    threads: Option<usize>,
) -> PyResult<bool> {
    let question = match &bounds {
        None => Question::Finite,
        Some((low, high)) => {
            let infinite = Number::Float(f64::INFINITY);
            Question::between(bound(Some(low))?.unwrap_or(infinite), bound(Some(high))?.unwrap_or(infinite))
                .map_err(to_py)?
        }
    };
    let threads = run::threads(threads)?;
    for tensor in tensors {
        let buffer = Buffer::of(&tensor)?;
        if !run::count(py, &buffer, threads, |view, options| question.of(view, options))? {
            return Ok(false);
        }
    }
    Ok(true)
}
