//! Owns the torch tensors of one call that lie on other devices: all are begun there before the first is waited for. Knows nothing of what is counted.

use pyo3::call::PyCallArgs;
use pyo3::prelude::*;

use crate::package;

/// What was begun on devices, each with the place of its tensor in the call.
#[derive(Default)]
pub(crate) struct Elsewhere<'py> {
    places: Vec<usize>,
    begun: Vec<Bound<'py, PyAny>>,
}

impl<'py> Elsewhere<'py> {
    /// Begins one more, by a function of the door.
    #[cold]
    pub(crate) fn begin(
        &mut self,
        py: Python<'py>,
        place: usize,
        name: &str,
        arguments: impl PyCallArgs<'py>,
    ) -> PyResult<()> {
        self.begun.push(package::door(py, name, arguments)?);
        self.places.push(place);
        Ok(())
    }

    /// What was found of each, with its place, in order; brought to the host in one copy from each device.
    pub(crate) fn finish(self, py: Python<'py>) -> PyResult<Vec<(usize, Bound<'py, PyAny>)>> {
        if self.begun.is_empty() {
            return Ok(Vec::new());
        }
        let found: Vec<Bound<'py, PyAny>> = package::door(py, "finish", (self.begun,))?.extract()?;
        Ok(self.places.into_iter().zip(found).collect())
    }
}
