//! Owns what a hook of the watcher does with a tensor of torch: recognise one that was just counted, else count it, into the place that the
//! tensor has in its step. Arithmetic is the core's; which tensors are meant, and when, is Python's.
//!
//! A hook runs right after an operation that has filled the caches with tensors: every object that it touches is fetched from memory again.
//! That is why all of this is one call.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyWeakrefMethods, PyWeakrefReference};
use tensorstats_core::kernel::Moments;
use tensorstats_core::many::summary_and_histogram::of_each;
use tensorstats_core::{Histogram, Sketch, Summary};

use crate::calls::many::PySummaries;
use crate::calls::rows::Rows;
use crate::memory::buffer::Buffer;
use crate::memory::dims::Shape;
use crate::run;
use crate::states::histogram::PyHistogram;
use crate::states::summary::PySummary;
use crate::states::summary::state::State;

/// A step may count tensors without end; what one module hands to the next is handed on soon.
const MOST_SEEN: usize = 32;

/// What was counted of one tensor.
#[derive(Clone)]
struct Counted {
    state: Arc<State>,
    histogram: Option<Arc<Histogram>>,
}

impl Counted {
    /// Counts the elements of a tensor for which a mask is true, all without one, with a histogram of the axis of `like` where one is wanted.
    fn of(
        py: Python<'_>,
        buffer: &Buffer,
        mask: Option<&Buffer>,
        like: Option<&Py<PyHistogram>>,
        threads: usize,
    ) -> PyResult<Self> {
        let axis = like.map(|histogram| histogram.get().own_axis());
        let ((summary, histogram), sketch) = run::count_chosen(py, buffer, mask, threads, |view, options| {
            let fused = axis.as_ref().and_then(|axis| {
                let (summary, histogram) = of_each(core::slice::from_ref(view), axis, Moments::Two, options).pop()?;
                Some((summary, Some(Arc::new(histogram))))
            });
            (fused.unwrap_or_else(|| (Summary::of(view, Moments::Two, options), None)), Sketch::of(view))
        })?;
        let shape = Shape::One(buffer.shape().into());
        Ok(Self { state: Arc::new(State { summary, sketch, shape }), histogram })
    }

    fn is_finite(&self) -> bool {
        self.state.summary.stats.counts.total() == self.state.summary.stats.counts.finite()
    }
}

/// A tensor that was counted, held weakly, and the mask it was counted with.
struct Known {
    address: usize,
    tensor: Py<PyWeakrefReference>,
    version: u64,
    mask: Option<Py<PyAny>>,
    counted: Counted,
}

/// The tensors counted last. What one module returns the next one is given, and some return it unchanged: it needs no second look.
#[pyclass(frozen, name = "SeenTensors", module = "tensorstats._core")]
#[derive(Default)]
pub(crate) struct PySeenTensors(Mutex<VecDeque<Known>>);

impl PySeenTensors {
    /// Never held while Python code runs.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted of a tensor with the same mask, if it has not changed since.
    fn find(&self, tensor: &Bound<'_, PyAny>, mask: Option<&Bound<'_, PyAny>>, histogram: bool) -> Option<Counted> {
        let address = tensor.as_ptr().addr();
        let (reference, version, counted) = {
            let known = self.lock();
            let found = known.iter().rev().find(|known| known.address == address)?;
            if found.mask.as_ref().map(Py::as_ptr) != mask.map(Bound::as_ptr) {
                return None;
            }
            (found.tensor.clone_ref(tensor.py()), found.version, found.counted.clone())
        };
        // The address may be another tensor's by now.
        let same = reference.bind(tensor.py()).upgrade().is_some_and(|alive| alive.is(tensor));
        let usable = counted.histogram.is_some() || !histogram;
        (same && usable && version_of(tensor) == Some(version)).then_some(counted)
    }

    /// Remembers what was counted of a tensor. One of inference mode has no version by which a change would show.
    fn keep(&self, tensor: &Bound<'_, PyAny>, mask: Option<&Bound<'_, PyAny>>, counted: &Counted) {
        let (Some(version), Ok(reference)) = (version_of(tensor), PyWeakrefReference::new(tensor)) else { return };
        let address = tensor.as_ptr().addr();
        let mask = mask.map(|mask| mask.clone().unbind());
        let known = Known { address, tensor: reference.unbind(), version, mask, counted: counted.clone() };
        let dropped = {
            let mut all = self.lock();
            all.push_back(known);
            if all.len() > MOST_SEEN { all.pop_front() } else { None }
        };
        drop(dropped);
    }
}

fn version_of(tensor: &Bound<'_, PyAny>) -> Option<u64> {
    tensor.getattr(intern!(tensor.py(), "_version")).ok()?.extract().ok()
}

#[pymethods]
impl PySeenTensors {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Forgets all.
    fn clear(&self) {
        let all = core::mem::take(&mut *self.lock());
        drop(all);
    }
}

