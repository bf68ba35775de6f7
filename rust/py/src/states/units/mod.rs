//! Owns the Python class `UnitActivity`. Arithmetic is the core's; this file only hands numbers over.

mod dict;

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tensorstats_core::allocation::check_memory;
use tensorstats_core::parallel::scan::Options;
use tensorstats_core::units::Unit;
use tensorstats_core::units::check_units_memory;
use tensorstats_core::{TensorView, UnitActivity};

use crate::arrays;
use crate::arrays::begins_a_sum;
use crate::errors::to_py;
use crate::memory::buffer::Buffer;
use crate::package;
use crate::run::{self, Threads};

type Array<'py> = PyResult<Bound<'py, PyAny>>;

/// How often each unit along a dimension is active, saturated or not finite, and its own mean, spread and extremes; mergeable.
///
/// Parameters
/// ----------
/// dim
///     The dimension along which units lie: 1 for the channels of NCHW, -1 for the features of BTC. Negative ones count from the end.
/// saturation
///     `(low, high)`: finite values below the first or above the second count as saturated. None for no bounds.
///
/// Notes
/// -----
/// A value is active when it is finite and not zero. NaN and infinities are counted and left out of everything else. Fields are arrays of
/// one entry a unit: counts int64, the rest float64 (NaN for a unit without finite values). What takes an argument is a method (`var`, `std`,
/// `dead_units`, `dead_fraction`), everything else a property.
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> import tensorstats as ts
/// >>> u = ts.UnitActivity(1).update(np.array([[0.0, 1.0], [0.0, 3.0]]))
/// >>> u.active_count, u.mean, u.dead_units()
/// (array([0, 2]), array([0., 2.]), array([0]))
#[pyclass(frozen, name = "UnitActivity", module = "tensorstats")]
pub(crate) struct PyUnitActivity(Mutex<UnitActivity>);

impl PyUnitActivity {
    pub(crate) fn wrap(activity: UnitActivity) -> Self {
        Self(Mutex::new(activity))
    }

    /// Held only for short copies and merges, never while Python code runs.
    fn lock(&self) -> MutexGuard<'_, UnitActivity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of its state.
    fn snapshot(&self) -> PyResult<UnitActivity> {
        self.lock().try_clone().map_err(to_py)
    }

    fn of(
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        mask: Option<&Bound<'_, PyAny>>,
        dim: i64,
        saturation: Option<(f64, f64)>,
        threads: usize,
    ) -> PyResult<UnitActivity> {
        let elsewhere = || {
            let found = package::door(py, "unit_activity", (x, dim, saturation, mask))?;
            found.cast::<Self>()?.get().snapshot()
        };
        let Some(chosen) = Buffer::of_mask(mask)? else { return elsewhere() };
        let Some(buffer) = Buffer::of(x)? else { return elsewhere() };
        let count = |view: &TensorView<'_>, options: &Options<'_>| UnitActivity::of(view, dim, saturation, options);
        run::count_chosen(py, &buffer, chosen.as_ref(), threads, count)?.map_err(to_py)
    }

    fn counts<'py>(&self, py: Python<'py>, f: impl Fn(&Unit) -> u64) -> Array<'py> {
        let state = self.lock();
        arrays::check_array(state.units.len())?;
        let values: Vec<u64> = state.units.iter().map(f).collect();
        drop(state);
        arrays::counts(py, values)
    }

    fn floats<'py>(&self, py: Python<'py>, f: impl Fn(&Unit) -> f64) -> Array<'py> {
        let state = self.lock();
        arrays::check_array(state.units.len())?;
        let values: Vec<f64> = state.units.iter().map(f).collect();
        drop(state);
        arrays::floats(py, &values)
    }
}

#[pymethods]
impl PyUnitActivity {
    #[new]
    #[pyo3(signature = (dim = 1, *, saturation = None))]
    fn new(dim: i64, saturation: Option<(f64, f64)>) -> PyResult<Self> {
        UnitActivity::new(dim, saturation).map(Self::wrap).map_err(to_py)
    }

