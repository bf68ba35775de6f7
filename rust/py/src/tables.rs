//! Owns the core's tables as Python reads them: the fields of a summary, the dtypes, the widths of a device's rows. Adds nothing to them.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use tensorstats_core::device::ROW_COLUMNS;
use tensorstats_core::summary::fields::{self, FIELDS, Read};
use tensorstats_core::{Dtype, Kind};

/// A number of a `Summary`: an entry of `FIELDS`.
#[pyclass(frozen, get_all, name = "Field", module = "tensorstats._core")]
pub(crate) struct PyField {
    /// What it is called.
    name: &'static str,
    /// What it is: "count" for a number of values, "value" for an exact int where the dtype is an integer, "real" for a float of any dtype.
    kind: &'static str,
    /// Whether it is a method that takes a correction; else it is a property.
    corrected: bool,
    /// How many moments it needs: 2 or 4.
    moments: u32,
    /// Whether every table has it as a column, or only where one asks for it.
    usual: bool,
}

impl PyField {
    fn of(field: &fields::Field) -> Self {
        let kind = match field.read {
            Read::Count(_) => "count",
            Read::Value(_) => "value",
            Read::Real(_) => "real",
        };
        let fields::Field { name, corrected, moments, usual, .. } = *field;
        Self { name, kind, corrected, moments: moments.number(), usual }
    }
}

#[pymethods]
impl PyField {
    fn __repr__(&self) -> String {
        format!("<field {}: {}>", self.name, self.kind)
    }
}

/// An element type that tensors may have: an entry of `DTYPES`.
#[pyclass(frozen, get_all, name = "Dtype", module = "tensorstats._core")]
pub(crate) struct PyDtype {
    /// The name that numpy, torch and `ml_dtypes` share.
    name: &'static str,
    /// The short name of one-line reprs.
    short: &'static str,
    /// Bytes of one element.
    itemsize: usize,
    /// "float", "signed", "unsigned" or "bool".
    kind: &'static str,
    /// Explicit bits of the mantissa; 0 unless it is a float.
    mantissa: u32,
    /// The largest finite magnitude: bits without the sign for floats, the number itself for integers.
    largest: u64,
    /// The bits of infinity; None where there is none.
    infinity: Option<u64>,
}

impl PyDtype {
    fn of(dtype: Dtype) -> Self {
        let (kind, mantissa) = match dtype.kind() {
            Kind::Float { mantissa, .. } => ("float", mantissa),
            Kind::Signed => ("signed", 0),
            Kind::Unsigned => ("unsigned", 0),
            Kind::Bool => ("bool", 0),
        };
        Self {
            name: dtype.name(),
            short: dtype.short(),
            itemsize: dtype.size(),
            kind,
            mantissa,
            largest: dtype.largest(),
            infinity: dtype.infinity(),
        }
    }
}

#[pymethods]
impl PyDtype {
    fn __repr__(&self) -> String {
        format!("<dtype {}: {}>", self.name, self.kind)
    }
}

/// Puts the tables into the native module.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let fields = FIELDS.iter().map(|field| Bound::new(py, PyField::of(field))).collect::<PyResult<Vec<_>>>()?;
    module.add("FIELDS", PyTuple::new(py, fields)?)?;
    let dtypes = Dtype::ALL.iter().map(|&dtype| Bound::new(py, PyDtype::of(dtype))).collect::<PyResult<Vec<_>>>()?;
    module.add("DTYPES", PyTuple::new(py, dtypes)?)?;
    let columns = PyDict::new(py);
    for (rows, width) in ROW_COLUMNS {
        columns.set_item(rows, width)?;
    }
    module.add("ROW_COLUMNS", columns)
}
