//! Owns the numbers and numpy arrays that results are handed out in. Knows nothing of what they mean.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyInt};
use tensorstats_core::Number;
use tensorstats_core::allocation::check_memory;

use crate::errors::to_py;
use crate::package;

/// A number as Python sees it: `int` for integer dtypes, else `float`.
pub(crate) struct Shown(pub(crate) Number);

impl<'py> IntoPyObject<'py> for Shown {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.0 {
            Number::Int(n) => Ok(n.into_pyobject(py)?.into_any()),
            Number::Float(x) => Ok(x.into_pyobject(py)?.into_any()),
        }
    }
}

/// A new `float64` array.
pub(crate) fn floats<'py>(py: Python<'py>, values: &[f64]) -> PyResult<Bound<'py, PyAny>> {
    check_array(values.len())?;
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
    from_bytes(py, &bytes, "float64")
}

/// A new `int64` array; a count beyond its range would need 2^63 values.
pub(crate) fn counts(py: Python<'_>, values: impl IntoIterator<Item = u64>) -> PyResult<Bound<'_, PyAny>> {
    let values = values.into_iter();
    check_array(values.size_hint().1.unwrap_or(0))?;
    let bytes: Vec<u8> = values.flat_map(|n| (n as i64).to_ne_bytes()).collect();
    from_bytes(py, &bytes, "int64")
}

/// Memory for an array: its bytes while they grow, and those in Python's hands.
pub(crate) fn check_array(len: usize) -> PyResult<()> {
    check_memory(32 * len as u64, "an array").map_err(to_py)
}

fn from_bytes<'py>(py: Python<'py>, bytes: &[u8], dtype: &str) -> PyResult<Bound<'py, PyAny>> {
    static FROM_BUFFER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    // A bytearray, because numpy arrays over bytes are read-only.
    FROM_BUFFER.import(py, "numpy", "frombuffer")?.call1((PyByteArray::new(py, bytes), dtype))
}

/// The floats of anything that numpy makes an array of one dimension of; errors call it `name`.
pub(crate) fn to_floats(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Vec<f64>> {
    static AS_ARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let array = AS_ARRAY.import(py, "numpy", "asarray")?.call1((object, "float64"))?;
    let shape = array.getattr(intern!(py, "shape"))?;
    if shape.len()? != 1 {
        return Err(PyValueError::new_err(format!("{name} must be one-dimensional, got shape: {shape}")));
    }
    array.call_method0(intern!(py, "tolist"))?.extract()
}

/// `numpy.linspace(start, stop, count).tolist()`.
pub(crate) fn linspace(py: Python<'_>, start: f64, stop: f64, count: usize) -> PyResult<Vec<f64>> {
    static LINSPACE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let array = LINSPACE.import(py, "numpy", "linspace")?.call1((start, stop, count))?;
    array.call_method0(intern!(py, "tolist"))?.extract()
}

/// Whether an object is what Python's `sum` begins with.
pub(crate) fn begins_a_sum(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<PyInt>() && object.extract::<i64>().is_ok_and(|n| n == 0)
}

/// What `f` makes of a number, or of the numbers of an array; the result has the shape of `x`, which errors call `name`.
pub(crate) fn map<'py>(
    x: &Bound<'py, PyAny>,
    name: &str,
    f: impl FnOnce(&[f64]) -> PyResult<Vec<f64>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = x.py();
    if let Ok(number) = x.extract::<f64>() {
        let result = f(&[number])?.first().copied().unwrap_or(f64::NAN);
        return Ok(result.into_pyobject(py)?.into_any());
    }
    let array = package::call(py, "numbers", (x, name))?;
    let flat: Vec<f64> = array.call_method0(intern!(py, "ravel"))?.call_method0(intern!(py, "tolist"))?.extract()?;
    let shape = array.getattr(intern!(py, "shape"))?;
    floats(py, &f(&flat)?)?.call_method1(intern!(py, "reshape"), (shape,))
}