    /// Counts the values of a tensor in, those where a mask is true; returns the state itself. The number of units must be that of the
    /// first update.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> u = ts.UnitActivity(1)
    /// >>> u.update(np.array([[0.0, 1.0]])).update(np.array([[0.0, 0.0]])).inactive_for
    /// array([2, 1])
    #[pyo3(signature = (x, /, *, r#where = None, threads = None))]
    fn update<'py>(
        slf: Bound<'py, Self>,
        x: &Bound<'py, PyAny>,
        r#where: Option<&Bound<'py, PyAny>>,
        threads: Option<Threads>,
    ) -> PyResult<Bound<'py, Self>> {
        let (dim, saturation) = {
            let state = slf.get().lock();
            (state.dim, state.saturation)
        };
        let part = Self::of(slf.py(), x, r#where, dim, saturation, run::threads(threads)?)?;
        slf.get().lock().merge(&part).map_err(to_py)?;
        Ok(slf)
    }

    /// Takes in another state with as many units, as if its updates had followed; returns the state itself.
    #[pyo3(signature = (other, /))]
    fn merge<'py>(slf: Bound<'py, Self>, other: &Self) -> PyResult<Bound<'py, Self>> {
        let part = other.snapshot()?;
        slf.get().lock().merge(&part).map_err(to_py)?;
        Ok(slf)
    }

    fn __add__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        let Ok(other) = other.cast::<Self>() else { return Ok(py.NotImplemented().into_bound(py)) };
        let part = other.get().snapshot()?;
        let mut state = self.snapshot()?;
        state.merge(&part).map_err(to_py)?;
        Ok(Bound::new(py, Self::wrap(state))?.into_any())
    }

    fn __radd__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        if !begins_a_sum(other) {
            return Ok(py.NotImplemented().into_bound(py));
        }
        Ok(Bound::new(py, self.copy()?)?.into_any())
    }

    /// Forgets all updates.
    fn reset(&self) {
        let mut state = self.lock();
        state.updates = 0;
        state.units.clear();
    }

    /// An independent copy.
    fn copy(&self) -> PyResult<Self> {
        self.snapshot().map(Self::wrap)
    }

    fn __copy__(&self) -> PyResult<Self> {
        self.copy()
    }

    fn __deepcopy__(&self, _memo: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.copy()
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        let Ok(other) = other.cast::<Self>() else { return false };
        let other = other.get().lock().to_bytes();
        let mine = self.lock().to_bytes();
        mine == other
    }

    /// The dimension along which units lie, as it was asked for.
    #[getter]
    fn dim(&self) -> i64 {
        self.lock().dim
    }

    /// The bounds of saturation, or None.
    #[getter]
    fn saturation(&self) -> Option<(f64, f64)> {
        self.lock().saturation
    }

    /// Updates taken in.
    #[getter]
    fn updates(&self) -> u64 {
        self.lock().updates
    }

    /// Number of units; 0 before the first update.
    #[getter]
    fn units(&self) -> usize {
        self.lock().units.len()
    }

    /// All values of each unit.
    #[getter]
    fn count<'py>(&self, py: Python<'py>) -> Array<'py> {
        self.counts(py, Unit::count)
    }

    /// Values of each unit that are finite and not zero.
    #[getter]
    fn active_count<'py>(&self, py: Python<'py>) -> Array<'py> {
        self.counts(py, |u| u.active)
    }

    /// Zeros of each unit.
    #[getter]
    fn zero_count<'py>(&self, py: Python<'py>) -> Array<'py> {
        self.counts(py, |u| u.zero)
    }

    /// NaN and infinities of each unit.
    #[getter]
    fn nonfinite_count<'py>(&self, py: Python<'py>) -> Array<'py> {
        self.counts(py, |u| u.nonfinite)
    }

    /// Finite values of each unit below the lower bound of saturation.
    #[getter]
    fn low_count<'py>(&self, py: Python<'py>) -> Array<'py> {
        self.counts(py, |u| u.low)
    }

    /// Finite values of each unit above the upper bound of saturation.
    #[getter]
    fn high_count<'py>(&self, py: Python<'py>) -> Array<'py> {
        self.counts(py, |u| u.high)
    }

    /// The update, from 1 on, in which each unit was last active; 0 for never.
    #[getter]
    fn last_active<'py>(&self, py: Python<'py>) -> Array<'py> {
        self.counts(py, |u| u.last_active)
    }

    /// How many updates there were since each unit was last active; all of them where it never was.
    #[getter]
    fn inactive_for<'py>(&self, py: Python<'py>) -> Array<'py> {
        let values: Vec<u64> = {
            let state = self.lock();
            arrays::check_array(state.units.len())?;
            state.units.iter().map(|u| state.inactive_for(u)).collect()
        };
        arrays::counts(py, values)
    }

    /// Mean of the finite values of each unit.
    #[getter]
    fn mean<'py>(&self, py: Python<'py>) -> Array<'py> {
        self.floats(py, Unit::mean)
    }

    /// Variance of the finite values of each unit: the sum of squared differences from the mean over `n - correction`; exactly 0 for a constant,
    /// NaN where there are not more values than `correction`.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> u = ts.unit_activity(np.array([[1.0, 5.0], [3.0, 5.0]]))
    /// >>> u.var(), u.var(correction=1)
    /// (array([1., 0.]), array([2., 0.]))
    #[pyo3(signature = (correction = 0.0))]
    fn var<'py>(&self, py: Python<'py>, correction: f64) -> Array<'py> {
        self.floats(py, |u| u.var(correction))
    }

    /// Standard deviation of the finite values of each unit: the root of `var(correction)`, without overflow on the way.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.unit_activity(np.array([[1.0, 5.0], [3.0, 5.0]])).std()
    /// array([1., 0.])
    #[pyo3(signature = (correction = 0.0))]
    fn std<'py>(&self, py: Python<'py>, correction: f64) -> Array<'py> {
        self.floats(py, |u| u.std(correction))
    }

    /// Smallest finite value of each unit.
    #[getter]
    fn min<'py>(&self, py: Python<'py>) -> Array<'py> {
        self.floats(py, |u| if u.moments.count == 0 { f64::NAN } else { u.min })
    }

    /// Largest finite value of each unit.
    #[getter]
    fn max<'py>(&self, py: Python<'py>) -> Array<'py> {
        self.floats(py, |u| if u.moments.count == 0 { f64::NAN } else { u.max })
    }

    /// Share of each unit's values that are active; NaN without values.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.unit_activity(np.array([[0.0, 1.0], [0.0, 0.0]])).active_fraction
    /// array([0. , 0.5])
    #[getter]
    fn active_fraction<'py>(&self, py: Python<'py>) -> Array<'py> {
        self.floats(py, Unit::active_fraction)
    }

    /// Indices of the units whose share of active values is at most `threshold`; a unit without values is not among them.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> u = ts.unit_activity(np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 2.0]]))
    /// >>> u.dead_units(), u.dead_units(threshold=0.5)
    /// (array([0]), array([0, 2]))
    #[pyo3(signature = (threshold = 0.0))]
    fn dead_units<'py>(&self, py: Python<'py>, threshold: f64) -> Array<'py> {
        arrays::check_array(self.lock().units.len())?;
        let dead = self.lock().dead_units(threshold).map_err(to_py)?;
        arrays::counts(py, dead.into_iter().map(|i| i as u64))
    }

    /// Indices of the units that were not active in any of the last `updates` updates, of which there must have been as many; a unit
    /// without values is not among them.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> u = ts.UnitActivity(1).update(np.array([[1.0, 1.0]])).update(np.array([[0.0, 1.0]]))
    /// >>> u.inactive_units(1), u.inactive_units(2)
    /// (array([0]), array([], dtype=int64))
    #[pyo3(signature = (updates, /))]
    fn inactive_units<'py>(&self, py: Python<'py>, updates: u64) -> Array<'py> {
        arrays::check_array(self.lock().units.len())?;
        let inactive = self.lock().inactive_units(updates).map_err(to_py)?;
        arrays::counts(py, inactive.into_iter().map(|i| i as u64))
    }

    /// Share of the units that `dead_units` names; NaN without units.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.unit_activity(np.array([[0.0, 1.0, 0.0, 2.0]])).dead_fraction()
    /// 0.5
    #[pyo3(signature = (threshold = 0.0))]
    fn dead_fraction(&self, threshold: f64) -> PyResult<f64> {
        self.lock().dead_fraction(threshold).map_err(to_py)
    }

    /// Share of all values that lie beyond the bounds of saturation; NaN without values, a ValueError without bounds.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> u = ts.unit_activity(np.array([[0.5, 9.0], [0.5, 0.1]]), saturation=(0.0, 1.0))
    /// >>> u.saturated_fraction, u.saturated_fractions
    /// (0.25, array([0. , 0.5]))
    #[getter]
    fn saturated_fraction(&self) -> PyResult<f64> {
        self.lock().saturated_fraction().map_err(to_py)
    }

    /// The same share of each unit.
    #[getter]
    fn saturated_fractions<'py>(&self, py: Python<'py>) -> Array<'py> {
        arrays::check_array(self.lock().units.len())?;
        let fractions = self.lock().saturated_fractions().map_err(to_py)?;
        arrays::floats(py, &fractions)
    }

    fn __repr__(&self) -> String {
        self.lock().to_string()
    }

    /// The versioned byte form.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let state = self.lock();
        // Twice while they grow, and once in Python's hands.
        check_units_memory(state.units.len() as u64, 3).map_err(to_py)?;
        let bytes = state.to_bytes();
        drop(state);
        Ok(PyBytes::new(py, &bytes))
    }

    /// Reads `to_bytes` back.
    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        check_memory(2 * data.len() as u64, "a serialised UnitActivity").map_err(to_py)?;
        UnitActivity::from_bytes(data).map(Self::wrap).map_err(to_py)
    }

    /// Everything as plain Python values, in types that strict JSON knows; fields of units are lists.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        dict::to_dict(py, &self.snapshot()?)
    }

    /// Reads `to_dict` back; an error that names the key for anything else.
    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn from_dict(data: &Bound<'_, PyDict>) -> PyResult<Self> {
        dict::from_dict(data).map(Self::wrap)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let rebuild = py.get_type::<Self>().getattr("from_bytes")?;
        Ok((rebuild, (self.to_bytes(py)?,)))
    }
}

/// Counts the units of one tensor.
#[pyfunction]
#[pyo3(signature = (x, /, dim = 1, saturation = None, threads = None, r#where = None))]
pub(crate) fn unit_activity(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    dim: i64,
    saturation: Option<(f64, f64)>,
    threads: Option<Threads>,
    r#where: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyUnitActivity> {
    PyUnitActivity::of(py, x, r#where, dim, saturation, run::threads(threads)?).map(PyUnitActivity::wrap)
}