/// The place of one tensor in one step; several tensors that come to the same place are merged.
#[pyclass(frozen, subclass, name = "TensorSlot", module = "tensorstats._core")]
pub(crate) struct PyTensorSlot(Mutex<Slot>);

#[derive(Default)]
struct Slot {
    state: Option<Arc<State>>,
    histogram: Option<Py<PyHistogram>>,
}

impl PyTensorSlot {
    /// Never held while Python code runs.
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn merge(&self, state: &Arc<State>) -> PyResult<()> {
        let mut slot = self.lock();
        match &mut slot.state {
            None => slot.state = Some(Arc::clone(state)),
            Some(mine) => Arc::make_mut(mine).merge(state)?,
        }
        Ok(())
    }

    fn state(&self) -> Option<Arc<State>> {
        self.lock().state.clone()
    }
}

#[pymethods]
impl PyTensorSlot {
    /// Subclasses take what arguments they like.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self(Mutex::new(Slot::default()))
    }

    /// Begins a step: forgets what was counted. From now on values go into `histogram` as well, where there is one.
    #[pyo3(signature = (histogram = None, /))]
    fn begin(&self, histogram: Option<Py<PyHistogram>>) {
        let before = core::mem::replace(&mut *self.lock(), Slot { state: None, histogram });
        drop(before);
    }

    /// Counts an ordinary tensor of torch in host memory, or what a mask chooses of it, unless it was seen already. Says whether all of its values are finite; None for
    /// anything else, which is left alone.
    #[pyo3(signature = (tensor, seen, threads, mask = None, /))]
    fn count(
        &self,
        tensor: &Bound<'_, PyAny>,
        seen: Option<&PySeenTensors>,
        threads: usize,
        mask: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<bool>> {
        let py = tensor.py();
        let histogram = self.lock().histogram.as_ref().map(|histogram| histogram.clone_ref(py));
        let known = seen.and_then(|seen| seen.find(tensor, mask, histogram.is_some()));
        let counted = if let Some(known) = known {
            known
        } else {
            if mask.is_some() && !Buffer::is_ordinary_tensor(tensor)? {
                return Ok(None); // then its mask is elsewhere as well
            }
            // The mask first: a borrowed tensor must be used before other Python code runs.
            let chosen = mask.map(Buffer::here).transpose()?;
            let Some(buffer) = Buffer::of_ordinary_tensor(tensor)? else { return Ok(None) };
            let counted = Counted::of(py, &buffer, chosen.as_ref(), histogram.as_ref(), threads.max(1))?;
            if let Some(seen) = seen {
                seen.keep(tensor, mask, &counted);
            }
            counted
        };
        if let (Some(total), Some(part)) = (&histogram, &counted.histogram) {
            total.get().check(part)?;
        }
        self.merge(&counted.state)?;
        if let (Some(total), Some(part)) = (&histogram, &counted.histogram) {
            total.get().add(part)?;
        }
        Ok(Some(counted.is_finite()))
    }

    /// Takes in the summary of one more tensor.
    #[pyo3(signature = (summary, /))]
    fn add(&self, summary: &PySummary) -> PyResult<()> {
        self.merge(&Arc::new(summary.snapshot()))
    }

    /// What was counted in this step; None for nothing.
    #[getter]
    fn summary(&self) -> Option<PySummary> {
        self.state().map(|state| PySummary::wrap(State::clone(&state)))
    }

    #[setter]
    fn set_summary(&self, summary: Option<&PySummary>) {
        let state = summary.map(|summary| Arc::new(summary.snapshot()));
        let before = core::mem::replace(&mut self.lock().state, state);
        drop(before);
    }

    /// Whether anything was counted in this step.
    #[getter]
    fn counted(&self) -> bool {
        self.lock().state.is_some()
    }

    /// Number of finite values counted in this step.
    #[getter]
    fn finite_count(&self) -> u64 {
        self.state().map_or(0, |state| state.summary.stats.counts.finite())
    }
}

/// A table of what the slots hold: a row for each one that holds anything.
#[pyfunction]
#[pyo3(signature = (slots, /))]
pub(crate) fn summaries_of_slots(slots: Vec<PyRef<'_, PyTensorSlot>>) -> PySummaries {
    let mut table = Rows::with_capacity(slots.len());
    for state in slots.iter().filter_map(|slot| slot.state()) {
        table.push(state.summary.clone(), &state.sketch, state.shape.clone());
    }
    PySummaries::of(table)
}

/// Whether all are ordinary tensors of torch in host memory, which every count takes as they are.
#[pyfunction]
#[pyo3(signature = (tensors, /))]
pub(crate) fn are_ordinary(tensors: &Bound<'_, PyList>) -> PyResult<bool> {
    for tensor in tensors.iter() {
        if !Buffer::is_ordinary_tensor(&tensor)? {
            return Ok(false);
        }
    }
    Ok(true)
}
