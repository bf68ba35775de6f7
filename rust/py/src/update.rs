//! Owns the Python class `Snapshots`: many tensors and what has changed in them, in one call. Arithmetic is the core's.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tensorstats_core::update::{Change, Changes, Counted, Snapshot, changes};
use tensorstats_core::{Axis, Sketch, TensorView};

use crate::buffer::Buffer;
use crate::histogram::PyHistogram;
use crate::many::PySummaries;
use crate::run;
use crate::summary::{Shape, State};

/// Copies of many tensors, to say later what has changed in them.
///
/// Parameters
/// ----------
/// size
///     How many tensors; each has its place, by number.
///
/// Notes
/// -----
/// A difference is taken in float32 (float64 for float64 and for integers beyond 16 bits) and rounded once to nearest: it is exact wherever
/// the old and the new value are within a factor of two of each other.
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from tensorstats._core import Snapshots
/// >>> weight = np.array([1.0, 2.0, 4.0], dtype=np.float32)
/// >>> snapshots = Snapshots(1)
/// >>> snapshots.take([weight], [0])
/// >>> weight[1] = 2.5
/// >>> values, updates = snapshots.count([weight], [0])
/// >>> values[0].max, updates[0].max, updates[0].zero_count
/// (4.0, 0.5, 2)
#[pyclass(frozen, name = "Snapshots", module = "tensorstats._core")]
pub(crate) struct PySnapshots(Mutex<Vec<Snapshot>>);

/// The snapshots while a call works on them; they are put back whatever happens.
struct Borrowed<'a> {
    home: &'a PySnapshots,
    snapshots: Vec<Snapshot>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        *self.home.0.lock().unwrap_or_else(PoisonError::into_inner) = core::mem::take(&mut self.snapshots);
    }
}

impl PySnapshots {
    /// Takes the snapshots out, so that no lock is held while Python code runs.
    fn borrow(&self, places: &[Option<usize>]) -> PyResult<Borrowed<'_>> {
        let snapshots = core::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let borrowed = Borrowed { home: self, snapshots };
        let mut seen = vec![false; borrowed.snapshots.len()];
        for &place in places.iter().flatten() {
            match seen.get_mut(place) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => return Err(PyValueError::new_err(format!("a place may be named once, got twice: {place}"))),
                None => {
                    let len = borrowed.snapshots.len();
                    return Err(PyValueError::new_err(format!("a place must be below {len}, got: {place}")));
                }
            }
        }
        Ok(borrowed)
    }
}

#[pymethods]
impl PySnapshots {
    #[new]
    #[pyo3(signature = (size, /))]
    fn new(size: usize) -> Self {
        Self(Mutex::new((0..size).map(|_| Snapshot::default()).collect()))
    }

