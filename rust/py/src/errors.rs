//! Owns the mapping from the core's errors to Python's. Knows nothing else.

use pyo3::PyErr;
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use tensorstats_core::Error;

/// The Python exception for an error of the core.
pub(crate) fn to_py(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::UnknownDtype(_) | Error::MaskDtype(_) => PyTypeError::new_err(text),
        Error::Dim { .. } => PyIndexError::new_err(text),
        _ => PyValueError::new_err(text),
    }
}
