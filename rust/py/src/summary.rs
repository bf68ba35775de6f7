//! Owns the Python class `Summary`. Arithmetic is the core's; this file only hands numbers over.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use tensorstats_core::formats::Fits;
use tensorstats_core::kernel::Moments;
use tensorstats_core::{Dtype, Number, Sketch, Summary};

use crate::arrays::begins_a_sum;
use crate::buffer::Buffer;
use crate::dims::Dims;
use crate::errors::to_py;
use crate::rows::Rows;
use crate::{formats, run, summary_dict, summary_repr};

/// What a `Summary` object holds: the numbers, a sketch for its repr, and the shape while it is of one tensor.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) summary: Summary,
    pub(crate) sketch: Sketch,
    pub(crate) shape: Shape,
}

/// Which tensors a state was made of.
#[derive(Clone)]
pub(crate) enum Shape {
    Nothing,
    One(Dims),
    Several,
}

impl State {
    fn new(moments: Moments, fits: Option<&Fits>) -> Self {
        let summary = Summary::with_formats(moments, fits);
        Self { summary, sketch: Sketch::default(), shape: Shape::Nothing }
    }

    pub(crate) fn of(py: Python<'_>, x: &Bound<'_, PyAny>, moments: Moments, threads: usize) -> PyResult<Self> {
        let buffer = Buffer::of(x)?;
        let (summary, sketch) =
            run::count(py, &buffer, threads, |view, options| (Summary::of(view, moments, options), Sketch::of(view)))?;
        Ok(Self { summary, sketch, shape: Shape::One(buffer.shape().into()) })
    }

    /// Of the elements for which a mask is true, keeping formats; both only where given.
    fn of_chosen(
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        mask: Option<&Bound<'_, PyAny>>,
        moments: Moments,
        fits: Option<&Fits>,
        threads: usize,
    ) -> PyResult<Self> {
        // The mask first: a borrowed tensor must be used before other Python code runs.
        let mask = mask.map(Buffer::of_mask).transpose()?;
        let buffer = Buffer::of(x)?;
        let (summary, sketch) = run::count_chosen(py, &buffer, mask.as_ref(), threads, |view, options| {
            (Summary::of_formats(view, moments, fits, options), Sketch::of(view))
        })?;
        Ok(Self { summary, sketch, shape: Shape::One(buffer.shape().into()) })
    }

    pub(crate) fn merge(&mut self, other: &Self) -> PyResult<()> {
        self.summary.merge(&other.summary).map_err(to_py)?;
        self.sketch.merge(&other.sketch);
        self.shape.merge(&other.shape);
        Ok(())
    }
}

impl Shape {
    pub(crate) fn merge(&mut self, other: &Self) {
        match (&*self, other) {
            (_, Self::Nothing) => {}
            (Self::Nothing, shape) => *self = shape.clone(),
            _ => *self = Self::Several,
        }
    }
}

#[pyclass(frozen, name = "Summary", module = "tensorstats._core")]
pub(crate) struct PySummary(Mutex<State>);

impl PySummary {
    pub(crate) fn wrap(state: State) -> Self {
        Self(Mutex::new(state))
    }

    /// Held only for short copies and merges, never while Python code runs.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends the state as it is now to a table.
    pub(crate) fn append_to(&self, rows: &mut Rows) {
        let state = self.lock();
        rows.push(state.summary.clone(), &state.sketch, state.shape.clone());
    }

    /// The state as it is now.
    pub(crate) fn snapshot(&self) -> State {
        self.lock().clone()
    }

    fn read<R>(&self, f: impl FnOnce(&Summary) -> R) -> R {
        f(&self.lock().summary)
    }
}

/// A number as Python sees it: `int` for integer dtypes, else `float`.
pub(crate) struct Shown(pub(crate) Number);

impl<'py> IntoPyObject<'py> for Shown {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.0 {
            Number::Int(n) => Ok(n.into_pyobject(py)?.into_any()),
            Number::Float(x) => Ok(x.into_pyobject(py)?.into_any()),
        }
    }
}

