//! Owns the dict form of a summary. Knows nothing of how its numbers come about.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt};
use tensorstats_core::bytes::{VERSION, VERSION_WITH_FORMATS};
use tensorstats_core::kernel::Moments;
use tensorstats_core::number::double::Double;
use tensorstats_core::state::stats::{Counts, Extremes, Stats};
use tensorstats_core::summary::Seen;
use tensorstats_core::summary::samples::SAMPLES;
use tensorstats_core::{Dtype, Number, Sketch, Summary};

use crate::arrays::Shown;
use crate::errors::to_py;
use crate::memory::dims::Shape;
use crate::states::dicts;
use crate::states::formats;
use crate::states::summary::state::State;

/// A list, which survives JSON.
fn pair(x: Double) -> [f64; 2] {
    [x.hi, x.lo]
}

/// Every number of a state under its name, in types that JSON knows.
pub(crate) fn to_dict<'py>(py: Python<'py>, state: &State) -> PyResult<Bound<'py, PyDict>> {
    let (s, stats) = (&state.summary, &state.summary.stats);
    let dict = PyDict::new(py);
    dict.set_item("kind", "summary")?;
    dict.set_item("version", if s.fits.is_some() { VERSION_WITH_FORMATS } else { VERSION })?;
    dict.set_item(
        "dtype",
        match s.seen {
            Seen::Nothing => None,
            Seen::Several => Some("mixed"),
            Seen::One(dtype) => Some(dtype.name()),
        },
    )?;
    dict.set_item("moments", s.moments.number())?;
    let shape = match &state.shape {
        Shape::One(shape) => Some(shape.to_vec()),
        _ => None,
    };
    dict.set_item("shape", shape)?;
    let mut counts = stats.counts;
    for (name, n) in Counts::NAMES.into_iter().zip(counts.each_mut()) {
        dict.set_item(name, *n)?;
    }
    dict.set_item("min", stats.extremes.map(|e| Shown(e.min)))?;
    dict.set_item("max", stats.extremes.map(|e| Shown(e.max)))?;
    dict.set_item("absmin", stats.extremes.and_then(|e| e.absmin).map(Shown))?;
    dict.set_item("int_sum", stats.int_sum)?;
    dict.set_item("int_l1", stats.int_l1)?;
    for (name, x) in [("sum", stats.sum), ("l1", stats.l1), ("squares", stats.squares), ("m2", stats.m2)] {
        dict.set_item(name, pair(x))?;
    }
    dict.set_item("m3", stats.m3)?;
    dict.set_item("m4", stats.m4)?;
    dict.set_item("scale", stats.scale)?;
    dict.set_item("sample", state.sketch.values().to_vec())?;
    if let Some(fits) = &s.fits {
        dict.set_item("formats", formats::to_dict(py, fits)?)?;
    }
    Ok(dict)
}

const WHAT: &str = "Summary";

fn field<'py, T: for<'a> FromPyObject<'a, 'py>>(dict: &Bound<'py, PyDict>, name: &str) -> PyResult<T> {
    dicts::field(dict, WHAT, name)
}

fn number(dict: &Bound<'_, PyDict>, name: &str, seen: Seen) -> PyResult<Option<Number>> {
    let integer = match seen {
        Seen::One(dtype) => dtype.is_integer(),
        Seen::Nothing => false,
        // Of several dtypes each extreme is what its own was.
        Seen::Several => field::<Bound<'_, PyAny>>(dict, name)?.is_instance_of::<PyInt>(),
    };
    if integer {
        Ok(field::<Option<i128>>(dict, name)?.map(Number::Int))
    } else {
        Ok(field::<Option<f64>>(dict, name)?.map(Number::Float))
    }
}

/// Refuses samples that are none of the values.
fn check_sample(sample: &[f64], summary: &Summary) -> PyResult<()> {
    let near = |x: Number| x.to_f64().clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
    let possible = |x: f64| {
        let x = near(Number::Float(x));
        summary.stats.extremes.is_some_and(|e| near(e.min) <= x && x <= near(e.max))
    };
    if sample.len() <= SAMPLES && sample.iter().all(|&x| possible(x)) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("a {WHAT}'s dict has a sample that is not among its values; it was damaged")))
}

/// Refuses a shape with fewer elements than values were counted; a mask may have left some out.
fn check_shape(shape: &[i64], count: u64) -> PyResult<()> {
    let elements = shape.iter().try_fold(1_u128, |product, &n| product.checked_mul(u128::try_from(n).ok()?));
    if elements.is_some_and(|elements| elements >= u128::from(count)) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("a {WHAT}'s dict has a shape of fewer elements than values: {shape:?}")))
}

/// A state from such a dict, checked.
pub(crate) fn from_dict(dict: &Bound<'_, PyDict>) -> PyResult<State> {
    let version = dicts::check_version(dict, WHAT, "summary", VERSION_WITH_FORMATS)?;
    let dtype: Option<String> = field(dict, "dtype")?;
    let seen = match dtype.as_deref() {
        None => Seen::Nothing,
        Some("mixed") => Seen::Several,
        Some(name) => Seen::One(Dtype::from_name(name).map_err(to_py)?),
    };
    let mut counts = Counts::default();
    for (name, n) in Counts::NAMES.into_iter().zip(counts.each_mut()) {
        *n = field(dict, name)?;
    }
    let extremes = number(dict, "min", seen)?.zip(number(dict, "max", seen)?);
    let absmin = number(dict, "absmin", seen)?;
    let double = |name: &str| field::<[f64; 2]>(dict, name).map(|[hi, lo]| Double { hi, lo });
    let stats = Stats {
        counts,
        extremes: extremes.map(|(min, max)| Extremes { min, max, absmin }),
        int_sum: field(dict, "int_sum")?,
        int_l1: field(dict, "int_l1")?,
        sum: double("sum")?,
        l1: double("l1")?,
        squares: double("squares")?,
        m2: double("m2")?,
        m3: field(dict, "m3")?,
        m4: field(dict, "m4")?,
        scale: field(dict, "scale")?,
    };
    let moments = Moments::from_number(field(dict, "moments")?).map_err(to_py)?;
    let fits = match version {
        VERSION => None,
        _ => Some(Box::new(formats::from_dict(&field(dict, "formats")?)?)),
    };
    let shape = field::<Option<Vec<i64>>>(dict, "shape")?;
    let sample: Vec<f64> = field(dict, "sample")?;
    let summary = Summary { stats, seen, moments, fits }.checked().map_err(to_py)?;
    check_sample(&sample, &summary)?;
    if let Some(shape) = &shape {
        check_shape(shape, counts.total())?;
    }
    Ok(State {
        summary,
        sketch: Sketch::from_values(sample, counts.total()),
        shape: match (shape, counts.total()) {
            (Some(shape), _) => Shape::One(shape.as_slice().into()),
            (None, 0) => Shape::Nothing,
            (None, _) => Shape::Several,
        },
    })
}
