//! Owns the native half of `tensorstats.axis`: an axis and what was worked out for it. Knows nothing of counts.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use tensorstats_core::Axis;

use crate::arrays;
use crate::errors::to_py;

/// An axis as the core sees it; users meet `tensorstats.axis.Regular`, `Variable`, `LogLinear` and `Linear`.
#[pyclass(frozen, eq, name = "Axis", module = "tensorstats._core")]
#[derive(PartialEq)]
pub(crate) struct PyAxis(pub(crate) Axis);

#[pymethods]
impl PyAxis {
    #[staticmethod]
    #[pyo3(signature = (start, stop, edges, /))]
    fn regular(start: f64, stop: f64, edges: &Bound<'_, PyAny>) -> PyResult<Self> {
        Axis::regular(start, stop, arrays::to_floats(edges)?).map(Self).map_err(to_py)
    }

    #[staticmethod]
    #[pyo3(signature = (edges, /))]
    fn variable(edges: &Bound<'_, PyAny>) -> PyResult<Self> {
        Axis::variable(arrays::to_floats(edges)?).map(Self).map_err(to_py)
    }

    #[staticmethod]
    #[pyo3(signature = (precision, /))]
    fn log_linear(precision: i64) -> PyResult<Self> {
        Axis::log_linear(precision).map(Self).map_err(to_py)
    }

    #[staticmethod]
    #[pyo3(signature = (bins, /))]
    fn linear(bins: i64) -> PyResult<Self> {
        Axis::linear(bins).map(Self).map_err(to_py)
    }

    /// `"regular"`, `"variable"`, `"log_linear"` or `"linear"`.
    #[getter]
    fn kind(&self) -> &'static str {
        match self.0 {
            Axis::Regular { .. } => "regular",
            Axis::Variable { .. } => "variable",
            Axis::LogLinear { .. } => "log_linear",
            Axis::Linear { .. } => "linear",
        }
    }

    /// The edges; empty where they depend on what was counted.
    #[getter]
    fn edges<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        arrays::floats(py, self.0.edges().map(|e| e.values()).unwrap_or_default())
    }

    /// Mantissa bits of `LogLinear`.
    #[getter]
    fn precision(&self) -> Option<u8> {
        if let Axis::LogLinear { precision } = self.0 { Some(precision) } else { None }
    }

    /// Most bins of `Linear`.
    #[getter]
    fn bins(&self) -> Option<u64> {
        if let Axis::Linear { bins } = self.0 { Some(bins) } else { None }
    }
}

/// The native half of an axis object.
pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Axis> {
    let native = match object.cast::<PyAxis>() {
        Ok(axis) => Some(axis.get().0.clone()),
        Err(_) => object
            .getattr(intern!(object.py(), "_native"))
            .ok()
            .and_then(|native| native.cast_into::<PyAxis>().ok())
            .map(|axis| axis.get().0.clone()),
    };
    native.ok_or_else(|| {
        let kind = object.get_type().name().map_or_else(|_| "?".to_owned(), |n| n.to_string());
        PyTypeError::new_err(format!(
            "axis must be an axis.Regular, axis.Variable, axis.LogLinear or axis.Linear, got: {kind}"
        ))
    })
}

/// The Python half of an axis.
pub(crate) fn shown(py: Python<'_>, axis: Axis) -> PyResult<Bound<'_, PyAny>> {
    static FROM_NATIVE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    FROM_NATIVE.import(py, "tensorstats.axis", "from_native")?.call1((PyAxis(axis),))
}