#[pymethods]
impl PySummary {
    #[new]
    #[pyo3(signature = (*, moments = 2, formats = None, scale = 1.0))]
    fn new(moments: u32, formats: Option<&Bound<'_, PyAny>>, scale: f64) -> PyResult<Self> {
        let fits = formats::asked(formats, scale)?;
        Ok(Self::wrap(State::new(Moments::from_number(moments).map_err(to_py)?, fits.as_ref())))
    }

    #[pyo3(signature = (x, /, *, r#where = None, threads = None))]
    fn update<'py>(
        slf: Bound<'py, Self>,
        x: &Bound<'py, PyAny>,
        r#where: Option<&Bound<'py, PyAny>>,
        threads: Option<i64>,
    ) -> PyResult<Bound<'py, Self>> {
        let (moments, fits) = slf.get().read(|summary| (summary.moments, summary.fits.clone()));
        let part = State::of_chosen(slf.py(), x, r#where, moments, fits.as_deref(), run::threads(threads)?)?;
        slf.get().lock().merge(&part)?;
        Ok(slf)
    }

    #[pyo3(signature = (other, /))]
    fn merge<'py>(slf: Bound<'py, Self>, other: &Self) -> PyResult<Bound<'py, Self>> {
        let part = other.lock().clone();
        slf.get().lock().merge(&part)?;
        Ok(slf)
    }

    fn __add__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        let Ok(other) = other.cast::<Self>() else { return Ok(py.NotImplemented().into_bound(py)) };
        let part = other.get().lock().clone();
        let mut state = self.lock().clone();
        state.merge(&part)?;
        Ok(Bound::new(py, Self::wrap(state))?.into_any())
    }

    fn __radd__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        if !begins_a_sum(other) {
            return Ok(py.NotImplemented().into_bound(py));
        }
        Ok(Bound::new(py, self.copy())?.into_any())
    }

    fn reset(&self) {
        let mut state = self.lock();
        *state = State::new(state.summary.moments, state.summary.fits.as_deref());
    }

    fn copy(&self) -> Self {
        Self::wrap(self.lock().clone())
    }

    fn __copy__(&self) -> Self {
        self.copy()
    }

    fn __deepcopy__(&self, _memo: &Bound<'_, PyAny>) -> Self {
        self.copy()
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        let Ok(other) = other.cast::<Self>() else { return false };
        let other = other.get().read(Summary::to_bytes);
        self.read(Summary::to_bytes) == other
    }

    #[getter]
    fn dtype(&self) -> Option<&'static str> {
        self.read(|s| s.dtype().map(Dtype::name))
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let shape = match &self.lock().shape {
            Shape::One(shape) => Some(shape.clone()),
            _ => None,
        };
        shape.map(|s| PyTuple::new(py, s.iter())).transpose()
    }

    #[getter]
    fn moments(&self) -> u32 {
        self.read(|s| s.moments.number())
    }

    #[getter]
    fn formats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let names: Vec<&str> = self.read(|s| s.fits.as_ref().map_or_else(Vec::new, |fits| fits.names()));
        PyTuple::new(py, names)
    }

    #[pyo3(signature = (format, /))]
    fn fits<'py>(&self, format: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let dtype = formats::one(format)?;
        let fit = self.read(|s| s.fits(dtype)).map_err(to_py)?;
        formats::result(format.py(), &fit)
    }

    #[getter]
    fn count(&self) -> u64 {
        self.read(|s| s.stats.counts.total())
    }

    #[getter]
    fn finite_count(&self) -> u64 {
        self.read(|s| s.stats.counts.finite())
    }

    #[getter]
    fn nonfinite_count(&self) -> u64 {
        self.read(|s| s.stats.counts.total() - s.stats.counts.finite())
    }

    #[getter]
    fn nan_count(&self) -> u64 {
        self.read(|s| s.stats.counts.nan)
    }

    #[getter]
    fn posinf_count(&self) -> u64 {
        self.read(|s| s.stats.counts.posinf)
    }

    #[getter]
    fn neginf_count(&self) -> u64 {
        self.read(|s| s.stats.counts.neginf)
    }

    #[getter]
    fn zero_count(&self) -> u64 {
        self.read(|s| s.stats.counts.zero)
    }

    #[getter]
    fn negative_count(&self) -> u64 {
        self.read(|s| s.stats.counts.negative)
    }

    #[getter]
    fn positive_count(&self) -> u64 {
        self.read(|s| s.stats.counts.positive)
    }

    #[getter]
    fn subnormal_count(&self) -> u64 {
        self.read(|s| s.stats.counts.subnormal)
    }

    #[getter]
    fn min(&self) -> Shown {
        Shown(self.read(Summary::min))
    }

    #[getter]
    fn max(&self) -> Shown {
        Shown(self.read(Summary::max))
    }

    #[getter]
    fn absmax(&self) -> Shown {
        Shown(self.read(Summary::absmax))
    }

    #[getter]
    fn absmin(&self) -> Shown {
        Shown(self.read(Summary::absmin))
    }

    #[getter]
    fn sum(&self) -> Shown {
        Shown(self.read(Summary::sum))
    }

    #[getter]
    fn mean(&self) -> f64 {
        self.read(Summary::mean)
    }

    #[getter]
    fn l1(&self) -> Shown {
        Shown(self.read(Summary::l1))
    }

    #[getter]
    fn l2(&self) -> f64 {
        self.read(Summary::l2)
    }

    #[getter]
    fn rms(&self) -> f64 {
        self.read(Summary::rms)
    }

    #[pyo3(signature = (correction = 0.0))]
    fn var(&self, correction: f64) -> f64 {
        self.read(|s| s.var(correction))
    }

    #[pyo3(signature = (correction = 0.0))]
    fn std(&self, correction: f64) -> f64 {
        self.read(|s| s.std(correction))
    }

    #[getter]
    fn skewness(&self) -> PyResult<f64> {
        self.read(Summary::skewness).map_err(to_py)
    }

    #[getter]
    fn kurtosis(&self) -> PyResult<f64> {
        self.read(Summary::kurtosis).map_err(to_py)
    }

    fn __repr__(&self) -> String {
        summary_repr::line(&self.lock())
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.read(Summary::to_bytes))
    }

    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        let summary = Summary::from_bytes(data).map_err(to_py)?;
        Ok(Self::wrap(State { summary, sketch: Sketch::default(), shape: Shape::Several }))
    }

    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        summary_dict::to_dict(py, &self.lock().clone())
    }

    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn from_dict(data: &Bound<'_, PyDict>) -> PyResult<Self> {
        summary_dict::from_dict(data).map(Self::wrap)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyDict>,))> {
        let rebuild = py.get_type::<Self>().getattr("from_dict")?;
        Ok((rebuild, (self.to_dict(py)?,)))
    }
}

/// Summarises one tensor.
#[pyfunction]
#[pyo3(signature = (x, /, moments = 2, threads = None))]
pub(crate) fn summary(py: Python<'_>, x: &Bound<'_, PyAny>, moments: u32, threads: Option<i64>) -> PyResult<PySummary> {
    let moments = Moments::from_number(moments).map_err(to_py)?;
    State::of(py, x, moments, run::threads(threads)?).map(PySummary::wrap)
}

/// Summarises the elements of one tensor for which a mask is true, keeping formats; both only where given. Apart from `summary`, whose
/// calls are counted in nanoseconds.
#[pyfunction]
#[pyo3(signature = (x, /, moments = 2, threads = None, r#where = None, formats = None, scale = 1.0))]
pub(crate) fn summary_where(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    moments: u32,
    threads: Option<i64>,
    r#where: Option<&Bound<'_, PyAny>>,
    formats: Option<&Bound<'_, PyAny>>,
    scale: f64,
) -> PyResult<PySummary> {
    let moments = Moments::from_number(moments).map_err(to_py)?;
    let fits = formats::asked(formats, scale)?;
    State::of_chosen(py, x, r#where, moments, fits.as_ref(), run::threads(threads)?).map(PySummary::wrap)
}