    fn __len__(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Copies tensors into their places.
    #[pyo3(signature = (tensors, places, /))]
    fn take(&self, tensors: Vec<Bound<'_, PyAny>>, places: Vec<usize>) -> PyResult<()> {
        check_lengths(tensors.len(), places.len(), "places")?;
        let named: Vec<_> = places.iter().copied().map(Some).collect();
        let mut borrowed = self.borrow(&named)?;
        for (tensor, place) in tensors.iter().zip(places) {
            let buffer = Buffer::of(tensor)?;
            borrowed.snapshots[place].take(&buffer.view());
        }
        Ok(())
    }

    /// Lets go of the copies in some places.
    #[pyo3(signature = (places, /))]
    fn forget(&self, places: Vec<usize>) -> PyResult<()> {
        let named: Vec<_> = places.iter().copied().map(Some).collect();
        let mut borrowed = self.borrow(&named)?;
        for place in places {
            borrowed.snapshots[place].forget();
        }
        Ok(())
    }

    /// Counts tensors, and what has changed since they were copied.
    ///
    /// A place of None, or one without a copy of a tensor of that dtype and layout, gives an empty row of updates. With histograms (one
    /// for each tensor, all of one axis), values and updates are counted into them as well.
    #[pyo3(signature = (tensors, places, /, value_histograms = None, update_histograms = None, *, threads = None))]
    fn count(
        &self,
        py: Python<'_>,
        tensors: Vec<Bound<'_, PyAny>>,
        places: Vec<Option<usize>>,
        value_histograms: Option<Vec<PyRef<'_, PyHistogram>>>,
        update_histograms: Option<Vec<PyRef<'_, PyHistogram>>>,
        threads: Option<usize>,
    ) -> PyResult<(PySummaries, PySummaries)> {
        check_lengths(tensors.len(), places.len(), "places")?;
        let histograms = [value_histograms.unwrap_or_default(), update_histograms.unwrap_or_default()];
        let mut axis: Option<Axis> = None;
        for (what, list) in ["value_histograms", "update_histograms"].into_iter().zip(&histograms) {
            if !list.is_empty() {
                check_lengths(tensors.len(), list.len(), what)?;
            }
            for histogram in list {
                let this = histogram.own_axis();
                if axis.as_ref().is_some_and(|axis| *axis != this) {
                    return Err(PyValueError::new_err(format!(
                        "histograms must be of one axis, got another one: {this}"
                    )));
                }
                axis = Some(this);
            }
        }
        let threads = run::threads(threads)?;
        let borrowed = self.borrow(&places)?;

        let mut rows: Vec<Option<(Change, Sketch)>> = Vec::with_capacity(tensors.len());
        let mut shapes = Vec::with_capacity(tensors.len());
        let mut small = Changes::new(axis.as_ref());
        let mut later: Vec<(usize, Buffer)> = Vec::new();
        let mut old: Vec<Option<&Snapshot>> = Vec::new();
        for (row, (tensor, &place)) in tensors.iter().zip(&places).enumerate() {
            let buffer = Buffer::of(tensor)?;
            shapes.push(Shape::One(buffer.shape().into()));
            let snapshot = place.and_then(|place| borrowed.snapshots.get(place));
            if buffer.is_small() {
                rows.push(Some(run::count(py, &buffer, 1, |view, options| {
                    (small.of(view, snapshot, options.level), Sketch::of(view))
                })?));
            } else {
                rows.push(None);
                later.push((row, buffer));
                old.push(snapshot);
            }
        }
        if !later.is_empty() {
            let counted = run::detached(py, threads, |options| {
                let views: Vec<TensorView<'_>> = later.iter().map(|(_, buffer)| buffer.view()).collect();
                let sketches: Vec<_> = views.iter().map(Sketch::of).collect();
                changes(&views, &old, axis.as_ref(), options).into_iter().zip(sketches).collect::<Vec<_>>()
            })?;
            for ((row, _), counted) in later.iter().zip(counted) {
                rows[*row] = Some(counted);
            }
        }
        let [value_histograms, update_histograms] = histograms;
        let (mut values, mut updates) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for (i, (row, shape)) in rows.into_iter().zip(shapes).enumerate() {
            let Some((change, sketch)) = row else { continue };
            values.push(state(change.value, &sketch, shape.clone(), value_histograms.get(i))?);
            updates.push(match change.update {
                Some(update) => state(update, &Sketch::default(), shape, update_histograms.get(i))?,
                None => State::empty(),
            });
        }
        Ok((PySummaries::of(values), PySummaries::of(updates)))
    }
}

fn state(
    counted: Counted,
    sketch: &Sketch,
    shape: Shape,
    histogram: Option<&PyRef<'_, PyHistogram>>,
) -> PyResult<State> {
    if let (Some(total), Some(part)) = (histogram, &counted.histogram) {
        total.add(part)?;
    }
    Ok(State { summary: counted.summary, sketch: *sketch, shape })
}

fn check_lengths(tensors: usize, other: usize, what: &str) -> PyResult<()> {
    if tensors == other {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{what} must have one entry for each of {tensors} tensors, got {other}")))
}
