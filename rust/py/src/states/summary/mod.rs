//! Owns the Python class `Summary`. Arithmetic is the core's; this file only hands numbers over.

mod dict;
mod repr;
pub(crate) mod state;

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use tensorstats_core::kernel::Moments;
use tensorstats_core::summary::formats::Fits;
use tensorstats_core::{Dtype, Sketch, Summary};

use self::state::State;

use crate::arrays::{Shown, begins_a_sum};
use crate::errors::to_py;
use crate::memory::dims::Shape;
use crate::package;
use crate::run::{self, Threads};
use crate::states::formats;

/// Mergeable summary of tensors: counts, extremes, sums, norms, mean and spread.
///
/// Parameters
/// ----------
/// moments
///     2, or 4 to keep what `skewness` and `kurtosis` need.
/// formats
///     Narrower formats to ask about with `fits`: names or dtypes.
/// scale
///     What values are multiplied by before they are looked at as `formats`; finite and above 0.
///
/// Notes
/// -----
/// NaN and ±inf are counted and left out of everything else. What needs a finite value is NaN where there is none. `min`, `max`, `absmax`,
/// `absmin`, `sum` and `l1` are exact ints for integer dtypes. What takes an argument is a method (`var`, `std`, `fits`), everything else a
/// property. Methods may be called from several threads at once.
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> import tensorstats as ts
/// >>> s = ts.Summary()
/// >>> for batch in (np.array([1.0, 2.0]), np.array([3.0, np.nan])):
/// ...     _ = s.update(batch)
/// >>> s.count, s.nan_count, s.mean, s.std(correction=1)
/// (4, 1, 2.0, 1.0)
/// >>> s
/// f64 n=4 x∈[1 █▁▁▁▁█▁▁▁█ 3] μ=2 σ=0.816 NaN=1!
#[pyclass(frozen, name = "Summary", module = "tensorstats")]
pub(crate) struct PySummary(Mutex<State>);

impl PySummary {
    pub(crate) fn wrap(state: State) -> Self {
        Self(Mutex::new(state))
    }

    /// Held only for short copies and merges, never while Python code runs.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of a torch tensor of another device, of what a mask chooses of it where there is one.
    #[cold]
    pub(crate) fn elsewhere(
        x: &Bound<'_, PyAny>,
        mask: Option<&Bound<'_, PyAny>>,
        moments: Moments,
        fits: Option<&Fits>,
    ) -> PyResult<State> {
        let formats: Vec<_> = fits.into_iter().flat_map(Fits::formats).map(|(format, _)| format.name()).collect();
        let scale = fits.map_or(1.0, Fits::scale);
        let found = package::door(x.py(), "summary", (x, moments.number(), mask, formats, scale))?;
        Ok(found.cast::<Self>()?.get().snapshot())
    }

    /// The state as it is now.
    pub(crate) fn snapshot(&self) -> State {
        self.lock().clone()
    }

    fn read<R>(&self, f: impl FnOnce(&Summary) -> R) -> R {
        f(&self.lock().summary)
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

    /// Counts the values of a tensor in, those where a mask is true; returns the state itself.
    ///
    /// Parameters
    /// ----------
    /// x
    ///     Any tensor on any device, as for `summary`.
    /// where
    ///     A bool mask that broadcasts to the shape of `x`; None for all values.
    /// threads
    ///     Most threads to use; None leaves it to `thread_count()`.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.Summary().update(np.array([1.0, 5.0]), where=np.array([True, False])).update(np.array([3.0])).sum
    /// 4.0
    #[pyo3(signature = (x, /, *, r#where = None, threads = None))]
    fn update<'py>(
        slf: Bound<'py, Self>,
        x: &Bound<'py, PyAny>,
        r#where: Option<&Bound<'py, PyAny>>,
        threads: Option<Threads>,
    ) -> PyResult<Bound<'py, Self>> {
        let (moments, fits) = slf.get().read(|summary| (summary.moments, summary.fits.clone()));
        let fits = fits.as_deref();
        let elsewhere = || Self::elsewhere(x, r#where, moments, fits);
        let part = State::of_chosen(slf.py(), x, r#where, moments, fits, run::threads(threads)?, elsewhere)?;
        slf.get().lock().merge(&part)?;
        Ok(slf)
    }

    /// Takes in another summary, as if its tensors had followed; returns the state itself. Both must keep the same moments and formats.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.summary(np.array([1, 2])).merge(ts.summary(np.array([9]))).max
    /// 9
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

    /// Forgets all values; moments and formats stay.
    fn reset(&self) {
        let mut state = self.lock();
        *state = State::new(state.summary.moments, state.summary.fits.as_deref());
    }

    /// An independent copy.
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

    /// The dtype of the tensors: a name that numpy, torch and `ml_dtypes` share. None when there was none yet, or several.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.summary(np.ones(3, dtype=np.float32)).dtype, ts.Summary().dtype
    /// ('float32', None)
    #[getter]
    fn dtype(&self) -> Option<&'static str> {
        self.read(|s| s.dtype().map(Dtype::name))
    }

