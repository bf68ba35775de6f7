//! Owns the dict form of a summary. Knows nothing of how its numbers come about.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tensorstats_core::double::Double;
use tensorstats_core::kernel::Moments;
use tensorstats_core::stats::{Counts, Extremes, Stats};
use tensorstats_core::summary::Seen;
use tensorstats_core::{Dtype, Number, Sketch, Summary};

use crate::dicts;
use crate::errors::to_py;
use crate::summary::{Shape, Shown, State};

const INTEGER_FIELDS: [&str; 7] =
    ["nan_count", "posinf_count", "neginf_count", "zero_count", "negative_count", "positive_count", "subnormal_count"];

/// A list, which survives JSON.
fn pair(x: Double) -> [f64; 2] {
    [x.hi, x.lo]
}

/// Every number of a state under its name, in types that JSON knows.
pub(crate) fn to_dict<'py>(py: Python<'py>, state: &State) -> PyResult<Bound<'py, PyDict>> {
    let (s, stats) = (&state.summary, &state.summary.stats);
    let c = &stats.counts;
    let dict = PyDict::new(py);
    dict.set_item("kind", "summary")?;
    dict.set_item("version", tensorstats_core::bytes::VERSION)?;
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
    for (name, n) in
        INTEGER_FIELDS.into_iter().zip([c.nan, c.posinf, c.neginf, c.zero, c.negative, c.positive, c.subnormal])
    {
        dict.set_item(name, n)?;
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
    Ok(dict)
}

const WHAT: &str = "Summary";

fn field<'py, T: for<'a> FromPyObject<'a, 'py>>(dict: &Bound<'py, PyDict>, name: &str) -> PyResult<T> {
    dicts::field(dict, WHAT, name)
}

fn number(dict: &Bound<'_, PyDict>, name: &str, integer: bool) -> PyResult<Option<Number>> {
    if integer {
        Ok(field::<Option<i128>>(dict, name)?.map(Number::Int))
    } else {
        Ok(field::<Option<f64>>(dict, name)?.map(Number::Float))
    }
}

/// A state from such a dict, checked.
pub(crate) fn from_dict(dict: &Bound<'_, PyDict>) -> PyResult<State> {
    dicts::check_kind(dict, WHAT, "summary")?;
    let dtype: Option<String> = field(dict, "dtype")?;
    let seen = match dtype.as_deref() {
        None => Seen::Nothing,
        Some("mixed") => Seen::Several,
        Some(name) => Seen::One(Dtype::from_name(name).map_err(to_py)?),
    };
    let integer = matches!(seen, Seen::One(dtype) if dtype.is_integer());
    let count = |name: &str| field::<u64>(dict, name);
    let counts = Counts {
        nan: count("nan_count")?,
        posinf: count("posinf_count")?,
        neginf: count("neginf_count")?,
        zero: count("zero_count")?,
        negative: count("negative_count")?,
        positive: count("positive_count")?,
        subnormal: count("subnormal_count")?,
    };
    let extremes = number(dict, "min", integer)?.zip(number(dict, "max", integer)?);
    let absmin = number(dict, "absmin", integer)?;
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
    let shape = field::<Option<Vec<i64>>>(dict, "shape")?;
    let sample: Vec<f64> = field(dict, "sample")?;
    Ok(State {
        summary: Summary { stats, seen, moments }.checked().map_err(to_py)?,
        sketch: Sketch::from_values(sample, counts.total()),
        shape: match (shape, counts.total()) {
            (Some(shape), _) => Shape::One(shape.as_slice().into()),
            (None, 0) => Shape::Nothing,
            (None, _) => Shape::Several,
        },
    })
}
