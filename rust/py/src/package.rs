//! Owns the two ways from the native module up to the Python package: the module that knows the quirks of array libraries, which hands itself over
//! when it is imported, and the door to other devices. Knows nothing of what is asked of them.

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

/// Calls one of the functions that count torch tensors of other devices. They are imported when the first such tensor comes, since they need torch.
pub(crate) fn door<'py>(py: Python<'py>, name: &str, arguments: impl PyCallArgs<'py>) -> PyResult<Bound<'py, PyAny>> {
    py.import("tensorstats.device.door")?.getattr(name)?.call1(arguments)
}