    /// The shape of the tensor; None unless the summary is of exactly one.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> s = ts.summary(np.ones((2, 3)))
    /// >>> s.shape, (s + s).shape
    /// ((2, 3), None)
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let shape = match &self.lock().shape {
            Shape::One(shape) => Some(shape.clone()),
            _ => None,
        };
        shape.map(|s| PyTuple::new(py, s.iter())).transpose()
    }

    /// How many moments are kept: 2, or 4 with `skewness` and `kurtosis`.
    #[getter]
    fn moments(&self) -> u32 {
        self.read(|s| s.moments.number())
    }

    /// The narrower formats that `fits` can be asked about.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.summary(np.ones(3), formats=("float16", "bfloat16")).formats
    /// ('float16', 'bfloat16')
    #[getter]
    fn formats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let names: Vec<&str> = self.read(|s| s.fits.as_ref().map_or_else(Vec::new, |fits| fits.names()));
        PyTuple::new(py, names)
    }

    /// What the values would be in a narrower format, one of `formats`.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.summary(np.array([1.0, 70000.0]), formats="float16").fits("float16").overflow
    /// 1
    #[pyo3(signature = (format, /))]
    fn fits<'py>(&self, format: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let dtype = formats::one(format)?;
        let fit = self.read(|s| s.fits(dtype)).map_err(to_py)?;
        formats::result(format.py(), &fit)
    }

    /// Number of all values, NaN and ±inf included.
    #[getter]
    fn count(&self) -> u64 {
        self.read(|s| s.stats.counts.total())
    }

    /// Number of finite values: those that are neither NaN nor ±inf.
    #[getter]
    fn finite_count(&self) -> u64 {
        self.read(|s| s.stats.counts.finite())
    }

    /// Number of values that are NaN, +inf or -inf.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> s = ts.summary(np.array([np.nan, np.inf, -np.inf, 0.0]))
    /// >>> s.nonfinite_count, s.finite_count, s.count
    /// (3, 1, 4)
    #[getter]
    fn nonfinite_count(&self) -> u64 {
        self.read(|s| s.stats.counts.total() - s.stats.counts.finite())
    }

    /// Number of NaN.
    #[getter]
    fn nan_count(&self) -> u64 {
        self.read(|s| s.stats.counts.nan)
    }

    /// Number of +inf.
    #[getter]
    fn posinf_count(&self) -> u64 {
        self.read(|s| s.stats.counts.posinf)
    }

    /// Number of -inf.
    #[getter]
    fn neginf_count(&self) -> u64 {
        self.read(|s| s.stats.counts.neginf)
    }

    /// Number of zeros, +0 and -0.
    #[getter]
    fn zero_count(&self) -> u64 {
        self.read(|s| s.stats.counts.zero)
    }

    /// Number of finite values below zero.
    #[getter]
    fn negative_count(&self) -> u64 {
        self.read(|s| s.stats.counts.negative)
    }

    /// Number of finite values above zero.
    #[getter]
    fn positive_count(&self) -> u64 {
        self.read(|s| s.stats.counts.positive)
    }

    /// Number of values that are subnormal in their dtype: not zero, and smaller than its smallest normal number. They are also among `negative_count` or `positive_count`.
    #[getter]
    fn subnormal_count(&self) -> u64 {
        self.read(|s| s.stats.counts.subnormal)
    }

    /// Smallest finite value: an exact int for integer dtypes, else a float; NaN where there is none.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.summary(np.array([3.0, -2.0, -np.inf])).min, ts.summary(np.array([2**64 - 1], dtype=np.uint64)).min
    /// (-2.0, 18446744073709551615)
    #[getter]
    fn min(&self) -> Shown {
        Shown(self.read(Summary::min))
    }

    /// Largest finite value: an exact int for integer dtypes, else a float; NaN where there is none.
    #[getter]
    fn max(&self) -> Shown {
        Shown(self.read(Summary::max))
    }

    /// Largest magnitude of a finite value: an exact int for integer dtypes, else a float; NaN where there is none.
    #[getter]
    fn absmax(&self) -> Shown {
        Shown(self.read(Summary::absmax))
    }

    /// Smallest magnitude that is not zero: an exact int for integer dtypes, else a float; NaN where there is none.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.summary(np.array([0.0, -0.25, 3.0])).absmin
    /// 0.25
    #[getter]
    fn absmin(&self) -> Shown {
        Shown(self.read(Summary::absmin))
    }

    /// Sum of the finite values: an exact int for integer dtypes, else a float.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.summary(np.full(3, 100, dtype=np.int8)).sum, ts.summary(np.array([1e16, 1.0, -1e16])).sum
    /// (300, 1.0)
    #[getter]
    fn sum(&self) -> Shown {
        Shown(self.read(Summary::sum))
    }

    /// Arithmetic mean of the finite values; NaN where there is none.
    #[getter]
    fn mean(&self) -> f64 {
        self.read(Summary::mean)
    }

    /// Sum of the magnitudes of the finite values: an exact int for integer dtypes, else a float.
    #[getter]
    fn l1(&self) -> Shown {
        Shown(self.read(Summary::l1))
    }

    /// Euclidean norm of the finite values: the root of the sum of their squares, without overflow on the way.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.summary(np.array([3.0, 4.0, np.nan])).l2
    /// 5.0
    #[getter]
    fn l2(&self) -> f64 {
        self.read(Summary::l2)
    }

    /// Root of the mean of the squares of the finite values.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.summary(np.array([1.0, -7.0])).rms
    /// 5.0
    #[getter]
    fn rms(&self) -> f64 {
        self.read(Summary::rms)
    }

    /// Variance of the finite values: the sum of squared differences from the mean over `n - correction`; exactly 0 for a constant.
    ///
    /// Parameters
    /// ----------
    /// correction
    ///     0 for the population, 1 for Bessel's correction (torch's default).
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> s = ts.summary(np.array([1.0, 3.0]))
    /// >>> s.var(), s.var(correction=1)
    /// (1.0, 2.0)
    #[pyo3(signature = (correction = 0.0))]
    fn var(&self, correction: f64) -> f64 {
        self.read(|s| s.var(correction))
    }

    /// Standard deviation of the finite values: the root of `var(correction)`.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.summary(np.array([1.0, 3.0])).std()
    /// 1.0
    #[pyo3(signature = (correction = 0.0))]
    fn std(&self, correction: f64) -> f64 {
        self.read(|s| s.std(correction))
    }

    /// Skewness of the finite values, biased as `scipy.stats.skew` has it. Needs `moments=4`, and is a ValueError without.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.summary(np.array([0.0, 0.0, 0.0, 4.0]), moments=4).skewness
    /// 1.1547005383792515
    #[getter]
    fn skewness(&self) -> PyResult<f64> {
        self.read(Summary::skewness).map_err(to_py)
    }

    /// Excess kurtosis of the finite values, biased as `scipy.stats.kurtosis` has it. Needs `moments=4`, and is a ValueError without.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.summary(np.array([-1.0, 1.0]), moments=4).kurtosis
    /// -2.0
    #[getter]
    fn kurtosis(&self) -> PyResult<f64> {
        self.read(Summary::kurtosis).map_err(to_py)
    }

    fn __repr__(&self) -> String {
        repr::line(&self.lock())
    }

    /// The versioned byte form; the shape and what only the repr shows are left out.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> s = ts.summary(np.arange(3))
    /// >>> ts.Summary.from_bytes(s.to_bytes()) == s
    /// True
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.read(Summary::to_bytes))
    }

    /// Reads `to_bytes` back; a ValueError for anything else.
    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        let summary = Summary::from_bytes(data).map_err(to_py)?;
        Ok(Self::wrap(State { summary, sketch: Sketch::default(), shape: Shape::Several }))
    }

    /// Everything as plain Python values, in types that strict JSON knows.
    ///
    /// Examples
    /// --------
    /// >>> import json
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> s = ts.summary(np.arange(3))
    /// >>> ts.Summary.from_dict(json.loads(json.dumps(s.to_dict()))) == s
    /// True
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        dict::to_dict(py, &self.lock().clone())
    }

    /// Reads `to_dict` back; an error that names the key for anything else.
    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn from_dict(data: &Bound<'_, PyDict>) -> PyResult<Self> {
        dict::from_dict(data).map(Self::wrap)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyDict>,))> {
        let rebuild = py.get_type::<Self>().getattr("from_dict")?;
        Ok((rebuild, (self.to_dict(py)?,)))
    }
}

