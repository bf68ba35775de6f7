//! Owns how Python names formats and gets what was counted about them. Knows nothing of how.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};
use tensorstats_core::Dtype;
use tensorstats_core::summary::formats::{FORMATS, Fit, Fits, Limits, Misfits, not_a_format};

use crate::errors::to_py;
use crate::package;
use crate::states::dicts::field;

const WHAT: &str = "Summary";

/// The formats of a Python argument: none, one, or any iterable of names and dtypes.
pub(crate) fn asked(formats: Option<&Bound<'_, PyAny>>, scale: f64) -> PyResult<Option<Fits>> {
    let names: Vec<String> = match formats {
        None => Vec::new(),
        Some(formats) => package::call(formats.py(), "format_names", (formats,))?.extract()?,
    };
    let formats: Vec<Dtype> = names.iter().map(|name| named(name)).collect::<PyResult<_>>()?;
    let fits = Fits::new(&formats, scale).map_err(to_py)?;
    Ok((!formats.is_empty()).then_some(fits))
}

/// The format of a Python argument that is one name or dtype.
pub(crate) fn one(format: &Bound<'_, PyAny>) -> PyResult<Dtype> {
    named(&package::call(format.py(), "dtype_name", (format,))?.extract::<String>()?)
}

fn named(name: &str) -> PyResult<Dtype> {
    let found = FORMATS.into_iter().find(|format| format.name() == name);
    found.ok_or_else(|| to_py(not_a_format(name)))
}

/// A `FormatFit`.
pub(crate) fn result<'py>(py: Python<'py>, fit: &Fit) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let counts = (fit.count, fit.nonfinite, fit.overflow, fit.normal, fit.subnormal, fit.flushed, fit.zero);
    let (count, nonfinite, overflow, normal, subnormal, flushed, zero) = counts;
    let all = (fit.format.name(), fit.scale, count, nonfinite, overflow, normal, subnormal, flushed, zero);
    CLASS.import(py, "tensorstats._formats", "FormatFit")?.call1(all)
}

/// Scale and counts under their names, in types that JSON knows.
pub(crate) fn to_dict<'py>(py: Python<'py>, fits: &Fits) -> PyResult<Bound<'py, PyDict>> {
    let counts = PyDict::new(py);
    for (format, misfits) in fits.formats() {
        let each = PyDict::new(py);
        each.set_item("overflow", misfits.overflow)?;
        each.set_item("subnormal", misfits.subnormal)?;
        each.set_item("flushed", misfits.flushed)?;
        counts.set_item(format.name(), each)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("scale", fits.scale())?;
    dict.set_item("counts", counts)?;
    Ok(dict)
}

/// The same from such a dict, checked.
pub(crate) fn from_dict(dict: &Bound<'_, PyDict>) -> PyResult<Fits> {
    let kept: Bound<'_, PyDict> = field(dict, WHAT, "counts")?;
    let mut misfits = Vec::with_capacity(kept.len());
    for (name, each) in kept.iter() {
        let each = each.cast_into::<PyDict>()?;
        let count = |key: &str| field::<u64>(&each, WHAT, key);
        let counts =
            Misfits { overflow: count("overflow")?, subnormal: count("subnormal")?, flushed: count("flushed")? };
        misfits.push((named(&name.extract::<String>()?)?, counts));
    }
    let formats: Vec<Dtype> = misfits.iter().map(|&(format, _)| format).collect();
    let fits = Fits::new(&formats, field(dict, WHAT, "scale")?).map_err(to_py)?;
    fits.with_counts(&misfits).map_err(to_py)
}

/// For each format the last magnitudes of a dtype that round to zero, to a subnormal or zero, to a finite number: bits without the sign
/// for floats, whole numbers for integers.
#[pyfunction]
#[pyo3(signature = (dtype, formats, scale, /))]
pub(crate) fn format_limits<'py>(
    py: Python<'py>,
    dtype: &str,
    formats: Vec<String>,
    scale: f64,
) -> PyResult<Bound<'py, PyList>> {
    let dtype = Dtype::from_name(dtype).map_err(to_py)?;
    let formats: Vec<Dtype> = formats.iter().map(|name| named(name)).collect::<PyResult<_>>()?;
    let fits = Fits::new(&formats, scale).map_err(to_py)?;
    PyList::new(py, fits.limits(dtype).into_iter().map(Limits::each))
}
