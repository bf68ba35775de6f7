//! Owns the dict form of a histogram. Knows nothing of how its counts come about.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tensorstats_core::kernel::histogram::ranks::Specials;
use tensorstats_core::{Axis, Histogram};

use crate::errors::to_py;
use crate::states::dicts::{check_kind, field};

const WHAT: &str = "Histogram";

/// Axis and counts under their names, in types that JSON knows.
pub(crate) fn to_dict<'py>(py: Python<'py>, state: &Histogram) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("kind", "histogram")?;
    dict.set_item("version", tensorstats_core::bytes::VERSION)?;
    let (name, precision) = match state.axis {
        Axis::Regular { .. } => ("regular", None),
        Axis::Variable { .. } => ("variable", None),
        Axis::LogLinear { precision } => ("log_linear", Some(precision)),
        Axis::Linear { bins } => {
            dict.set_item("bins", bins)?;
            dict.set_item("width_exponent", state.width_exponent())?;
            ("linear", None)
        }
    };
    dict.set_item("axis", name)?;
    dict.set_item("precision", precision)?;
    dict.set_item("edges", state.axis.edges().map(|e| e.values().to_vec()))?;
    dict.set_item("value_bits", u32::from(state.value_bits))?;
    dict.set_item("nan_count", state.specials.nan)?;
    dict.set_item("posinf_count", state.specials.posinf)?;
    dict.set_item("neginf_count", state.specials.neginf)?;
    let (places, counts): (Vec<i64>, Vec<u64>) = state.entries().into_iter().unzip();
    dict.set_item("places", places)?;
    dict.set_item("counts", counts)?;
    Ok(dict)
}

/// A histogram from such a dict, checked.
pub(crate) fn from_dict(data: &Bound<'_, PyDict>) -> PyResult<Histogram> {
    check_kind(data, WHAT, "histogram")?;
    let mut width_exponent = 0;
    let axis = match field::<String>(data, WHAT, "axis")?.as_str() {
        "linear" => {
            width_exponent = field(data, WHAT, "width_exponent")?;
            Axis::linear(field(data, WHAT, "bins")?)
        }
        "log_linear" => Axis::log_linear(field(data, WHAT, "precision")?),
        "variable" => Axis::variable(field(data, WHAT, "edges")?),
        "regular" => {
            let edges: Vec<f64> = field(data, WHAT, "edges")?;
            let ends = edges.first().copied().zip(edges.last().copied()).unwrap_or((0.0, 0.0));
            Axis::regular(ends.0, ends.1, edges)
        }
        other => {
            return Err(PyValueError::new_err(format!(
                "a {WHAT}'s axis must be regular, variable, log_linear or linear, got: {other}"
            )));
        }
    };
    let specials = Specials {
        nan: field(data, WHAT, "nan_count")?,
        posinf: field(data, WHAT, "posinf_count")?,
        neginf: field(data, WHAT, "neginf_count")?,
    };
    let (places, counts): (Vec<i64>, Vec<u64>) = (field(data, WHAT, "places")?, field(data, WHAT, "counts")?);
    if places.len() != counts.len() {
        return Err(PyTypeError::new_err(format!(
            "a {WHAT}'s dict has {} places and {} counts",
            places.len(),
            counts.len()
        )));
    }
    let entries: Vec<(i64, u64)> = places.into_iter().zip(counts).collect();
    let value_bits = field(data, WHAT, "value_bits")?;
    Histogram::from_entries(axis.map_err(to_py)?, width_exponent, value_bits, specials, &entries).map_err(to_py)
}
