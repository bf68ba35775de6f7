//! Owns the reading of states' dicts, with errors that name the key. Knows nothing of any one state.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tensorstats_core::bytes::VERSION;

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
    check_version(dict, what, kind, VERSION).map(|_| ())
}

/// The same for any version up to `newest`; says which one it is.
pub(crate) fn check_version(dict: &Bound<'_, PyDict>, what: &str, kind: &str, newest: u8) -> PyResult<u8> {
    let found: String = field(dict, what, "kind")?;
    let version: u8 = field(dict, what, "version")?;
    if found == kind && (VERSION..=newest).contains(&version) {
        return Ok(version);
    }
    Err(PyValueError::new_err(format!("expected kind {kind}, version {newest}; got: {found}, version {version}")))
}
