//! Owns the reading of states' dicts, with errors that name the key. Knows nothing of any one state.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A value of a dict; `what` names the state in errors.
pub(crate) fn field<'py, T: for<'a> FromPyObject<'a, 'py>>(
    dict: &Bound<'py, PyDict>,
    what: &str,
    name: &str,
) -> PyResult<T> {
    let value =
        dict.get_item(name)?.ok_or_else(|| PyValueError::new_err(format!("a {what}'s dict lacks the key: {name}")))?;
    let shown = value.repr().map_or_else(|_| String::new(), |r| r.to_string());
    value.extract::<T>().map_err(|_| {
        let shown: String = shown.chars().take(200).collect();
        PyTypeError::new_err(format!("a {what}'s dict has a wrong value for {name}: {shown}"))
    })
}

/// Checks which kind of state a dict is of, and its version.
pub(crate) fn check_kind(dict: &Bound<'_, PyDict>, what: &str, kind: &str) -> PyResult<()> {
    let found: String = field(dict, what, "kind")?;
    let version: u8 = field(dict, what, "version")?;
    if found == kind && version == tensorstats_core::bytes::VERSION {
        return Ok(());
    }
    Err(PyValueError::new_err(format!(
        "expected kind {kind}, version {}; got: {found}, version {version}",
        tensorstats_core::bytes::VERSION
    )))
}