/// Summarises one tensor.
#[pyfunction]
#[pyo3(signature = (x, /, moments = 2, threads = None))]
pub(crate) fn summary(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    moments: u32,
    threads: Option<Threads>,
) -> PyResult<PySummary> {
    let moments = Moments::from_number(moments).map_err(to_py)?;
    let elsewhere = || PySummary::elsewhere(x, None, moments, None);
    State::of(py, x, moments, run::threads(threads)?, elsewhere).map(PySummary::wrap)
}

/// Summarises the elements of one tensor for which a mask is true, keeping formats; both only where given. Apart from `summary`, whose
/// calls are counted in nanoseconds.
#[pyfunction]
#[pyo3(signature = (x, /, moments = 2, threads = None, r#where = None, formats = None, scale = 1.0))]
pub(crate) fn summary_where(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    moments: u32,
    threads: Option<Threads>,
    r#where: Option<&Bound<'_, PyAny>>,
    formats: Option<&Bound<'_, PyAny>>,
    scale: f64,
) -> PyResult<PySummary> {
    let moments = Moments::from_number(moments).map_err(to_py)?;
    let fits = formats::asked(formats, scale)?;
    let (fits, threads) = (fits.as_ref(), run::threads(threads)?);
    let elsewhere = || PySummary::elsewhere(x, r#where, moments, fits);
    State::of_chosen(py, x, r#where, moments, fits, threads, elsewhere).map(PySummary::wrap)
}
