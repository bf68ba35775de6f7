//! Owns the Python class `Snapshots`: many tensors and what has changed in them, in one call. Arithmetic is the core's.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tensorstats_core::allocation::check_memory;
use tensorstats_core::kernel::Moments;
use tensorstats_core::many::changes::{Change, Changes, Counted, changes};
use tensorstats_core::many::snapshot::{Snapshot, take_all};
use tensorstats_core::{Axis, Level, Sketch, Summary};

use crate::calls::many::PySummaries;
use crate::calls::rows::Rows;
use crate::errors::to_py;
use crate::memory::buffers::Buffers;
use crate::memory::dims::Shape;
use crate::run::{self, Threads};
use crate::states::histogram::PyHistogram;

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

/// The snapshots that a call works on, one for each tensor; they are put back whatever happens.
struct Borrowed<'a> {
    home: &'a PySnapshots,
    places: &'a [Option<usize>],
    snapshots: Vec<Snapshot>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let mut home = self.home.lock();
        for (place, snapshot) in self.places.iter().zip(&mut self.snapshots) {
            if let Some(slot) = place.and_then(|place| home.get_mut(place)) {
                core::mem::swap(slot, snapshot);
            }
        }
    }
}

impl PySnapshots {
    fn lock(&self) -> MutexGuard<'_, Vec<Snapshot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the snapshots of some places out, so that no lock is held while Python code runs. To other calls these places hold no copy.
    fn borrow<'a>(&'a self, places: &'a [Option<usize>]) -> PyResult<Borrowed<'a>> {
        let mut home = self.lock();
        let mut seen = vec![false; home.len()];
        for &place in places.iter().flatten() {
            match seen.get_mut(place) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => return Err(PyValueError::new_err(format!("a place may be named once, got twice: {place}"))),
                None => {
                    let len = home.len();
                    return Err(PyValueError::new_err(format!("a place must be below {len}, got: {place}")));
                }
            }
        }
        let take =
            |place: &Option<usize>| place.map_or_else(Snapshot::default, |place| core::mem::take(&mut home[place]));
        let snapshots = places.iter().map(take).collect();
        Ok(Borrowed { home: self, places, snapshots })
    }
}

impl Borrowed<'_> {
    /// Copies tensors into the snapshots.
    fn take(&mut self, py: Python<'_>, tensors: &[Bound<'_, PyAny>], threads: usize) -> PyResult<()> {
        let mut buffers = Buffers::with_capacity(tensors.len());
        let mut later: Vec<&mut Snapshot> = Vec::new();
        for (tensor, snapshot) in tensors.iter().zip(&mut self.snapshots) {
            match buffers.next_here(tensor, tensors.len())? {
                Some(small) => snapshot.take(&small.view()),
                None => later.push(snapshot),
            }
        }
        if later.is_empty() {
            return Ok(());
        }
        let views = buffers.views();
        let wanted = views.iter().zip(&later).filter(|(view, snapshot)| !snapshot.fits(view));
        let bytes = wanted
            .map(|(view, _)| view.count().saturating_mul(view.dtype().size() as u64))
            .fold(0, u64::saturating_add);
        check_memory(bytes, "copies of tensors").map_err(to_py)?;
        run::detached(py, threads, |options| take_all(&views, &mut later, options))
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
        self.lock().len()
    }

    /// Copies tensors into their places.
    ///
    /// Where that fails or is interrupted, none of the places holds a copy: old values beside new ones would look like a change.
    #[pyo3(signature = (tensors, places, /, *, threads = None))]
    fn take(
        &self,
        py: Python<'_>,
        tensors: Vec<Bound<'_, PyAny>>,
        places: Vec<usize>,
        threads: Option<Threads>,
    ) -> PyResult<()> {
        check_lengths(tensors.len(), places.len(), "places")?;
        let threads = run::threads(threads)?;
        let named: Vec<_> = places.into_iter().map(Some).collect();
        let mut borrowed = self.borrow(&named)?;
        let taken = borrowed.take(py, &tensors, threads);
        if taken.is_err() {
            borrowed.snapshots.iter_mut().for_each(Snapshot::forget);
        }
        taken
    }

    /// Lets go of the copies in some places.
    #[pyo3(signature = (places, /))]
    fn forget(&self, places: Vec<usize>) -> PyResult<()> {
        let named: Vec<_> = places.into_iter().map(Some).collect();
        self.borrow(&named)?.snapshots.iter_mut().for_each(Snapshot::forget);
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
        threads: Option<Threads>,
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

        let mut changed: Vec<Change> = Vec::with_capacity(tensors.len());
        let mut small = Changes::new(axis.as_ref());
        let mut buffers = Buffers::with_capacity(tensors.len());
        let level = Level::current();
        for (tensor, snapshot) in tensors.iter().zip(&borrowed.snapshots) {
            if let Some(buffer) = buffers.next_here(tensor, tensors.len())? {
                changed.push(small.of(&buffer.view(), Some(snapshot), level));
            }
        }
        let views = buffers.views();
        if !views.is_empty() {
            let old: Vec<_> = borrowed.snapshots.iter().skip(changed.len()).map(Some).collect();
            changed.extend(run::detached(py, threads, |options| changes(&views, &old, axis.as_ref(), options))?);
        }
        drop(views);

        let [value_histograms, update_histograms] = histograms;
        // All or nothing.
        for (i, change) in changed.iter().enumerate() {
            check_histogram(value_histograms.get(i), Some(&change.value))?;
            check_histogram(update_histograms.get(i), change.update.as_ref())?;
        }
        for (i, change) in changed.iter().enumerate() {
            add_histogram(value_histograms.get(i), Some(&change.value))?;
            add_histogram(update_histograms.get(i), change.update.as_ref())?;
        }
        let (values, updates) = tables(changed, buffers.into_shapes());
        Ok((PySummaries::of(values), PySummaries::of(updates)))
    }
}

fn check_histogram(total: Option<&PyRef<'_, PyHistogram>>, counted: Option<&Counted>) -> PyResult<()> {
    match (total, counted.and_then(|counted| counted.histogram.as_ref())) {
        (Some(total), Some(part)) => total.check(part),
        _ => Ok(()),
    }
}

fn add_histogram(total: Option<&PyRef<'_, PyHistogram>>, counted: Option<&Counted>) -> PyResult<()> {
    match (total, counted.and_then(|counted| counted.histogram.as_ref())) {
        (Some(total), Some(part)) => total.add(part),
        _ => Ok(()),
    }
}

/// The tables of values and of updates.
fn tables(changed: Vec<Change>, shapes: Vec<Shape>) -> (Rows, Rows) {
    let mut values = Rows::with_capacity(changed.len());
    if changed.iter().all(|change| change.update.is_none()) {
        let updates = Rows::empty(changed.len());
        changed
            .into_iter()
            .zip(shapes)
            .for_each(|(change, shape)| values.push(change.value.summary, &change.sketch, shape));
        return (values, updates);
    }
    let mut updates = Rows::with_capacity(changed.len());
    for (change, shape) in changed.into_iter().zip(shapes) {
        match change.update {
            Some(update) => updates.push(update.summary, &Sketch::default(), shape.clone()),
            None => updates.push(Summary::new(Moments::Two), &Sketch::default(), Shape::Nothing),
        }
        values.push(change.value.summary, &change.sketch, shape);
    }
    (values, updates)
}

fn check_lengths(tensors: usize, other: usize, what: &str) -> PyResult<()> {
    if tensors == other {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{what} must have one entry for each of {tensors} tensors, got {other}")))
}
