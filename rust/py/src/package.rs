//! Owns the one way from the native module up to the Python package: the module that knows the quirks of array libraries, which hands itself over
//! when it is imported. Knows nothing of what is asked of it.

use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;

static ARRAYS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// Takes the module whose functions turn objects of other libraries into memory.
#[pyfunction]
#[pyo3(signature = (arrays, /))]
pub(crate) fn connect(arrays: Bound<'_, PyModule>) {
    let py = arrays.py();
    let _ = ARRAYS.set(py, arrays.unbind()); // handed over again by a reload, it is the same module
}

/// Calls one of its functions.
pub(crate) fn call<'py>(py: Python<'py>, name: &str, arguments: impl PyCallArgs<'py>) -> PyResult<Bound<'py, PyAny>> {
    let Some(arrays) = ARRAYS.get(py) else {
        return Err(PyImportError::new_err("tensorstats._core is part of tensorstats: import that"));
    };
    arrays.bind(py).getattr(name)?.call1(arguments)
}
