//! Owns the numpy arrays that results are handed out in. Knows nothing of what they mean.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyByteArray;

/// A new `float64` array.
pub(crate) fn floats<'py>(py: Python<'py>, values: &[f64]) -> PyResult<Bound<'py, PyAny>> {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
    from_bytes(py, &bytes, "float64")
}

/// A new `int64` array; a count beyond its range would need 2^63 values.
pub(crate) fn counts(py: Python<'_>, values: impl IntoIterator<Item = u64>) -> PyResult<Bound<'_, PyAny>> {
    let bytes: Vec<u8> = values.into_iter().flat_map(|n| (n as i64).to_ne_bytes()).collect();
    from_bytes(py, &bytes, "int64")
}

fn from_bytes<'py>(py: Python<'py>, bytes: &[u8], dtype: &str) -> PyResult<Bound<'py, PyAny>> {
    static FROM_BUFFER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    // A bytearray, because numpy arrays over bytes are read-only.
    FROM_BUFFER.import(py, "numpy", "frombuffer")?.call1((PyByteArray::new(py, bytes), dtype))
}

/// `numpy.asarray(object, dtype=float64).tolist()`: the floats of anything that numpy understands.
pub(crate) fn to_floats(object: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
    static AS_ARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    AS_ARRAY.import(py, "numpy", "asarray")?.call1((object, "float64"))?.call_method0(intern!(py, "tolist"))?.extract()
}

/// What `f` makes of a number, or of the numbers of an array; the result has the shape of `x`.
pub(crate) fn map<'py>(
    x: &Bound<'py, PyAny>,
    f: impl FnOnce(&[f64]) -> PyResult<Vec<f64>>,
) -> PyResult<Bound<'py, PyAny>> {
    static AS_ARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = x.py();
    if let Ok(number) = x.extract::<f64>() {
        let result = f(&[number])?.first().copied().unwrap_or(f64::NAN);
        return Ok(result.into_pyobject(py)?.into_any());
    }
    let array = AS_ARRAY.import(py, "numpy", "asarray")?.call1((x, "float64"))?;
    let flat: Vec<f64> = array.call_method0(intern!(py, "ravel"))?.call_method0(intern!(py, "tolist"))?.extract()?;
    let shape = array.getattr(intern!(py, "shape"))?;
    floats(py, &f(&flat)?)?.call_method1(intern!(py, "reshape"), (shape,))
}
