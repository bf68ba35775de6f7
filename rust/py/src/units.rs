//! Owns the Python class `UnitActivity`. Arithmetic is the core's; this file only hands numbers over.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tensorstats_core::double::Double;
use tensorstats_core::memory::{check_memory, check_units_memory};
use tensorstats_core::scan::Options;
use tensorstats_core::units::Unit;
use tensorstats_core::units_moments::Moments;
use tensorstats_core::{TensorView, UnitActivity};

use crate::arrays::begins_a_sum;
use crate::buffer::Buffer;
use crate::dicts::{check_kind, field};
use crate::errors::to_py;
use crate::{arrays, run};

const WHAT: &str = "UnitActivity";

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
/// one entry a unit: counts int64, the rest float64 (NaN for a unit without finite values).
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> import tensorstats as ts
/// >>> u = ts.UnitActivity(1).update(np.array([[0.0, 1.0], [0.0, 3.0]]))
/// >>> u.active_count, u.mean, u.dead_units()
/// (array([0, 2]), array([0., 2.]), array([0]))
#[pyclass(frozen, name = "UnitActivity", module = "tensorstats._core")]
pub(crate) struct PyUnitActivity(Mutex<UnitActivity>);

impl PyUnitActivity {
    fn wrap(activity: UnitActivity) -> Self {
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
        // The mask first: a borrowed tensor must be used before other Python code runs.
        let mask = mask.map(Buffer::of_mask).transpose()?;
        let buffer = Buffer::of(x)?;
        let count = |view: &TensorView<'_>, options: &Options<'_>| UnitActivity::of(view, dim, saturation, options);
        run::count_chosen(py, &buffer, mask.as_ref(), threads, count)?.map_err(to_py)
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
    #[pyo3(signature = (x, /, *, r#where = None, threads = None))]
    fn update<'py>(
        slf: Bound<'py, Self>,
        x: &Bound<'py, PyAny>,
        r#where: Option<&Bound<'py, PyAny>>,
        threads: Option<i64>,
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

    /// Standard deviation (population) of the finite values of each unit; exactly 0 for a constant.
    #[getter]
    fn std<'py>(&self, py: Python<'py>) -> Array<'py> {
        self.floats(py, Unit::std)
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
    #[getter]
    fn active_fraction<'py>(&self, py: Python<'py>) -> Array<'py> {
        self.floats(py, Unit::active_fraction)
    }

    /// Indices of the units whose share of active values is at most `threshold`; a unit without values is not among them.
    #[pyo3(signature = (threshold = 0.0))]
    fn dead_units<'py>(&self, py: Python<'py>, threshold: f64) -> Array<'py> {
        arrays::check_array(self.lock().units.len())?;
        let dead = self.lock().dead_units(threshold).map_err(to_py)?;
        arrays::counts(py, dead.into_iter().map(|i| i as u64))
    }

    /// Indices of the units that were not active in any of the last `updates` updates, of which there must have been as many; a unit
    /// without values is not among them.
    #[pyo3(signature = (updates, /))]
    fn inactive_units<'py>(&self, py: Python<'py>, updates: u64) -> Array<'py> {
        arrays::check_array(self.lock().units.len())?;
        let inactive = self.lock().inactive_units(updates).map_err(to_py)?;
        arrays::counts(py, inactive.into_iter().map(|i| i as u64))
    }

    /// Share of the units that `dead_units` names; NaN without units.
    #[pyo3(signature = (threshold = 0.0))]
    fn dead_fraction(&self, threshold: f64) -> PyResult<f64> {
        self.lock().dead_fraction(threshold).map_err(to_py)
    }

    /// Share of all values that lie beyond the bounds of saturation; NaN without values, an error without bounds.
    fn saturated_fraction(&self) -> PyResult<f64> {
        self.lock().saturated_fraction().map_err(to_py)
    }

    /// The same for each unit.
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
        let state = self.snapshot()?;
        check_units_memory(state.units.len() as u64, 1).map_err(to_py)?;
        let dict = PyDict::new(py);
        dict.set_item("kind", "unit_activity")?;
        dict.set_item("version", tensorstats_core::bytes::VERSION)?;
        dict.set_item("dim", state.dim)?;
        dict.set_item("saturation", state.saturation.map(|(low, high)| [low, high].map(Limit)))?;
        dict.set_item("updates", state.updates)?;
        for (name, get) in COUNTS {
            dict.set_item(name, state.units.iter().map(get).collect::<Vec<u64>>())?;
        }
        for (name, get) in EXTREMES {
            let finite = |u: &Unit| Some(get(u)).filter(|x| x.is_finite());
            dict.set_item(name, state.units.iter().map(finite).collect::<Vec<Option<f64>>>())?;
        }
        for (name, get) in FLOATS {
            dict.set_item(name, state.units.iter().map(get).collect::<Vec<f64>>())?;
        }
        dict.set_item("scale", state.units.iter().map(|u| u.moments.scale).collect::<Vec<i32>>())?;
        Ok(dict)
    }

    /// Reads `to_dict` back.
    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn from_dict(data: &Bound<'_, PyDict>) -> PyResult<Self> {
        check_kind(data, WHAT, "unit_activity")?;
        let saturation = field::<Option<[Limit; 2]>>(data, WHAT, "saturation")?.map(|[low, high]| (low.0, high.0));
        let mut activity = UnitActivity::new(field(data, WHAT, "dim")?, saturation).map_err(to_py)?;
        activity.updates = field(data, WHAT, "updates")?;
        let counts = COUNTS.map(|(name, _)| field::<Vec<u64>>(data, WHAT, name));
        let [active, zero, nonfinite, low, high, last_active] = counts;
        let [min, max] = EXTREMES.map(|(name, _)| field::<Vec<Option<f64>>>(data, WHAT, name));
        let [mean, rest, m2] = FLOATS.map(|(name, _)| field::<Vec<f64>>(data, WHAT, name));
        let columns = [&active, &zero, &nonfinite, &low, &high, &last_active].map(|c| c.as_ref().map_or(0, Vec::len));
        let (active, zero, nonfinite, low, high, last_active) = (active?, zero?, nonfinite?, low?, high?, last_active?);
        let (min, max, mean, rest, m2) = (min?, max?, mean?, rest?, m2?);
        let scale: Vec<i32> = field(data, WHAT, "scale")?;
        let lengths = columns.into_iter().chain([min.len(), max.len(), mean.len(), rest.len(), m2.len(), scale.len()]);
        if let Some(other) = lengths.into_iter().find(|&n| n != active.len()) {
            return Err(PyValueError::new_err(format!(
                "fields of a {WHAT} must be equally long, got: {} and {other}",
                active.len()
            )));
        }
        for i in 0..active.len() {
            let moments = Moments {
                count: active[i].saturating_add(zero[i]),
                mean: Double { hi: mean[i], lo: rest[i] },
                m2: m2[i],
                scale: scale[i],
            };
            activity.units.push(Unit {
                active: active[i],
                zero: zero[i],
                nonfinite: nonfinite[i],
                low: low[i],
                high: high[i],
                moments,
                min: min[i].unwrap_or(f64::INFINITY),
                max: max[i].unwrap_or(f64::NEG_INFINITY),
                last_active: last_active[i],
            });
        }
        activity.checked().map(Self::wrap).map_err(to_py)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let rebuild = py.get_type::<Self>().getattr("from_bytes")?;
        Ok((rebuild, (self.to_bytes(py)?,)))
    }
}

