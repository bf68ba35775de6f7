//! Owns the dict form of unit activity. Knows nothing of how its numbers come about.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tensorstats_core::UnitActivity;
use tensorstats_core::number::double::Double;
use tensorstats_core::state::unit_moments::Moments;
use tensorstats_core::units::Unit;
use tensorstats_core::units::check_units_memory;

use crate::errors::to_py;
use crate::states::dicts::{check_kind, field};

const WHAT: &str = "UnitActivity";

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

/// Settings and the fields of all units under their names, in types that JSON knows.
pub(crate) fn to_dict<'py>(py: Python<'py>, state: &UnitActivity) -> PyResult<Bound<'py, PyDict>> {
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

/// Unit activity from such a dict, checked.
pub(crate) fn from_dict(data: &Bound<'_, PyDict>) -> PyResult<UnitActivity> {
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
    activity.checked().map_err(to_py)
}
