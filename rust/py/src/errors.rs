//! Owns the mapping from the core's errors to Python's, and the naming of one tensor of many. Knows nothing else.

use pyo3::exceptions::{PyBufferError, PyIndexError, PyMemoryError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use tensorstats_core::Error;

/// The Python exception for an error of the core.
pub(crate) fn to_py(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::UnknownDtype { .. } | Error::MaskDtype(_) => PyTypeError::new_err(text),
        Error::Memory(_) => PyMemoryError::new_err(text),
        Error::Overflow(_) => PyOverflowError::new_err(text),
        Error::Dim { .. } => PyIndexError::new_err(text),
        _ => PyValueError::new_err(text),
    }
}

/// An error about one of several tensors: it says which one. `index` is kept, for callers that know its name.
pub(crate) fn of_many(py: Python<'_>, error: PyErr, index: usize, tensors: usize) -> PyErr {
    let of_tensor = error.is_instance_of::<PyTypeError>(py)
        || error.is_instance_of::<PyValueError>(py)
        || error.is_instance_of::<PyBufferError>(py);
    if !of_tensor {
        return error;
    }
    let value = error.value(py);
    let text = if tensors > 1 { format!("tensor {index}: {value}") } else { value.to_string() };
    let named = error.get_type(py).call1((text,)).and_then(|named| {
        named.setattr("index", index)?;
        Ok(PyErr::from_value(named))
    });
    named.unwrap_or(error)
}