/// A bound of saturation in a dict: JSON has no infinite numbers, which are spelled out.
struct Limit(f64);

impl<'py> IntoPyObject<'py> for Limit {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.0.is_finite() {
            Ok(self.0.into_pyobject(py)?.into_any())
        } else {
            Ok(self.0.to_string().into_pyobject(py)?.into_any())
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Limit {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        match object.extract::<&str>() {
            Ok("inf") => Ok(Self(f64::INFINITY)),
            Ok("-inf") => Ok(Self(f64::NEG_INFINITY)),
            _ => object.extract::<f64>().map(Self),
        }
    }
}

/// A field of a dict and where it is in a unit.
type Field<T> = (&'static str, fn(&Unit) -> T);

const COUNTS: [Field<u64>; 6] = [
    ("active_count", |u| u.active),
    ("zero_count", |u| u.zero),
    ("nonfinite_count", |u| u.nonfinite),
    ("low_count", |u| u.low),
    ("high_count", |u| u.high),
    ("last_active", |u| u.last_active),
];

/// None for a unit without finite values.
const EXTREMES: [Field<f64>; 2] = [("min", |u| u.min), ("max", |u| u.max)];

/// The mean is `mean + mean_rest`; both it and `m2` (the sum of squared differences from the mean) are divided by 2^scale and 4^scale.
const FLOATS: [Field<f64>; 3] =
    [("mean", |u| u.moments.mean.hi), ("mean_rest", |u| u.moments.mean.lo), ("m2", |u| u.moments.m2)];

/// Counts the units of one tensor.
#[pyfunction]
#[pyo3(signature = (x, /, dim = 1, saturation = None, threads = None, r#where = None))]
pub(crate) fn unit_activity(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    dim: i64,
    saturation: Option<(f64, f64)>,
    threads: Option<i64>,
    r#where: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyUnitActivity> {
    PyUnitActivity::of(py, x, r#where, dim, saturation, run::threads(threads)?).map(PyUnitActivity::wrap)
}
